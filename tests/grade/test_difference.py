"""What is said of a wrong array: that it holds of the numbers, and that it names the place."""

import re

import numpy as np
import pytest
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st

from minunet.grade.difference import KERNEL, describe
from minunet.grade.form import unfit
from minunet.grade.words import LAST_DIGITS, beside, counted, listed, many, places

X = np.random.default_rng(0).standard_normal((2, 5, 7, 3))


def changed(change, x=X):
    """A copy, changed in place."""
    y = x.copy()
    change(y)
    return y


def put(index, value):
    def change(y):
        y[index] = value

    return lambda x: changed(change, x)


def scaled(index, k):
    def change(y):
        y[index] *= k

    return lambda x: changed(change, x)


ALL = np.s_[:]
WHOLE = {
    "the sign is wrong": lambda x: -x,
    "it is 84 times too small (a mean where a sum should be?)": lambda x: x / 84,
    "it is 105 times too large": lambda x: x * 105,
    "it is 0.37 times the right one": lambda x: x * 0.37,
    "it is 2 times too small, with the wrong sign": lambda x: x / -2,
    "all are 0": lambda x: 0 * x,
    "all are 3": lambda x: 0 * x + 3,
    "each is 0.25 too large": lambda x: x + 0.25,
    "each is 1 minus the right one": lambda x: 1 - x,
    "each is 2 times the right one, plus 1": lambda x: 2 * x + 1,
    "the minus signs are lost": abs,
    "what should be negative is 0": lambda x: np.maximum(x, 0),
    "what comes after the point is cut off": np.trunc,
    "each is the exponential of the right one": np.exp,
    "each is the square of the right one": np.square,
    "each channel is right but for a factor: 2, 3 and -1": lambda x: x * [2, 3, -1],
    "each channel is right but for a number added to it: 1, 0 and 2": lambda x: x + np.array([1, 0, 2]),
    "each image is right but for a factor: 2 and 4": lambda x: x * np.array([2, 4])[:, None, None, None],
    "the rows are in reverse order": lambda x: x[:, ::-1],
    "the rows and the columns are in reverse order": lambda x: x[:, ::-1, ::-1],
    "the channels are right but are in another order: your channel 0 is the right channel 1": lambda x: x[..., [1, 2, 0]],
    "the images are right but repeat each other: your image 1 is the right image 0": lambda x: x[[0, 0]],
    "every number is the mean of the right ones over the images": lambda x: x.mean(0, keepdims=True) + 0 * x,
    "every number is the sum of the right ones over the channels": lambda x: x.sum(-1, keepdims=True) + 0 * x,
    "the numbers are the same for all rows and columns": lambda x: x[:, :1, :1] * 2 + 0 * x,
    "the right numbers stand 1 row too late": lambda x: np.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :5],
    "the right numbers stand 1 row too early and 2 columns too early": lambda x: np.pad(
        x[:, 1:, 2:], ((0, 0), (0, 1), (0, 2), (0, 0)), constant_values=9
    ),
    "the right numbers are all there, but in other places": lambda x: np.random.default_rng(1)
    .permutation(x.ravel())
    .reshape(x.shape),
}  # fmt: skip
SOME = {
    "105 of 210 numbers are wrong: the whole of the last image": put(np.s_[1], 9),
    "42 of 210 numbers are wrong: the whole of the last row": put(np.s_[:, 4], 9),
    "84 of 210 numbers are wrong: the whole of every odd row": put(np.s_[:, 1::2], 9),
    "30 of 210 numbers are wrong: the whole of column 3": put(np.s_[:, :, 3], 9),
    "60 of 210 numbers are wrong: the whole of the first two columns": put(np.s_[:, :, :2], 9),
    "3 of 210 numbers are wrong: the whole of the first image, in row 1, in column 2": put(np.s_[0, 1, 2], 9),
    "only at the edges: in the last row and the last column": lambda x: put(np.s_[:, :, -1], 8)(put(np.s_[:, -1], 9)(x)),
    "the whole of the last image; there all are 0": put(np.s_[1], 0),
    "the whole of the last channel; there it is 3 times too large": scaled(np.s_[..., 2], 3),
    "the whole of the last channel; there the sign is wrong": scaled(np.s_[..., 2], -1),
}  # fmt: skip


@pytest.mark.parametrize("words", WHOLE | SOME)
def test_what_is_wrong_is_said(words):
    text = describe((WHOLE | SOME)[words](X), X)
    assert text.startswith(words) or (words in SOME and words in text), text
    assert re.search(r"at \[\d, \d, \d, \d\]: yours is .*, right is ", text)


def test_right_ones_get_no_word():
    assert describe(X, X) == describe(X + 1e-13, X) == ""


def test_the_place_is_the_first_wrong_one():
    text = describe(put((1, 3, 0, 2), 5.0)(put((1, 4, 6, 2), 7.0)(X)), X)
    assert f"the first at [1, 3, 0, 2]: yours is 5, right is {X[1, 3, 0, 2]:.6g}" in text


def test_axes_have_the_names_that_they_are_given():
    w = X[:, :, :3, :]
    assert "the first kernel row" in describe(put(np.s_[0], 0)(w), w, names=KERNEL)
    assert "output channel" in describe(w * [1, 2, 3], w, names=KERNEL)


def test_a_factor_is_named_if_it_can_only_be_one_thing():
    shape = (3, 5, 8, 2)
    assert "all images have 120 pixels" in describe(X / 120, X, given=[shape])
    assert "there are 8" not in describe(X / 8, X, given=[(8, 2, 4, 3)])  # 8 images of 8 pixels
    assert counted(40, [shape]) == "an image has 40 pixels" and not counted(41, [shape]) and not counted(2, [shape])


@given(st.integers(0, 10**6))
@examples(60)
def test_noise_is_told_by_its_place_alone(seed):
    """Nothing is seen in what is random, however small the array."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, rng.integers(1, 5)))
    wanted, got = rng.standard_normal(shape), rng.standard_normal(shape)
    if wanted.size > 3:
        assert re.fullmatch(
            r"all numbers are wrong; the first at \[[0, ]+\]: yours is \S+, right is \S+", describe(got, wanted)
        )


@given(st.integers(0, 10**6))
@examples(60)
def test_what_is_said_of_the_place_holds(seed):
    """Wrong numbers anywhere: what is said to be the whole of them is, and nothing outside of what is named is wrong."""
    rng = np.random.default_rng(seed)
    shape = (2, 4, 5, 3)
    wanted, wrong = rng.standard_normal(shape), np.zeros(shape, bool)
    axis = int(rng.integers(4))
    which = rng.random(shape[axis]) < 0.5
    wrong[(slice(None),) * axis + (which,)] = rng.random() < 0.5 or rng.random(wrong.compress(which, axis).shape) < 0.7
    text = describe(wanted + wrong * rng.uniform(1, 2, shape), wanted)
    assert (text == "") == (not wrong.any())
    if ": the whole of" in text:
        (only,) = re.findall(r"the whole of (.*?);", text)
        assert (
            wrong.all(tuple(a for a in range(4) if a != axis)).sum()
            == wrong.any(tuple(a for a in range(4) if a != axis)).sum()
        )
        assert many(("image", "row", "column", "channel")[axis])[:-1] in only
    if wrong.any():
        assert f"at {[int(i) for i in np.argwhere(wrong)[0]]}" in text


def test_float32_is_told_from_what_has_a_pattern():
    """Rounding is called so; a factor, a shift or one wrong number is not, however small."""
    for x in (X, X * 1e-6, np.float64(2 / 3)):
        assert LAST_DIGITS in describe(np.asarray(x, np.float32).astype(float), x)
    assert describe(X * (1 + 1e-7), X).startswith("it is 1.0000001 times the right one")
    assert describe(X + 1e-7, X).startswith("each is 1e-07 too large")
    assert LAST_DIGITS not in describe(put(0, X[0] + 1e-7)(X), X[:]) + describe(X + 1e-3 * np.sin(X), X)


def test_what_is_small_beside_the_right_ones_is_not_called_zero():
    w = 2.0 ** np.arange(40, -1, -1)[:, None, None] * X[0, :2, :2, 0]
    assert "all are 0" not in describe(0 * w + np.array([[1.1, 2], [3, 4]]), w) and "all are 0" in describe(0 * w, w)
    assert "times" not in describe(0 * w + np.array([[1.1, 2], [3, 4]]), w)


FORMS = {
    "a list came back, where one array should": X.tolist(),
    "a tuple of 2 came back, where one array should": (X, X),
    "a dict came back": {"y": X},
    "'no' came back, where an array of numbers should": "no",
    "it is float32, where NumPy's float64 is expected": X.astype(np.float32),
    "it is int64, which has no places after the point": X.astype(int),
    "it is bool, True or False, where numbers should be": X > 0,
    "one number came back, not an array of the shape (2, 5, 7, 3): it is the sum of all the right numbers": X.sum(),
    "its shape is (2, 3, 5, 7), not (2, 5, 7, 3): the axes are in another order: it is right after .transpose(0, 2, 3, 1)": (
        X.transpose(0, 3, 1, 2)
    ),
    "its shape is (2, 7, 5, 3), not (2, 5, 7, 3): rows and columns are exchanged": X.swapaxes(1, 2),
    "its shape is (2, 5, 7, 3, 1), not (2, 5, 7, 3): the numbers are right, but axes of size 1 are left": X[..., None],
    "its shape is (70, 3), not (2, 5, 7, 3): the numbers are right: give them their shape": X.reshape(-1, 3),
    "its shape is (5, 7, 3), not (2, 5, 7, 3): it is the mean of the right one over axis 0 (images)": X.mean(0),
    "its shape is (2, 5, 7, 1), not (2, 5, 7, 3): it is the sum of the right one over axis 3 (channels)": X.sum(
        -1, keepdims=True
    ),
    "its shape is (2, 4, 7, 3), not (2, 5, 7, 3): it is the right one without the last row": X[:, :-1],
    "its shape is (2, 4, 5, 3), not (2, 5, 7, 3): it is the right one without the first row and the last two columns": (
        X[:, 1:, :-2]
    ),
    "its shape is (2, 7, 8, 3), not (2, 5, 7, 3): without the first row, the last row and the last column it would be right": (
        np.pad(X, ((0, 0), (1, 1), (0, 1), (0, 0)))
    ),
    "its shape is (2, 9, 7, 3), not (2, 5, 7, 3): four rows too many": np.ones((2, 9, 7, 3)),
    "its shape is (2, 0, 7, 3), not (2, 5, 7, 3): five rows too few": X[:, :0],
    "it is not finite: 70 of 210 numbers are nan or inf, the first at [0, 0, 0, 2]": put(np.s_[..., 2], np.nan)(X),
}  # fmt: skip


@pytest.mark.parametrize("words", FORMS)
def test_what_is_no_such_array_is_said_first(words):
    assert unfit(FORMS[words], X).startswith(words), unfit(FORMS[words], X)


def test_what_was_not_summed_is_said():
    assert "its sum over axes 0 and 1 is right: take it over those, too" in unfit(X.sum(0), X.sum((0, 1, 2)))
    assert "its mean over axis 0 is right" in unfit(X, X.mean(0))
    assert "axes of size 1 are left" in unfit(X.sum((0, 1, 2), keepdims=True), X.sum((0, 1, 2)))


def test_what_fits_is_not_unfit():
    for got in (X, X + 1, X[..., ::1], np.float64(3)):
        assert unfit(got, np.asarray(got) * 1.0) == ""
    assert unfit(0, np.array(1.5)) == "" and unfit(np.arange(3, dtype=np.int32), np.arange(3)) == ""
    assert unfit(X.astype(np.float32), X.astype(np.float32)) == unfit(X, X.astype(np.float32)) == ""


def test_one_number_is_compared_as_such():
    assert (
        describe(np.array(2.0), np.array(84.0))
        == "yours is 2, right is 84: it is 42 times too small (a mean where a sum should be?)"
    )
    assert describe(np.array(2.1), np.array(-2.1)).endswith("the sign is wrong")
    assert describe(np.array(2.1), np.array(3.7)) == "yours is 2.1, right is 3.7"


def test_words():
    assert [places("row", i, 6) for i in ([0], [5], [2], [0, 1], [4, 5], [1, 2], [1, 3, 5], [0, 2, 4], [0, 3])] == [
        "the first row", "the last row", "row 2", "the first two rows", "the last two rows", "rows 1 to 2", "every odd row",
        "every even row", "rows 0 and 3",
    ]  # fmt: skip
    assert beside(2.00000001, 2) == "yours is 2.00000001, right is 2" and beside(1.5, 2) == "yours is 1.5, right is 2"
    assert listed("abcde") == "a, b, c, d, ..." and listed("abc") == "a, b and c" and listed("a") == "a"
    assert many("box") == "boxes" and many("row", 1) == "row"

"""Kaggle's run lengths: by hand, round trips, and files that are wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from minunet import UserError
from minunet.data.instance_labels import renumber
from minunet.data.rle import decode, encode, read_submission, write_submission

LABELS = array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
    lambda shape: arrays(np.int32, shape, elements=st.sampled_from([0, 0, 1, 2, 70000]))
)


def test_by_hand():
    """Kaggle's own example, 1 3 10 5, in an image of three rows: down the columns, from 1."""
    labels = np.zeros((3, 6), int)
    labels.T.flat[[0, 1, 2, 9, 10, 11, 12, 13]] = 4
    assert encode(labels) == ["1 3 10 5"] and labels[0, 0] and labels[2, 0] and labels[0, 3]
    assert encode(np.zeros((2, 2), int)) == []
    assert encode(np.array([[9, 2], [9, 2]])) == ["3 2", "1 2"]  # in the order of the numbers


@given(LABELS)
def test_round_trip(labels):
    numbers = np.unique(labels[labels > 0])
    back = decode(encode(labels), labels.shape)
    assert back.shape == labels.shape and np.array_equal(np.append(0, numbers)[back], labels)


@given(LABELS)
def test_equal_to_pixel_by_pixel(labels):
    """Every run is as long as it can be, in order, and holds the very pixels of its object."""
    for number, text in zip(np.unique(labels[labels > 0]), encode(labels)):
        runs = np.array(text.split(), int).reshape(-1, 2)
        pixels = [start + i for start, length in runs for i in range(length)]
        true = [c * labels.shape[0] + r + 1 for c in range(labels.shape[1]) for r in range(labels.shape[0])
                if labels[r, c] == number]  # fmt: skip
        assert pixels == true
        assert (runs[1:, 0] > runs[:-1].sum(1)).all()  # runs that meet would be one


@pytest.mark.parametrize("objects, words", [
    (["1 2 3"], "pairs"), (["a b"], "pairs"), ([""], "leave"), (["0 2"], "leave"), (["6 2"], "leave"), (["1 0"], "leave"),
    (["3 1 1 1"], "not in order"), (["1 3 2 1"], "not in order"), (["1 3", "3 1"], "overlaps object 1"), (["-3 9"], "leave"),
])  # fmt: skip
def test_what_is_no_mask_is_refused(objects, words):
    with pytest.raises(ValueError, match=words):
        decode(objects, (2, 3))


def test_submission(tmp_path):
    path = tmp_path / "submission.csv"
    write_submission(path, {"b": ["1 2", "5 1"], "a": []})
    assert path.read_text() == "ImageId,EncodedPixels\nb,1 2\nb,5 1\na,\n"
    assert read_submission(path) == {"b": ["1 2", "5 1"], "a": []}
    path.write_text("ImageId,EncodedPixels,Height,Width,Usage\nb,1 2,3,3,Public\n")  # as the solutions were published
    assert read_submission(path) == {"b": ["1 2"]}


@pytest.mark.parametrize("content", [b"Image,Pixels\na,1 2\n", b"", b"\xff\xfe\x00"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.csv"):
        read_submission(path)


@given(LABELS)
def test_numbering_by_first_pixel(labels):
    new = renumber(labels)
    firsts = [np.flatnonzero(new == n)[0] for n in range(1, new.max() + 1)]
    assert firsts == sorted(firsts) and np.array_equal(new > 0, labels > 0) and new.dtype == np.int32
    assert len({(a, b) for a, b in zip(labels.ravel().tolist(), new.ravel().tolist())}) == len(np.unique(labels))

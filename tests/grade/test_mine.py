"""A student's answers in a live network: they give what ours give, and what is wrong is found where it is."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from minunet.errors import UserError
from minunet.grade.exercises import EXERCISES
from minunet.grade.mine import astray, command
from minunet.grade.mine.adapters import ADAPTERS
from minunet.grade.mine.answers import Answer, grade_answers
from minunet.grade.mine.hand import Hand
from minunet.grade.mine.network import OwnUNet, Plug, loss_and_gradients, shares
from minunet.grade.mine.parts import OPS, PARTS, owner
from minunet.grade.mine.picture import as_text, make_drawing
from minunet.grade.mine.training import checked, make_cells, tell, train, tried
from minunet.grade.process.runner import Limits
from minunet.ops.dispatch import replaced, use

EACH = pytest.mark.parametrize("name", PARTS)
SOME = pytest.mark.drawn(quick=4)


def hand(name, source=None, isolation="off", seconds=5.0, file="answer.py"):
    limits = Limits(seconds, 60.0, called_with=1 << 26)
    return Hand(Answer(EXERCISES[name], Path(file), source or EXERCISES[name].reference, 1, 1), limits, isolation)


def plugged(name, source=None, **how):
    return {name: ADAPTERS[name](hand(name, source, **how))}


def wrong(name, change):
    """The answer with one of its known mistakes, or with a change of the text."""
    e = EXERCISES[name]
    if isinstance(change, str):
        return e.mistaken(next(w for w in e.wrongs if w.name == change))
    assert change[0] in e.reference
    return e.reference.replace(*change)


@pytest.fixture(scope="module")
def truth():
    """A step with our functions: all calls, and the cells that it saw."""
    return astray.true_trail()


@pytest.fixture(scope="module")
def cells():
    return make_cells(Plug(), 6, 2)


# ---- in the place of ours --------------------------------------------------------------------------------------------


def test_every_exercise_of_the_unet_has_a_place():
    assert PARTS.keys() == ADAPTERS.keys()
    assert {n for n, e in EXERCISES.items() if e.lesson <= 8} == PARTS.keys()


@SOME
@EACH
def test_an_answer_gives_what_ours_gives(name, truth):
    trail, batch = truth
    plug = Plug(plugged(name), trail=[])
    cells = make_cells(plug, len(batch.images))
    np.testing.assert_allclose(cells.weight, batch.weight, rtol=0, atol=1e-12)
    astray.run_step(plug, cells, 4)
    own = [call for call in plug.trail if owner(call.name, call.path, [name]) == name]
    assert own or name in ("unet_backward", "gradient_check")
    assert [(c.name, c.path) for c in plug.trail] == [(c.name, c.path) for c in trail]
    for got, wanted in zip(plug.trail, trail):
        for a, b in zip(astray.flat(got.result), astray.flat(wanted.result), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1.0, float(np.abs(b).max())))


def test_all_answers_train_as_ours_do(cells):
    functions = {name: ADAPTERS[name](hand(name)) for name in PARTS if name != "filter_image"}  # whose loops are slow
    plug = Plug(functions)
    theirs = train(plug, (), cells, cells, 3, quiet=True)
    ours = train(Plug(), (), cells, cells, 3, quiet=True)
    np.testing.assert_allclose(theirs.losses, ours.losses, rtol=1e-11)
    np.testing.assert_allclose(theirs.frames[-1][1], ours.frames[-1][1], atol=1e-9)
    assert ours.losses[-1] < ours.losses[0]


@pytest.mark.slow
def test_in_processes_of_their_own(cells):
    """A pair whose cache stays there, a backward with our cache, a wiring that calls both; and what was kept is forgotten."""
    names = ("max_pool", "conv_backward", "unet_backward")
    hands = [hand(name, isolation="auto") for name in names]
    try:
        plug = Plug({name: ADAPTERS[name](h) for name, h in zip(names, hands)})
        theirs = train(plug, hands, cells, cells, 2, quiet=True)
        assert all(h.calls and h.impl.kept == 0 for h in hands)
    finally:
        for h in hands:
            h.__exit__()
    np.testing.assert_allclose(theirs.losses, train(Plug(), (), cells, cells, 2, quiet=True).losses, rtol=1e-12)


@pytest.mark.parametrize("isolation", ["off", pytest.param("auto", marks=pytest.mark.slow)])
def test_an_answer_in_a_notebook(isolation, truth):
    cells = [{"cell_type": "code", "source": text} for text in (EXERCISES["max_pool"].reference, "1 / 0")]
    with hand("max_pool", json.dumps({"cells": cells}), isolation, file="answer.ipynb") as own:
        assert astray.first_differences({"max_pool": ADAPTERS["max_pool"](own)}, *truth) == [] and own.calls == 4


def test_replaced_ops_come_back():
    from minunet import ops

    x = np.ones((1, 2, 2, 1))
    with replaced({"relu": lambda x: (x - 1, ())}), replaced({"sigmoid": lambda x: (x + 1, ())}):
        assert not ops.relu(x)[0].any() and (ops.sigmoid(x)[0] == 2).all()
    assert (ops.relu(x)[0] == 1).all()


def test_the_gradient_checker_judges_the_layers():
    right = Plug(plugged("gradient_check") | plugged("conv_backward"))
    assert set(checked(right, ()).values()) == {True}
    bad = Plug(plugged("gradient_check") | plugged("conv_backward", wrong("conv_backward", "dx_overwrites")))
    assert [words for words, ok in checked(bad, ()).items() if not ok] == ["convolution"]


# ---- who computes what -----------------------------------------------------------------------------------------------


def test_shares(truth):
    trail, _ = truth
    everything = shares(trail, PARTS)
    assert None not in everything and sum(everything.values()) == pytest.approx(1)
    assert shares(trail, [])[None] == pytest.approx(1)
    forward, backward = (shares(trail, [name])[name] for name in ("conv_forward", "conv_backward"))
    assert backward == pytest.approx(2 * forward)


def test_convolutions_go_to_whoever_is_there():
    assert owner("conv2d", "encoder.0.conv1", PARTS) == "filter_image"
    assert owner("conv2d", "encoder.0.conv1", ["im2col", "winograd"]) == "im2col"
    assert owner("conv2d", "bottom.conv2", ["filter_image", "winograd"]) is None


def test_the_drawing_has_every_function_of_a_step(truth):
    trail, _ = truth
    drawn = {(f, box.path) for box in make_drawing().boxes for f in (box.forward, box.backward) if f}
    assert drawn == {(c.name, c.path) for c in trail if c.path not in ("", "step")}
    assert set(OPS) - {"sgd_step"} <= {f for f, _ in drawn}


def test_the_u_as_text():
    text = as_text(["conv_forward"])
    assert text.count("█") == 11 + 1 and max(map(len, text.splitlines())) <= 110  # and one in the line that explains it
    plain = as_text(PARTS, lambda text: text.isascii())
    assert plain.isascii() and "." not in plain.split("\n\n")[0]


# ---- where it goes astray --------------------------------------------------------------------------------------------

MISTAKES = [
    ("conv_backward", "dx_kernel_not_flipped", "conv2d_backward", "decoder.0.conv2", "dx"),
    ("conv_backward", "dw_mean_over_images", "conv2d_backward", "head", "dw"),
    ("conv_backward", "db_mean", "conv2d_backward", "head", "db"),
    ("conv_backward", "dw_without_padding_shift", "conv2d_backward", "decoder.0.conv2", "dw"),
    ("batch_norm", "forgets_the_mean", "batch_norm_backward", "decoder.0.norm2", "dx"),
    ("max_pool", "spread_over_the_window", "max_pool2d_backward", "pool.1", "dx"),
    ("conv_transpose", "dx_flipped", "conv_transpose2d_backward", "up.1", "dx"),
    ("bilinear", "interpolates_backwards", "upsample_bilinear_backward", "up.0", "dx"),
    ("bilinear", "other_corners", "upsample_bilinear", "up.0", "y"),
    ("crop_concat", "stacked_the_other_way_round", "concat", "join.1", "y"),
    ("crop_concat", ("dy[..., end - n : end]", "dy[..., end - n : end][..., ::-1]"), "concat_backward", "join.0", "dskip"),
    ("cross_entropy", "sum_instead_of_mean", "softmax_cross_entropy_backward", "loss", "dx"),
    ("dice", "no_quotient_rule", "soft_dice_backward", "loss", "dx"),
    ("momentum", "uphill", "sgd_step", "step", "p"),
    ("weight_map", "one_distance", "separation", "", "the map"),
    ("unet_backward", "skip_halved", "unet_backward", "encoder.1", "dy"),
    ("unet_backward", "forgotten_skip", "unet_backward", "encoder.1", "dy"),
    ("winograd", "mean_over_channels", "conv2d", "bottom.conv1", "y"),
    ("im2col", "channels_first", "conv2d", "encoder.0.conv2", "y"),
    ("conv_forward", "kernel_flipped", "conv2d", "encoder.0.conv1", "y"),
    ("filter_image", "kernel_flipped", "conv2d", "encoder.0.conv1", "y"),
]  # fmt: skip


@pytest.mark.parametrize(
    "name, mistake, function, path, what", MISTAKES, ids=[f"{m[0]}-{m[2]}-{m[4]}" for m in MISTAKES]
)
def test_a_mistake_is_found_where_it_is(name, mistake, function, path, what, truth):
    found = astray.first_differences(plugged(name, wrong(name, mistake)), *truth)
    assert [(a.function, a.path, a.what, a.error) for a in found] == [(function, path, what, "")]
    assert path.split(".")[0] in astray.says(found[0])


@SOME
@EACH
def test_a_right_answer_goes_nowhere_astray(name, truth):
    assert astray.first_differences(plugged(name), *truth) == []


def test_weights_in_float32_are_near_enough(truth):
    """Ours are, and another way to compute them rounds otherwise; as in grading that is right."""
    rounded = ("return np.exp(", "return np.float32(1 + 3e-7) * np.exp(")
    assert astray.first_differences(plugged("weight_map", wrong("weight_map", rounded)), *truth) == []


def test_the_sentence_says_what_it_is_instead(truth):
    mean = astray.first_differences(plugged("conv_backward", wrong("conv_backward", "db_mean")), *truth)[0]
    assert "6400 times too small" in astray.says(mean)  # a mean over 4 x 40 x 40 pixels
    change = ("(N, OH, OW, K), x.dtype", "(N, OH, OW, K), np.float32")
    rough = astray.first_differences(plugged("conv_forward", wrong("conv_forward", change)), *truth)[0]
    assert "keep the dtype of the inputs" in astray.says(rough)
    half = astray.first_differences(plugged("unet_backward", wrong("unet_backward", "skip_halved")), *truth)[0]
    assert "the backward of encoder.1 gets a wrong gradient: it is 2 times too small" in astray.says(half)


def test_what_follows_from_a_mistake(truth):
    functions = plugged("batch_norm", wrong("batch_norm", "forgets_gamma")) | plugged("conv_forward")
    bad = astray.wrong_calls(functions, *truth)
    places = [(c.name, c.path) for c in truth[0] if c.path]
    first = astray.first_differences(functions, *truth)[0]
    before = places[: places.index((first.function, first.path))]
    assert not bad & set(before)
    assert {f for f in places[len(before) :] if f[0].endswith("_backward")} <= bad


def test_the_first_in_the_order_of_a_step_comes_first(truth):
    functions = plugged("max_pool", wrong("max_pool", "starts_at_zero")) | plugged("dice", wrong("dice", "sign"))
    functions |= plugged("conv_backward", wrong("conv_backward", "dx_overwrites"))
    assert [a.exercise for a in astray.first_differences(functions, *truth)] == [
        "dice",
        "conv_backward",
    ]  # after a ReLU


@pytest.mark.parametrize(
    "change, said",
    [
        (("dx = back(\"bottom\", dx)", "pass"), "it calls the backward of pool.1 where bottom comes next"),
        (("return dx", "return None"), "it does not return the gradient of the image"),
        (("dskips.append(dskip)", "dskips.append(dskip[:1])"), None),
        (("dx = back(\"head\", dy)", "dx = back(\"head\", back(\"head\", dy))"), "head"),
    ],
    ids=["left out", "nothing returned", "another shape", "twice"],
)  # fmt: skip
def test_a_wiring_that_breaks(change, said, truth):
    found = astray.first_differences(plugged("unet_backward", wrong("unet_backward", change)), *truth)
    assert len(found) == 1 and (said is None or said in astray.says(found[0]))


# ---- what may go wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, said, isolation",
    [
        ("return 1 / 0", "answer.py: max_pool2d, step 1 of the training: ZeroDivisionError", "off"),
        ("return x", r"max_pool2d, .* max_pool2d must return \(y, cache\)", "off"),
        ("return x[:1], None", r"y has the shape \(1, 40, 40, 4\), not \(4, 20, 20, 4\)", "off"),
        ("return None, None", "y is None, not an array", "off"),
        ("while True: pass", "max_pool2d, step 1 of the training: it took longer than 1 seconds", "auto"),
        ("import os; os._exit(3)", "step 1 of the training: its process ended", "auto"),
    ],
    ids=["raises", "no pair", "shape", "None", "hangs", "ends"],
)
def test_errors_name_file_function_and_step(line, said, isolation, cells):
    own = hand("max_pool", f"def max_pool2d(x, size=2, stride=None):\n    {line}\n", isolation, seconds=1.0)
    plug = Plug({"max_pool": ADAPTERS["max_pool"](own)})
    net = OwnUNet()
    with own, plug.into(net), pytest.raises(UserError, match=said) as e:
        tell([own], "step 1 of the training")
        loss_and_gradients(net, plug, cells.images[:4], cells.labels[:4], cells.weight[:4])
    assert "\n" not in str(e.value)


def test_what_is_right_but_fails_here_is_left_out(cells):
    """It was graded on small arrays; on these it takes too long, say."""
    source = EXERCISES["max_pool"].reference.replace(
        "    stride = stride or size\n", "    stride = stride or size\n    assert x.shape[1] < 20\n"
    )
    hands = {"max_pool": hand("max_pool", source), "dice": hand("dice")}
    trial = tried(hands, {name: ADAPTERS[name](h) for name, h in hands.items()}, 3, 1e9)
    assert list(trial.plug.functions) == ["dice"] and trial.steps == 3 and trial.hands == [hands["dice"]]
    assert trial.left_out["max_pool"].startswith("max_pool2d: AssertionError")


def test_an_error_below_the_wiring_is_the_layers(cells):
    broken = hand(
        "max_pool", EXERCISES["max_pool"].reference.replace("OH, OW = dy.shape[1:3]", "raise ValueError('lost')")
    )
    functions = {"max_pool": ADAPTERS["max_pool"](broken)} | plugged("unet_backward")
    with pytest.raises(UserError, match=r"max_pool2d_backward.*lost"):
        astray.run_step(Plug(functions), cells, 4)


@pytest.mark.slow
def test_answers_are_graded(tmp_path):
    (tmp_path / "momentum.py").write_text(EXERCISES["momentum"].reference)
    (tmp_path / "worse.py").write_text(wrong("momentum", "uphill"))
    (tmp_path / "nms.py").write_text(EXERCISES["nms"].reference)
    (tmp_path / "none.py").write_text("def f(): pass\n")
    (tmp_path / "stub.py").write_text(EXERCISES["max_pool"].text)
    said = []
    answers = grade_answers([tmp_path], 1, Limits(5.0, 30.0), "auto", said.append)
    assert (
        list(answers) == ["momentum"] and answers["momentum"].passed and answers["momentum"].path.name == "momentum.py"
    )
    assert any("nms" in text and "another network" in text for text in said) and any("none.py" in text for text in said)
    with pytest.raises(UserError, match="no file answers an exercise that has a place"):
        grade_answers([tmp_path / "nms.py"], 1, Limits(5.0, 30.0), "auto", said.append)


@pytest.mark.slow
def test_the_whole_command(tmp_path, capsys):
    for name in ("momentum", "max_pool"):
        (tmp_path / f"{name}.py").write_text(EXERCISES[name].reference)
    (tmp_path / "dice.py").write_text(wrong("dice", "sign"))
    output = tmp_path / "mine.html"
    assert command.main([str(tmp_path), "--steps", "2", "--look", "-o", str(output), "-q"]) == 1
    said, text = capsys.readouterr().out, output.read_text()
    assert "2 of 16 parts are yours" in said and "Not right yet: dice." in said
    assert re.search(r"astray: \S*dice.py, in the loss", said) and "2 steps in" in said
    assert "With our functions alone every loss is the same" in said
    assert text.count('class="half yours') == 4 and 'class="half ours astray"' in text


def test_a_wiring_gets_more_time_than_a_layer():
    args = command.make_parser().parse_args(["a.py"])
    assert command.limits_of("unet_backward", args).call > command.limits_of("max_pool", args).call


def test_the_network_is_a_unet_with_two_kinds_of_up_steps():
    net = OwnUNet()
    with use("reference"):
        y, _ = net.forward(np.zeros((1, 40, 40, 1)))
    assert y.shape == (1, 40, 40, 2) and y.dtype == np.float64
    assert type(net.up[0]).__name__ == "UpsampleBilinear" and type(net.up[1]).__name__ == "ConvTranspose2d"

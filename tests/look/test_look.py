"""The page that shows a network as it ran: what it is told is what happened. The page itself is driven in test_look_page.py."""

import base64
import io
import json
import re
from itertools import product

import numpy as np
import pytest
from helpers.look_pages import facts
from helpers.tolerances import NETWORK
from PIL import Image

import minunet
from minunet.checkpoint.file import save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.look import build
from minunet.look.command import main
from minunet.look.field import grid, lying_apart, pixel_gradients
from minunet.look.inputs import cut_middle
from minunet.look.nodes import make_nodes
from minunet.look.record import record
from minunet.look.show import classes_of, cross_entropy, show
from minunet.look.sprites import sheet
from minunet.models import UNet, UNetOptions
from minunet.models import build as build_network
from minunet.models.receptive_field import receptive_field
from minunet.models.trace import follow
from minunet.predict.tiles import reach

VARIANTS = [
    ({"in_channels": 1, "num_classes": 2, "depth": 2}, (22, 17)),
    ({"in_channels": 3, "num_classes": 1, "depth": 1, "norm": "group", "up": "nearest"}, (9, 12)),
    ({"in_channels": 3, "num_classes": 4, "depth": 3, "norm": None, "up": "bilinear"}, (21, 16)),
    ({"in_channels": 1, "num_classes": 3, "depth": 2, "padding": "valid", "dropout": 0.5}, (44, 48)),
]


def network(options, rng, base_width=4):
    """A network with random biases and running statistics, so that nothing is 0 or 1 by chance."""
    model = UNet(**options, base_width=base_width)
    for name, a in model.state().items():
        if not name.endswith(".w"):
            a[...] = (
                np.abs(rng.normal(1, 0.2, a.shape)) if name.endswith(("gamma", "var")) else rng.normal(0, 0.2, a.shape)
            )
    return model


def recorded(options, size, rng, **more):
    model = network(options, rng, **more)
    x = rng.standard_normal((1, *size, options["in_channels"]), np.float32)
    calls, value = record(model, x, cross_entropy(None), runs=1)
    return model, x, calls, value


@pytest.mark.parametrize(("options", "size"), VARIANTS)
def test_the_record_is_of_every_layer_in_its_order(options, size, rng):
    model, x, calls, _ = recorded(options, size, rng)
    rows = minunet.summary(model, x.shape, fused=False).rows
    assert [(c.path, c.output.shape) for c in calls] == [(row.name, row.output) for row in rows]
    assert all(c.gradient.shape == c.output.shape for c in calls)
    assert all([d.shape for d in c.handed] == [a.shape for a in c.inputs] for c in calls)


@pytest.mark.parametrize(("options", "size"), VARIANTS)
def test_the_recorded_gradients_are_those_of_the_networks_own_backward(options, size, rng):
    model, x, calls, value = recorded(options, size, rng)
    found = {path: g.copy() for path, g in model.named_grads().items()}
    nodes = make_nodes(calls)
    with minunet.use("reference"):
        model.zero_grad()
        logits, cache = model.forward(x, train=False)
        loss, dlogits = cross_entropy(None)(logits)
        dx = model.backward(dlogits, cache)
    assert value == loss
    assert np.array_equal(nodes[-1].value, logits) and np.array_equal(nodes[-1].gradient, dlogits)
    assert np.array_equal(nodes[0].value, x) and np.array_equal(nodes[0].gradient, dx)
    assert found.keys() == model.named_grads().keys()
    for path, g in model.named_grads().items():
        assert np.array_equal(found[path], g)
    for node in nodes:  # in between: a bias's gradient is the sum over its map's
        if node.calls and "b" in node.calls[0].module.params:
            total = node.gradient.sum((0, 1, 2))
            np.testing.assert_allclose(found[node.calls[0].path + ".b"], total, rtol=NETWORK["float32"], atol=1e-7)


@pytest.mark.parametrize(("options", "size"), VARIANTS)
def test_where_two_gradients_meet_they_add_up(options, size, rng):
    nodes = make_nodes(recorded(options, size, rng)[2])
    meeting = [node for node in nodes if len(node.handed) == 2]
    assert len(meeting) == options["depth"]
    for node in meeting:
        assert np.abs(node.handed["join"]).max() > 0 and np.abs(node.handed["pool"]).max() > 0
        assert np.array_equal(node.gradient, node.handed["pool"] + node.handed["join"])
    for node in nodes[:-1]:
        if node not in meeting:
            (handed,) = node.handed.values()
            assert np.array_equal(node.gradient, handed)


def test_watching_leaves_the_network_as_it_was(rng):
    model, x, calls, _ = recorded(*VARIANTS[0], rng)
    assert not any({"forward", "backward"} & vars(m).keys() for _, m in model.modules())
    assert len(record(model, x, cross_entropy(None), runs=2)[0]) == len(calls)


def test_nodes_of_a_u(rng):
    options = {"in_channels": 3, "num_classes": 2, "depth": 2}
    nodes = make_nodes(recorded(options, (16, 24), rng)[2], most=4)
    block = ["conv", "act"] * 2
    down, up = [*block, "pool"], ["up", "join", *block]
    assert [n.kind for n in nodes] == ["image", *down, *down, *block, *up, *up, "head"]
    assert [n.level for n in nodes if n.kind == "join"] == [1, 0]
    assert [n.title for n in nodes[1:3]] == ["3x3 convolution", "batch norm + ReLU"]
    for node in nodes:
        assert [nodes[s].value.shape for s in node.sources] == [
            a.shape for a in (node.calls[0].inputs if node.calls else [])
        ]
        assert len(set(node.shown)) == len(node.shown) <= 4 and max(node.shown) < node.value.shape[-1]
        if node.kind == "join":  # a channel shown is the very one that is shown where it comes from
            skip, below = (nodes[s] for s in node.sources)
            start = skip.value.shape[-1]
            assert node.shown == skip.shown[:2] + [start + c for c in below.shown[:2]]


def test_what_the_page_is_told_of_a_node(rng):
    model, _, calls, _ = recorded(*VARIANTS[0], rng)
    grads = model.named_grads()
    for node in make_nodes(calls):
        told = build.node_json(node, 16, grads)
        assert told["shape"] == list(node.value.shape[1:]) and told["bytes"] == node.value.size * 4
        assert told["gradient_norm"] == pytest.approx(np.sqrt(np.square(node.gradient, dtype=float).sum()))
        assert told["params"] == sum(p.size for c in node.calls for p in c.module.params.values())
        assert told["forward_ms"] >= 0 and told["backward_ms"] >= 0
        json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("signed", [False, True])
def test_a_sheets_tiles_are_the_map(signed, rng):
    maps = rng.uniform(-1 if signed else 0, 1, (6, 9, 3)).astype(np.float32)
    told = sheet(maps, 16)
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["uri"].split(",")[1]))), np.float64)
    tiles = grey.reshape(3, 6, 9).transpose(1, 2, 0)
    values = (tiles - 128) / 127 if signed else tiles / 255
    assert told["signed"] == signed and told["tile"] == [6, 9]
    np.testing.assert_allclose(
        values * told["scale"], np.clip(maps, -told["scale"], told["scale"]), atol=told["scale"] / 200
    )


# ---- receptive fields ------------------------------------------------------------------------------------------------


FIELDS = [
    ({"depth": 1}, (9, 12)),
    ({"depth": 2}, (27, 22)),
    ({"depth": 1, "up": "nearest"}, (11, 10)),
    ({"depth": 1, "up": "bilinear"}, (11, 8)),
    ({"depth": 1, "padding": "valid"}, (24, 30)),
]


@pytest.mark.parametrize(("options", "size"), FIELDS)
def test_the_receptive_field_is_where_gradients_are(options, size, rng):
    """One network's gradient misses what pools and ReLUs hold back; over many random ones every row and column shows."""
    options = {"in_channels": 1, "num_classes": 1, "norm": None} | options
    trace = follow(network(options, rng, base_width=2), (1, *size, 1))
    H, W = trace.output.shape[1:3]
    pixels = [(0, 0), (H // 2, W // 2), (H // 2 + 1, W - 1), (H - 1, 1)]
    seen = np.zeros((len(pixels), *size), bool)
    with minunet.use("reference"):  # Winograd's transforms leave rounding where there should be 0
        for _ in range(40):
            model = network(options | {"seed": int(rng.integers(1 << 30))}, rng, base_width=8)
            x = rng.standard_normal((1, *size, 1), np.float32)
            for i, dx in pixel_gradients(model, x, pixels, whole(size, pixels), np.zeros((H, W), int)):
                seen[i] |= dx[..., 0] != 0
    for pixel, mask in zip(pixels, seen):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        assert receptive_field(trace, pixel) == ((rows[0], rows[-1]), (columns[0], columns[-1]))


def whole(size, pixels):
    """The whole image as the field of every pixel."""
    return [((0, size[0] - 1), (0, size[1] - 1))] * len(pixels)


def test_pixels_that_share_a_pass_have_the_gradients_of_a_pass_of_their_own(rng):
    model, x, _, _ = recorded({"in_channels": 2, "num_classes": 3, "depth": 1}, (48, 40), rng)
    pixels = list(product(grid(48, 4), grid(40, 4)))
    boxes = [receptive_field(follow(model, x.shape), pixel) for pixel in pixels]
    groups = lying_apart(boxes)
    assert sorted(i for group in groups for i in group) == list(range(16)) and len(groups) < 16
    for group in groups:
        read = np.zeros((48, 40), int)
        for (top, bottom), (left, right) in (boxes[i] for i in group):
            read[top : bottom + 1, left : right + 1] += 1
        assert read.max() == 1
    classes = rng.integers(0, 3, (48, 40))
    with minunet.use("reference"):
        shared = dict(pixel_gradients(model, x, pixels, boxes, classes))
        alone = dict(pixel_gradients(model, x, pixels, whole((48, 40), pixels), classes))
    for i in range(16):
        np.testing.assert_allclose(shared[i], alone[i], rtol=NETWORK["float32"], atol=1e-6 * np.abs(alone[i]).max())


def test_the_receptive_field_of_the_papers_network(rng):
    options = {"in_channels": 1, "num_classes": 1, "norm": None, "depth": 4}
    trace = follow(UNet(**options, base_width=1), (1, 300, 16, 1))
    sides = [receptive_field(trace, (row, 0))[0] for row in range(140, 156)]
    assert {bottom - top + 1 for top, bottom in sides} == {188, 204}  # by where the pixel lies between the pools
    far = reach(UNet(**options, base_width=1))  # what tiles overlap by, which is reckoned otherwise
    assert all(row - far <= top and bottom <= row + far for row, (top, bottom) in zip(range(140, 156), sides))


def test_a_group_norm_sees_everything(rng):
    model, x, _, _ = recorded(*VARIANTS[1], rng)
    assert receptive_field(follow(model, x.shape), (4, 4)) == ((0, x.shape[1] - 1), (0, x.shape[2] - 1))


def test_grid():
    assert grid(256) == [16, 48, 80, 112, 144, 176, 208, 240]
    assert grid(3) == [0, 1, 2]


# ---- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path, rng):
    model = build_network(UNetOptions(in_channels=3, num_classes=2, base_width=4, depth=2))
    model.preprocessing = Preprocessing(3, ClassMap.binary())
    save_checkpoint(tmp_path / "net.safetensors", model)
    Image.fromarray(rng.integers(0, 256, (40, 50), np.uint8)).save(tmp_path / "cell.png")
    Image.fromarray(255 * rng.integers(0, 2, (40, 50), np.uint8)).save(tmp_path / "truth.png")
    return tmp_path


def look(folder, *flags):
    return main(["-m", f"{folder}/net.safetensors", "-i", f"{folder}/cell.png", "-o", f"{folder}/look.html", *flags])


def test_the_page_needs_nothing_beside_it(checkpoint, capsys):
    assert look(checkpoint, "--grid", "2", "--mask", f"{checkpoint}/truth.png", "--size", "32") == 0
    html = (checkpoint / "look.html").read_text(encoding="utf-8")
    assert "look.html: " in capsys.readouterr().out
    page = html[: html.index('<script type="application/json"')] + html[html.rindex("<script>") :]
    assert not re.findall(
        r'(?:src|href)="(?!data:)|@import|url\((?!#)|fetch\(|https?://(?!www\.w3\.org/2000/svg)', page
    )
    told = facts(html)
    assert told["size"] == [32, 32, 3] and told["whole"] == [40, 50] and told["mask"] == "truth.png"
    assert told["loss"] > 0 and "truth" in told["pictures"]
    assert len(told["field"]["pixels"]) == 4


def test_the_loss_is_against_the_mask_if_there_is_one(checkpoint):
    model = minunet.load(checkpoint / "net.safetensors")
    x = np.random.default_rng(1).standard_normal((16, 16, 3)).astype(np.float32)
    labels = np.random.default_rng(2).integers(-1, 2, (16, 16))
    about = {"model": "m", "image": "i", "mask": None, "whole": [16, 16], "params": 1}
    logits = model(x[None])[0]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    true = np.take_along_axis(p, np.maximum(labels, 0)[..., None], -1)[..., 0]
    against_mask = facts(show(model, x, labels, 1, about))["loss"]
    against_itself = facts(show(model, x, None, 1, about))["loss"]
    assert against_mask == pytest.approx(-np.log(true[labels >= 0]).mean(), rel=1e-4)
    assert against_itself == pytest.approx(-np.log(p.max(-1)).mean(), rel=1e-4)


@pytest.mark.parametrize(("options", "size"), VARIANTS)
def test_a_page_for_every_kind_of_network(options, size, rng):
    model = network(options, rng)
    K = max(2, options["num_classes"])
    border = options["num_classes"] == 3
    classes = ClassMap.binary() if border else ClassMap(list(range(K)), [f"class {k}" for k in range(K)])
    model.preprocessing = Preprocessing(options["in_channels"], classes, target="border" if border else "classes")
    x = rng.standard_normal((*size, options["in_channels"]), np.float32)
    told = facts(show(model, x, None, 2, {"model": "m", "image": "i", "mask": None, "whole": list(size), "params": 1}))
    field, (H, W, C) = told["field"], told["nodes"][-1]["shape"]
    assert C == options["num_classes"] == len(told["logit_names"])
    assert field["pixels"] == [[r, c] for r in (H // 4, int(0.75 * H)) for c in (W // 4, int(0.75 * W))]
    logits = model(x[None])[0]
    for (row, column), label, logit in zip(field["pixels"], field["labels"], field["logits"]):
        assert label == classes_of(logits)[row, column]
        assert logit == pytest.approx(logits[row, column, min(label, C - 1)], rel=1e-4, abs=1e-5)


def test_the_page_stays_below_its_limit(checkpoint, monkeypatch):
    assert look(checkpoint, "--grid", "1") == 0
    whole = (checkpoint / "look.html").stat().st_size
    assert whole <= build.LIMIT == 15_000_000
    monkeypatch.setattr(build, "LIMIT", whole - 20_000)
    assert look(checkpoint, "--grid", "1") == 0
    assert (checkpoint / "look.html").stat().st_size <= build.LIMIT


def test_a_page_that_cannot_be_small_enough_is_not_written(checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(build, "LIMIT", 1000)
    assert look(checkpoint, "--grid", "1") == 2
    assert "choose a smaller --size or --grid" in capsys.readouterr().err
    assert not (checkpoint / "look.html").exists()


@pytest.mark.parametrize("factor", [10, 1e9, 1e25])
def test_weights_that_are_too_large(checkpoint, capsys, factor):
    """A page, or a sentence; never a page of numbers that are none."""
    model = minunet.load(checkpoint / "net.safetensors")
    for w in (p for name, p in model.named_params().items() if name.endswith(".w")):
        w *= np.float32(factor)
    save_checkpoint(checkpoint / "net.safetensors", model)
    with np.errstate(all="ignore"):
        status = look(checkpoint, "--grid", "1", "--size", "16")
    assert status == 0 or "is not finite on this image" in capsys.readouterr().err
    assert status == 2 * (not (checkpoint / "look.html").exists()) and (factor < 1e9) == (status == 0)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--mask", "{}/none.png"], "none.png: no such file"),
        (["--mask", "{}/small.png"], "20 x 20 pixels, the image has 40 x 50"),
        (["--mask", "{}/seven.png"], "is none of the classes"),
        (["-i", "{}/none.png"], "none.png: no such file"),
        (["-m", "{}/none.safetensors"], "no such checkpoint"),
        (["-o", "{}"], "is a folder"),
        (["-o", "{}/none/look.html"], "there is no folder"),
    ],
)
def test_mistakes(flags, said, checkpoint, capsys):
    Image.new("L", (20, 20)).save(checkpoint / "small.png")
    Image.new("L", (50, 40), 7).save(checkpoint / "seven.png")
    assert look(checkpoint, *(flag.format(checkpoint) for flag in flags)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "size", "most", "window"),
    [
        ({"depth": 2}, (40, 50), 32, (32, 32)),
        ({"depth": 2}, (21, 50), 32, (21, 32)),
        ({"depth": 4}, (5, 20), 256, (16, 20)),  # mirrored outwards
        ({"depth": 2, "padding": "valid"}, (60, 70), 64, (60, 64)),
        ({"depth": 2, "padding": "valid"}, (20, 70), 64, (44, 64)),
    ],
)
def test_the_middle_is_cut_so_that_the_network_takes_it(options, size, most, window):
    model = UNet(1, 2, base_width=2, **options)
    number = np.arange(1, 1 + np.prod(size)).reshape(size)
    x, labels = cut_middle(model, number[..., None].astype(np.float32), number, most)
    logits = model(x[None])[0]
    assert x.shape[:2] == window and labels.shape == logits.shape[:2]
    top, left = ((n - m) // 2 for n, m in zip(x.shape, labels.shape))
    middle = x[top : top + labels.shape[0], left : left + labels.shape[1], 0]
    assert np.array_equal(middle[labels >= 0], labels[labels >= 0])  # labels lie on the pixels that they are of
    assert (labels >= 0).sum() == np.prod([min(n, m) for n, m in zip(size, labels.shape)])


def test_classes_of_one_channel_go_by_its_sign():
    assert classes_of(np.array([[[-1.0], [2.0]]])).tolist() == [[0, 1]]
    assert classes_of(np.array([[[0.0, 2.0, 1.0]]])).tolist() == [[1]]

"""Every network of the family does all that the U-Net does; helpers/family.py says how a new one comes in.

Each network is as small as it can be, so that all of this takes a second or so.
"""

import inspect
import json

import numpy as np
import pytest
from helpers import pretend_cupy
from helpers.family import MEMBERS, VARIANTS, AllHeads, biases_before_norms, make
from helpers.lazy_maps import distinct_bytes
from helpers.tolerances import NETWORK

import minunet
from minunet.checkpoint.file import save_checkpoint
from minunet.data import SyntheticCells
from minunet.errors import UserError
from minunet.gradcheck import check, draw
from minunet.look.show import show
from minunet.models import ARCHITECTURES, OPTIONS, build, outline
from minunet.models.command import main as models
from minunet.models.trace import follow
from minunet.ops import softmax_cross_entropy, softmax_cross_entropy_backward
from minunet.predict.inference import make_tiles, probabilities
from minunet.predict.options import PredictionOptions
from minunet.train.amp import MixedPrecision
from minunet.train.heads import heads_gradients, heads_loss

EXACT = 1e-9  # in float64, of a whole network's gradients, relative to the largest value

every = pytest.mark.parametrize("name", MEMBERS)
every_variant = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{n} {o or ''}".strip() for n, o in VARIANTS]
)


def heads_of(y):
    return y if isinstance(y, list) else [y]


def close(a, b, tolerance=EXACT):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(abs(b).max(), 1e-3))


def test_the_family_is_complete():
    assert list(MEMBERS) == list(OPTIONS) == list(ARCHITECTURES)
    assert all(OPTIONS[name].name == name for name in OPTIONS)


@every
def test_options_are_the_constructor_s(name):
    taken = inspect.signature(ARCHITECTURES[name]).parameters
    known = OPTIONS[name]().to_json()
    assert taken.keys() == known.keys()
    assert all(p.default == known[n] for n, p in taken.items() if p.default is not p.empty)
    model = make(name)
    assert type(model) is ARCHITECTURES[name] and type(model.architecture) is OPTIONS[name]
    assert build(model.architecture).architecture == model.architecture


@pytest.mark.parametrize(
    ("name", "options", "params", "running"),
    [(name, *row) for name, member in MEMBERS.items() for row in member.counts], ids=str,
)  # fmt: skip
def test_published_parameters(name, options, params, running):
    """Counted without memory for the weights."""
    model = outline(name, **{"in_channels": 3, "num_classes": 2, **options})
    assert model.num_params() == params
    assert sum(a.size for a in model.named_buffers().values()) == running
    assert sum(a.base.nbytes if a.base is not None else a.nbytes for a in model.state().values()) < 1e5


# ---- gradients -------------------------------------------------------------------------------------------------------


@every_variant
@pytest.mark.drawn(quick=3)
def test_every_gradient_is_right(name, options):
    """Of the image and of every parameter, along random directions, for random gradients of all heads."""
    model = make(name, **options)
    x, net = draw((2, *map(model.fit_size, MEMBERS[name].size), 2), np.random.default_rng(3)), AllHeads(model)
    zero = biases_before_norms(net)  # and so the differences are nothing but rounding
    wrt = [path for path in ("x", *net.named_params()) if path not in zero]
    assert check(net, x, mode="projected", directions=1, wrt=wrt).ok
    y, cache = net.convert(np.float64).forward(x)
    net.backward(np.ones_like(y), cache)
    grads = net.named_grads()
    assert all(abs(grads[path]).max() < EXACT * max(abs(g).max() for g in grads.values()) for path in zero)


@every_variant
@pytest.mark.drawn(quick=3)
def test_the_twin_agrees(name, options):
    """Logits and every gradient, of training and of inference, are those of the same network in PyTorch."""
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from helpers import family_twins

    if not MEMBERS[name].twin:
        pytest.skip("it has no twin here")
    model = make(name, **options).convert(np.float64)
    twin = family_twins.twin_of(model)
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, *map(model.fit_size, MEMBERS[name].size), 2))
    for train in (False, True):
        y, cache = model.forward(x, train=train, rng=rng)
        tx = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
        ty = twin.train(train)(tx)
        ours, theirs = heads_of(y), ty if isinstance(ty, (list, tuple)) else [ty]
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            close(np.moveaxis(a, -1, 1), b.detach().numpy())
        if not train and len(model.head_weights) > 1:
            continue  # there the backward is of training
        model.zero_grad()
        dys = [rng.standard_normal(a.shape) for a in ours]
        dx = model.backward(dys if len(dys) > 1 else dys[0], cache)
        twin.zero_grad()
        sum((b * torch.tensor(np.moveaxis(d, -1, 1).copy())).sum() for b, d in zip(theirs, dys)).backward()
        close(np.moveaxis(dx, -1, 1), tx.grad.numpy())
        grads = model.named_grads()
        assert grads.keys() == model.named_params().keys()
        largest = max(abs(g).max() for g in grads.values())
        for path, g in grads.items():
            truth = family_twins.as_ours(twin, path, g.shape)
            np.testing.assert_allclose(
                g, truth, rtol=0, atol=EXACT * max(abs(truth).max(), 1e-3 * largest), err_msg=path
            )


@every
def test_heads_of_weight_0_cost_nothing(name):
    """Their gradient may be None, which is the same as 0."""
    model = make(name).convert(np.float64)
    if len(model.head_weights) == 1:
        return
    x = np.random.default_rng(5).standard_normal((1, *MEMBERS[name].size, 2))
    y, cache = model.forward(x)
    dx = model.backward([np.ones_like(y[0]), *(np.zeros_like(head) for head in y[1:])], cache)
    zeros = {path: g.copy() for path, g in model.named_grads().items()}
    model.zero_grad()
    y, cache = model.forward(x)
    close(model.backward([np.ones_like(y[0]), *(None for _ in y[1:])], cache), dx)
    for path, g in model.named_grads().items():
        close(g, zeros[path])


# ---- what works for all ----------------------------------------------------------------------------------------------


@every
def test_a_checkpoint_gives_the_network_back(name, tmp_path):
    model = make(name)
    save_checkpoint(tmp_path / "a.safetensors", model)
    again = minunet.load(tmp_path / "a.safetensors")
    assert type(again) is type(model) and again.architecture == model.architecture
    x = np.random.default_rng(6).random((1, *MEMBERS[name].size, 2), np.float32)
    assert all((a == b).all() for a, b in zip(heads_of(again(x)), heads_of(model(x)), strict=True))


@every
@pytest.mark.drawn(quick=5)
def test_its_costs_are_known(name):
    """Also the bytes that its caches hold, which is what a training's memory is made of."""
    model = make(name)
    shape = (1, *map(model.fit_size, (33, 40)), 2)
    s = minunet.summary(model, shape)
    x = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    assert s.rows[-1].output == heads_of(model(x))[-1].shape
    assert s.params == model.num_params() and 0 < s.inference_peak < s.training_peak()
    cache = model.forward(x, rng=np.random.default_rng(0))[1]
    assert s.kept == pytest.approx(distinct_bytes(cache, model), rel=0.05)  # heads that only training has are not in it


@every
@pytest.mark.drawn(quick=3)
def test_tiles_are_the_whole(name):
    """Or a note says why they are not, and tiles are blended."""
    model = make(name)
    if model.finds_objects:
        return  # tests/predict/test_detections.py
    image = np.random.default_rng(7).random((70, 83, 2))
    whole = probabilities(model, image, tile=0)
    tiles = make_tiles(model, image, PredictionOptions(tile=32))
    p = np.zeros_like(whole)
    for rows, columns, part in tiles:
        p[rows, columns] = part
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    assert tiles.note or abs(p - whole).max() < NETWORK["float32"]


@every
@pytest.mark.drawn(quick=3)
def test_any_image_is_segmented(name):
    for size in ((1, 1), (7, 40), (33, 21)):
        mask = minunet.segment(make(name), np.random.default_rng(8).random((*size, 2)))
        assert mask.shape == size and mask.max() < 3


@pytest.mark.drawn(quick=2, ci=5)
@every
def test_it_is_drawn(name):
    """By `minunet.look`, forward and backward."""
    model, rng = make(name), np.random.default_rng(11)
    side = model.fit_size(16)
    about = {"model": name, "image": "noise", "mask": None, "whole": [side, side], "params": model.num_params()}
    page = show(model, rng.random((side, side, 2), np.float32), rng.integers(0, 2, (side, side)), 1, about)
    assert page.startswith("<!doctype html>") and "conv" in page


@every
@pytest.mark.drawn(quick=3)
def test_onnx_runtime_agrees(name):
    """One file for all sizes."""
    pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[onnx]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime, the oracle, is not installed")
    from minunet.checkpoint.onnx import to_onnx

    model = make(name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(to_onnx(model), options, providers=["CPUExecutionProvider"])
    for n, *size in ((1, 33, 47), (2, 24, 16)):
        x = np.random.default_rng(9).random((n, *map(model.fit_size, size), 2), np.float32)
        found, truth = session.run(None, {"image": np.moveaxis(x, -1, 1)}), heads_of(model(x))
        for y, expected in zip(found, truth, strict=True):
            close(np.moveaxis(y, 1, -1), expected, NETWORK["float32"])
    names = [output.name for output in session.get_outputs()]
    assert names == (["logits"] if len(truth) == 1 else [*(f"stride_{4 << n}" for n in range(4)), "prototypes"])


@every
@pytest.mark.drawn(quick=3)
def test_it_learns(name, tmp_path):
    """The loss falls, what was trained is kept in files, and a run goes on."""
    side = max(32, 2 * make(name).least)  # the deepest map has more than one pixel
    cells = SyntheticCells(6, size=side, seed=0)
    options = OPTIONS[name](
        **{**MEMBERS[name].tiny, **({"base_width": 4} if "base_width" in MEMBERS[name].tiny else {})}
    )
    settings = {"crop": side, "batch_size": 2, "learning_rate": 0.01, "schedule": "constant"}
    fitted = minunet.fit(cells, model=options, epochs=2, out=tmp_path / "run", **settings)
    first, second = (row["train_loss"] for row in fitted.history)
    assert second < first
    assert minunet.load(tmp_path / "run/best.safetensors").architecture == fitted.model.architecture
    more = minunet.fit(cells, resume=tmp_path / "run/last.safetensors", epochs=3, out=tmp_path / "run")
    assert [row["epoch"] for row in more.history] == [1, 2, 3] and more.history[:2] == fitted.history


@every
@pytest.mark.drawn(quick=3)
def test_half_precision_is_near(name, monkeypatch):
    """On the stand-in for a GPU, loss and gradients are those of float32 within a few of a half's roundings."""
    cupy = pretend_cupy.install(monkeypatch)
    model = make(name).convert(cupy.asarray)
    side = model.fit_size(16)
    rng = np.random.default_rng(10)
    x = cupy.asarray(rng.standard_normal((2, side, side, 2), np.float32))
    labels = cupy.asarray(rng.integers(0, 3, (2, side, side)))
    found = []
    for network in (model, MixedPrecision(model, "fp16", scale=256.0)):
        network.zero_grad()
        y, cache = network.forward(x, train=True, rng=np.random.default_rng(0))
        weights = model.head_weights if not model.finds_objects else (1.0,) * 5
        assert len(heads_of(y)) == len(weights)
        loss, caches = heads_loss(softmax_cross_entropy, weights, heads_of(y), labels % heads_of(y)[-1].shape[-1])
        dys = heads_gradients(softmax_cross_entropy_backward, weights, caches)
        network.backward(dys if len(dys) > 1 else dys[0], cache)
        grads = [g.get().ravel() for path, g in model.named_grads().items() if path.startswith(MEMBERS[name].steady)]
        found.append((float(loss), np.concatenate(grads)))
    (loss, exact), (half_loss, half) = found
    assert half_loss == pytest.approx(loss, rel=0.02)  # some ReLUs change sides
    assert half.dtype == np.float32 and np.linalg.norm(half - exact) < 0.3 * np.linalg.norm(exact)


# ---- by name ---------------------------------------------------------------------------------------------------------


def test_the_list(capsys):
    assert models([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in OPTIONS) and "31,037,698     96.3  The U-Net (Ronneberger" in out
    assert models(["--json", "--size", "64"]) == 0
    rows = json.loads(capsys.readouterr().out)["networks"]
    assert [row["name"] for row in rows] == list(OPTIONS)
    assert models(["unet", "base_width=32", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["networks"]
    assert row["parameters"] == 7_763_074 and row["options"]["base_width"] == 32
    assert row["gflop"] == pytest.approx(24.14, abs=0.02)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["unt"], "no architecture 'unt': did you mean unet?"), (["unet", "deep=3"], "'deep'; did you mean depth?"),
        (["unet", "depth"], "write NAME=VALUE"), (["unet", "depth=x"], "depth: 'x' is no int"),
        (["unet", "norm=layer"], "norm: 'layer' is unknown"), (["unet", "depth=99"], "at most 16"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(argv, words, capsys):
    assert models(argv) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_build_by_name():
    assert build("unet", base_width=2, depth=1).num_params() == outline("unet", base_width=2, depth=1).num_params()
    with pytest.raises(UserError, match="unet has no option 'width'; did you mean"):
        build("unet", width=3)
    with pytest.raises(ValueError, match="read-only"):
        outline("unet", depth=1).head.params["w"][...] = 1
    assert follow(outline("unet"), (1, 64, 64, 1)).output.shape == (1, 64, 64, 2)

"""What layers say of themselves is what they do; and whoever asks a layer that says nothing refuses it by name."""

import types
from math import prod
from threading import Thread

import numpy as np
import pytest
from helpers.descriptions import check_description, check_onnx

import minunet
from minunet import nn, optim
from minunet.data import ClassMap, Preprocessing
from minunet.errors import UserError
from minunet.gradcheck import check, draw
from minunet.kernels import cuda
from minunet.kernels.cpu.lazy_maps import LazyAffine, NormGradient
from minunet.kernels.device import memory_explained
from minunet.look.show import show
from minunet.models import Ensemble, UNet, UNetOptions, build
from minunet.models.blocks import Fit, Join
from minunet.models.receptive_field import reach, receptive_field, stride, why_not_local
from minunet.models.summary import summary
from minunet.models.trace import follow
from minunet.nn import ALL, Description, NotDescribed
from minunet.ops import softmax_cross_entropy, softmax_cross_entropy_backward
from minunet.ops.lazy import LazyConcat
from minunet.predict import tiles
from minunet.predict.inference import make_tiles, probabilities
from minunet.predict.options import PredictionOptions
from minunet.train.cuda_graph import reason_against

MAP = (2, 9, 12, 4)

LAYERS = {
    "Conv2d": (lambda: nn.Conv2d(4, 3), [MAP]),
    "Conv2d 1x1": (lambda: nn.Conv2d(4, 3, 1), [MAP]),
    "Conv2d valid": (lambda: nn.Conv2d(4, 3, padding="valid"), [MAP]),
    "Conv2d padded by hand": (lambda: nn.Conv2d(4, 3, 2, padding=((1, 0), (0, 2))), [MAP]),
    "Conv2d dilation": (lambda: nn.Conv2d(4, 3, dilation=2), [MAP]),
    "Conv2d groups": (lambda: nn.Conv2d(4, 6, groups=2, bias=False), [MAP]),
    "Conv2d stride, where the padding depends on the size": (lambda: nn.Conv2d(4, 3, stride=2), [MAP]),
    "Conv2d stride, where it does not": (lambda: nn.Conv2d(4, 3, stride=2, padding=1), [MAP]),
    "Conv2d 5x5 stride 3": (lambda: nn.Conv2d(4, 2, 5, stride=3, padding=2), [MAP]),
    "DepthwiseConv2d": (lambda: nn.DepthwiseConv2d(4), [MAP]),
    "DepthwiseConv2d stride, where the padding depends on the size": (
        lambda: nn.DepthwiseConv2d(4, stride=2, bias=False),
        [MAP],
    ),
    "DepthwiseConv2d 5x5 stride 2, padded by hand": (lambda: nn.DepthwiseConv2d(4, 5, stride=2, padding=(2, 1)), [MAP]),
    "DepthwiseConv2d dilation": (lambda: nn.DepthwiseConv2d(4, dilation=2), [MAP]),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 3), [MAP]),
    "ConvTranspose2d overlapping": (lambda: nn.ConvTranspose2d(4, 3, 3, padding=1), [MAP]),
    "ConvTranspose2d with output padding": (
        lambda: nn.ConvTranspose2d(4, 3, 3, padding=1, output_padding=1),
        [(2, 6, 5, 4)],
    ),
    "ConvTranspose2d 5x5 stride 3": (lambda: nn.ConvTranspose2d(4, 2, 5, stride=3, bias=False), [(2, 5, 4, 4)]),
    "MaxPool2d": (lambda: nn.MaxPool2d(), [MAP]),
    "MaxPool2d overlapping": (lambda: nn.MaxPool2d(3, 2), [MAP]),
    "GlobalAvgPool2d": (lambda: nn.GlobalAvgPool2d(), [MAP]),
    "MaxPool2d padded": (lambda: nn.MaxPool2d(3, 2, padding=1), [MAP]),
    "MaxPool2d padded, to its last pixel": (lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), [(2, 10, 13, 4)]),
    "MaxPool2d to its last pixel": (lambda: nn.MaxPool2d(4, ceil_mode=True), [(2, 9, 14, 4)]),
    "MaxPoolWinners2d": (lambda: nn.MaxPoolWinners2d(), [MAP]),
    "MaxUnpool2d": (lambda: nn.MaxUnpool2d(), [(2, 4, 6, 4), (2, 4, 6, 4), (2, 9, 12, 3)]),
    "AvgPool2d": (lambda: nn.AvgPool2d(3), [MAP]),
    "UpsampleNearest": (lambda: nn.UpsampleNearest(3), [(2, 5, 4, 4)]),
    "UpsampleBilinear": (lambda: nn.UpsampleBilinear(), [(2, 6, 5, 4)]),
    "UpsampleBilinear half-pixel": (lambda: nn.UpsampleBilinear(3, align_corners=False), [(2, 6, 5, 4)]),
    "Resize up": (lambda: nn.Resize(), [(2, 6, 5, 4), (2, 18, 10, 1)]),
    "Resize up and down": (lambda: nn.Resize(), [(2, 5, 12, 4), (2, 9, 7, 1)]),
    "Resize, corners aligned": (lambda: nn.Resize(align_corners=True), [(2, 5, 12, 4), (2, 9, 7, 1)]),
    "Resize of a pixel": (lambda: nn.Resize(), [(2, 1, 1, 4), (2, 9, 7, 1)]),
    "Resize nearest": (lambda: nn.Resize("nearest"), [(2, 5, 12, 4), (2, 9, 7, 1)]),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), [MAP]),
    "Standardise": (lambda: nn.Standardise((0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4)), [MAP]),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4), [MAP]),
    "GroupNorm": (lambda: nn.GroupNorm(4, 2), [MAP]),
    "ReLU": (lambda: nn.ReLU(), [MAP]),
    "ReLU6": (lambda: nn.ReLU6(), [MAP]),
    "Sigmoid": (lambda: nn.Sigmoid(), [MAP]),
    "Tanh": (lambda: nn.Tanh(), [MAP]),
    "ScaledExp": (lambda: nn.ScaledExp(), [MAP]),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), [MAP]),
    "Dropout": (lambda: nn.Dropout(0.5), [MAP]),
    "Add": (lambda: nn.Add(), [MAP, MAP]),
    "Add of three": (lambda: nn.Add(), [MAP, MAP, MAP]),
    "Gate of channels": (lambda: nn.Gate(), [MAP, (2, 1, 1, 4)]),
    "Gate of pixels": (lambda: nn.Gate(), [MAP, (2, 9, 12, 1)]),
    "Gate of values": (lambda: nn.Gate(), [MAP, MAP]),
    "Concat": (lambda: nn.Concat(), [MAP, (2, 9, 12, 3)]),
    "Concat of three": (lambda: nn.Concat(), [MAP, (2, 9, 12, 3), (2, 9, 12, 1)]),
    "Join": (lambda: Join(), [(2, 7, 6, 3), (2, 7, 6, 4)]),
    "Join that pads": (lambda: Join(), [(2, 7, 7, 3), (2, 6, 7, 4)]),
    "Join that crops": (lambda: Join(), [(2, 9, 8, 3), (2, 4, 5, 4)]),
    "Join of four": (lambda: Join(), [(2, 7, 7, 3), (2, 7, 7, 2), (2, 7, 7, 1), (2, 7, 6, 4)]),
    "Join that crops three": (lambda: Join(), [(2, 9, 8, 3), (2, 9, 8, 2), (2, 4, 5, 4)]),
    "Fit that crops": (lambda: Fit(), [(2, 9, 8, 3), (2, 7, 7, 4)]),
    "Fit that pads": (lambda: Fit(), [(2, 6, 7, 3), (2, 7, 7, 4)]),
    "Join, up first, cropped": (lambda: Join(up_first=True), [(2, 7, 7, 3), (2, 8, 7, 4)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_as_it_says(name):
    make, shapes = LAYERS[name]
    with minunet.use("reference"):
        check_description(make(), *shapes, whole_numbers=[1] if name == "MaxUnpool2d" else ())


def test_all_layers_are_in_the_list():
    have = {type(make()) for make, _ in LAYERS.values()}
    composites = {nn.Module, nn.Apply, nn.Sequential}
    layers = {c for c in vars(nn).values() if isinstance(c, type) and issubclass(c, nn.Module)}
    assert layers - composites <= have


@pytest.mark.parametrize(
    "wrong",
    [{"output": (2, 9, 12, 3)}, {"reads": nn.Window(first=-1)}, {"reads": ALL}, {"keeps_input": True}, {"keeps_output": True},
     {"keeps_bytes": 0}, {"view": True}, {"depends_on_size": True}, {"depends_on_batch": True}, {"onnx": lambda graph, x: x}],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_a_wrong_description_is_caught(wrong):
    class Wrong(nn.ReLU):
        def describe(self, x):
            right = {
                "output": x,
                "reads": nn.PIXEL,
                "keeps_bytes": prod(x),
                "onnx": lambda graph, x: graph.node("Relu", x),
            }
            return Description(**{**right, **wrong})

    said = None if "onnx" in wrong else next(iter(wrong))
    with minunet.use("reference"), pytest.raises(AssertionError, match=said):
        check_description(Wrong(), MAP)


# ---- a layer of one's own: a gate by the map's mean --------------------------------------------------------------------


class MeanGate(nn.Module):
    """y = x * g with g = 2 / (1 + exp(-m)), where m is the mean of each channel over the map. Only forward and backward."""

    def forward(self, x, train=True, rng=None, keep=True):
        g = 2 / (1 + np.exp(-x.mean((1, 2), keepdims=True)))
        return x * g, (x, g) if keep else None

    def backward(self, dy, cache):
        x, g = cache
        dm = (dy * x).sum((1, 2), keepdims=True) * g * (2 - g) / 2
        return dy * g + dm / (x.shape[1] * x.shape[2])


class DescribedMeanGate(MeanGate):
    def describe(self, x):
        def onnx(graph, x):
            mean = graph.node("ReduceMean", x, axes=[2, 3], keepdims=1)
            gate = graph.node("Mul", graph.node("Sigmoid", mean), graph.constant("two", [2.0]))
            return graph.node("Mul", x, gate)

        return Description(output=x, reads=ALL, keeps_input=True, words="mean gate", onnx=onnx, unrecordable="")


def gated(gate):
    """A U-Net with a gate in its first encoder, and what `minunet.load` would say of its images."""
    model = build(UNetOptions(in_channels=1, num_classes=2, base_width=4, depth=1))
    model.encoder[0].children["gate"] = gate
    model.preprocessing = Preprocessing(1, ClassMap.binary())
    return model


IMAGE = np.kron(np.random.default_rng(0).integers(0, 255, (5, 6)), np.ones((16, 16))).astype(np.uint8)
ABOUT = {"model": "m", "image": "i", "mask": None, "whole": [8, 8], "params": 1}

ASKING = {
    "summary": lambda model: summary(model, (1, 8, 8, 1)),
    "tiles": lambda model: probabilities(model, IMAGE, tile=24),
    "reach": lambda model: tiles.reach(model),
    "why_not_equal": lambda model: tiles.why_not_equal(model, 1000),
    "look": lambda model: show(model, np.zeros((8, 8, 1), np.float32), None, 1, ABOUT),
    "export": lambda model: to_onnx(model),
}


def to_onnx(model):
    pytest.importorskip("onnx")
    from minunet.checkpoint import onnx

    return onnx.to_onnx(model)


def graph_reason(model, monkeypatch):
    """What speaks against a CUDA graph, as where there is a GPU."""
    monkeypatch.setattr(cuda, "compiles", lambda: True)
    return reason_against(model, types.ModuleType("cupy"))


def test_a_layer_with_only_forward_and_backward_trains(rng):
    check(MeanGate(), draw((2, 3, 4, 3), rng))
    model = gated(MeanGate())
    check(model, draw((1, 4, 6, 1), rng), mode="projected")
    x = rng.standard_normal((2, 16, 16, 1)).astype(np.float32)
    labels, optimizer, losses = (x[..., 0] > 0).astype(np.int64), optim.SGD(model, 0.1, momentum=0.9), []
    for _ in range(12):
        logits, cache = model.forward(x, rng=rng)
        loss, loss_cache = softmax_cross_entropy(logits, labels)
        model.zero_grad()
        model.backward(softmax_cross_entropy_backward(1.0, loss_cache), cache)
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    assert probabilities(model, IMAGE, tile=0).shape == (
        80,
        96,
        2,
    )  # as a whole it predicts: nobody has to know the layer


def test_a_lazy_map_has_an_arrays_methods(rng):
    """Inside a network a layer of one's own may be handed one: no attribute may hide what arrays have under that name."""
    x = rng.standard_normal((1, 2, 3, 4))
    for m in (
        LazyAffine(x, x[0, 0], relu=True),
        LazyConcat(x, x),
        NormGradient(x, x, x[0, 0]),
    ):
        assert not {n for n in vars(m) if callable(getattr(x, n, None))}


@pytest.mark.parametrize("asking", ASKING)
def test_it_is_refused_by_name(asking):
    with pytest.raises(
        UserError, match=r"^MeanGate \(encoder\.0\.gate\) does not describe itself, .*`describe`.*CONTRIBUTING"
    ):
        ASKING[asking](gated(MeanGate()))


def test_a_cuda_graph_refuses_it_by_name(monkeypatch):
    assert graph_reason(gated(MeanGate()), monkeypatch).startswith("MeanGate (encoder.0.gate) does not describe itself")
    assert graph_reason(gated(nn.ReLU()), monkeypatch) is None


@pytest.mark.parametrize("asking", ASKING)
def test_described_it_is_known(asking, monkeypatch):
    with minunet.use("reference"):
        assert ASKING[asking](gated(DescribedMeanGate())) is not None
    assert graph_reason(gated(DescribedMeanGate()), monkeypatch) is None


def test_the_gate_described_is_as_it_says():
    with minunet.use("reference"):
        check_description(DescribedMeanGate(), MAP)
    rows = {row.name: row for row in summary(gated(DescribedMeanGate()), (1, 8, 8, 1)).rows}
    assert rows["encoder.0.gate"].output == (1, 8, 8, 4)


def test_with_a_mean_gate_tiles_say_that_they_differ_and_blend():
    note = "mean gate takes in all of its map, here each window"
    for gate, said, differs in ((DescribedMeanGate(), note, True), (nn.ReLU(), "", False)):
        model = gated(gate)
        found = make_tiles(model, IMAGE, PredictionOptions(tile=24))
        assert found.note == said and (found.half > 0) == differs
        with minunet.use("reference"):
            whole, parts = (probabilities(model, IMAGE, tile=tile) for tile in (0, 24))
        assert (abs(whole - parts).max() > 1e-4) == differs


# ---- what else is never guessed ----------------------------------------------------------------------------------------


class Doubled(nn.Conv2d):
    """Another forward than that of which its base says what there is to know."""

    def forward(self, x, train=True, rng=None, keep=True):
        y, cache = super().forward(x, train, rng, keep)
        return 2 * y, cache


class Residual(nn.Module):
    """A composite that adds by itself."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(2, 2)

    def forward(self, x, train=True, rng=None, keep=True):
        return x + self.inner.forward(x, train, rng, keep)[0], None


class Pooling(Residual):
    """A composite that takes the mean by itself."""

    def forward(self, x, train=True, rng=None, keep=True):
        return self.inner.forward(x.mean((1, 2), keepdims=True), train, rng, keep)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Doubled(2, 2), r"Doubled \(a\) does not describe itself"),
        (nn.Apply(minunet.ops.sigmoid, minunet.ops.sigmoid_backward), r"Apply \(a\) does not describe itself"),
        (Residual(), r"Residual \(a\) computes with its maps itself"),
        (Pooling(), r"Pooling \(a\) computes with its maps itself"),
        (Ensemble([UNet(2, 2, base_width=2, depth=1)]), r"Ensemble \(a\) computes with its maps itself"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_known_is_refused(layer, said):
    network = nn.Sequential(a=layer)
    with pytest.raises(NotDescribed, match=said):
        follow(network, (1, 8, 8, 2))
    assert network(np.zeros((1, 8, 8, 2), np.float32)).shape[0] == 1  # nothing stands in for it any more


def test_a_description_may_leave_out_what_it_does_not_know(monkeypatch):
    class Brief(nn.ReLU):
        def describe(self, x):
            return Description(output=x, reads=nn.PIXEL)

    model = gated(Brief())
    with pytest.raises(UserError, match=r"Brief \(encoder\.0\.gate\) does not say what it is in ONNX"):
        to_onnx(model)
    assert graph_reason(model, monkeypatch) == "Brief (encoder.0.gate) has not been tried in a CUDA graph"
    with minunet.use("reference"):
        assert '"title":"batch norm + ReLU"' in ASKING["look"](model) and '"title":"Brief"' in ASKING["look"](model)


def test_running_out_of_memory_is_explained_without_a_description_too():
    need = lambda: summary(gated(MeanGate()), (1, 8, 8, 1)).training_peak()  # noqa: E731
    with pytest.raises(UserError, match="a step needs more than there is"), memory_explained(np, "a step", need, ""):
        raise MemoryError


# ---- layers of several maps --------------------------------------------------------------------------------------------


class Halves(nn.Module):
    """One map to two: half of the channels each."""

    def forward(self, x, train=True, rng=None, keep=True):
        return tuple(np.split(x, 2, axis=-1)), ()

    def describe(self, x):
        half = (*x[:3], x[3] // 2)
        split = lambda graph, x: [  # noqa: E731
            graph.node(
                "Slice", x, *(graph.constant(n, [v]) for n, v in (("from", a), ("to", a + half[3]), ("axis", 1)))
            )
            for a in (0, half[3])
        ]
        return Description(output=[half, half], reads=nn.PIXEL, onnx=split)


class Mean(nn.Module):
    """A map to its mean, one pixel."""

    def forward(self, x, train=True, rng=None, keep=True):
        return x.mean((1, 2), keepdims=True), ()

    def describe(self, x):
        mean = lambda graph, x: graph.node("ReduceMean", x, axes=[2, 3], keepdims=1)  # noqa: E731
        return Description(output=(x[0], 1, 1, x[3]), reads=ALL, onnx=mean)


class Product(nn.Module):
    """A map times another one, or times one pixel."""

    def forward(self, x, train=True, rng=None, keep=True):
        return x[0] * x[1], (x if keep else None)

    def describe(self, a, b):
        times = lambda graph, a, b: graph.node("Mul", a, b)  # noqa: E731
        by = nn.PIXEL if a[1:3] == b[1:3] else nn.Window(down=0)
        return Description(output=a, reads=[nn.PIXEL, by], keeps_input=True, onnx=times)


class SqueezeAndExcite(nn.Module):
    """A composite of layers with several maps, which needs no description: x in halves, one of them weighted by its mean."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.halves = nn.Conv2d(2, 4), nn.MaxPool2d(3), Halves()
        self.mean, self.weigh, self.product = Mean(), nn.Conv2d(2, 2, 1), Product()

    def forward(self, x, train=True, rng=None, keep=True):
        run = lambda m, x: m.forward(x, train, rng, keep)[0]  # noqa: E731
        a, b = run(self.halves, run(self.pool, run(self.conv, x)))
        return run(self.product, (a, run(self.weigh, run(self.mean, b)))), None


@pytest.mark.parametrize(("layer", "shapes"), [
    (Halves(), [MAP]), (Mean(), [MAP]), (Product(), [MAP, MAP]), (Product(), [MAP, (2, 1, 1, 4)]),
], ids=["Halves", "Mean", "Product", "Product with a pixel"])  # fmt: skip
def test_layers_of_several_maps(layer, shapes):
    check_description(layer, *shapes)


def test_a_composite_of_layers_with_several_maps_is_followed(rng):
    model, x = SqueezeAndExcite(), rng.standard_normal((1, 36, 45, 2)).astype(np.float32)
    model.preprocessing = Preprocessing(2, ClassMap.binary())
    trace = follow(model, x.shape)
    assert [s.path for s in trace.steps] == ["conv", "pool", "halves", "mean", "weigh", "product"]
    assert trace.output.shape == model(x).shape == (1, 12, 15, 2)
    assert summary(model, x.shape).rows[-1].output == (1, 12, 15, 2)
    assert why_not_local(trace) == "Mean (mean) takes in all of its map, here each window"
    assert receptive_field(trace, (4, 4)) == ((0, 35), (0, 44))
    assert stride(trace) == 3  # the mean, a map of one pixel, is no grid that windows could miss
    with pytest.raises(UserError, match=r"Halves \(halves\) gives several maps"):
        show(model, x[0], None, 1, ABOUT)


class Resizing(nn.Module):
    """Maps of several sizes brought to one: by a resize to the size of another map, and by a gate of one channel."""

    def __init__(self, mode, align_corners):
        super().__init__()
        self.conv, self.down, self.pool = nn.Conv2d(2, 4), nn.Conv2d(4, 4, stride=2, padding=1), nn.GlobalAvgPool2d()
        self.wide, self.narrow = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1)
        self.resize, self.sigmoid, self.gate = nn.Resize(mode, align_corners), nn.Sigmoid(), nn.Gate()
        self.add, self.concat = nn.Add(), nn.Concat()

    def forward(self, x, train=True, rng=None, keep=True):
        run = lambda m, x: m.forward(x, train, rng, keep)[0]  # noqa: E731
        x = run(self.conv, x)
        low = run(self.down, x)
        mean = run(self.wide, run(self.pool, low))
        a = run(self.sigmoid, run(self.resize, (run(self.narrow, low), x)))
        y = run(self.add, (run(self.resize, (low, x)), run(self.gate, (x, a)), run(self.resize, (mean, x))))
        return run(self.concat, (y, x, run(self.gate, (x, run(self.sigmoid, mean))))), None


@pytest.mark.parametrize("mode, align_corners", [("bilinear", False), ("bilinear", True), ("nearest", False)])
def test_maps_of_several_sizes_in_onnx(mode, align_corners):
    with minunet.use("reference"):
        check_onnx(Resizing(mode, align_corners), (1, 9, 13, 2))


class Unpooling(nn.Module):
    """The smallest SegNet: winners go from the pool to the way up."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.conv, self.pool, self.deep = nn.Conv2d(2, 4, rng=rng), nn.MaxPoolWinners2d(), nn.Conv2d(4, 4, rng=rng)
        self.unpool, self.head = nn.MaxUnpool2d(), nn.Conv2d(4, 2, rng=rng)

    def forward(self, x, train=True, rng=None, keep=True):
        caches, mode = [], (train, rng, keep)

        def run(m, x):
            y, cache = m.forward(x, *mode)
            caches.append(cache)
            return y

        before = run(self.conv, x)
        x, winner = run(self.pool, before)
        return run(self.head, run(self.unpool, (run(self.deep, x), winner, before))), caches if keep else None

    def backward(self, dy, cache):
        for m in (self.head, self.unpool, self.deep, self.pool, self.conv):
            dy = m.backward(dy, nn.take(cache))
        return dy


def test_unpooling_in_a_network(rng):
    """Odd sizes: its gradients, what it costs, how far it looks, in ONNX, and drawn."""
    model = Unpooling()
    model.preprocessing = Preprocessing(1, ClassMap.binary())
    check(model, draw((2, 5, 7, 2), rng))
    kept = {row.name: row.kept for row in summary(model, (1, 9, 12, 2), fused=False).rows}
    assert kept["pool"] == 4 * 6 * 4 and kept["unpool"] == 0  # the winners, a byte each, once
    assert why_not_local(follow(model, (1, 9, 12, 2))) == ""
    assert (reach(follow(model, (1, 16, 16, 2))), tiles.stride(model)) == (5, 2)
    check_onnx(model, (1, 9, 13, 2))
    with minunet.use("reference"):
        assert '"title":"unpooling"' in show(model, np.zeros((9, 12, 2), np.float32), None, 1, ABOUT)


def test_a_norm_of_a_single_value_is_refused(rng):
    """Or takes the running statistics, where it is told so, and then learns and lets pass what a constant map would not."""
    x = rng.standard_normal((1, 1, 1, 4)).astype(np.float32)
    with pytest.raises(UserError, match=r"one value a channel .* --batch-size 2 or more"):
        nn.BatchNorm2d(4).forward(x)
    for run in (lambda: nn.InstanceNorm2d(4).forward(x), lambda: nn.InstanceNorm2d(4)(x)):
        with pytest.raises(UserError, match="1 x 1 pixels"):
            run()
    norm = nn.BatchNorm2d(4, single_value="running")
    before = {name: a.copy() for name, a in norm.buffers.items()}
    y, cache = norm.forward(x)
    np.testing.assert_array_equal(y, norm(x))
    assert norm.backward(np.ones_like(x), cache).all() and norm.grads["gamma"].all()
    assert all((a == before[name]).all() for name, a in norm.buffers.items())
    norm.forward(np.concatenate([x, 2 * x]))
    assert (norm.buffers["mean"] != before["mean"]).all()
    assert nn.BatchNorm2d(4)(x).shape == x.shape  # in inference there is nothing to refuse


def test_where_the_padding_depends_on_the_size_tiles_differ():
    odd, even = nn.Sequential(a=nn.Conv2d(1, 2, stride=2)), nn.Sequential(a=nn.Conv2d(1, 2, stride=2, padding=1))
    assert (
        why_not_local(follow(odd, (1, 64, 64, 1)))
        == "3x3 convolution depends on the size of its map, here of the window"
    )
    assert why_not_local(follow(even, (1, 64, 64, 1))) == ""


def test_reach_takes_the_longest_way_not_the_sum_of_all():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.near, self.far, self.join = nn.Conv2d(1, 1), nn.Conv2d(1, 1, dilation=6), Join()

        def forward(self, x, train=True, rng=None, keep=True):
            near, far = (m.forward(x, train, rng, keep)[0] for m in (self.near, self.far))
            return self.join.forward((near, far), train, rng, keep)[0], None

    assert reach(follow(Beside(), (1, 40, 40, 1))) == 6


@pytest.mark.parametrize("up", ["transpose", "bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_grids_of_a_deep_unet_repeat_after_2_to_its_depth(up, padding):
    """With aligned corners, too, down to maps of a few pixels, where (n - 1) / (2n - 1) is not nearly a half."""
    for depth in (1, 6, 7, 8):
        model = UNet(1, 2, base_width=2, depth=depth, up=up, padding=padding)
        assert tiles.stride(model) == 2**depth


def test_a_network_may_begin_with_groups_of_channels():
    model = nn.Sequential(a=nn.Conv2d(4, 6, groups=2), b=nn.Conv2d(6, 2))
    assert (tiles.reach(model), tiles.stride(model)) == (2, 1) and tiles.needed(model, 64, 64) > 0


def test_a_network_computes_in_one_thread_while_another_one_follows_it(rng):
    """As where a server segments several images at once: to choose tiles, each asks what the network needs."""
    model, x = gated(nn.ReLU()), rng.standard_normal((1, 8, 8, 1)).astype(np.float32)
    expected, found, steps, following = model(x), [], len(follow(model, x.shape).steps), []

    class Meanwhile(nn.ReLU):
        def describe(self, x_shape):
            if not following:
                following.append(Thread(target=lambda: found.append(len(follow(model, x.shape).steps))))
                following[0].start()  # it waits for its turn
                computing = Thread(target=lambda: found.append(model(x)))
                computing.start()
                computing.join()
            return super().describe(x_shape)

    model.encoder[0].children["relu1"].__class__ = Meanwhile
    assert len(follow(model, x.shape).steps) == steps
    following[0].join()
    assert np.array_equal(found[0], expected) and found[1] == steps
    assert np.array_equal(model(x), expected)

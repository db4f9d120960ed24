"""A head that starts with its losses, through the ops as layers and training call them: against the plain ops in float64."""

from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
from helpers.cuda_device import EPS, device, near, through_kernels

import minunet
from minunet import ops
from minunet.kernels.cuda import launch
from minunet.kernels.cuda.lazy_losses import Logits, LossGradient
from minunet.models import UNet
from minunet.ops.lazy import LazyMap, fusion_scope, materialize_all
from minunet.train.config import TrainingConfig
from minunet.train.step import TrainingStep

SHAPE, C = (2, 9, 8), 12


@pytest.fixture
def emulated(monkeypatch):
    """Every op by its CUDA kernel, in the emulator."""
    with device(("shuffled", False), exact=True):
        through_kernels(monkeypatch, set())
        yield


@pytest.fixture
def starts(monkeypatch):
    """The names of the kernels that start, in their order."""
    names, run = [], launch.run

    def started(file, name, *args, **options):
        names.append(name)
        run(file, name, *args, **options)

    monkeypatch.setattr(launch, "run", started)
    return names


def problem(rng, K=3, weighted=True):
    """x, w, b, labels and the losses' options."""
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((*SHAPE, C), (1, 1, C, K), K))
    w /= C**0.5
    options = {"weight": rng.random(SHAPE, np.float32), "class_weight": [1.0, 2.0, 0.5][:K]} if weighted else {}
    return (x, w, b), rng.integers(-1, K, SHAPE), options


def step(arrays, labels, options, name, dloss=0.7):
    """Loss, gradients, logits and the loss's cache of a head and a loss by name."""
    logits, cache = ops.conv2d(*arrays)
    forward, backward = ops.named_loss(name, 2)
    loss, loss_cache = forward(logits, labels, **options)
    dz = backward(dloss, loss_cache)
    return loss, *ops.conv2d_backward(dz, cache), logits, loss_cache, dz


def exactly(arrays, labels, options, name):
    """The same by the plain ops, in float64."""
    with minunet.use("reference"):
        exact = {k: np.asarray(v, np.float64) for k, v in options.items()}
        return step([a.astype(np.float64) for a in arrays], labels, exact, name)


def agree(found, wanted):
    near(np.reshape(found[0], 1), np.reshape(wanted[0], 1), EPS["exact"], 100)
    for a, b in zip(found[1:4], wanted[1:4]):
        near(a, b, EPS["exact"], 500)


@pytest.mark.parametrize("name", ["ce", "dice", "ce+dice"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_two_starts_in_a_scope(emulated, rng, starts, name, weighted, kind):
    """And the merging of sums; caches fit the plain backward, and the gradient is what it stands for."""
    arrays, labels, options = problem(rng, weighted=weighted)
    labels = np.maximum(labels, 0).astype(kind) if kind == np.uint8 else labels.astype(kind)
    with mock.patch("minunet.ops.lazy._scope.running", [None]):  # as inside of a training step
        found = step(arrays, labels, options, name)
    assert starts == ["head_loss", "head_loss_back"]
    wanted = exactly(arrays, labels, options, name)
    agree(found, wanted)
    near(found[4], wanted[4], EPS["exact"], C)
    near(found[6], wanted[6], EPS["exact"], 100)
    for pair, cache in zip(ops.loss.LOSSES[name], found[5]):
        plain = materialize_all(cache)
        exact = dict(zip(ops.loss.LOSSES[name], wanted[5]))[pair]
        near(pair[1].plain(0.7, plain), pair[1].plain(0.7, exact), EPS["exact"], 100)


def test_outside_of_a_scope_logits_are_an_array(emulated, rng, starts):
    arrays, labels, options = problem(rng)
    found = step(arrays, labels, options, "ce+dice")
    assert not any(isinstance(a, LazyMap) for a in found) and "head_loss" not in starts
    agree(found, exactly(arrays, labels, options, "ce+dice"))


def test_logits_that_somebody_has_read(emulated, rng, starts):
    """The head has started alone then, once, and so do the losses."""
    arrays, labels, options = problem(rng)

    @fusion_scope
    def run():
        logits, cache = ops.conv2d(*arrays)
        assert isinstance(logits, Logits) and not starts
        assert logits.max() < np.inf
        loss, loss_cache = ops.softmax_cross_entropy(logits, labels, **options)
        return [loss, *ops.conv2d_backward(ops.softmax_cross_entropy_backward(0.7, loss_cache), cache)]

    agree(run(), exactly(arrays, labels, options, "ce"))
    assert starts.count("head") == 1 and "head_loss" not in starts


def test_losses_of_other_weights(emulated, rng):
    """Only what both losses have been asked for is computed by one start: a loss of other arrays is another loss."""
    arrays, labels, options = problem(rng)
    labels = np.maximum(labels, 0)
    others = {"labels": np.roll(labels, 1), "weight": options["weight"] ** 2, "class_weight": [3.0, 1.0, 1.0], "ignore": 0,
              "smooth": 7.0}  # fmt: skip
    for name, value in others.items():
        changed = {"labels": labels, **options, name: value}

        @fusion_scope
        def run(changed=changed):
            logits, _ = ops.conv2d(*arrays)
            loss, cache = ops.softmax_cross_entropy(logits, labels, **options)
            dice, dice_cache = ops.soft_dice(logits, **changed)
            dz = ops.softmax_cross_entropy_backward(1.0, cache) + ops.soft_dice_backward(1.0, dice_cache)
            return [loss, dice, np.asarray(dz)]

        y = ops.conv2d.plain(*(a.astype(float) for a in arrays))[0]
        loss, cache = ops.softmax_cross_entropy.plain(y, labels, **options)
        dice, dice_cache = ops.soft_dice.plain(y, **changed)
        dz = ops.softmax_cross_entropy_backward.plain(1.0, cache) + ops.soft_dice_backward.plain(1.0, dice_cache)
        for a, b in zip(run(), (loss, dice, dz)):
            near(np.atleast_1d(a), np.atleast_1d(b), EPS["exact"], 500)


def test_what_a_gradient_becomes(emulated, rng):
    """Times numbers, times one in memory as mixed precision multiplies, plus others: still not computed where it can wait."""
    arrays, labels, options = problem(rng)

    @fusion_scope
    def run():
        logits, _ = ops.conv2d(*arrays)
        (_, of_ce), (_, of_dice) = (f(logits, labels, **options) for f in (ops.softmax_cross_entropy, ops.soft_dice))
        ce, dice = ops.softmax_cross_entropy_backward(1.0, of_ce), ops.soft_dice_backward(2.0, of_dice)
        a, b, scale = np.asarray(ce), np.asarray(dice), np.float32([3])
        waiting = [(ce + dice, a + b), (ce * 2, 2 * a), ((ce + dice) * scale, 3 * (a + b)), (dice + dice, 2 * b),
                   ((ce * scale) * 2, 6 * a), ((dice * np.float32(2000)).astype(np.float16), 2000 * b)]  # fmt: skip
        computed = [(ce + b, a + b), (ce * scale + dice, 3 * a + b), (ce * scale * scale, 9 * a), (ce * a, a * a),
                    (2 * ce, 2 * a), (ce - dice, a - b)]  # fmt: skip
        assert all(isinstance(found, LossGradient) for found, _ in waiting)
        assert not any(isinstance(found, LazyMap) for found, _ in computed)
        for found, wanted in waiting + computed:
            dtype = found.dtype.name
            near(np.asarray(found), wanted, EPS["exact"], 16, dtype)

    run()


@pytest.mark.parametrize("K, name", [(1, "bce"), (1, "dice"), (2, "focal"), (9, "ce"), (9, "ce+dice")])
def test_other_losses_and_numbers_of_classes(emulated, rng, K, name):
    """What the kernel does not compute gets an array."""
    (x, w, b), labels, _ = problem(rng, K)
    labels = rng.integers(-1, max(K, 2), SHAPE)
    found = fusion_scope(lambda: list(step((x, w, b), labels, {}, name)))()
    agree(found, exactly((x, w, b), labels, {}, name))


@pytest.mark.parametrize("config", [{}, {"loss": "ce", "amp": "fp16"}, {"loss": "focal"}], ids=str)
def test_a_training_step(gpu, config):
    """On the stand-in for CuPy: the loss, and the parameters after two steps, are those of a CPU."""
    rng = np.random.default_rng(3)
    x, labels = rng.standard_normal((2, 8, 8, 1), np.float32), rng.integers(-1, 2, (2, 8, 8))
    weights = rng.random(labels.shape, np.float32)
    losses, params = [], []
    for xp in (np, gpu):
        model = UNet(1, 2, base_width=4, depth=1, seed=1).convert(xp.asarray)
        training = TrainingStep(model, TrainingConfig(optimizer="sgd", class_weights=[1.0, 2.0], **config), xp)
        with minunet.use("reference" if xp is np else "fast"):
            losses.append([training(n, 0.01, x, labels, weights) for n in range(2)])
        params.append(np.concatenate([np.ravel(p if xp is np else p.get()) for p in model.named_params().values()]))
    rounding = 2e-3 if not config.get("amp") else 2e-2
    np.testing.assert_allclose(losses[1], losses[0], rtol=rounding)
    assert np.linalg.norm(params[1] - params[0]) < rounding * np.linalg.norm(params[0])


def test_starts_that_may_overlap_count_apart(gpu):
    """Those of two streams, or of two threads' default streams, which CuPy gives one number."""
    here = launch._finished(gpu)
    with gpu.cuda.Stream():
        assert launch._finished(gpu) is not here
    assert launch._finished(gpu) is here
    with ThreadPoolExecutor(1) as other:
        assert other.submit(launch._finished, gpu).result() is not here

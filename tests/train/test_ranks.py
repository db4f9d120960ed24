"""Several ranks train as one process would: ranks that are threads, in float64, by the plain ops."""

import numpy as np
import pytest
from helpers.ranks import ThreadRanks, Wide, on_ranks

import minunet
from minunet import ops
from minunet.data import ImageSet, SyntheticCells
from minunet.data.arrays import ArraySet
from minunet.data.targets import Target, TargetSet
from minunet.errors import UserError
from minunet.models import OPTIONS, UNetOptions, build
from minunet.ops.norm import _sum
from minunet.train import beforehand
from minunet.train.config import TrainingConfig
from minunet.train.distributed import batch_norm, losses, mpi
from minunet.train.distributed.dropout import OwnRows
from minunet.train.distributed.gradients import GradientSums, buckets_of
from minunet.train.distributed.world import ALONE

BACKWARD = ops.shared_batch_norm_backward.plain
SMALL = UNetOptions(in_channels=1, num_classes=2, base_width=2, depth=1, dropout=0.25)


@pytest.fixture(autouse=True)
def plain_ops():
    with minunet.use("reference"):
        yield


@pytest.fixture(scope="module")
def cells() -> ImageSet:
    """Seven images, of which some have many ignored pixels."""
    found = SyntheticCells(7, size=32)
    images, masks = [found[i].image[..., 0] for i in range(7)], [found[i].labels.copy() for i in range(7)]
    for i, mask in enumerate(masks):
        mask[: 5 * i] = 9
    return ArraySet(images, masks, masks_are="classes", ignore=[9])


def trained(world, dataset, options=SMALL, train=(0, 1, 2, 3, 4), held=(5, 6), **settings):
    """The trainer of a short run on one of the ranks."""
    config = TrainingConfig(**{"epochs": 5, "batch_size": 5, "crop": 16, **settings})
    model = build(options)
    model.preprocessing = dataset.preprocessing
    trainer = Wide(
        model, dataset, list(train), list(held), config, say=lambda note: pytest.fail(str(note)), world=world
    )
    trainer.run()
    return trainer


def differences(one, others):
    """How far the losses of steps, the weights, and the rows of history are from those of a single process, relatively."""
    found = []
    for other in others:
        pairs = [(one.losses, other.losses)]
        pairs += [(a, other.model.state()[name]) for name, a in one.model.state().items()]
        rows = zip(one.state.history, other.state.history, strict=True)
        pairs += [
            (row[name], its[name]) for row, its in rows for name in ("train_loss", "val_loss", "val_dice", "val_iou")
        ]
        found += [np.abs(np.subtract(a, b)).max() / np.abs(a).max() for a, b in pairs if np.abs(a).max() > 0]
        assert other.state.best == pytest.approx(one.state.best, rel=1e-9)
    return max(found)


@pytest.fixture(scope="module")
def single(cells):
    """20 steps by one process, four batches an epoch; clipped, averaged, with dropout."""
    with minunet.use("reference"):
        found = trained(ALONE, cells, clip=0.5, ema=0.5)
    assert len(found.losses) == 20
    return found


@pytest.mark.parametrize("n", [2, 3])
def test_ranks_train_as_one_process(cells, single, n):
    """Shares of 2 and 3 patches, or of 2, 2 and 1; ignored pixels are unequally many."""
    found = on_ranks(n, lambda world: trained(world, cells, clip=0.5, ema=0.5))
    assert differences(single, found) < 1e-9
    first = found[0].model.state()
    assert all((a == first[name]).all() for other in found for name, a in other.model.state().items())
    assert all(type(m) is minunet.nn.BatchNorm2d for _, m in found[0].model.modules() if hasattr(m, "frozen"))


def mean_of_means(world, name, channels):
    own, own_backward = ops.named_loss(name, channels)

    def forward(logits, labels, **options):
        loss, cache = own(logits, labels, **options)
        return world.totals(loss)[0] / world.size, cache

    return forward, lambda dloss, cache: own_backward(dloss / world.size, cache)


def grads_of_sums(dy, cache, total):
    dx, dgamma, dbeta = BACKWARD(dy, cache, total=total)
    return dx, *(a.astype(dx.dtype) for a in total(dgamma, dbeta))


def sums_of_own(dy, cache, total):
    return BACKWARD(dy, cache, total=lambda *sums: [*sums[:2], total(*sums)[2]])


BUGS = {
    "mean of the ranks' cross-entropies": (losses, "shared_mean", mean_of_means),
    "mean of the ranks' Dice": (losses, "shared_dice", lambda world, K: mean_of_means(world, "dice", K)),
    "ignored pixels in the denominator": (losses, "weight_of", lambda labels, *weights: np.float64(labels.size)),
    "statistics of the own patches": (
        batch_norm,
        "merged",
        lambda world, n, mean, var: (world.totals(n)[0], mean, var),
    ),
    "variance without the means' spread": (
        batch_norm,
        "merged",
        lambda world, n, mean, var: tuple(a / world.totals(n)[0] for a in world.totals(n**2, n * mean, n * var)),
    ),
    "gradients of gamma counted by all ranks": (batch_norm.ops, "shared_batch_norm_backward", grads_of_sums),
    "sums of the backward of the own patches": (batch_norm.ops, "shared_batch_norm_backward", sums_of_own),
    "gradients are not added": (ThreadRanks, "add_gradients", lambda self, a: None),
    "every rank draws the same masks": (
        OwnRows,
        "random",
        lambda self, shape, dtype=np.float32: self.rng.random(shape),
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_mistakes_are_seen(cells, single, bug, monkeypatch):
    monkeypatch.setattr(*BUGS[bug])
    try:
        found = on_ranks(2, lambda world: trained(world, cells, clip=0.5, ema=0.5, epochs=1))
    except UserError as e:
        assert "other weights" in str(e)
        return
    assert max(abs(np.array(found[0].losses) / single.losses[: len(found[0].losses)] - 1)) > 1e-6


# ---- one step of every kind of loss ----------------------------------------------------------------------------------


def gradients(world, dataset, options, **settings):
    """The loss and the gradients of a step."""
    config = TrainingConfig(**{"epochs": 1, "batch_size": 4, "crop": 32, "learning_rate": 1e-9, **settings})
    model = build(options)
    model.preprocessing = dataset.preprocessing
    trainer = Wide(model, dataset, [0, 1, 2, 3], [4], config, say=pytest.fail, world=world)
    grads = {}
    joined = trainer.training_step.joined

    def keep(finish=joined.finish_step):
        grads.update({name: g.copy() for name, g in model.named_grads().items()})
        trainer.stop()
        finish()

    joined.finish_step = keep
    trainer.run()
    return trainer.losses[0], grads


KINDS = {
    "focal": (SMALL, None, {"loss": "focal", "class_weights": (1.0, 3.0)}),
    "bce": (UNetOptions(1, 1, base_width=2, depth=1), None, {"loss": "bce"}),
    "weights of pixels and classes": (SMALL, Target(weight_map=True), {"class_weights": (1.0, 2.0)}),
    "polygons": (OPTIONS["stardist"](1, 9, base_width=2, depth=1), Target("stardist", rays=8), {}),
    "objects": (OPTIONS["instance_net"](1, 2), Target("instances"), {}),
    "deep supervision": (OPTIONS["unet_plus_plus"](1, 2, base_width=2, depth=2, deep_supervision=True), None, {}),
    "recurrent": (OPTIONS["r2_unet"](1, 2, base_width=2, depth=1), None, {}),
    "own statistics": (SMALL, None, {"sync_batch_norm": False}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n, batch", [(2, 3), (3, 2)], ids=["2 ranks", "a rank without a patch"])
def test_every_loss_is_that_of_the_batch(kind, n, batch):
    options, target, settings = KINDS[kind]
    cells = SyntheticCells(5, size=32)
    dataset = TargetSet(cells, target, [0, 1, 2, 3], progress=False) if target else cells
    settings = {"batch_size": batch, **settings}
    loss, grads = gradients(ALONE, dataset, options, **settings)
    for its_loss, its in on_ranks(n, lambda world: gradients(world, dataset, options, **settings)):
        assert its.keys() == grads.keys()
        if kind == "own statistics":
            assert np.isfinite(its_loss) and its_loss != loss
            continue
        assert its_loss == pytest.approx(loss, rel=1e-9)
        scale = max(abs(g).max() for g in grads.values())
        for name, g in grads.items():
            assert abs(its[name] - g).max() < 1e-9 * scale, name


# ---- the parts -------------------------------------------------------------------------------------------------------


def test_masks_of_dropout_are_those_of_a_single_process():
    for shape in ((7, 2, 3, 4), (7, 1, 3, 1)):
        whole = [np.random.default_rng(3).random(s, np.float32) for s in (shape,)]
        for rank in range(3):
            rng = np.random.default_rng(3)
            rows = OwnRows(rng, rank, 3, 7)
            assert (rows.random((len(range(rank, 7, 3)), *shape[1:])) == whole[0][rank::3]).all()
            again, after = np.random.default_rng(3), rng.random(4, np.float32)
            again.random(shape, np.float32)
            assert (after == again.random(4, np.float32)).all()


def test_buckets_begin_with_the_last_layers_and_leave_during_the_backward():
    model = build(UNetOptions(1, 2, base_width=4, depth=2))
    paths = list(model.named_params())
    assert [p for b in buckets_of(model, 100, 4000) for p in b.paths] == paths[::-1]
    sent = []
    sums = GradientSums(model, lambda a: sent.append(a.size), 100, 4000)
    with sums.watching():
        for step in range(2):
            model.zero_grad()
            y, cache = model.forward(np.zeros((1, 16, 16, 1), np.float32))
            sent.clear()
            model.backward(np.ones_like(y), cache)
            assert bool(sums.sent) == bool(step)
            mine = {path: g.copy() for path, g in model.named_grads().items()}
            sums.finish()
            assert len(sent) == len(sums.buckets) > 2
            assert all((g == mine[path]).all() for path, g in model.named_grads().items())
        with pytest.raises(RuntimeError, match=r"changed after it was sent"):
            model.backward(np.ones_like(y), model.forward(np.zeros((1, 16, 16, 1), np.float32))[1])
            model.backward(np.ones_like(y), model.forward(np.zeros((1, 16, 16, 1), np.float32))[1])
    assert not any(m.told_of_gradients for _, m in model.modules())


def test_a_thread_that_fails_ends_the_step():
    model = build(UNetOptions(1, 2, base_width=2, depth=1))

    def fail(a):
        raise ConnectionError("a peer is gone")

    sums = GradientSums(model, fail)
    with sums.watching(), pytest.raises(ConnectionError, match="a peer is gone"):
        sums.finish()


def test_a_stop_on_one_rank_stops_all_at_the_same_step(cells):
    def run(world):
        config = TrainingConfig(epochs=2, batch_size=4, crop=16)
        model = build(SMALL)
        model.preprocessing = cells.preprocessing
        trainer = Wide(model, cells, [0, 1, 2, 3, 4], [5, 6], config, world=world)
        trainer.callbacks.append(Stop(trainer, world.rank))
        assert not trainer.run()
        return trainer.state.step

    class Stop(minunet.train.callbacks.Callback):
        def __init__(self, trainer, rank):
            self.rank = rank

        def on_step(self, step):
            return step["step"] == 3 and self.rank == 1

    assert on_ranks(2, run) == [3, 3]


def test_what_differs_between_ranks_is_said(cells):
    with pytest.raises(UserError, match="rank 1 has other weights than rank 0"):
        on_ranks(2, lambda world: trained(world, cells, UNetOptions(1, 2, base_width=2, depth=1, seed=world.rank)))
    with pytest.raises(UserError, match="--batch-size 2 is divided among 3 ranks"):
        beforehand.check_share(TrainingConfig(batch_size=2), 3)


def test_processes_that_were_launched_without_mpi4py_are_told(monkeypatch):
    monkeypatch.delitem(mpi.sys.modules, "mpi4py", raising=False)
    assert mpi.launched() is ALONE
    monkeypatch.setenv("PMI_SIZE", "4")
    with pytest.raises(UserError, match=r"4 processes were started to train together.*mpiexec -n 4 python -m mpi4py"):
        mpi.launched()


def test_the_plain_op_of_a_shared_norm_divides_by_all_pixels():
    rng = np.random.default_rng(0)
    x, dy, gamma = rng.normal(3, 2, (5, 2, 3, 2)), rng.normal(size=(5, 2, 3, 2)), rng.normal(size=2)
    _, cache, (mean, var) = ops.batch_norm.plain(x, gamma, gamma)
    wanted = ops.batch_norm_backward.plain(dy, cache)
    parts = [slice(0, 2), slice(2, 5)]
    caches = [ops.batch_norm.plain(x[p], gamma, gamma, mean, var)[1] for p in parts]
    xhat = (x - mean) * cache[3]
    whole = [_sum(dy * xhat, (0, 1, 2)), _sum(dy, (0, 1, 2)), x[..., 0].size]
    found = [ops.shared_batch_norm_backward.plain(dy[p], c, lambda *sums: whole) for p, c in zip(parts, caches)]
    assert np.allclose(np.concatenate([f[0] for f in found]), wanted[0], rtol=1e-12, atol=1e-14)
    for i in (1, 2):
        assert np.allclose(found[0][i] + found[1][i], wanted[i], rtol=1e-12)

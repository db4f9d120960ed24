"""Sums over ranks on GPUs: on the stand-in for CuPy, with another rank that is this one's mirror image."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import pretend_cupy
from helpers.gpu_training import batch

from minunet.errors import UserError
from minunet.models import UNetOptions, build
from minunet.train.config import TrainingConfig
from minunet.train.distributed.nccl import NcclRanks
from minunet.train.distributed.world import ALONE, Ranks
from minunet.train.step import TrainingStep


class Mirrored(Ranks):
    """The first of two ranks that have the same patches."""

    rank, size = 0, 2

    def add(self, a):
        a *= 2

    def gather(self, value):
        return [value, value]

    def wait(self):
        pass


class Nccl(SimpleNamespace):
    """In the place of cupy.cuda.nccl: sums are done on the stream that they are started on, when that is waited for."""

    NCCL_FLOAT32, NCCL_FLOAT64, NCCL_SUM, available = 7, 8, 0, True

    def get_unique_id(self):
        return (1, 2, 3)

    def NcclCommunicator(self, size, identity, rank):
        assert (size, identity, rank) == (2, (1, 2, 3), 0)
        return self

    def allReduce(self, source, to, count, kind, op, stream):
        assert source == to and op == self.NCCL_SUM and stream == self.world.stream.ptr
        number = {7: ctypes.c_float, 8: ctypes.c_double}[kind]
        a = np.ctypeslib.as_array((number * count).from_address(source))
        self.sent.append((count, kind))
        self.world.stream.do(np.multiply, a, 2, a)


@pytest.fixture
def gpu(monkeypatch):
    return pretend_cupy.install(monkeypatch)


def ranks(gpu):
    nccl = Nccl(sent=[])
    nccl.world = NcclRanks(Mirrored(), gpu, nccl)
    return nccl.world


def stepped(gpu, world, arrays, **settings):
    """Losses and weights after two steps."""
    model = build(UNetOptions(1, 2, base_width=2, depth=1)).convert(gpu.asarray)
    training = TrainingStep(model, TrainingConfig(optimizer="sgd", **settings), gpu, world=world)
    with training.joined():
        losses = [training(number, 0.1, *arrays) for number in range(2)]
    return losses, {name: a.get() for name, a in model.state().items()}


@pytest.mark.parametrize("settings", [{}, {"clip": 0.1}, {"amp": "fp16"}], ids=["float32", "clipped", "mixed"])
def test_two_ranks_are_as_one_with_both_batches(gpu, settings):
    own = batch(gpu)
    world = ranks(gpu)
    wanted = stepped(gpu, ALONE, [gpu.concatenate([a, a]) for a in own], **settings)
    late = gpu.cuda.Stream()
    with late:
        found = stepped(gpu, world, own, **settings)
        late.synchronize()
    limit = 3e-3 if "amp" in settings else 1e-5
    assert found[0] == pytest.approx(wanted[0], rel=limit)
    for name, a in wanted[1].items():
        assert abs(found[1][name] - a).max() < limit * max(1, abs(a).max()), name
    assert {kind for _, kind in world.nccl.sent} == {7, 8}  # gradients in float32, norms' and losses' sums in float64


def test_what_is_missing_is_said(gpu):
    with pytest.raises(UserError, match="needs NCCL: pip install"):
        NcclRanks(Mirrored(), gpu, SimpleNamespace(available=False))
    second = Mirrored()
    second.rank = 1
    with pytest.raises(UserError, match="more ranks than GPUs on a node, which has 1"):
        NcclRanks(second, gpu, Nccl(sent=[]))

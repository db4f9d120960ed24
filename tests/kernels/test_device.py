"""The GPU without a GPU: everything runs on a stand-in with CuPy's manners; test_gpu.py: what is missing is told apart."""

import importlib
import re
import sys

import numpy as np
import pytest
from helpers import pretend_cupy
from helpers.datasets import make_data
from helpers.tolerances import OP

import minunet
from minunet.checkpoint.load import load
from minunet.data.loader import to_device
from minunet.errors import UserError
from minunet.gradcheck.command import main as gradcheck
from minunet.kernels import device
from minunet.kernels.device import memory_explained
from minunet.models import UNet, build
from minunet.models.summary import summary
from minunet.ops.lazy import LazyConcat, LazyMap
from minunet.predict.command import main as predict
from minunet.train.command import main as train


@pytest.fixture
def cupy(monkeypatch):
    return pretend_cupy.install(monkeypatch)


# ---- the way there ---------------------------------------------------------------------------------------------------


def batches(n):
    return ((np.full((2, 3), i, np.float32), np.full(4, i)) for i in range(n))


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_batches_arrive_whole_and_in_order(cupy, n):
    """The stand-in copies when it is waited for: whoever does not wait sees NaN."""
    arrived = [(x.get(), t.get()) for x, t in to_device(batches(n), cupy)]
    assert len(arrived) == n
    for i, (x, t) in enumerate(arrived):
        assert (x == i).all() and (t == i).all() and t.dtype == np.int64


def test_the_next_batch_is_on_its_way_while_one_is_used(cupy):
    made = []

    def watched():
        for i, batch in enumerate(batches(4)):
            made.append(i)
            yield batch

    for i, _ in enumerate(to_device(watched(), cupy)):
        assert made[-1] == min(i + 1, 3)


def test_unwaited_copies_are_seen(cupy, monkeypatch):
    """The test above can fail: without waiting there is NaN."""
    monkeypatch.setattr(cupy.Stream, "wait_event", lambda self, event: None)
    assert any(np.isnan(x.get()).any() for x, _ in to_device(batches(2), cupy))


def test_who_stops_early_waits_for_the_copy_on_its_way(cupy, monkeypatch):
    """Else it could arrive in memory that is somebody else's by then."""
    streams, make = [], cupy.Stream.__init__

    def watched(self, *args, **options):
        make(self, *args, **options)
        streams.append(self)

    monkeypatch.setattr(cupy.Stream, "__init__", watched)
    monkeypatch.setattr(cupy.Stream, "wait_event", lambda self, event: None)  # which would run all that is on its way
    sent = to_device(batches(4), cupy)
    next(sent)
    assert any(s.waiting for s in streams)
    sent.close()
    assert streams and not any(s.waiting for s in streams)


# ---- training, prediction, checkpoints, gradcheck ----------------------------------------------------------------------


@pytest.fixture
def run(cupy, tmp_path, monkeypatch):
    """A tiny run on the GPU that is no GPU."""
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path / "data")
    flags = "--data data --device cuda -e 1 --base-width 4 --depth 2 --crop 32 -b 16 --clip 1 --dropout 0.2 --out run"
    assert train(flags.split()) == 0
    return tmp_path / "run"


def test_train_and_predict(run, cupy, capsys):
    assert predict(["--device", "cuda", "-m", str(run / "best.safetensors"), "-i", "data/imgs", "-o", "out"]) == 0
    on_gpu = sorted(p.read_bytes() for p in (run.parent / "out").glob("*_mask.png"))
    assert len(on_gpu) == 8
    assert predict(["--device", "cpu", "-m", str(run / "best.safetensors"), "-i", "data/imgs", "-o", "cpu"]) == 0
    assert len(list((run.parent / "cpu").glob("*_mask.png"))) == 8


def test_a_checkpoint_goes_to_the_other_device(run, cupy, monkeypatch):
    last = str(run / "last.safetensors")
    assert train(["--resume", last, "--device", "cpu", "-e", "2"]) == 0
    assert train(["--resume", last, "--device", "cuda", "-e", "3"]) == 0
    assert len((run / "history.csv").read_text().splitlines()) == 4


def test_the_same_numbers_on_both(run, cupy, rng):
    model = load(run / "best.safetensors")
    x = rng.standard_normal((1, 20, 27, 1)).astype(np.float32)
    with minunet.use("reference"):
        here = model(x)
    there = model.convert(cupy.asarray)(cupy.asarray(x))
    assert isinstance(there, cupy.ndarray)
    np.testing.assert_allclose(there.get(), here, rtol=OP["float32"], atol=OP["float32"])


def test_gradcheck_takes_a_device(cupy, capsys):
    assert gradcheck(["--device", "cuda", "conv2d", "norm"]) == 0
    assert "all gradients are right" in capsys.readouterr().out


def test_gradcheck_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert gradcheck(["--device", "cuda"]) == 2
    assert "--device cuda: CuPy is not installed" in capsys.readouterr().err


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_out_of_memory_is_one_line(cupy, monkeypatch, tmp_path, capsys):
    def full(self, x, *args, forward=UNet.forward, **options):
        if isinstance(x, cupy.ndarray):
            raise cupy.OutOfMemoryError("Out of memory allocating 1,073,741,824 bytes")
        return forward(self, x, *args, **options)

    monkeypatch.setattr(UNet, "forward", full)
    assert train(["--device", "cuda", "-e", "1", "-b", "3", "--crop", "64", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: out of memory: a training step on 3 images of 64 x 64 pixels needs about ")
    found = re.search(r"(\d+\.\d\d) GiB of the GPU's are free now. Take a smaller --batch-size", error)
    assert found and float(found[1]) >= 6  # what the system has, and what CuPy's pool holds unused


@pytest.mark.parametrize(
    "said",
    [
        "cudaErrorMemoryAllocation: out of memory",  # a CUDARuntimeError: streams, graphs, pinned memory
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",  # a CUDADriverError: the code of a kernel
        "CUBLAS_STATUS_ALLOC_FAILED",  # a CUBLASError: its workspace
    ],
)
def test_memory_outside_of_the_pool(cupy, said):
    """CuPy's own OutOfMemoryError is a MemoryError, CUDA's are RuntimeErrors; other ones pass."""
    told = pytest.raises(
        UserError, match=r"out of memory: this needs about 2.00 GiB, .* of the GPU's are free now\. Buy some"
    )
    with told, memory_explained(cupy, "this", lambda: 2 << 30, "Buy some"):
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="IllegalAddress"), memory_explained(cupy, "this", lambda: 0, ""):
        raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")


def test_memory_that_the_pool_holds_unused_is_free(cupy):
    x = cupy.empty((1 << 20,), np.uint8)
    before = device.free_memory(cupy)
    del x
    assert device.free_memory(cupy) == before + (1 << 20)


def test_free_memory():
    left = device.free_memory(np)
    assert left is None or 1 << 20 < left < 1 << 50
    told = pytest.raises(UserError, match=r"out of memory: this needs about 2.00 GiB.*Buy some")
    with told, memory_explained(np, "this", lambda: 2 << 30, "Buy some"):
        raise MemoryError


DILATED = {"encoder": "resnet18", "encoder_width": 0.125, "width": 32, "output_stride": 8, "dropout": 0.0}


@pytest.mark.parametrize("options", [{}, {"norm": None}, {"up": "bilinear"}, DILATED], ids=str)
def test_the_plain_ops_memory_is_predicted(options):
    """Within 15 % of what NumPy really takes; a dilated filter's padding is larger than its map."""
    import tracemalloc

    from minunet.ops import softmax_cross_entropy, softmax_cross_entropy_backward

    network = "deeplab_v3plus" if "encoder" in options else "unet"
    sizes = {} if "encoder" in options else {"base_width": 16, "depth": 3}
    model, shape = build(network, in_channels=3, **sizes, **options), (1, 160, 128, 3)
    x, labels = np.zeros(shape, np.float32), np.zeros(shape[:3], np.int64)
    peaks = []
    with minunet.use("reference"):
        for training in (False, True):
            tracemalloc.start()
            if training:
                logits, cache = model.forward(x, rng=np.random.default_rng(0))
                loss, loss_cache = softmax_cross_entropy(logits, labels)
                dlogits = softmax_cross_entropy_backward(1.0, loss_cache)
                del logits, loss_cache
                model.backward(dlogits, cache)
            else:
                model(x)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        found = summary(model, shape)
    outside = sum(p.nbytes for p in model.named_params().values()) + x.nbytes  # was there before
    predicted = found.inference_peak - outside, found.training_peak(0) - outside
    assert predicted == pytest.approx(peaks, rel=0.15)
    by_kernels = summary(model, shape, fused=True)
    assert by_kernels.training_peak() - by_kernels.scratch < found.training_peak()


# ---- the stand-in itself ---------------------------------------------------------------------------------------------


def test_the_stand_in_is_strict(cupy):
    a = cupy.asarray([1.0, 2.0])
    for mixed in (
        lambda: a + np.ones(2),
        lambda: np.ones(2) + a,
        lambda: np.asarray(a),
        lambda: cupy.add(a, np.ones(2)),
    ):
        with pytest.raises(TypeError):
            mixed()
    assert isinstance(a.sum(), cupy.ndarray) and a.sum().shape == () and float(a.sum()) == 3
    assert np.isnan(cupy.empty(3, np.float32).get()).all()


def test_arrays_take_lazy_maps(cupy, monkeypatch):
    """CuPy's operators do not ask the right side's `__array_ufunc__`: they ask for its array, else there is a TypeError."""
    a, b = (cupy.asarray(np.full((1, 2, 2, 3), n, np.float32)) for n in (1, 2))
    x, lazy = cupy.asarray(np.ones((1, 2, 2, 6), np.float32)), LazyConcat(a, b)
    x += lazy
    assert isinstance(x, cupy.ndarray) and x.get()[0, 0, 0].tolist() == [2, 2, 2, 3, 3, 3]
    assert (x * lazy).get().max() == (lazy * x).get().max() == cupy.maximum(x, 2 * lazy).get().max() + 2 == 6
    monkeypatch.delattr(LazyMap, "__cupy_get_ndarray__")
    with pytest.raises(TypeError, match=r"Unsupported type <class 'minunet.*LazyConcat'>"):
        x += lazy


def test_cupy_has_what_is_used(run):
    """Every function that training and prediction asked the stand-in for."""
    sys.modules.pop("cupy")
    try:
        real = importlib.import_module("cupy")
    except ImportError:
        pytest.skip("CuPy is not installed")
    assert not [name for name in pretend_cupy.used if not hasattr(real, name)]

"""NVRTC compiles every CUDA kernel for every architecture, without a stack frame or spills; no GPU is needed."""

import importlib
import locale
import os
import platform
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import old_nvrtc

from minunet.kernels.cuda import build, emulator

MISSING = build.nvrtc_missing()
needs_nvrtc = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")

INDEXED = """
extern "C" __global__ void __launch_bounds__(32)
indexed(float* x, int i) {
  float local[64];
  for (int j = 0; j < 64; ++j) local[(j * i) % 64] = x[j];
  for (int j = 0; j < 64; ++j) x[j] = local[(j + i) % 64];
}
"""


@pytest.mark.drawn(quick=1, ci=4)
@needs_nvrtc
@pytest.mark.parametrize("file", build.kernel_files())
@pytest.mark.parametrize("arch", build.ARCHITECTURES)
def test_every_kernel_fits_its_registers(arch, file):
    if arch not in build.known_architectures():
        pytest.skip(f"this NVRTC does not know {arch}")
    variants = build.variants(file, arch)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = list(pool.map(lambda defines: build.compile_cubin(file, defines, arch), variants))
    for defines, (cubin, usage) in zip(variants, compiled):
        assert cubin[:4] == b"\x7fELF"
        assert {u.name for u in usage} == build.signatures(file).keys()
        for u in usage:
            assert u.stack == u.spills == 0 and not u.serialized, f"{' '.join(defines)} for {arch}: {u}"


@pytest.fixture
def oldest(monkeypatch):
    """The oldest NVRTC that the extras admit, in place of the installed one.

    CuPy's binding takes what is loaded already; `MISSING` above made it load its own.
    """
    if platform.machine() != "x86_64":
        pytest.skip("NVIDIA has no wheel of the oldest NVRTC for this machine")
    path = old_nvrtc.find()
    if path is None:
        pytest.skip(f"the oldest NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12=={old_nvrtc.OLDEST}")
    found = old_nvrtc.OldNvrtc(path)
    monkeypatch.setattr(build, "_nvrtc", lambda: found)
    monkeypatch.setattr(build, "known_architectures", build.known_architectures.__wrapped__)


def test_the_oldest_is_what_the_extras_admit():
    """cuda-toolkit==12.* begins with 12.0."""
    text = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text()
    oldest = min(int(major) for major in re.findall(r"cuda-toolkit\[\S+\]==(\d+)\.\*", text))
    assert old_nvrtc.OLDEST.startswith(f"{oldest}.0.")


@pytest.mark.drawn(quick=1)
@pytest.mark.parametrize("file", build.kernel_files())
def test_the_oldest_nvrtc_takes_every_kernel(oldest, file):
    """Up to PTX: what it does not understand it says before that."""
    for defines in build.variants(file, "sm_90a"):
        if not {"F16", "BF16"} & set(defines):
            ptx, _ = build.compile_cubin(file, defines, "compute_90a")
            assert all(f".entry {name}(".encode() in ptx for name in build.signatures(file))


@pytest.mark.drawn(quick=1, ci=1)
@pytest.mark.parametrize("file", build.kernel_files())
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_every_kernel_of_the_oldest_nvrtc_fits_its_registers(oldest, arch, file):
    test_every_kernel_fits_its_registers(arch, file)


def test_compiling_leaves_the_encoding_as_it_is(oldest):
    """NVRTC 12.0 ends in the C locale, and the thread that called it then reads and writes text as ASCII."""
    encoding = locale.getencoding()
    build.compile_cubin("norm.cu", (), "compute_80")
    assert locale.getencoding() == encoding


def test_structs_without_names_are_noticed(oldest):
    """NVRTC before 12.8 finds no members of them: the tests above are not blind."""
    text = (build.FOLDER / "conv.cu").read_text()
    for name, member in (("Factors", "in"), ("Results", "result")):
        text = text.replace(
            f"  {name} {member};\n", f"  struct {{{text.split(f'struct {name} {{')[1].split('};')[0]}}};\n"
        )
        text = text.replace(f"s->{member}.", "s->")
    with build.sources({"conv.cu": text}), pytest.raises(RuntimeError, match='"Tiles" has no member'):
        build.compile_cubin("conv.cu", (), "compute_80")


@needs_nvrtc
def test_a_stack_frame_is_noticed(tmp_path, monkeypatch):
    """The check above is not blind: an array indexed at run time lives in a stack frame."""
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    (tmp_path / "indexed.cu").write_text(INDEXED)
    _, (usage,) = build.compile_cubin("indexed.cu", (), "sm_80")
    assert usage.name == "indexed" and usage.stack >= 256


@needs_nvrtc
def test_products_that_wait_for_each_other_are_noticed(tmp_path, monkeypatch):
    """As where their sums are touched before anybody has waited for them: the assembler waits by itself, and says so."""
    if "sm_90a" not in build.known_architectures():
        pytest.skip("this NVRTC does not know sm_90a")
    shutil.copytree(build.FOLDER, tmp_path / "cuda", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(build, "FOLDER", tmp_path / "cuda")
    header = build.FOLDER / "tiles.cuh"
    header.write_text(header.read_text().replace("  wgmma_wait(c, fragments);\n", ""))
    _, usage = build.compile_cubin("conv.cu", ("WARPGROUPS",), "sm_90a")
    assert {u.name for u in usage if "wgmma" in u.serialized} == {"conv"}


@needs_nvrtc
def test_the_log_of_what_does_not_compile(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    (tmp_path / "wrong.cu").write_text('extern "C" __global__ void f() { undeclared = 1; }')
    with pytest.raises(RuntimeError, match=r"wrong\.cu for sm_80:\s.*.undeclared. is undefined"):
        build.compile_cubin("wrong.cu", (), "sm_80")


@needs_nvrtc
def test_the_cache_compiles_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MINUNET_CACHE", str(tmp_path))
    path = build.cached_cubin("optim.cu", (), 80)
    before = path.stat().st_mtime_ns
    assert build.cached_cubin("optim.cu", (), 80) == path and path.stat().st_mtime_ns == before
    assert build.cached_cubin("optim.cu", (), 90) != path


@needs_nvrtc
@pytest.mark.parametrize("file", build.kernel_files())
def test_a_gpu_newer_than_nvrtc_gets_ptx(file, monkeypatch):
    """Of the newest architecture that it knows, without the instructions that only that one has."""
    assert build.architecture(80) == "sm_80" and build.architecture(90) == "sm_90a"
    monkeypatch.setattr(build._nvrtc(), "getSupportedArchs", lambda: [75, 80, 86, 89, 90])
    assert build.architecture(100) == build.architecture(121) == "compute_90"
    assert build.architecture(87) == "compute_86"
    ptx, _ = build.compile_cubin(file, (), "compute_90")
    assert b".target sm_90\n" in ptx and all(f".entry {name}(".encode() in ptx for name in build.signatures(file))


@pytest.mark.slow
@pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")
def test_the_bench_calls_the_kernels_rightly(monkeypatch):
    """All its cases, emulated on 16 x 16 pixels; how fast they are only a GPU shows."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "bench"))
    files = set()
    for file, what, work, traffic, start in importlib.import_module("cuda_kernels").cases(
        np, 16, base=4, depth=1, ways=True
    ):
        start()
        files.add(f"{file}.cu")
        assert what and work >= 0 and traffic > 0
    assert files == set(build.kernel_files())


def test_the_bench_knows_what_python_starts(monkeypatch):
    """A kernel for each layer at least, and not many more: that is what small images wait for."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "bench"))
    starts = {what: n for what, n, seconds in importlib.import_module("cuda_kernels").host() if seconds > 0}
    assert 23 + 18 + 4 <= starts["inference"] < 80 and 4 * 23 < starts["training"] < 250


def test_the_bench_times_what_has_no_name(monkeypatch):
    """CuPy's `benchmark` looks for a function's name, which a partial does not have; many calls go between two events."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "bench"))
    bench, calls = importlib.import_module("cuda_kernels"), []

    def benchmark(function, *, name=None, n_repeat, n_warmup):
        name = name or function.__name__
        function()
        return SimpleNamespace(gpu_times=np.full((1, n_repeat), 0.5))

    assert bench.seconds_of(partial(calls.append, 1), "moments", benchmark) == 0.5 / bench.CALLS
    assert len(calls) == bench.CALLS


def test_signatures_are_read_from_the_sources():
    assert build.signatures("optim.cu")["sgd"][:6] == [
        ("Table", "t"), ("const float*", "now"), ("float", "lr"), ("float", "momentum"), ("float", "decay"),
        ("int", "nesterov"),
    ]  # fmt: skip
    for file in build.kernel_files():
        text = (build.FOLDER / file).read_text()
        assert text.count("__global__") == len(build.signatures(file)) > 0
        head = text.split("#include")[0]
        assert "Shapes:" in head and f"Measure: python bench/cuda_kernels.py {file.removesuffix('.cu')}\n" in head

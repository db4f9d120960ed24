"""bench/gpu.py, which a GPU is rarely there for: what is done is not done again, and what is late is interrupted. No GPU."""

import importlib
import sys
import time
from pathlib import Path

import pytest

from minunet.cli import run
from minunet.kernels.gpu import GpuStatus, gpu_status

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import gpu  # noqa: E402
from published import make_parser, setting_of  # noqa: E402
from record import Record  # noqa: E402


@pytest.fixture
def parts(monkeypatch):
    """Small programs in place of the parts, on a GPU that is said to be there."""
    monkeypatch.setattr(gpu, "gpu_apart", lambda: GpuStatus(True, "a GPU"))
    found = {}
    monkeypatch.setattr(gpu, "PARTS", found)
    return found


def program(text):
    return [sys.executable, "-c", text]


def test_a_part_is_done_once(parts, tmp_path, capfd):
    parts["first"] = gpu.once("first", program("print('hello')"), program("print('again')"))
    parts["second"] = gpu.once("second", program("raise SystemExit(3)"))
    flags = ["--out", str(tmp_path)]
    assert gpu.main(flags) == 1
    said = capfd.readouterr().out
    assert "hello\nagain\n" in said and "first     done" in said and "second    FAILED" in said
    assert (tmp_path / "first.txt").read_text().count("\n") == 5 and not (tmp_path / "second.txt").exists()
    assert gpu.main(["first", *flags]) == 0
    assert "hello" not in (said := capfd.readouterr().out) and "was done before" in said


def test_a_late_part_is_interrupted_and_keeps_what_it_has(parts, tmp_path, capfd):
    wait = "import time\ntry:\n    print('begins', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('kept')"
    parts["slow"] = gpu.once("slow", program(wait))
    parts["next"] = gpu.once("next", program("print('next')"))
    began = time.monotonic()
    assert gpu.main(["--out", str(tmp_path), "--minutes", "0.02"]) == 0
    assert time.monotonic() - began < 30
    said = capfd.readouterr().out
    assert "begins\nkept\n" in said and said.count("not finished") == 2
    assert "kept" in (tmp_path / "slow.txt.part").read_text() and not (tmp_path / "next.txt").exists()


def test_a_part_that_does_not_hear_is_ended(parts, tmp_path, monkeypatch):
    """As who waits for a kernel that never ends."""
    monkeypatch.setattr(gpu, "PATIENCE", 0.5)
    deaf = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('begins', flush=True); time.sleep(60)"
    )
    parts["deaf"] = gpu.once("deaf", program(deaf))
    began = time.monotonic()
    assert gpu.main(["--out", str(tmp_path), "--minutes", "0.01"]) == 0 and time.monotonic() - began < 30


def test_only_what_is_missing_on_this_machine(tmp_path, monkeypatch):
    """A case that broke off before its memory was measured is missing; so is all that another GPU has done."""
    for module in (gpu, importlib.import_module("record")):
        monkeypatch.setattr(module, "gpu_apart", lambda: GpuStatus(True, "a GPU"))
    commands = gpu.table("--peer torch", "PyTorch compiled")
    assert commands(tmp_path, [256, 512])[0][-2:] == ["256", "512"]
    record = Record(tmp_path, setting_of(make_parser().parse_args(["--device", "cuda"])))
    for who in ("minunet", "PyTorch compiled"):
        for size, what in ((256, "inference"), (256, "training"), (512, "inference")):
            record.put(size, what, who, seconds=1.0, turns=3, peak_mib=100.0, base_mib=0.0)
    record.put(512, "training", "minunet", seconds=1.0, turns=3, peak_mib=100.0, base_mib=0.0)
    record.put(512, "training", "PyTorch compiled", seconds=1.0, turns=1)
    record.save()
    (command,) = commands(tmp_path, [256, 512])
    assert command[command.index("--sizes") :] == ["--sizes", "512"]
    assert commands(tmp_path, [256]) == []
    (tmp_path / "first.txt").write_text("a GPU\n")
    assert gpu.once("first", ["x"])(tmp_path, []) == []
    for module in (gpu, importlib.import_module("record")):
        monkeypatch.setattr(module, "gpu_apart", lambda: GpuStatus(True, "another GPU"))
    assert commands(tmp_path, [256]) and gpu.once("first", ["x"])(tmp_path, [])


def test_without_a_gpu_it_says_why(capsys, monkeypatch):
    if gpu_status():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert run(gpu.main) == 2 and gpu_status().reason in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["gpu.py", "tests", "nothing"])
    assert run(gpu.main) == 2 and "nothing: no such part" in capsys.readouterr().err

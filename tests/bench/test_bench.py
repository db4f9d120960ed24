"""The published table measured again: as a user runs it, at a tiny size; and the parts that decide what is kept. No timings."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import pretend_cupy
from PIL import Image
from tqdm import tqdm

from minunet.cli import run
from minunet.kernels.gpu import gpu_status

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import child  # noqa: E402
import peers  # noqa: E402
import published  # noqa: E402
import report  # noqa: E402
from peers import LAYOUTS, Setting  # noqa: E402
from record import COLUMNS, Record, better, merge  # noqa: E402
from tables import in_seconds, time_table  # noqa: E402
from talk import SECONDS, fit  # noqa: E402

TORCH = importlib.util.find_spec("torch") is not None
TINY = ["--base-width", "4", "--threads", "1"]
IMPOSSIBLE = 200_000


def command(out, *flags):
    return [sys.executable, str(BENCH / "published.py"), "--out", str(out), *TINY, *flags]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run's folder, and what it said."""
    out = tmp_path_factory.mktemp("published")
    peers = ["--peer", "torch"] if TORCH else []
    flags = ["--sizes", "32", str(IMPOSSIBLE), "--repeats", "1", *peers]
    ended = subprocess.run(command(out, *flags), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return out, ended.stdout


def held(out):
    return json.loads((out / "published_cpu.json").read_text())


@pytest.mark.slow
def test_a_run_leaves_complete_results(done):
    result = held(done[0])
    assert result["setting"]["base_width"] == 4 and result["setting"]["threads"] == 1
    assert result["machine"] and result["versions"]["numpy"] == np.__version__
    whos = {"minunet", *(LAYOUTS if TORCH else ())}
    for what in ("inference", "training"):
        rows = [row for row in result["rows"] if row["what"] == what]
        assert {row["who"] for row in rows} == whos and {row["size"] for row in rows} == {32}
        assert all(row["seconds"] > 0 and row["gflop_per_s"] > 0 and row["times_ours"] > 0 for row in rows)
        ours = next(row for row in rows if row["who"] == "minunet")
        assert ours["turns"] == 1 and ours["times_ours"] == 1
        assert ours["peak_mib"] > 20 and ours["base_mib"] > 20 and ours["predicted_mib"] > 0
        assert ours["error_percent"] == pytest.approx(
            100 * (ours["predicted_mib"] + ours["base_mib"]) / ours["peak_mib"] - 100, abs=0.01
        )
        assert sum(row["peak_mib"] is not None for row in rows) == 1 + TORCH  # PyTorch's faster layout only


@pytest.mark.slow
def test_json_and_csv_agree(done):
    with open(done[0] / "published_cpu.csv") as f:
        table = list(csv.DictReader(f))
    rows = held(done[0])["rows"]
    assert len(table) == len(rows) and list(table[0]) == list(COLUMNS) == list(rows[0])
    for line, row in zip(table, rows):
        assert line == {name: "" if value is None else str(value) for name, value in row.items()}


@pytest.mark.slow
def test_what_a_run_shows(done):
    out, said = done
    assert np.asarray(Image.open(out / "published_cpu.png")).shape[1] > 1000
    for what in ("inference", "training"):
        assert f"{IMPOSSIBLE}x{IMPOSSIBLE} {what} skipped: it needs about" in said
    assert "| 32x32 |" in said and "arrays predicted + base measured" in said
    assert "published" not in said  # their network is another


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(done, tmp_path):
    """Interrupted in the training of another size: this size's inference, and the earlier run's rows, are there."""
    out = tmp_path / "out"
    shutil.copytree(done[0], out)
    before = held(out)["rows"]
    flags = ["--sizes", "48", "--repeats", "1000000", "--seconds", "0.5"]
    process = subprocess.Popen(command(out, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    guard = threading.Timer(120, process.kill)
    guard.start()
    errors = b""
    while b"48x48 training" not in errors:
        more = os.read(process.stderr.fileno(), 4096)
        assert more, errors
        errors += more
    process.send_signal(signal.SIGINT)
    said, more = process.communicate()
    guard.cancel()
    assert process.returncode == 130
    assert b"interrupted" in said and b"Traceback" not in errors + more
    rows = held(out)["rows"]
    assert [row for row in rows if row["size"] == 32] == before
    assert [row["what"] for row in rows if row["size"] == 48] == ["inference"]
    assert (out / "published_cpu.png").stat().st_mtime_ns > (done[0] / "published_cpu.png").stat().st_mtime_ns


# ---- the parts -------------------------------------------------------------------------------------------------------


def test_missing_peers_are_reported(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    assert published.contestants(["openvino", "torch", "torch"]) == ["minunet", *LAYOUTS]
    assert capsys.readouterr().out == "--peer openvino left out: not installed: pip install openvino\n"


def test_without_a_gpu_it_says_what_is_missing(monkeypatch, capsys):
    if gpu_status():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["published.py", "--device", "cuda"])
    assert run(published.main) == 2
    assert gpu_status().reason in capsys.readouterr().err


def test_fit_finds_the_law():
    growth = fit({size: 3e-6 * (size**2) ** 1.25 for size in (100, 300, 700)})
    assert growth.power == pytest.approx(1.25)
    assert growth(500) == pytest.approx(3e-6 * 250_000**1.25)
    assert fit({256: 1.0}) is None and fit({}) is None


def test_published_times_grow_faster_than_the_image_on_the_cpu():
    for what in ("inference", "training"):
        assert 1.2 < fit(SECONDS["cpu"][what]).power < 1.4


def test_later_rows_replace_all_of_their_case():
    def row(size, what, who, seconds):
        return {"size": size, "what": what, "who": who, "seconds": seconds}

    earlier = [
        row(32, "inference", "minunet", 1),
        row(32, "inference", "OpenVINO", 2),
        row(32, "training", "minunet", 3),
    ]
    later = [row(32, "inference", "minunet", 4), row(64, "inference", "minunet", 5)]
    assert merge(earlier, later) == [earlier[2], *later]
    assert merge(earlier, []) == earlier


def test_results_of_another_setting_are_kept_beside(tmp_path):
    for base_width in (4, 8):
        record = Record(tmp_path, Setting(base_width=base_width))
        record.put(32, "inference", "minunet", seconds=1.0, turns=1)
        record.save()
    assert held(tmp_path)["setting"]["base_width"] == 8
    assert json.loads((tmp_path / "published_cpu_1.json").read_text())["setting"]["base_width"] == 4


def test_the_faster_layout_counts_and_published_times_stand_beside(tmp_path):
    record = Record(tmp_path, Setting())
    record.put(576, "training", "minunet", seconds=2.0, turns=3)
    record.put(576, "training", LAYOUTS[0], seconds=5.0, turns=3)
    record.put(576, "training", LAYOUTS[1], seconds=4.0, turns=3)
    rows = record.rows()
    assert better(rows, 576, "training", "PyTorch", "seconds") == 4
    left_out = {"size": 576, "what": "training", "who": LAYOUTS[0], "seconds": 3.0, "turns": 0}
    assert better([left_out], 576, "training", "PyTorch", "seconds") == 3
    assert better([left_out, *rows], 576, "training", "PyTorch", "seconds") == 4
    ours = next(row for row in rows if row["who"] == "minunet")
    assert ours["gflop_per_s"] == pytest.approx(1463 / 2, rel=1e-3)
    assert "| 576x576 | 12.2 s (6.10) | 4.00 s (2.00) | 2.00 s | 732 |" in time_table(rows, "training")
    assert "| 1280x1280 | 93.9 s |  |  |  |" in time_table(rows, "training")
    assert [in_seconds(t) for t in (0.0123, 0.25, 93.93, 250)] == ["12.3 ms", "0.250 s", "93.9 s", "250 s"]


def test_the_page_gets_tables_and_picture(tmp_path, monkeypatch):
    for module in (report, published):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "speed.md").write_text("before\n<!-- published -->\nold\n<!-- /published -->\nafter\n")
    record = Record(tmp_path / "results", Setting())
    record.put(256, "inference", "minunet", seconds=0.25, turns=3, peak_mib=400.0, base_mib=170.0)
    record.save()
    published.present(record, page=True)
    text = (tmp_path / "docs" / "speed.md").read_text()
    assert "0.369 s (1.48)" in text and "400 MiB" in text and "old" not in text and "None" not in text
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "(published_cpu.png)" in text and (tmp_path / "docs" / "published_cpu.png").exists()
    assert "<!-- published -->" in (BENCH.parent / "docs" / "speed.md").read_text()


def take_turns(monkeypatch, durations, repeats=9, seconds=60.0):
    """The messages of turns in which each contestant takes so many seconds, or raises."""
    messages = []

    def fake(who):
        if isinstance(durations[who], Exception):
            raise durations[who]
        return durations[who]

    monkeypatch.setattr(child, "seconds_of", fake)
    child.take_turns({who: who for who in durations}, repeats, seconds, lambda **m: messages.append(m))
    return messages


def test_the_slower_layout_drops_out(monkeypatch):
    for seconds, calls in ((0.1, child.WARM_UP), (30.0, 1)):  # a long call shows it at once
        messages = take_turns(monkeypatch, {LAYOUTS[0]: 1.2 * seconds, LAYOUTS[1]: seconds})
        assert [m["dropped"] for m in messages if "dropped" in m] == [LAYOUTS[0]]
        assert sum(m.get("who") == LAYOUTS[0] for m in messages) == calls
    messages = take_turns(monkeypatch, {LAYOUTS[0]: 1.1, LAYOUTS[1]: 1.0})
    assert not any("dropped" in m for m in messages) and messages[-1]["left"] == 0


@pytest.mark.parametrize("one, turns", [(1.0, 9), (12.0, 5), (60.0, 3)])
def test_turns_fit_in_the_time(monkeypatch, one, turns):
    messages = take_turns(monkeypatch, {"minunet": one})
    assert sum(m["counts"] for m in messages) == turns and messages[-1]["left"] == 0
    assert len(messages) == child.WARM_UP + turns


def test_who_runs_out_of_memory_drops_out(monkeypatch):
    messages = take_turns(monkeypatch, {"minunet": 1.0, "PyTorch": MemoryError("8 GiB")}, repeats=2)
    assert [m for m in messages if "lost" in m] == [{"lost": "PyTorch", "reason": "MemoryError: 8 GiB"}]
    assert sum(m.get("who") == "minunet" for m in messages) == child.WARM_UP + 2


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_process_is_reported(monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho '{\"left\": 1}'\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    heard = []
    assert "memory" in child.attend("base", Setting(), heard.append, who="minunet")
    assert heard == [{"left": 1}]


def test_what_is_left_is_reckoned_from_calls_alone(monkeypatch, tmp_path):
    """Processes that take a minute to start, with calls of a second, do not make hours of a handful of calls."""
    now = [1000.0]

    def attend(task, setting, hear, who="minunet", **given):
        now[0] += 60.0
        if task in ("time", "memory"):
            hear({"ready": True})
            for left in reversed(range(6 if task == "time" else 3)):
                now[0] += 1.0
                hear({"who": who, "seconds": 1.0, "counts": True, "left": left} if task == "time" else {"left": left})
                d = bench.bar.format_dict
                found.append((d["total"] - d["n"]) / d["rate"])

    found: list[float] = []
    monkeypatch.setattr(published, "attend", attend)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(published.time, "time", lambda: now[0])
    bench = published.Bench(Record(tmp_path, Setting(base_width=2)), ["minunet"], 3, 60.0)
    bench.run([32])
    assert len(found) == 18 and max(found) < 40 and found[-1] == 0


def test_an_interrupted_case_leaves_the_earlier_one(monkeypatch, tmp_path):
    """Ctrl-C loses the case at hand, and not what an earlier run has measured of it."""
    record = Record(tmp_path, Setting(base_width=2))
    for what in ("inference", "training"):
        record.put(32, what, "minunet", seconds=1.0, turns=9, peak_mib=50.0, base_mib=10.0)
    record.save()

    def attend(task, setting, hear, **given):
        if task == "time":
            hear({"who": "minunet", "seconds": 2.0, "counts": True, "left": 5})
            raise KeyboardInterrupt

    monkeypatch.setattr(published, "attend", attend)
    with pytest.raises(KeyboardInterrupt):
        published.Bench(Record(tmp_path, Setting(base_width=2)), ["minunet"], 3, 60.0).run([32])
    rows = {(row["what"], row["seconds"], row["turns"]) for row in Record(tmp_path, Setting(base_width=2)).earlier}
    assert rows == {("inference", 1.0, 9), ("training", 1.0, 9)}


@pytest.mark.parametrize("dies", [False, True])
def test_a_contestant_that_breaks_the_gpu_is_left_out_alone(monkeypatch, tmp_path, dies):
    """Nothing works in a process whose GPU has been led astray, which may even die: the others are measured in a new one."""

    def attend(task, setting, hear, whos, **given):
        began.append(list(whos))
        if "minunet" in whos:
            for who in whos[: 1 if dies else None]:
                hear({"lost": who, "reason": "an illegal memory access was encountered"})
        for who in whos if "minunet" not in whos else []:
            hear({"who": who, "seconds": 2.0, "counts": True, "left": 0})
        return "ended by signal 6" if dies and "minunet" in whos else None

    began: list[list[str]] = []
    monkeypatch.setattr(published, "attend", attend)
    whos = ["minunet", *LAYOUTS]
    bench = published.Bench(Record(tmp_path, Setting(base_width=2)), whos, 3, 60.0)
    bench.setting, bench.bar = Setting("cuda", base_width=2), tqdm(total=1.0, disable=True)
    bench.time(32, "inference")
    assert began == [whos, list(LAYOUTS)]
    assert {row["who"]: row["seconds"] for row in bench.record.measured} == dict.fromkeys(LAYOUTS, 2.0)


@pytest.mark.parametrize("kind", ["fp16", None])
@pytest.mark.parametrize("what", ["inference", "training"])
def test_our_contestant_on_a_gpu(monkeypatch, kind, what):
    """Ours does what it is timed for, on the stand-in: mixed precision, too."""
    pretend_cupy.install(monkeypatch)
    call = peers.minunet(Setting("cuda", base_width=4, amp=kind), 32, what)
    call()
    call()


def test_mixed_precision_has_a_file_of_its_own(tmp_path, capsys, monkeypatch):
    """And the others' settings are what they were, so that what has been measured stays theirs."""
    assert Record(tmp_path, Setting()).path.name == "published_cpu.json" and "amp" not in Setting().as_dict()
    assert Record(tmp_path, Setting(amp="bf16")).path.name == "published_cpu_bf16.json"
    assert "mixed precision (bf16)" in Setting("cuda", amp="bf16").describe()
    monkeypatch.setattr(sys, "argv", ["published.py", "--amp", "fp16"])
    assert run(published.main) == 2 and "--amp is for --device cuda" in capsys.readouterr().err

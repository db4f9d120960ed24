"""A run owns its folder, and loses nothing: locks, signals, disks that fail, streams that close, clocks that go back."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from helpers.datasets import make_data
from helpers.training import SMALL, go, history, refused, same_run
from safetensors.numpy import load_file

import minunet
from minunet import atomic
from minunet.data import SyntheticCells
from minunet.train import session
from minunet.train.command import main as train
from minunet.train.lock import RunLock
from minunet.train.run_folder import RunFolder
from minunet.train.trainer import Trainer

FLAGS = ["-e", "3", "-v", "25", "-q"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data") / "data", n=4)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert go(data, out, *FLAGS) == 0
    return out


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes longer than such a training."""
    for name in ("curves", "predictions"):
        monkeypatch.setattr(f"minunet.train.figures.{name}", lambda path, *_: atomic.write_atomically(path, b""))


@pytest.fixture
def at_step(monkeypatch):
    """A function that has another one called after a step of the training, once."""

    def call(number, do, plain=Trainer.step):
        def step(self, *batch):
            loss = plain(self, *batch)
            if self.state.step + 1 == number:
                monkeypatch.setattr(Trainer, "step", plain)
                do()
            return loss

        monkeypatch.setattr(Trainer, "step", step)

    return call


def goes_on(data, out, whole):
    """Whether a run, started again as it was, ends as one that nothing disturbed, and leaves nothing behind."""
    assert go(data, out, *FLAGS, "--resume", "auto") == 0
    same_run(out, whole)
    assert {p.name for p in out.iterdir()} == {p.name for p in whole.iterdir()}


# ---- history ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_row_that_was_not_written_comes_back(data, whole, tmp_path, monkeypatch, epoch):
    """Killed after an epoch's checkpoint and before its row, also the last one."""

    class Killed(BaseException):
        pass

    def killed(self, plain=RunFolder.write_history):
        if len(self.trainer.state.history) == epoch:
            raise Killed
        plain(self)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_history", killed)
        with pytest.raises(Killed):
            go(data, out, *FLAGS)
    assert len(load_file(out / "last.safetensors")) and (out / "history.csv").exists() == (epoch > 1)
    goes_on(data, out, whole)


def test_a_history_that_was_deleted_comes_back_with_a_finished_run(data, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    (out / "history.csv").unlink()
    assert train(["--resume", str(out / "last.safetensors"), "-q"]) == 0
    assert (out / "history.csv").read_text() == (whole / "history.csv").read_text()


# ---- the lock --------------------------------------------------------------------------------------------------------


def test_a_folder_in_use_is_refused_before_anything_is_read(whole, tmp_path, capsys):
    out = shutil.copytree(whole, tmp_path / "run")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    who = f"process {os.getpid()} on {atomic.host()}"
    with RunFolder(out):
        for flags in (["--out", out], ["--resume", out / "last.safetensors"], ["--resume", "auto", "--out", out]):
            refused(capsys, train(["--data", "nowhere", *map(str, flags)]), out, who)
        with pytest.raises(minunet.UserError, match=who):
            minunet.fit(SyntheticCells(4, size=32), out=out, resume=out / "last.safetensors")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_two_at_once_one_wins(data, tmp_path):
    """Started together into one folder: one trains, the other exits with 2, names it, and disturbs nothing."""
    run = [sys.executable, "-m", "minunet.train", "--data", data, *SMALL, "-e", "2", "--out", tmp_path / "run", "-q"]
    both = [subprocess.Popen([*map(str, run), "--seed", seed], stderr=subprocess.PIPE, text=True) for seed in "01"]
    errors = [process.communicate(timeout=100)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    assert any("holds a run already" in e or "is in use: process" in e for e in errors), errors
    assert len(history(tmp_path / "run")) == 2


def test_the_lock_s_file_says_nothing_strange(tmp_path):
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    for text in ("", "\x1b[2J", "process x", "process 1 on a\nb", "\xff" * 999):
        (tmp_path / ".lock").write_text(text)
        with pytest.raises(minunet.UserError, match="is in use: another process trains there"):
            second.acquire()
    first.release()
    second.acquire()  # and a lock that was given back is free
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_file_systems_without_locks(tmp_path, monkeypatch):
    import filelock

    def missing(self, *args, **options):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(filelock.FileLock, "acquire", missing)
    with RunFolder(tmp_path / "run"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="signals work otherwise on Windows")
def test_what_a_killed_process_left_goes_at_the_next_start(data, whole, tmp_path):
    """Its lock is free, and half-written files are deleted; those of processes that live are not."""
    out = tmp_path / "run"
    code = (
        "import os, signal, sys; from pathlib import Path; from minunet.atomic import beside\n"
        "from minunet.train.run_folder import RunFolder\n"
        f"with RunFolder({str(out)!r}) as f, beside(f.path / 'last.safetensors') as part:\n"
        "    part.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert {p.name.split(".")[1] for p in out.iterdir()} == {"lock", "last"}
    mine = out / f".x.{atomic.host_mark()}-{os.getppid()}-0.part"
    mine.touch()
    others = out / ".x.00000000-1-0.part"  # of another host
    others.touch()
    with RunFolder(out):
        assert {p.name for p in out.iterdir()} == {".lock", mine.name, others.name}
    mine.unlink(), others.unlink()
    goes_on(data, out, whole)


def test_runs_that_begin_in_one_second_have_folders_of_their_own(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "now")
    for _ in range(3):
        assert train(["--data", str(data), *SMALL, "-e", "1", "-q"]) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["now_data", "now_data_2", "now_data_3"]


# ---- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_save_and_stop_and_resume_auto_goes_on(data, whole, tmp_path, at_step, capsys, number):
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:  # the tests themselves run under nohup
        before = signal.SIG_DFL
        signal.signal(number, before)

    def send():
        for _ in range(1 if number == signal.SIGINT else 2):  # batch systems may send them twice
            os.kill(os.getpid(), number)

    at_step(2, send)
    assert go(data, tmp_path / "run", *FLAGS[:-1], "--resume", "auto") == 130
    assert f"--resume {tmp_path / 'run' / 'last.safetensors'}" in capsys.readouterr().out
    assert signal.getsignal(number) == before
    goes_on(data, tmp_path / "run", whole)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_what_nohup_ignores_stays_ignored(data, whole, tmp_path, at_step):
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert go(data, tmp_path / "run", *FLAGS) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    same_run(tmp_path / "run", whole)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_signal_before_the_first_step_leaves_no_folder(data, tmp_path, monkeypatch, swallowed):
    """Also where an exception is lost, in the callbacks of a compiler."""
    open_data = session.open_data

    def signalled(*given):
        with suppress(KeyboardInterrupt if swallowed else ()):
            os.kill(os.getpid(), signal.SIGTERM)
        return open_data(*given)

    monkeypatch.setattr(session, "open_data", signalled)
    assert go(data, tmp_path / "run", *FLAGS) == 130
    assert swallowed or not (tmp_path / "run").exists()


def test_resume_auto_goes_on_with_the_same_flags_only(data, whole, tmp_path, capsys):
    out = shutil.copytree(whole, tmp_path / "run")
    refused(
        capsys, go(data, out, *FLAGS, "--resume", "auto", "--seed", "1"), "another --seed", "flags that the run began"
    )
    refused(capsys, train(["--resume", "auto"]), "--resume auto needs --out")
    assert go(data, out, *FLAGS, "--resume", "auto", "--patience", "9") == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.slow
def test_a_run_that_is_suspended_goes_on(data, whole, tmp_path):
    out = tmp_path / "run"
    run = [sys.executable, "-m", "minunet.train", "--data", data, *SMALL, *FLAGS, "--out", out]
    with subprocess.Popen(list(map(str, run)), stderr=subprocess.PIPE, text=True) as process:
        for _ in range(5):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.3)
        err = process.communicate(timeout=100)[1]
    assert process.returncode == 0, err
    same_run(out, whole)


# ---- disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.drawn(quick=4, ci=12)
@pytest.mark.parametrize("place", ["fsync", "replace"])
@pytest.mark.parametrize("nth", range(1, 11))
def test_errors_of_the_disk_keep_the_last_good_state(data, whole, tmp_path, monkeypatch, capsys, place, nth):
    """In the nth write of a run, which cannot even delete what it wrote: a sentence, and the run goes on later."""
    out, calls, plain = tmp_path / "run", [], getattr(os, place)

    def broken(*args, **options):
        raise OSError(errno.EIO, "Input/output error")

    def fail(*args):
        calls.append(args)
        return broken() if len(calls) == nth else plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, place, fail)
        patch.setattr(type(out), "unlink", broken)
        refused(capsys, go(data, out, *FLAGS), "cannot write", "Input/output error")
    for name in ("best", "last"):
        if (out / f"{name}.safetensors").exists():
            minunet.load(out / f"{name}.safetensors")
    goes_on(data, out, whole)


def test_a_folder_that_is_deleted_meanwhile(data, tmp_path, at_step, capsys):
    out = tmp_path / "run"
    at_step(3, lambda: shutil.rmtree(out))
    refused(capsys, go(data, out, *FLAGS), f"cannot write {out}", "No such file")
    assert not out.exists()


@pytest.mark.parametrize("length", [240, 255, 256])
def test_long_names(tmp_path, length):
    """A name that the file system takes can be written; a longer one is refused with a sentence."""
    path = tmp_path / ("ü" * (length // 2) + "x" * (length % 2))
    if length > 255:
        with pytest.raises(minunet.UserError, match="File name too long"):
            atomic.write_atomically(path, b"")
    else:
        for content in (b"old", b"new"):
            atomic.write_atomically(path, content)
        assert path.read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == (length <= 255)


def test_long_and_impossible_folders(data, tmp_path, capsys):
    assert go(data, tmp_path / ("x" * 240), *FLAGS) == 0
    refused(capsys, go(data, tmp_path / ("x" * 256), *FLAGS), "cannot write to", "File name too long")
    refused(capsys, go(data, "/dev/null/run", *FLAGS), "cannot write to /dev/null/run")
    if sys.platform == "linux":  # a file system that takes no files, from root either
        refused(capsys, go(data, "/sys/run", *FLAGS), "cannot write to /sys/run")


def test_a_folder_replaces_a_folder_or_stays(tmp_path):
    old = tmp_path / "a.zarr"
    old.mkdir()
    (old / "x").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic.beside(old) as part:
        part.mkdir()
        raise ZeroDivisionError
    with atomic.beside(old, keep=False) as part:
        part.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"] and (old / "x").read_text() == "old"
    with atomic.beside(old) as part:
        part.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"] and not (old / "x").exists()


# ---- streams, clocks, threads ----------------------------------------------------------------------------------------


def test_nobody_reads_what_a_training_prints(data, whole, tmp_path, monkeypatch):
    """Its stdout is a closed pipe, and its stderr, too: it trains to the end."""
    readers, writer = os.pipe()
    os.close(readers)
    with monkeypatch.context() as patch, open(writer, "w", buffering=1) as closed:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, closed)
        assert go(data, tmp_path / "run", *FLAGS[:-1]) == 0
    same_run(tmp_path / "run", whole)


def test_clocks_that_go_back(data, whole, tmp_path, monkeypatch):
    """To before 1980, where zip files begin, and back in every call."""
    now = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    assert go(data, tmp_path / "run", *FLAGS) == 0
    same_run(tmp_path / "run", whole)


def test_two_trainings_in_threads(tmp_path):
    """At once, into folders of their own, with the numbers of one after the other."""

    def fit(name):
        cells = SyntheticCells(6, size=32, seed=int(name[-1]))
        made[name] = minunet.fit(cells, epochs=2, crop=16, model=minunet.models.UNetOptions(base_width=2, depth=1),
                                 out=tmp_path / name).history  # fmt: skip

    made = {}
    threads = [threading.Thread(target=fit, args=(f"at once {n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(2):
        fit(f"alone {n}")
        losses = [[row["train_loss"] for row in made[f"{how} {n}"]] for how in ("alone", "at once")]
        assert losses[0] == losses[1]

"""What workers share: who made it, which trials count, and what becomes of the trials of dead workers. No trainings."""

import os
import subprocess
import sys
import time

import pytest

optuna = pytest.importorskip("optuna", reason="needs the extra tune")

from helpers.searches import space_of  # noqa: E402

from minunet.errors import UserError  # noqa: E402
from minunet.train.arguments import parse  # noqa: E402
from minunet.train.signals import StopOnSignal  # noqa: E402
from minunet.train.tune import lease, study, worker  # noqa: E402
from minunet.train.tune.space import default_values  # noqa: E402
from minunet.train.tune.trial import Job, Outcome  # noqa: E402


@pytest.fixture
def made(tmp_path):
    """A study in a journal, and its storage."""
    base = study.open_storage(None, tmp_path)
    return study.optuna().create_study(study_name="minunet", storage=base, direction="maximize"), base


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def running(made, process, machine=None, **attrs):
    """A trial that a process runs, as it says."""
    trial = made[0].ask()
    trial.suggest_float("x", 0, 1)
    alive = {"machine": machine or lease.machine(), "process": process, "began": 10.0, "time": 20.0}
    for name, value in {lease.ALIVE: alive, **attrs}.items():
        trial.set_user_attr(name, value)
    return trial


def states(made):
    return [t.state.name for t in made[0].get_trials(deepcopy=False)]


def test_a_trial_whose_process_is_gone_is_tried_again_with_the_same_settings(made):
    trial, other = running(made, dead_process(), default=True), running(made, os.getpid())
    assert study.reap(*made, lease.Watch()) == [0]
    assert states(made) == ["FAIL", "RUNNING", "WAITING"]
    again = made[0].ask()
    assert (again.number, again.suggest_float("x", 0, 1)) == (2, trial.params["x"]) and other.number == 1
    assert again.user_attrs[study.DEATHS] == 1 and again.user_attrs["default"]
    assert [t.number for t in study.counting(made[0].trials)] == [1, 2]


def test_two_that_notice_it_give_it_back_once(made):
    trial = made[1].get_trial(running(made, dead_process())._trial_id)
    assert study.give_back(*made, trial, "killed")
    assert not study.give_back(*made, trial, "killed")
    assert states(made) == ["FAIL", "WAITING"]


def test_a_trial_that_kills_every_worker_has_failed(made):
    for _ in range(study.MOST_DEATHS):
        trial = running(made, dead_process())
        assert study.reap(*made, lease.Watch()) == [trial.number]
    assert states(made) == ["FAIL"] * study.MOST_DEATHS
    assert [t.number for t in study.ended(made[0].trials)] == [study.MOST_DEATHS - 1]
    assert "3 workers were killed" in made[0].trials[-1].user_attrs[study.REASON]


def test_a_silent_worker_of_another_machine_is_given_up_after_a_while(made, monkeypatch):
    trial, watch, now = running(made, 1, machine="elsewhere"), lease.Watch(), [1000.0]
    monkeypatch.setattr(lease.time, "monotonic", lambda: now[0])
    frozen = made[1].get_trial(trial._trial_id)
    assert not watch.is_lost(frozen)
    now[0] += lease.GRACE - 1
    assert not watch.is_lost(frozen)
    frozen.user_attrs[lease.ALIVE] = {**frozen.user_attrs[lease.ALIVE], "time": 21.0}  # a sign of life
    now[0] += 2
    assert not watch.is_lost(frozen)
    now[0] += lease.GRACE + 1
    assert watch.is_lost(frozen)


def test_a_pulse_beats_and_notices_an_orphan(made, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.01)
    called = []
    parent = os.getppid()
    with lease.Pulse(made[0].ask(), lambda: called.append(1)):
        first = made[0].trials[0].user_attrs[lease.ALIVE]["time"]
        time.sleep(0.1)
        assert made[0].trials[0].user_attrs[lease.ALIVE]["time"] > first and not called
        monkeypatch.setattr(lease.os, "getppid", lambda: parent + 1)
        time.sleep(0.1)
    assert called == [1]


def test_minutes_count_while_some_worker_is_at_a_trial(made):
    spans = [(0.0, 60.0), (30.0, 100.0), (500.0, 520.0), (90.0, 95.0)]
    for began, ended in spans:
        trial = made[0].ask()
        trial.set_user_attr(lease.ALIVE, {"began": began, "time": ended})
        made[0].tell(trial, 1.0)
    trial = made[0].ask()
    trial.set_user_attr(lease.ALIVE, {"began": 600.0, "time": 630.0})
    assert study.spent(made[0].trials, 640.0) == 100 + 20 + 40
    assert study.spent(made[0].trials, 1e6) == 100 + 20 + 30 + 3 * lease.BEAT


# ---- workers ---------------------------------------------------------------------------------------------------------


class Counted:
    """Stands in for trainings: counts them, and gives scores or failures."""

    def __init__(self, *answers):
        self.answers, self.ran = list(answers), []

    def __call__(self, job, trial, chosen, ends, stopper, told_to_stop):
        self.ran.append(chosen)
        answer = self.answers.pop(0) if self.answers else 0.5
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Outcome) else Outcome(answer, None)


def run_worker(made, monkeypatch, training, trials=5, space=None, minutes=None):
    monkeypatch.setattr(worker, "run_trial", training)
    monkeypatch.setattr(worker, "POLL", 0.01)
    args, given = parse(["--data", "x"])
    job = Job(args, given, None, ([], []), None)
    space = space or {"batch_size": {"low": 1, "high": 10**9}}
    worker.Worker(*made, job, space, worker.Limits(trials, minutes), StopOnSignal()).run()


def test_failures_are_recorded_and_the_search_goes_on(made, monkeypatch, capfd):
    training = Counted(
        0.1, UserError("the loss became nan"), MemoryError(), ZeroDivisionError("bug"), Outcome(None, "pruned")
    )
    run_worker(made, monkeypatch, training, 6)
    assert states(made) == ["COMPLETE", "FAIL", "FAIL", "FAIL", "PRUNED", "COMPLETE"]
    reasons = [t.user_attrs.get(study.REASON) for t in made[0].trials]
    told = ["the loss became nan", "out of memory", "ZeroDivisionError: bug", "pruned"]
    assert reasons == [None, *told, None]
    assert capfd.readouterr().err.count("Traceback") == 1  # of the bug alone


def test_where_all_fail_it_ends(made, monkeypatch):
    run_worker(made, monkeypatch, Counted(*[UserError("no")] * 50), 50)
    assert states(made) == ["FAIL"] * 5 and study.hopeless(made[0].trials) == "no"


def test_settings_that_were_tried_are_not_trained_again(made, monkeypatch):
    training = Counted()
    run_worker(made, monkeypatch, training, 12, {"batch_size": [1, 2]})
    assert len(training.ran) == 2 and states(made) == ["COMPLETE"] * 12


def test_a_trial_too_many_is_not_run(made, monkeypatch):
    """Two workers ask at the same time for the last one: the later one lets it be."""
    running(made, os.getpid())
    args, given = parse(["--data", "x"])
    late = worker.Worker(*made, Job(args, given, None, ([], []), None), {}, worker.Limits(1, None), StopOnSignal())
    trial = made[0].ask()
    late.one(trial)
    assert states(made) == ["RUNNING", "FAIL"] and [t.number for t in study.counting(made[0].trials)] == [0]
    assert late.next_step(late.trials()) == "wait"


def test_a_stopped_trial_waits_and_time_ends_a_search(made, monkeypatch):
    training = Counted(0.5, Outcome(None, "stopped"), Outcome(None, "time"))
    run_worker(made, monkeypatch, training, 3)
    assert states(made) == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    assert training.ran[1] == training.ran[2]  # the one that was stopped
    trial = made[0].ask()
    trial.set_user_attr(lease.ALIVE, {"began": 0.0, "time": 90.0})
    made[0].tell(trial, 0.1)
    run_worker(made, monkeypatch, training, None, minutes=1.0)
    assert len(made[0].trials) == 5


# ---- made and joined -------------------------------------------------------------------------------------------------


def test_other_settings_than_it_was_made_with_are_refused(made, tmp_path):
    space, args, given = space_of("-e", "4")
    first = default_values(space, args, given)
    study.store_settings(made[0], study.Settings(args, given, space), "2 and 1 images, 0", first)
    stored = study.stored_settings(made[0], "minunet")
    assert stored.space == space and stored.args.epochs == 4 and made[0].trials[0].system_attrs["fixed_params"] == first
    none = study.Settings(*parse([]), {})
    assert study.agree(none, stored, False, "RUN").args == stored.args  # nothing typed: goes on with all
    other = study.Settings(*parse(["--data", "elsewhere", "-e", "5", "--crop", "64"]), {})
    with pytest.raises(UserError, match="RUN holds a search with another --crop, --epochs, and goes on"):
        study.agree(other, stored, False, "RUN")
    with pytest.raises(UserError, match="another --space"):
        study.agree(none, stored, True, "RUN")
    moved = study.Settings(*parse(["--data", "elsewhere", "--device", "cpu"]), {})
    assert study.agree(moved, stored, False, "RUN").args.data == "elsewhere"
    with pytest.raises(UserError, match="the search began with 2 and 1 images"):
        study.check_images(made[0], "3 and 1 images, 0")


def test_a_study_of_somebody_else_is_refused(made):
    made[0].ask()
    with pytest.raises(UserError, match="not one of minunet tune"):
        study.stored_settings(made[0], "minunet")


def test_half_a_line_at_the_end_of_the_journal_is_cut(made, tmp_path):
    made[0].tell(made[0].ask(), 1.0)
    path = tmp_path / study.JOURNAL
    with open(path, "ab") as file:
        file.write(b'{"op_code":4,"wor')
    base = study.open_storage(None, tmp_path)
    again = optuna.load_study(study_name="minunet", storage=base)
    again.tell(again.ask(), 2.0)
    assert [t.value for t in made[0].trials] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nothing://x", "cannot be opened|needs a package"),
        ("postgresql+nodriver://me:secret@host/db", "postgresql+nodriver://me:***@host/db"),
        ("sqlite:////no/such/folder/x.db", "cannot be opened"),
    ],
)
def test_a_storage_that_is_none(url, says, tmp_path):
    with pytest.raises(UserError) as e:
        study.open_storage(url, tmp_path)
    assert any(part in str(e.value) for part in says.split("|")) and "secret" not in str(e.value)


def test_a_database_is_a_storage_too(tmp_path):
    base = study.open_storage(f"sqlite:///{tmp_path}/x.db", tmp_path)
    made = study.optuna().create_study(study_name="minunet", storage=base, direction="maximize"), base
    running(made, dead_process())
    assert study.reap(*made, lease.Watch()) == [0] and states(made) == ["FAIL", "WAITING"]


def test_without_optuna_the_extra_is_named(monkeypatch, capsys):
    from minunet.train.tune.command import main

    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["--data", "x"]) == 2
    assert "minunet tune needs Optuna" in (err := capsys.readouterr().err) and "[tune]" in err and err.count("\n") == 1

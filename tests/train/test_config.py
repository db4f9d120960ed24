"""config.toml, --quiet, what checkpoints hold, and what is refused in both, by file and field."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import make_data
from helpers.training import go, history, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import minunet
from minunet.data import LAYOUTS, NORMALISATIONS, TARGETS, TRUTHS, SyntheticCells
from minunet.data.mask_scan import MASK_KINDS
from minunet.errors import UserError
from minunet.models import ARCHITECTURES, OPTIONS, UNetOptions
from minunet.models.encoders import ENCODERS
from minunet.ops import named_loss
from minunet.optim import OPTIMIZERS, Schedule
from minunet.train import config, run_folder
from minunet.train.amp import KINDS
from minunet.train.arguments import FIELDS, from_checkpoint, parse
from minunet.train.callbacks import Callback
from minunet.train.command import main as train

FORMAT_1 = Path(__file__).with_name("format_1.safetensors")  # as it was written before settings were dataclasses
FIRST, SECOND = 1.31416, 1.37184  # train_loss of its epoch, and of the one that came after it then
SCORES = ("train_loss", "val_loss", "val_dice", "val_iou")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs, its data, and what it printed on the way."""
    folder = tmp_path_factory.mktemp("run")
    data = make_data(folder / "data", n=4)
    assert go(data, folder / "run", "-e", "2", "-v", "25", "--patience", "5", "--ema", "0.5") == 0
    return folder / "run"


def scores(out):
    return [[row[name] for name in SCORES] for row in history(out)]


# ---- the words, which stand where nothing heavy is loaded -------------------------------------------------------------


def test_words_are_those_of_what_they_stand_for():
    assert set(config.OPTIMIZER_NAMES) == OPTIMIZERS.keys() and Schedule.names == config.SCHEDULE_NAMES
    for loss in config.LOSS_NAMES:
        named_loss(loss, 1 if loss == "bce" else 2)
    assert FIELDS["amp"].metadata["choices"] == (*KINDS, None)
    assert (
        FIELDS["layout"].metadata["choices"] == ("auto", *LAYOUTS)
        and FIELDS["truth_kind"].metadata["choices"] == TRUTHS
    )
    assert FIELDS["normalise"].metadata["choices"] == NORMALISATIONS and FIELDS["target"].metadata["choices"] == TARGETS
    assert FIELDS["encoder"].metadata["choices"] == (*ENCODERS, None)
    assert FIELDS["masks"].metadata["choices"] == MASK_KINDS
    assert FIELDS["arch"].metadata["choices"] == tuple(OPTIONS) and OPTIONS.keys() == ARCHITECTURES.keys()


def test_the_options_of_a_network_are_its_constructor_s():
    import inspect

    taken = inspect.signature(minunet.UNet).parameters
    assert taken.keys() == UNetOptions().to_json().keys()
    defaults = {name: p.default for name, p in taken.items() if p.default is not p.empty}
    assert {name: UNetOptions().to_json()[name] for name in defaults} == defaults


def test_help_loads_nothing_heavy():
    code = (
        "import sys, minunet.train.command as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numba', 'scipy', 'matplotlib', 'skimage', 'safetensors', 'numpy') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


# ---- config.toml -----------------------------------------------------------------------------------------------------


def test_a_run_is_repeated_by_its_config(run, tmp_path):
    assert train(["--config", str(run / "config.toml"), "--out", str(tmp_path / "other")]) == 0
    assert scores(tmp_path / "other") == scores(run)
    ours, theirs = (load_file(f / "last.safetensors") for f in (run, tmp_path / "other"))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert (tmp_path / "other" / "config.toml").read_bytes() == (run / "config.toml").read_bytes()


def test_a_run_from_weights_is_repeated_too(run, tmp_path):
    data = run.parent / "data"
    flags = ["--data", str(data), "--crop", "16", "-e", "1", "-f", str(run / "best.safetensors")]
    assert train([*flags, "--out", str(tmp_path / "a")]) == 0
    assert train(["--config", str(tmp_path / "a" / "config.toml"), "--out", str(tmp_path / "b")]) == 0
    assert scores(tmp_path / "a") == scores(tmp_path / "b")


def test_a_run_that_went_on_is_repeated_from_its_beginning(run, tmp_path):
    """What only the beginning knew stays in its config.toml: the weights, the device; what is changed is written."""
    flags = ["--data", str(run.parent / "data"), "--crop", "16", "-e", "1", "-f", str(run / "best.safetensors")]
    assert train([*flags, "--device", "cpu", "--out", str(tmp_path / "a")]) == 0
    path = tmp_path / "a" / "config.toml"
    begun = path.read_text()
    assert f'load = "{run / "best.safetensors"}"' in begun and "base-width" not in begun and "epochs = 1" in begun
    resume = ["--resume", str(tmp_path / "a" / "last.safetensors"), "-e", "2"]
    assert train(resume) == 0
    assert path.read_text() == begun.replace("epochs = 1", "epochs = 2")
    path.write_text("epochs = ")  # damaged: what the checkpoint says
    assert train(resume) == 0 and "epochs = 2" in path.read_text()


def test_a_config_of_the_user_s_own_is_not_written_over(run, tmp_path, capsys):
    """Nor taken away by a run that fails."""
    mine = tmp_path / "config.toml"
    mine.write_text("# my own\nepochs = 1\n")
    flags = ["--config", str(mine), "--data", str(run.parent / "data"), "--out", str(tmp_path)]
    refused(capsys, train(flags), str(mine), "choose another --out")
    small = {"model": UNetOptions(base_width=1, depth=1), "crop": 16, "out": tmp_path}
    with pytest.raises(ZeroDivisionError):
        minunet.fit(SyntheticCells(2, size=32), callbacks=[Stumbles()], **small)
    assert mine.read_text() == "# my own\nepochs = 1\n"


class Stumbles(Callback):
    def on_start(self, trainer):
        raise ZeroDivisionError


def test_typed_flags_win_over_the_file_and_the_file_over_the_recipe(tmp_path):
    (tmp_path / "c.toml").write_text('recipe = "paper"\nbase-width = 8\nlearning-rate = 1\naugment = false\n')
    args, given = parse(["--config", str(tmp_path / "c.toml"), "-l", "0.5"])
    assert (args.base_width, args.learning_rate, args.augment, args.padding) == (8, 0.5, False, "valid")
    assert given == {"recipe", "base_width", "learning_rate", "augment"} and isinstance(args.learning_rate, float)
    assert args.epochs == 5 and parse(["--data", "x"])[0].epochs == 20


@pytest.mark.parametrize("text, words", [
    ("epochs = 0", "epochs = 0 is out of range: it must be at least 1"),
    ("epochs = true", "epochs = True is not a whole number"),
    ("scale = nan", "scale = nan is out of range"),
    ('optimizer = "adamm"', "optimizer = 'adamm' is unknown, choose one of adam"),
    ("learnin-rate = 1", "'learnin-rate' is no setting; did you mean learning-rate?"), ("batch_size = 2", "mean batch-size?"),
    ('out = "x"', "'out' is no setting"), ("[training]\nepochs = 1", "'training' is no setting"), ("epochs = ", "is no TOML"),
    ("data = 3", "data = 3 is not a text"), (r'val-files = "a\u0000"', r"val-files = 'a\x00' has a zero character"),
])  # fmt: skip
def test_what_a_file_may_not_say(tmp_path, capsys, text, words):
    path = tmp_path / "c.toml"
    path.write_text(text)
    refused(capsys, train(["--config", str(path)]), path, words)


@pytest.mark.parametrize("name", ["data", "load", "cache", "out", "resume", "val-files"])
def test_empty_names_are_refused(capsys, name):
    refused(capsys, train([f"--{name}", ""]), f"{name.replace('-', '_')}: '' is empty, and names no file or folder")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_a_path_that_is_no_utf_8_is_a_comment(tmp_path):
    """TOML cannot hold it; the rest of the file repeats the run, and --resume goes on with it."""
    data = make_data(tmp_path / "m\udcfc", n=4)
    assert go(data, tmp_path / "run", "-e", "1", "-q") == 0
    text = (tmp_path / "run" / "config.toml").read_text()
    assert f"# data = {tmp_path}/m\ufffd   is no UTF-8, and cannot stand here: give --data beside --config" in text
    args, given = parse(["--config", str(tmp_path / "run" / "config.toml")])
    assert args.data is None and "data" not in given and args.base_width == 2
    assert train(["--resume", str(tmp_path / "run" / "last.safetensors"), "-e", "2", "-q"]) == 0


def test_a_file_as_editors_on_windows_save_it(tmp_path):
    (tmp_path / "c.toml").write_text("epochs = 3\n", encoding="utf-8-sig")
    assert parse(["--config", str(tmp_path / "c.toml")])[0].epochs == 3


def test_a_file_that_is_none(tmp_path, capsys):
    refused(capsys, train(["--config", str(tmp_path / "none.toml")]), "none.toml", "cannot be read")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    refused(capsys, train(["--config", str(tmp_path / "bytes")]), "bytes", "is no TOML")


@settings(max_examples=30)
@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_comes_back_from_toml(text):
    import tomllib

    from minunet.train.config_file import toml

    assert tomllib.loads(toml("# t", [("g", {"data": text, "scale": 1e-05, "graph": True, "no": None})])) == {
        "data": text, "scale": 1e-05, "graph": True,
    }  # fmt: skip


def test_quiet_says_nothing_but_errors(tmp_path, capfd):
    data = make_data(tmp_path / "data", n=4)
    assert go(data, tmp_path / "run", "-e", "1", "-q", "-b", "1", "--threads", "1000") == 0
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "run" / "curves.png").exists()
    assert go(data, tmp_path / "run", "-e", "1", "-q") == 2
    out, err = capfd.readouterr()
    assert not out and err.startswith("error: ") and "holds a run already" in err


def test_patience_is_kept_when_a_run_goes_on(tmp_path, capsys):
    data = make_data(tmp_path / "data", n=4)
    assert go(data, tmp_path / "run", "-e", "30", "--patience", "2", "-l", "1e-30", "--no-augment") == 0
    n, path = len(history(tmp_path / "run")), str(tmp_path / "run" / "last.safetensors")
    assert n < 30 and "patience = 2" in (tmp_path / "run" / "config.toml").read_text()
    assert train(["--resume", path]) == 0 and len(history(tmp_path / "run")) == n
    assert train(["--resume", path, "--patience", "3"]) == 0 and len(history(tmp_path / "run")) > n


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def test_checkpoints_of_before_go_on_loading(tmp_path):
    """A file of format 1, written by the code of then: it segments, and its run goes on where it stood."""
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "last.safetensors"
    path.write_bytes(FORMAT_1.read_bytes())
    model = minunet.load(path)
    assert (model.architecture.base_width, model.architecture.depth, model.preprocessing.channels) == (1, 1, 1)
    data = make_data(tmp_path / "data", n=4)
    assert minunet.segment(model, minunet.data.read_image(data / "imgs" / "0.png")).shape == (21, 26)
    assert train(["--resume", str(path), "-e", "2", "--data", str(data)]) == 0
    found = [float(row["train_loss"]) for row in history(tmp_path / "run")]
    assert found == pytest.approx([FIRST, SECOND], rel=1e-5)


def test_amp_was_true_or_false_once(run, tmp_path):
    meta = described(run / "last.safetensors")
    for amp, value in ((False, None), (True, "fp16")):
        for part in ("arguments", "config"):
            meta["train"][part]["amp"] = amp
        path = rewritten(run / "last.safetensors", meta, tmp_path / "last.safetensors")
        assert train(["--resume", path, "-q"]) == 0  # it had ended
        file = run_folder.open_run(path)
        assert run_folder.stored_config(file, path).amp == value


def described(path):
    with safe_open(path, "np") as f:
        return json.loads(f.metadata()["minunet"])


def rewritten(path, meta, to):
    save_file(load_file(path), to, {"minunet": json.dumps(meta)})
    return str(to)


def leaves(value, path=()):
    """The path of every value in a description, of tables and lists too."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))


WRONG = [
    None, True, "a", "", -1, 0, 1, 1.5, 17, 1e9, 10**400, float("nan"), float("inf"), [], [[]], {},
    {"a": 1}, "border", "\x1b[31m", "\ud800", "x" * 5000, 10**9, False,
]  # fmt: skip
GONE = object()  # the value is left out


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_altered_description_is_refused_with_a_sentence_or_does(run, tmp_path_factory, data):
    """Any value of a checkpoint's description in place of any other, or none: loading and resuming do, or name the file."""
    from minunet.train import start
    from minunet.train.arguments import parse as parse_arguments

    meta = described(run / "last.safetensors")
    held = list(meta["train"]["images"]["validation"])
    where = data.draw(st.sampled_from([path for path in leaves(meta) if path]))
    inner = meta
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = data.draw(st.sampled_from([*WRONG, GONE]))
    if inner[where[-1]] is GONE:
        del inner[where[-1]]
    path = rewritten(run / "last.safetensors", meta, tmp_path_factory.mktemp("x") / "last.safetensors")
    try:
        minunet.load(path)
    except UserError as e:
        assert "last.safetensors" in str(e) and "\x1b" not in str(e)
    try:
        args, given_ = parse_arguments(["--resume", path, "-q"])
        with start.folder_of(args) as folder:
            start.start_from(args, given_, folder)
    except UserError as e:
        assert "last.safetensors" in str(e) and "\x1b" not in str(e)
    try:
        minunet.fit(minunet.data.open_dataset(run.parent / "data"), resume=path, validation=held, epochs=2)
    except UserError as e:
        assert str(e)


@pytest.mark.parametrize("where, value, words", [
    (("data", "scale"), "a", "data: scale: 'a' is not a number"),
    (("data", "scale"), float("nan"), "scale: nan is out of range"),
    (("data", "scale"), 1e9, "scale: 1000000000.0 is out of range: it must be above 0 and at most 16"),
    (("data", "target"), "border", "target 'border' of 2 classes has 3"), (("data", "classes", "rule"), "threshold", "do"),
    (("options", "depth"), 17, "options: depth: 17 is out of range"), (("options", "in_channels"), 3, "3 channels"),
    (("options", "more"), 3, "options: 'more' is unknown"), (("data", "tta"), 9, "tta: 9 is out of range"),
    (("arch",), "vnet", "arch: 'vnet' is unknown"), (("format",), 2, "update minunet"),
])  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(run, tmp_path, where, value, words):
    meta = described(run / "last.safetensors")
    inner = meta
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path = rewritten(run / "last.safetensors", meta, tmp_path / "x.safetensors")
    if words == "do":  # 0 and 255 go with it
        minunet.load(path)
        return
    with pytest.raises(UserError) as raised:
        minunet.load(path)
    assert path in str(raised.value) and words in str(raised.value)


@pytest.mark.parametrize("where, value, words", [
    (("arguments", "learning_rate"), "fast", "train.arguments: learning_rate: 'fast' is not a number"),
    (("arguments", "nobody"), 1, "train.arguments: 'nobody' is unknown"), (("state", "epoch"), 7, "is not a row for each of 7"),
    (("state", "step"), -1, "step: -1 is out of range"), (("state", "batch"), 1, "is not batch 1 of epoch 3"),
    (("schedule", "factor"), 0, "factor: 0"), (("optimizer_steps",), 10**9, "optimizer_steps: 1000000000"),
    (("state", "history", 0, "val_dice"), None, "is no row of scores"), (("state", "history", 0, "more"), 1.0, "lacks a score"),
])  # fmt: skip
def test_what_is_wrong_in_a_run_is_named(run, tmp_path, capsys, where, value, words):
    meta = described(run / "last.safetensors")
    inner = meta["train"]
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path = rewritten(run / "last.safetensors", meta, tmp_path / "x.safetensors")
    refused(capsys, train(["--resume", path, "-e", "3"]), path, words)


@pytest.mark.parametrize("name, value", [("base_width", 2**62), ("depth", 16), ("widths", [[], []])])
def test_no_memory_is_taken_for_what_a_file_does_not_hold(run, tmp_path, capsys, name, value):
    """The network of --resume and -f is made only if the file has the weights for it."""
    meta = described(run / "last.safetensors")
    meta["options"][name] = value
    path = rewritten(run / "last.safetensors", meta, tmp_path / "x.safetensors")
    for flags in (["--resume", path], ["-f", path, "--data", str(run.parent / "data"), "--out", str(tmp_path / "out")]):
        refused(capsys, train(flags), path, "its description of the network is damaged")


def test_a_run_of_other_classes_is_named(run, tmp_path, capsys):
    meta = described(run / "last.safetensors")
    meta["data"]["classes"]["names"][1] = "cells"
    path = rewritten(run / "last.safetensors", meta, tmp_path / "x.safetensors")
    refused(capsys, train(["--resume", path, "-e", "3"]), path, "are not the scores of 0 -> background, 255 -> cells")


def test_arguments_of_earlier_checkpoints_keep_their_meaning():
    assert from_checkpoint({"truth": "silver", "network": {}}, "last.safetensors").truth_kind == "silver"

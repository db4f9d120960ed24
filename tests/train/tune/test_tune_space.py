"""What a search draws from: the default space, TOML files, and the command of what was found."""

from dataclasses import replace

import pytest
from helpers.sizes import examples
from hypothesis import given as drawn_from
from hypothesis import strategies as st

optuna = pytest.importorskip("optuna", reason="needs the extra tune")

from helpers.searches import space_of  # noqa: E402

from minunet.errors import UserError  # noqa: E402
from minunet.models import options_of  # noqa: E402
from minunet.train.arguments import FIELDS, parse  # noqa: E402
from minunet.train.network import NETWORK_FLAGS, network_options  # noqa: E402
from minunet.train.tune import space as spaces  # noqa: E402
from minunet.train.tune.report import train_flags  # noqa: E402

ALL = {
    "arch": ["unet", "residual_unet", "unet_plus_plus", "nnunet"], "base_width": [4, 16], "depth": {"low": 2, "high": 5},
    "up": ["transpose", "bilinear"], "norm": ["batch", "group", "none"], "dropout": {"low": 0.0, "high": 0.5},
    "optimizer": ["adam", "sgd"], "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "momentum": {"low": 0.5, "high": 0.99}, "ema": [0.0, 0.99], "even_groups": [True, False], "augment": [True, False],
    "bent": [0.0, 0.5], "zoom": {"low": 1.0, "high": 2.0}, "batch_size": {"low": 1, "high": 16, "log": True},
}  # fmt: skip


def settings_from(space, args, seed):
    """Settings that a trial could have."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return spaces.draw(study.ask(), space, args)


def test_the_default_space_has_what_is_searched_and_the_default_is_in_it():
    space, args, given = space_of()
    asked = "learning_rate batch_size depth base_width loss optimizer bent arch"
    assert set(asked.split()) <= set(space)
    first = spaces.default_values(space, args, given)
    assert first["arch"] == "unet" and first["learning_rate"] == 1e-3 and first["base_width"] == 16
    assert all(spaces.why_no_values(name, values) is None for name, values in space.items())


@pytest.mark.parametrize(
    ("flags", "fixed"),
    [
        ("--lr 0.01 --loss ce", "learning_rate loss"),
        ("--arch segnet", "arch depth"),
        ("--encoder resnet18", "arch depth base_width"),
        ("--no-augment", "bent zoom"),
        ("-f nuclei", "arch depth base_width"),
        ("--target stardist", "loss"),
    ],
)
def test_what_is_typed_or_decided_is_not_searched(flags, fixed):
    space, _, _ = space_of(*flags.split())
    assert not set(fixed.split()) & set(space) and "batch_size" in space


def test_networks_without_an_option_that_is_typed_are_not_tried():
    space, _, _ = space_of("--norm", "group")
    assert space["arch"] == ["unet", "unet_plus_plus"]


@examples(60)
@drawn_from(st.integers(0, 10**6), st.booleans())
def test_settings_give_a_network_and_a_command_that_gives_them_again(seed, default):
    """Of every drawn trial: no option that its network lacks, and the command for `train` is parsed to its arguments."""
    space, args, given = (
        space_of("-e", "4", "--norm", "batch") if default else (ALL, *parse(["--data", "a b", "-e", "4"]))
    )
    chosen = settings_from(space, args, seed)
    args, given = replace(args, **chosen), given | set(chosen)
    assert not {n for n in chosen if n in NETWORK_FLAGS} - set(options_of(args.arch).own())
    network_options(args, given, 3, 2, None)
    again, typed = parse(train_flags(args, given))
    assert again == args and given <= typed | {n for n in given if getattr(args, n) == FIELDS[n].default}


def test_settings_that_have_no_effect_are_not_drawn():
    args, _ = parse(["--data", "x"])
    for seed in range(30):
        chosen = settings_from(ALL, args, seed)
        assert ("momentum" in chosen) == (chosen["optimizer"] == "sgd")
        assert ("bent" in chosen) == chosen["augment"] and ("zoom" in chosen) == bool(chosen.get("bent"))
        assert ("up" in chosen) == (chosen["arch"] in ("unet", "unet_plus_plus"))


def test_no_default_trial_where_the_space_leaves_it_out():
    args, given = parse(["--data", "x"])
    assert spaces.default_values({"batch_size": [8, 16]}, args, given) == {"batch_size": 8}
    assert spaces.default_values({"batch_size": [4, 16]}, args, given) is None
    assert spaces.default_values({"zoom": {"low": 1.5, "high": 2.0}}, args, given) is None


def test_a_file_of_a_space(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text('learning-rate = {low = 1e-4, high = 1, log = true}\narch = ["unet"]\nbatch_size = [4, 8]\n')
    found = spaces.read_space(path)
    assert list(found) == ["arch", "learning_rate", "batch_size"] and found["batch_size"] == [4, 8]
    assert found["learning_rate"] == {"low": 1e-4, "high": 1, "log": True}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = [1", "no TOML"),
        ("", "no setting to search"),
        ("lerning-rate = [1.0]", "'lerning-rate' cannot be searched; did you mean learning-rate?"),
        ("epochs = [1, 2]", "'epochs' cannot be searched"),
        ("depth = [2, 9]", "depth = 9 is out of range: it must be at least 1 and at most 8"),
        ("depth = {low = 0, high = 3}", "depth = 0 is out of range"),
        ("depth = {low = 2.5, high = 3}", "depth = 2.5 is not a whole number"),
        ("depth = {low = 3, high = 3}", "low must be below high"),
        ("depth = {low = 3}", "not both low and high"),
        ("depth = {low = 1, high = 3, step = 1}", "an unknown 'step'"),
        ("depth = {low = 1, high = 3, log = 1}", "log is true or false"),
        ("dropout = {low = 0, high = 0.5, log = true}", "low must be above 0 where log is true"),
        ('loss = ["ce", "mse"]', "loss = 'mse' is unknown, choose one of"),
        ("loss = {low = 1, high = 2}", "this is no number"),
        ("augment = {low = 0, high = 1}", "this is no number"),
        ("batch-size = []", "is empty"),
        ("batch-size = [4, 4]", "holds a value twice"),
        ("batch-size = 4", "neither a list of values nor a range"),
        ("seed = [1, 2]", "'seed' cannot be searched"),
    ],
)
def test_mistakes_in_a_file_are_named(text, says, tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UserError) as e:
        spaces.read_space(path)
    assert says in str(e.value) and str(path) in str(e.value)


def test_what_is_typed_is_not_in_the_file_too(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text("batch-size = [4, 8]")
    with pytest.raises(UserError, match="batch-size is also given as --batch-size"):
        spaces.read_space(path, {"batch_size"})
    with pytest.raises(UserError, match="cannot be read"):
        spaces.read_space(tmp_path / "none.toml")

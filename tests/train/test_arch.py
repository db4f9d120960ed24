"""`train --arch`: networks by name with their own options, what is refused, and how a run is resumed, repeated and loaded."""

import pytest
from helpers.datasets import make_data
from helpers.training import refused

import minunet
from minunet.checkpoint.load import read_checkpoint
from minunet.train.arguments import Arguments
from minunet.train.command import main as train
from minunet.train.network import network_options


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("arch"), n=4)


def go(data, out, *flags):
    return train(["--data", str(data), "--out", str(out), "--crop", "16", "-b", "4", "-v", "25", *flags])


def architecture(out):
    return read_checkpoint(out / "last.safetensors").architecture


def test_a_run_by_name(data, tmp_path, capsys):
    """Its options are kept, a run goes on, its config.toml repeats it, and its weights can be trained on."""
    run, flags = (
        tmp_path / "run",
        ["--arch", "r2_unet", "--base-width", "2", "--arch-options", "steps=1", "separate=true"],
    )
    assert go(data, run, *flags, "--depth", "2", "-e", "1") == 0
    assert "network     r2_unet, " in capsys.readouterr().out
    made = architecture(run)
    assert made == minunet.models.OPTIONS["r2_unet"](made.in_channels, 2, 0, 2, 2, 1, True)
    text = (run / "config.toml").read_text()
    assert (
        'arch = "r2_unet"' in text and 'arch-options = ["steps=1", "separate=true"]' in text and "\nup = " not in text
    )
    assert train(["--resume", str(run / "last.safetensors"), "-e", "2"]) == 0
    assert train(["--config", str(run / "config.toml"), "--out", str(tmp_path / "again"), "-e", "1"]) == 0
    assert architecture(tmp_path / "again") == architecture(run) == made
    assert go(data, tmp_path / "on", "-f", str(run / "best.safetensors"), "-e", "1") == 0
    assert architecture(tmp_path / "on") == made


def test_defaults_are_the_architecture_s():
    """Of the flags only those that are given are used, and the base width, which is narrower than the papers'."""
    options = network_options(Arguments(arch="residual_unet"), set(), 3, 2, None)
    assert (options.base_width, options.depth) == (16, 3)
    options = network_options(Arguments(arch="residual_unet", depth=2), {"depth"}, 3, 2, None)
    assert (options.base_width, options.depth, options.in_channels) == (16, 2, 3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--arch", "residual_unet", "--up", "nearest"],
            "--up: residual_unet has no option 'up'; it has base_width, depth",
        ),
        (["--arch", "residual_unet", "--norm", "group"], "--norm: residual_unet has no option"),
        (
            ["--arch", "r2_unet", "--arch-options", "step=3"],
            "--arch-options: r2_unet has no option 'step'; did you mean steps?",
        ),
        (["--arch", "r2_unet", "--arch-options", "steps=many"], "steps: 'many' is no int"),
        (["--arch", "r2_unet", "--arch-options", "separate"], "write NAME=VALUE"),
        (["--arch", "residual_unet", "--recipe", "paper"], "--recipe paper is the U-Net's"),
        (
            ["--arch", "attention_unet", "--arch-options", "gates=upsampled", "--crop", "24"],
            "24 pixels do not fit, 32 do",
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_an_architecture_does_not_know(data, tmp_path, capsys, flags, words):
    refused(capsys, go(data, tmp_path / "run", *flags), words)


def test_another_architecture_than_the_file_s(data, tmp_path, capsys):
    assert go(data, tmp_path / "run", "--arch", "se_unet", "--base-width", "2", "--depth", "1", "-e", "1") == 0
    load = ["-f", str(tmp_path / "run" / "best.safetensors"), "--arch", "unet"]
    refused(capsys, go(data, tmp_path / "other", *load), "holds a network of the kind se_unet, not unet")

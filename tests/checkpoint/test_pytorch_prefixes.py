"""Prefixes, wrappers and types of numbers in other people's checkpoints: taken off, left out and said so."""

import argparse
import collections
import datetime
import io
import json
import pathlib
import pickle
import random
import types

import numpy as np
import pytest

import minunet
from minunet.checkpoint.pytorch.pickles import read_pickle
from minunet.checkpoint.pytorch.state import find_state, without_prefixes
from minunet.errors import UserError

FIRST = "inc.double_conv.0.weight"

torch = pytest.importorskip("torch", reason="PyTorch, which writes these files, is not installed: pip install torch")
from helpers.pytorch_twins import TwinUNet, outputs, randomise  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


@pytest.fixture(scope="module")
def twin():
    return randomise(TwinUNet(1, 2))


def same(path, twin, lines, atol=1e-5):
    model = minunet.load_torch(path, report=lines.append)
    x = np.random.default_rng(1).random((1, 16, 16, 1), dtype=np.float32)
    truth = outputs(twin, x)
    np.testing.assert_allclose(model(x), truth, rtol=0, atol=atol * abs(truth).max())


PREFIXES = ["net.", "module.model._orig_mod.", "_orig_mod.module.", "self.unet.", "model.module.net._orig_mod."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_any_order_and_depth(tmp_path, twin, prefix):
    state = {prefix + k: v for k, v in twin.state_dict().items()}
    lines = []
    torch.save({"state_dict": state, "epoch": 3, "optimizer_states": []}, tmp_path / "a.ckpt")
    same(tmp_path / "a.ckpt", twin, lines)
    assert any("weights are taken from state_dict" in line for line in lines) and any(
        "taken off its keys: " in n for n in lines
    )
    save_file({k: v.contiguous().clone() for k, v in state.items()}, tmp_path / "a.safetensors")
    same(tmp_path / "a.safetensors", twin, [])


def test_modules_that_are_compiled_one_by_one(tmp_path, twin):
    state = {
        k.replace("inc.", "inc._orig_mod.").replace("up1.", "up1.module."): v for k, v in twin.state_dict().items()
    }
    torch.save(state, tmp_path / "a.pth")
    same(tmp_path / "a.pth", twin, lines := [])
    assert any("_orig_mod., module." in line for line in lines)


def test_a_moving_average(tmp_path, twin):
    averaged = torch.optim.swa_utils.AveragedModel(twin)
    torch.save(averaged.state_dict(), tmp_path / "a.pth")
    same(tmp_path / "a.pth", twin, lines := [])
    assert any("left out, as no part of the network: n_averaged" in line for line in lines)


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_training_scripts_save_beside_the_weights_is_not_needed(tmp_path, twin, protocol):
    args = argparse.Namespace(lr=1e-3, out=pathlib.Path("runs"), sizes=(1, 2), inner=argparse.Namespace(a=[1]))
    beside = {
        "args": args, "hyper_parameters": {"args": args, "more": types.SimpleNamespace(b=2)}, "best": np.float64(0.9),
        "history": collections.defaultdict(list, loss=[np.float32(0.5)]), "milestones": collections.Counter([30, 60]),
        "when": datetime.datetime(2026, 1, 2), "numpy": np.random.RandomState(0).get_state(),
        "python": random.getstate(), "seen": {1, 2}, "device": torch.device("cpu"), "dtype": torch.float32,
        "mean": np.arange(3.0), "names": np.array(["a", "bc"]), "optimizer": torch.optim.Adam(twin.parameters()).state_dict(),
        "rng": torch.get_rng_state(), "mask_values": [np.int64(0), np.uint8(200)],
    }  # fmt: skip
    torch.save({"model": twin.state_dict(), **beside}, tmp_path / "a.pth", pickle_protocol=protocol)
    same(tmp_path / "a.pth", twin, [])
    assert minunet.load_torch(tmp_path / "a.pth", None).preprocessing.classes.values == [0, 200]


@pytest.mark.parametrize("code", ["f8", "f4", "f2", "i8", "u2", "i1", "b1", ">f8", ">i4", "<u8"])
@pytest.mark.parametrize("protocol", [2, 3, 5])
def test_numbers_of_numpy_are_read_as_they_are(code, protocol):
    number = np.ones(1, code)[0] if code == "b1" else np.array([77], code)[0]
    assert read_pickle(io.BytesIO(pickle.dumps({"a": [number]}, protocol))) == {"a": [number.item()]}


def test_bfloat16_and_half_in_safetensors(tmp_path, twin):
    for kind, atol in ((torch.bfloat16, 1e-5), (torch.float16, 1e-5)):
        state = {k: v.to(kind) if v.is_floating_point() else v for k, v in twin.state_dict().items()}
        save_file({f"model.{k}": v.contiguous() for k, v in state.items()}, tmp_path / "a.safetensors")
        rounded = TwinUNet(1, 2)
        rounded.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        same(tmp_path / "a.safetensors", rounded.eval(), [], atol)


def test_a_type_that_is_not_read_is_named(tmp_path):
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"xx")
    with pytest.raises(UserError, match=r"a is of type F8_E4M3, which is not read; save it as float32"):
        minunet.load_torch(tmp_path / "a.safetensors")


def test_two_networks_are_not_chosen_between(tmp_path, twin):
    state = twin.state_dict()
    torch.save({f"{who}.{k}": v for who in ("student", "teacher") for k, v in state.items()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"several networks, under the prefixes student\. and teacher\."):
        minunet.load_torch(tmp_path / "a.pth", report=None)
    torch.save({"model": state, "model_ema": {k: v * 0 for k, v in state.items()}}, tmp_path / "b.pth")
    same(tmp_path / "b.pth", twin, lines := [])
    assert any("other weights in it are left out: model_ema" in line for line in lines)


def test_what_lies_beside_the_network():
    found = without_prefixes({f"model.{FIRST}": 1, "loss.weight": 2, "metric.total": 3, "metric.n": 4, "metric.m": 5})
    assert found[0] == {FIRST: 1} and "loss.weight, metric.total, metric.n and 1 more" in found[1][1]
    assert find_state({"a": {"b": {"mask_values": [0, 1], FIRST: 1}}}) == (
        {FIRST: 1},
        [0, 1],
        ["its weights are taken from a.b"],
    )
    assert without_prefixes({FIRST: 1, "other": 2}) == ({FIRST: 1, "other": 2}, [])  # refused later, by name

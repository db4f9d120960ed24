"""The tensors of a network among what other people's files hold: under wrappers, and under keys with prefixes.

`torch.compile`, `DataParallel`, `AveragedModel` and modules that keep the network as an attribute (Lightning's self.model) put
names before its keys, in any order and depth; training scripts put the tensors into a dictionary under a key of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .layout import STYLES
from .pickles import Refused

WRAPPERS = (
    *(
        "state_dict",
        "model_state_dict",
        "model",
        "net",
        "network",
        "unet",
        "weights",
        "params",
        "module",
        "model_state",
    ),
    *("ema_state_dict", "model_ema", "state_dict_ema", "params_ema", "ema"),
)  # keys of weights in other people's files, in the order in which one is preferred
INSIDE = (
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
)  # parts of keys that wrappers add
COUNTERS = ("n_averaged",)  # of torch.optim.swa_utils.AveragedModel
SMP_FIRST = (
    "encoder.conv1.weight",
    "encoder.features.0.weight",
    "encoder.features.0.0.weight",
)  # ResNet, VGG, MobileNetV2
FIRST = (*(f"{style['inc']}.0.weight" for style in STYLES), *SMP_FIRST)  # how the first key of a network ends
MASK_VALUES = "mask_values"
MAX_DEPTH = 4  # of dictionaries


class State(NamedTuple):
    """The tensors of a network by PyTorch-UNet's keys; the mask values if there are any; and lines on what was taken off."""

    tensors: dict[str, Any]
    mask_values: Any
    notes: list[str]


def find_state(content: Any) -> State:
    """The network in the content of a file.

    Raises
    ------
    Refused
        If there is no dictionary of tensors by name, or more than one network in it.
    """
    found: list[tuple[str, dict]] = []
    mask_values = _search(content, "", 0, found)
    if not found:
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise Refused("it holds no dictionary of tensors by name; save model.state_dict() with PyTorch")
        found = [("", _unwrapped(content))]
    found.sort(key=lambda item: _preference(item[0]))
    name, state = found[0]
    notes = [f"its weights are taken from {name}"] * bool(name)
    if len(found) > 1:
        notes.append(
            f"other weights in it are left out: {', '.join(other or 'those at the top' for other, _ in found[1:])}"
        )
    state = {key: value for key, value in state.items() if key != MASK_VALUES}
    tensors, more = without_prefixes(state)
    return State(tensors, mask_values, notes + more)


def without_prefixes(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The tensors by PyTorch-UNet's keys, and lines on what was taken off; Refused if there are two networks."""
    notes = []
    bare: dict[str, Any] = {}
    for key, value in state.items():
        short = ".".join(part for part in key.split(".") if part not in INSIDE)
        if short in bare:
            raise Refused(f"it has the key {_shown(short)} twice, once behind {' or '.join(INSIDE[:2])}")
        bare[short] = value
    wrapped = sorted({part for key in state for part in key.split(".") if part in INSIDE})
    prefixes = sorted({key[: -len(first)] for key in bare for first in FIRST if key.endswith(first)})
    prefixes = [p for p in prefixes if not p or p.endswith(".")]
    if len(prefixes) > 1:
        told = " and ".join(_shown(p) or "none" for p in prefixes[:4])
        raise Refused(f"it holds several networks, under the prefixes {told}; save the one that is meant by itself")
    prefix = prefixes[0] if prefixes else ""
    if prefix or wrapped:
        stripped = [f"{part}." for part in wrapped] + [prefix] * bool(prefix)
        notes.append(f"taken off its keys: {', '.join(map(_shown, stripped))}")
    inside = {key.removeprefix(prefix): value for key, value in bare.items() if key.startswith(prefix)}
    tensors = {key: value for key, value in inside.items() if key not in COUNTERS}
    others = [key for key in bare if not key.startswith(prefix)] + [key for key in inside if key in COUNTERS]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        notes.append(f"left out, as no part of the network: {', '.join(map(_shown, others[:3]))}{more}")
    return tensors, notes


def _search(content: Any, name: str, depth: int, found: list[tuple[str, dict]]) -> Any:
    """Add the dictionaries that hold a network's first key to `found`; returns the mask values if there are any."""
    if not isinstance(content, dict) or depth > MAX_DEPTH:
        return None
    if any(isinstance(key, str) and _is_first(key) for key in content):
        if all(isinstance(key, str) for key in content):
            found.append((name, content))
        return content.get(MASK_VALUES)
    inner = [_search(v, f"{name}.{k}".lstrip("."), depth + 1, found) for k, v in content.items() if isinstance(k, str)]
    return content.get(MASK_VALUES) or next((values for values in inner if values is not None), None)


def _is_first(key: str) -> bool:
    return ".".join(part for part in key.split(".") if part not in INSIDE).endswith(FIRST)


def _unwrapped(content: dict) -> dict:
    """What lies under a known wrapper, for a message on its keys."""
    inner = [content[w] for w in WRAPPERS if isinstance(content.get(w), dict)]
    return {key: v for key, v in (inner[0] if inner else content).items() if isinstance(key, str)}


def _preference(name: str) -> tuple[int, int]:
    last = name.rpartition(".")[2]
    return (WRAPPERS.index(last) if last in WRAPPERS else -1 if not last else len(WRAPPERS)), len(name)


def _shown(key: str) -> str:
    return ascii(key)[1:-1][:60]

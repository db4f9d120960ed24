"""Files that claim to be checkpoints of PyTorch and would run code, waste memory, or are simply broken: each is refused in
one line, and nothing in them is run."""

import argparse
import collections
import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from helpers.pytorch_made import arrays, legacy, small_files, zipped

import minunet
from minunet.checkpoint.pytorch.layout import find_layout
from minunet.checkpoint.pytorch.pickles import Refused, read_pickle
from minunet.checkpoint.pytorch.save import pickle_state, torch_zip
from minunet.errors import UserError


def refused(tmp_path, content, *words, name="net.pth"):
    """Loading says one line that names the file and holds these words."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        minunet.load(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and len(message) < 600
    for word in words:
        assert word in message, message


def test_the_helpers_make_valid_files(tmp_path):
    (tmp_path / "net.pth").write_bytes(torch_zip(arrays()))
    minunet.load(tmp_path / "net.pth")
    content = arrays()
    storages = b"".join(struct.pack("<q", a.size) + a.tobytes() for a in content.values())
    (tmp_path / "old.pth").write_bytes(legacy(pickle_state(content), map(str, range(len(content))), storages))
    minunet.load(tmp_path / "old.pth")


# ---- code ------------------------------------------------------------------------------------------------------------


def through_reduce(function, *arguments):
    class Hostile:
        def __reduce__(self):
            return function, arguments

    return Hostile()


def dumped(value, protocol=2):
    return pickle.dumps({"inc.double_conv.0.weight": value}, protocol)


CODE = {
    "os.system": (dumped(through_reduce(__import__("os").system, "touch {}")), "posix.system"),
    "eval": (dumped(through_reduce(eval, "open('{}', 'w')")), "__builtin__.eval"),
    "exec, protocol 4": (dumped(through_reduce(exec, "open('{}', 'w')"), 4), "builtins.exec"),
    "getattr": (dumped(through_reduce(getattr, through_reduce(__import__, "os"), "system")), "getattr"),
    "import": (dumped(through_reduce(__import__, "os")), "__import__"),
    "partial": (b"\x80\x02cfunctools\npartial\ncos\nsystem\n\x85R.", "functools.partial"),
    "a loader in torch": (b"\x80\x02ctorch.storage\n_load_from_bytes\nX\x01\0\0\0a\x85R.", "torch.storage._load_from_bytes"),
    "torch.load": (b"\x80\x02ctorch\nload\nX\x01\0\0\0a\x85R.", "torch.load"),
    "numpy.load": (b"\x80\x02cnumpy\nload\nX\x01\0\0\0a\x85R.", "numpy.load"),
    "INST": (b"\x80\x02(X\x02\0\0\0lsios\nsystem\n.", "os.system"),
    "INST of a known name": (b"\x80\x02(icollections\nOrderedDict\n.", "makes objects"),
    "OBJ": (b"\x80\x02(cos\nsystem\nX\x02\0\0\0lso.", "os.system"),
    "OBJ of a known name": (b"\x80\x02(ccollections\nOrderedDict\no.", "OBJ"),
    "NEWOBJ": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
    "NEWOBJ_EX": (b"\x80\x04ccollections\nOrderedDict\n)}\x92.", "NEWOBJ_EX"),
    "a dotted attribute": (b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.", "OrderedDict.fromkeys"),
    "a dotted way to os": (b"\x80\x04\x8c\x0ctorch._utils\x8c\x16_rebuild_tensor.os.sys\x93.", "_rebuild_tensor.os.sys"),
    "a module's dot": (b"\x80\x04\x8c\x05torch\x8c\x19_utils._rebuild_tensor_v2\x93.", "torch._utils._rebuild_tensor_v2"),
    "a name that is no text": (b"\x80\x04K\x01K\x02\x93.", "no name"),
    "extension registry": (b"\x80\x02\x82\x01.", "EXT1"),
    "calls a type of numbers": (b"\x80\x02ctorch\nFloatStorage\n)R.", "no function"),
    "calls a text": (b"\x80\x02X\x02\0\0\0ls)R.", "no function"),
    "attributes of a list": (b"\x80\x02]}b.", "attributes"),
    "attributes of a type": (b"\x80\x02ctorch\nFloatStorage\n}b.", "attributes"),
    "a persistent id of a module": (b"\x80\x02(X\x06\0\0\0modulecos\nsystem\nX\x01\0\0\0atQ.", "os.system"),
    "a persistent id as text": (b"\x80\x02PX\n.", "PERSID"),
    "a whole model": (b"\x80\x02cunet.unet_model\nUNet\n)\x81.", "unet.unet_model.UNet"),
    "in the attributes of options": (dumped(argparse.Namespace(a=through_reduce(eval, "1"))), "eval"),
    "what options were made of": (b"\x80\x02cargparse\nNamespace\ncos\nsystem\n\x81.", "os.system"),
    "what makes missing values": (dumped(collections.defaultdict(__import__("os").getcwd)), "posix.getcwd"),
    "an array of objects": (dumped(np.array([through_reduce(eval, "1")], object)), "eval"),
    "a known kind's attribute": (b"\x80\x04\x8c\x08argparse\x8c\x12Namespace.__init__\x93.", "Namespace.__init__"),
    "a parser": (b"\x80\x02cargparse\nArgumentParser\n)\x81.", "argparse.ArgumentParser"),
    "calls what was made": (b"\x80\x02cargparse\nNamespace\n)\x81)R.", "no function"),
    "makes an object of a text": (b"\x80\x02X\x02\0\0\0ls)\x81.", "NEWOBJ"),
    "a set that is none": (b"\x80\x04](K\x01\x90.", "set"),
    "control characters": (b"\x80\x02cos\x1b[31m\nsystem\n.", "os\\x1b[31m.system"),
    "out-of-band buffers": (b"\x80\x05\x97.", "NEXT_BUFFER"),
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("container", ["zip", "legacy", "bare"])
def test_code_is_refused_by_its_name(tmp_path, name, container):
    data, word = CODE[name]
    ran = tmp_path / "ran"
    data = data.replace(b"{}", str(ran).encode())  # as long as it may be: it is not run
    refused(tmp_path, {"zip": zipped, "legacy": legacy, "bare": bytes}[container](data), word, "refused")
    assert not ran.exists()


def test_the_oldest_protocol_too(tmp_path):
    refused(tmp_path, b"cos\nsystem\n(S'ls'\ntR.", "os.system")
    refused(tmp_path, pickle.dumps(through_reduce(eval, "1"), 0), "eval")


# ---- numbers ---------------------------------------------------------------------------------------------------------


def number(n):
    raw = n.to_bytes((n.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tensor_pickle(size=4, offset=0, shape=(4,), strides=(1,), key="0", dtype="FloatStorage"):
    """A file's description with one tensor of such claims."""

    def text(t):
        return b"X" + struct.pack("<I", len(t)) + t.encode()

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = (
        b"(" + text("storage") + b"ctorch\n" + dtype.encode() + b"\n" + text(key) + text("cpu") + number(size) + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(shape) + numbers(strides)
    return b"\x80\x02}" + text("inc.double_conv.0.bias") + tensor + b"\x89}tRs."


HUGE = 1 << 62
CLAIMS = {
    "more than its storage": ({"shape": (5,)}, "reaches beyond"),
    "an offset beyond": ({"offset": 1}, "reaches beyond"),
    "a negative offset": ({"offset": -1}, "negative"),
    "strides beyond": ({"shape": (2, 2), "strides": (3, 1)}, "reaches beyond"),
    "negative strides": ({"strides": (-1,), "offset": 3}, "negative"),
    "a negative shape": ({"shape": (-4,)}, "negative"),
    "strides of 0 to multiply": ({"shape": (1 << 20, 1 << 20), "strides": (0, 0)}, "reaches beyond"),
    "a huge shape": ({"shape": (HUGE, HUGE), "strides": (0, 0)}, "reaches beyond"),
    "an absurd number": ({"shape": (1 << 900,), "strides": (0,)}, "absurdly large"),
    "a huge storage": ({"size": HUGE, "shape": (HUGE,)}, "keys are not those"),
    "strides of another length": ({"shape": (2, 2)}, "do not fit"),
    "too many dimensions": ({"shape": (1,) * 500, "strides": (1,) * 500}, "dimensions"),
    "a path as key": ({"key": "../../../etc/passwd"}, "keys are not those"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_that_cannot_be(tmp_path, name):
    claims, word = CLAIMS[name]
    refused(tmp_path, zipped(tensor_pickle(**claims), [("data/0", b"\0" * 16)]), word)


def test_storages_are_checked_before_they_are_read(tmp_path):
    """Whole networks, but their storages are too short, missing, compressed, or twice described."""
    good = arrays()
    key, first = "inc.double_conv.0.weight", good["inc.double_conv.0.weight"]
    pickled = pickle_state(good)
    storages = [(f"data/{n}", a.tobytes()) for n, a in enumerate(good.values())]
    refused(tmp_path, zipped(pickled, storages[1:]), "lacks data/0")
    refused(tmp_path, zipped(pickled, [("data/0", first.tobytes()[:-4]), *storages[1:]]), "data/0", f"{first.nbytes:,}")
    refused(tmp_path, zipped(pickled, [("data/0", b""), *storages[1:]]), "data/0")
    refused(tmp_path, zipped(pickled, storages, zipfile.ZIP_DEFLATED), "compressed")
    refused(tmp_path, zipped(pickle_state({**good, key: first.astype(np.int64)}), storages), "int64", key)
    refused(tmp_path, zipped(pickled, [*storages, ("byteorder", b"middle")]), "byte order")
    refused(tmp_path, zipped(pickled, [*storages, ("more/data.pkl", pickled)]), "2 files named data.pkl")
    refused(tmp_path, zipped(b"\x80\x02}.", storages), "no tensors at all")
    order = [str(n) for n in range(len(good))]
    raw = b"".join(struct.pack("<q", a.size) + a.tobytes() for a in good.values())
    refused(tmp_path, legacy(pickled, order, raw[:-1]), "cut short")
    refused(tmp_path, legacy(pickled, order, struct.pack("<q", HUGE) + raw[8:]), "cut short")
    refused(tmp_path, legacy(pickled, order, struct.pack("<q", -1) + raw[8:]), "cut short")
    refused(tmp_path, legacy(pickled, [*order, "99"], raw + bytes(8)), "cut short")
    refused(tmp_path, legacy(pickled, order[:-1], raw), "-1 numbers")
    refused(tmp_path, legacy(pickled, [1], raw), "list of storages")


def test_overlapping_tensors_do_not_multiply(tmp_path):
    """A thousand names for one storage take a thousand times its size, if one lets them."""
    good = arrays(base_width=32, depth=1)
    largest = max(good.values(), key=lambda a: a.size)
    shared = pickle_state(good)
    for n, a in enumerate(good.values()):  # all of them lie in storage 0, which is as large as the largest
        if a.dtype == np.float32:
            old = (
                b"X" + struct.pack("<I", len(str(n))) + str(n).encode() + b"X\x03\0\0\0cpuJ" + struct.pack("<i", a.size)
            )
            new = b"X\x01\0\0\0" + b"0" + b"X\x03\0\0\0cpuJ" + struct.pack("<i", largest.size)
            assert old in shared
            shared = shared.replace(old, new)
    counters = [(f"data/{n}", a.tobytes()) for n, a in enumerate(good.values()) if a.dtype == np.int64]
    refused(tmp_path, zipped(shared, [("data/0", largest.tobytes()), *counters]), "more than the")


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path):
    """Small files that would like to be large: at most a few MB are allocated for any of them."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(200_000_000))
    doubling = (
        b"\x80\x02]"
        + b"".join(b"q" + bytes([n]) + b"](h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(200))
        + b"."
    )
    cases = [
        bomb.getvalue(), zipped(doubling), zipped(b"\x80\x02B\xff\xff\xff\x7f"), zipped(b"\x80\x02X\xff\xff\xff\xffabc."),
        zipped(b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f."), zipped(b"\x80\x02Nr\xff\xff\xff\xff."),
        zipped(b"\x80\x02\x8b\xff\xff\xff\x7f."), legacy(b"\x80\x02X\xff\xff\xff\xffabc."),
        zipped(tensor_pickle(HUGE, shape=(HUGE,))), legacy(tensor_pickle(HUGE, shape=(HUGE,)), ["0"], bytes(8)),
        zipped(b"\x80\x02" + b"}" * 210_000), zipped(b"\x80\x02" + b"(" * 90_000 + b"t" * 90_000 + b"."),
    ]  # fmt: skip
    for content in cases:
        tracemalloc.start()
        refused(tmp_path, content)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40e6, (content[:80], peak)


def test_values_nested_in_themselves(tmp_path):
    """mask_values = v with v = [v, v]: not followed, and not taken."""
    good = arrays()
    pickled = pickle_state({**good, "mask_values": []})
    assert pickled.endswith(b"](eu.")
    storages = [(f"data/{n}", a.tobytes()) for n, a in enumerate(good.values())]
    for n in (2, 3):
        (tmp_path / "net.pth").write_bytes(zipped(pickled[:-5] + b"]q\0(" + n * b"h\0" + b"eu.", storages))
        assert minunet.load(tmp_path / "net.pth").preprocessing.classes.values == [0, 255]
    (tmp_path / "net.pth").write_bytes(zipped(pickled[:-5] + b"]q\0(](h\0h\0h\0e](h\0h\0h\0eeu.", storages))
    assert minunet.load(tmp_path / "net.pth").preprocessing.classes.values == [0, 255]


def test_many_keys_that_look_right_at_first():
    """Refused in no time."""
    shapes = {f"down{n}.x": (1,) for n in range(1, 200_000)} | {"inc.x": (1,)}
    with pytest.raises(Refused, match="lacks the key inc"):
        find_layout(shapes)


# ---- layouts ---------------------------------------------------------------------------------------------------------


def test_missing_surplus_and_misfitting_keys_are_named(tmp_path):
    good = arrays()
    refused(tmp_path, torch_zip({k: v for k, v in good.items() if k != "up2.up.bias"}), "lacks the key up2.up.bias")
    without = {k: v for k, v in good.items() if ".1.running" not in k}
    refused(tmp_path, torch_zip(without), "inc.double_conv.1.running_mean", "and 9 more")
    refused(tmp_path, torch_zip({**good, "attention.weight": np.zeros(3, np.float32)}), "has the key attention.weight")
    refused(tmp_path, torch_zip({k: v for k, v in good.items() if "down2.maxpool_conv.1.double_conv.3" not in k}),
            "down2.maxpool_conv.1.double_conv.3.weight")  # fmt: skip
    refused(tmp_path, torch_zip({k: v for k, v in good.items() if not k.startswith("down1")}), "keys are not those")
    refused(tmp_path, torch_zip({**good, "epoch": [1, 2]}), "epoch", "no tensor")
    for key, shape in (("inc.double_conv.1.weight", (3,)), ("down1.maxpool_conv.1.double_conv.0.weight", (4, 3, 3, 3)),
                       ("outc.conv.weight", (2, 2, 3, 3)), ("up1.up.weight", (8, 5, 2, 2)),
                       ("inc.double_conv.0.weight", (2, 9)),
                       ("up2.conv.double_conv.0.weight", (2, 5, 3, 3)), ("outc.conv.weight", (0, 2, 1, 1))):  # fmt: skip
        found = {**good, key: np.zeros(shape, np.float32)}
        refused(tmp_path, torch_zip(found), "has the shape")
    refused(tmp_path, torch_zip({**good, "outc.conv.bias": np.full(2, np.nan, np.float32)}), "not finite")
    many = {
        **good,
        "outc.conv.weight": np.zeros((257, 2, 1, 1), np.float32),
        "outc.conv.bias": np.zeros(257, np.float32),
    }
    refused(tmp_path, torch_zip(many), "classes")


def test_widths_are_checked_before_a_network_is_made():
    """Every tensor is small, but a network of these widths would have 10^13 parameters."""
    shapes = {key: a.shape for key, a in arrays().items()}
    wide = {k: (10**6, 1, 1, 1) if len(s) == 4 else s for k, s in shapes.items()}
    with pytest.raises(Refused, match="must be"):
        find_layout(wide)


def test_things_that_are_not_checkpoints(tmp_path):
    for content in (
        b"",
        b"PK",
        b"PK\x03\x04",
        b"<!DOCTYPE html>",
        b"version https://git-lfs",
        bytes(100),
        b"\x80",
        b"\x80\x02.",
    ):
        refused(tmp_path, content)
    with pytest.raises(UserError, match="no such checkpoint"):
        minunet.load(tmp_path / "missing.pth")
    with pytest.raises(UserError, match=r"missing\.pth"):
        minunet.load_torch(tmp_path / "missing.pth")
    (tmp_path / "named.safetensors").write_bytes(torch_zip(arrays()))  # it is what it is, whatever it is called
    minunet.load(tmp_path / "named.safetensors")


# ---- at random -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [0, 1], ids=["zip", "legacy"])
def test_cut_anywhere(tmp_path, kind):
    whole = small_files()[kind]
    for n in np.linspace(0, len(whole) - 1, 120).astype(int):
        refused(tmp_path, whole[:n])


def mutated(content, rng):
    """A few bytes changed, a piece cut out, doubled, or exchanged with another."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, n = int(rng.integers(len(content))), int(rng.integers(1, 40))
        kind = rng.integers(5)
        if kind == 0:
            content[at] = rng.integers(256)
        elif kind == 1:
            content[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del content[at : at + n]
        elif kind == 3:
            content[at:at] = content[at : at + n]
        else:
            content[at : at + n] = rng.integers(0, 256, min(n, 8)).astype(np.uint8).tobytes()
    return bytes(content)


@pytest.mark.parametrize("kind", [0, 1], ids=["zip", "legacy"])
def test_mutated_files(tmp_path, kind):
    """A network or one line, whatever happens to the bytes, and never much memory."""
    whole, rng, path = small_files()[kind], np.random.default_rng(kind), tmp_path / "net.pth"
    results = {True: 0, False: 0}
    tracemalloc.start()
    for _ in range(250):
        path.write_bytes(mutated(whole, rng))
        try:
            minunet.load(path)
        except UserError as e:
            assert "\n" not in str(e)
            results[False] += 1
        else:
            results[True] += 1
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()
    assert min(results.values()) > 2, results


def test_mutated_descriptions():
    """The pickle alone, where mutations are not caught by checksums before it is read."""
    whole, rng = pickle_state(arrays(base_width=1, depth=1)), np.random.default_rng(5)
    for _ in range(400):
        try:
            content = read_pickle(io.BytesIO(mutated(whole, rng)))
            find_layout({key: t.shape for key, t in content.items()})
        except (Refused, ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError) as e:
            assert not isinstance(e, RecursionError)

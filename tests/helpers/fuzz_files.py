"""Sound small files of every kind that minunet reads, and ways to break them."""

import io
import json
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SHAPE = (24, 28)
RNG = np.random.default_rng(7)
GREY = np.kron(RNG.integers(0, 256, (6, 7), np.uint8), np.ones((4, 4), np.uint8))
RGB, RGBA = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]]), np.dstack([GREY] * 4)
DEEP = GREY.astype(np.uint16) * 150
CELLS = np.kron(np.arange(42).reshape(6, 7), np.ones((4, 4), int)).astype(np.uint16)


def pillow(array, kind, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def packed_tiff(array, bits):
    """An unsigned (H, W) or (H, W, 3) array as a TIFF of so many bits a number, in strips of 4 rows; cameras write 12."""
    single = array.reshape(len(array), -1, 1) >> np.arange(bits)[::-1] & 1
    packed = np.packbits(single.astype(np.uint8).reshape(len(array), -1), axis=1)
    if array.ndim == 3:  # three bytes a pixel stand in for three numbers; the header is corrected below
        packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 3))).reshape(len(array), -1, 3)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, packed, rowsperstrip=4, metadata=None)
    buffer.seek(0)
    with tifffile.TiffFile(buffer, mode="r+") as tiff:
        tags = tiff.pages[0].tags
        tags["ImageWidth"].overwrite(array.shape[1])
        tags["BitsPerSample"].overwrite(bits if array.ndim == 2 else (bits, bits, bits))
    return buffer.getvalue()


def images():
    """Every kind of image, by its ending: a list of sound files each."""
    stack = np.stack([GREY, GREY.T.reshape(SHAPE), GREY])
    pages = [Image.fromarray(page) for page in stack]
    lzw = pillow(GREY, "TIFF", compression="tiff_lzw", save_all=True, append_images=pages)
    return {
        "png": [
            pillow(GREY, "PNG"), pillow(RGB, "PNG"), pillow(RGBA, "PNG"), pillow(GREY, "PNG", "LA"), pillow(DEEP, "PNG"),
            pillow(GREY, "PNG", "1"), pillow(RGB, "PNG", "P"),
        ],
        "tif": [
            tiff(GREY), tiff(RGB), tiff(DEEP, byteorder=">"), tiff(GREY / np.float32(9)), tiff(stack, photometric="minisblack"),
            tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), tiff(DEEP, bigtiff=True),
            tiff(GREY, tile=(16, 16)), tiff(CELLS, compression="zlib"), tiff(stack, imagej=True),
            tiff(GREY, photometric="palette", colormap=np.arange(768, dtype=np.uint16).reshape(3, 256)),
            pillow(GREY, "TIFF", compression="tiff_lzw"), pillow(DEEP, "TIFF", compression="tiff_lzw"), lzw,
            pillow(RGB, "TIFF", compression="packbits"), pillow(GREY, "TIFF", "1", compression="group4"),
            pillow(RGB, "TIFF", compression="jpeg"), tiff(DEEP, metadata=None, rowsperstrip=5),
            packed_tiff(CELLS, 12), packed_tiff(RGB >> 4, 4),
        ],
        "jpg": [pillow(GREY, "JPEG"), pillow(RGB, "JPEG", progressive=True), pillow(RGB, "JPEG", "CMYK")],
        "bmp": [pillow(GREY, "BMP"), pillow(RGB, "BMP"), pillow(GREY, "BMP", "1")],
        "gif": [pillow(GREY, "GIF"), pillow(RGB, "GIF", "P")],
    }  # fmt: skip


def zarrs():
    """OME-Zarrs as both versions of the format have them, compressed and sharded: the files in each by their paths."""
    import numcodecs
    import zarr

    made = []
    for version, options in (
        (2, {"chunks": (1, 16, 16)}),  # Blosc
        (2, {"chunks": (1, 16, 16), "compressors": numcodecs.LZ4()}),
        (3, {"chunks": (1, 16, 16)}),  # Zstandard
        (3, {"chunks": (1, 8, 8), "shards": (1, 16, 16), "compressors": zarr.codecs.GzipCodec()}),
        (3, {"chunks": (1, 16, 16), "compressors": zarr.codecs.BloscCodec(cname="zlib")}),
        (3, {"chunks": (1, 8, 8), "shards": (1, 16, 16), "compressors": zarr.codecs.BloscCodec()}),
    ):
        with tempfile.TemporaryDirectory() as name:
            group = zarr.create_group(name, zarr_format=version)
            image = {"version": "0.4", "axes": [{"name": a} for a in "cyx"], "datasets": [{"path": "0"}]}
            group.attrs.update({"multiscales": [image]} if version == 2 else {"ome": {"multiscales": [image]}})
            array = group.create_array("0", shape=(3, *SHAPE), dtype=np.uint16, **options)
            array[...] = RGB.transpose(2, 0, 1)
            files = [path for path in sorted(Path(name).rglob("*")) if path.is_file()]
            made.append({path.relative_to(name).as_posix(): path.read_bytes() for path in files})
    return made


# ---- ways to break a file --------------------------------------------------------------------------------------------

TELLING = [0, 1, 2, 3, 7, 8, 16, 32, 64, 127, 128, 255, 256, 1000, 4096, 32767, 32768, 65535, 65536, 1 << 20, (1 << 24) - 1,
           (1 << 31) - 1, 1 << 31, (1 << 32) - 1]  # fmt: skip


def telling(rng, size):
    """A number that tends to break things, as so many bytes of either order."""
    value = TELLING[rng.integers(len(TELLING))] % (1 << 8 * size)
    return value.to_bytes(size, "big" if rng.integers(2) else "little")


def flip_bits(data, rng):
    for _ in range(rng.integers(1, 9)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return data


def flip_early(data, rng):
    """In the first bytes, where headers are."""
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(min(64, len(data)))] ^= 1 << rng.integers(8)
    return data


def write_numbers(data, rng):
    for _ in range(rng.integers(1, 4)):
        size = [1, 2, 4, 8][rng.integers(4)]
        at = rng.integers(max(1, min(len(data), 400) - size))
        data[at : at + size] = telling(rng, size)
    return data


def cut(data, rng):
    return data[: rng.integers(len(data) + 1)]


def remove(data, rng):
    at = rng.integers(len(data))
    del data[at : at + rng.integers(1, 64)]
    return data


def repeat(data, rng):
    at = rng.integers(len(data))
    return data[:at] + data[at : at + 100] * int(rng.integers(2, 20)) + data[at:]


def overwrite(data, rng):
    at = rng.integers(len(data))
    data[at : at + 64] = rng.bytes(min(64, len(data) - at))
    return data


def replace_all(data, rng):
    return bytearray(rng.bytes(rng.integers(300)))


def keep_signature(data, rng):
    return data[:8] + rng.bytes(rng.integers(300))


def raise_digits(data, rng):
    """In text, such as JSON: a digit becomes another, or a word or a sign is lost."""
    places = [i for i, byte in enumerate(data[:4000]) if chr(byte) in '0123456789"[]{}:,tfn']
    for i in [places[rng.integers(len(places))] for _ in range(rng.integers(1, 4))] if places else []:
        data[i] = ord("9") if chr(data[i]).isdigit() else rng.integers(32, 127)
    return data


def break_tag(data, rng):
    """Change type, count or value of a TIFF's tag."""
    if data[:4] not in (b"II*\0", b"MM\0*") or len(data) < 10:
        return write_numbers(data, rng)
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack(order + "I", data[4:8])
    if at + 2 > len(data):
        return data
    (tags,) = struct.unpack(order + "H", data[at : at + 2])
    for _ in range(rng.integers(1, 3)):
        entry = at + 2 + 12 * int(rng.integers(tags + 1))  # the last one is where the next page is
        field, size = [(0, 2), (2, 2), (4, 4), (8, 4), (8, 2), (8, 4)][rng.integers(6)]
        value = TELLING[rng.integers(len(TELLING))] % (1 << 8 * size)
        if entry + 12 <= len(data):
            data[entry + field : entry + field + size] = value.to_bytes(size, "little" if order == "<" else "big")
    return data


def break_chunk(data, rng):
    """Change a PNG's chunk and make its check sum right again."""
    if not data.startswith(b"\x89PNG") or len(data) < 20:
        return write_numbers(data, rng)
    chunks, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((at, size))
        at += 12 + size
    at, size = chunks[0] if rng.integers(2) else chunks[rng.integers(len(chunks))]
    for _ in range(rng.integers(1, 3)):
        place, width = at + 8 + int(rng.integers(max(size, 1))), [1, 4][rng.integers(2)]
        width = min(width, at + 8 + size - place)
        if width > 0:
            data[place : place + width] = telling(rng, width)
    data[at + 8 + size : at + 12 + size] = struct.pack(">I", zlib.crc32(data[at + 4 : at + 8 + size]))
    return data


def change_value(place, rng):
    """Another value, or none, somewhere in nested dicts and lists that came from JSON."""
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[rng.integers(len(keys))]
        inner = place[key]
        if not (isinstance(inner, (dict, list)) and inner) or rng.random() < 0.1:
            break
        place = inner
    values = [*TELLING, -1, 1e30, None, "", "x", [], {}, True, [0, 255], float("nan"), "valid", 0.5]
    place[key] = values[rng.integers(len(values))]
    if rng.random() < 0.1:
        del place[key]


def break_metadata(data, rng):
    """Change a value in a zarr's JSON."""
    try:
        found = json.loads(data)
    except ValueError:
        return raise_digits(data, rng)
    if not isinstance(found, dict) or not found:
        return data
    change_value(found, rng)
    return bytearray(json.dumps(found).encode())


def break_json(data, rng):
    """Change a value in a safetensors header, keeping the header sound."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
        meta = json.loads(header["__metadata__"]["minunet"])
    except (ValueError, KeyError, TypeError):
        return raise_digits(data, rng)
    if not meta:
        return data
    change_value(meta if rng.integers(4) else {"format": 1, "data": {"classes": []}}, rng)
    header["__metadata__"]["minunet"] = json.dumps(meta)
    text = json.dumps(header).encode()
    return bytearray(len(text).to_bytes(8, "little") + text + data[8 + size :])


def break_member(data, rng):
    """Break a file within a zip file, whose check sums then hold again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            members = {name: z.read(name) for name in z.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, zlib.error):
        return flip_bits(data, rng)
    name = list(members)[rng.integers(len(members))] if rng.integers(2) else next(iter(members), None)
    if name is not None and members[name]:
        how = [flip_bits, flip_early, write_numbers, cut, remove, repeat, overwrite][rng.integers(7)]
        members[name] = bytes(how(bytearray(members[name]), rng))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for member, content in members.items():
            z.writestr(member, content)
    return bytearray(buffer.getvalue())


BREAKS = [
    flip_bits,
    flip_early,
    write_numbers,
    cut,
    remove,
    repeat,
    overwrite,
    replace_all,
    keep_signature,
    break_tag,
    break_chunk,
]
BREAKS_OF_TEXT = [flip_bits, cut, remove, repeat, overwrite, raise_digits, break_json, break_json, break_json]
BREAKS_OF_METADATA = [*BREAKS_OF_TEXT[:6], *6 * [break_metadata]]
BREAKS_OF_ZIP = [flip_bits, cut, remove, overwrite, replace_all, *6 * [break_member]]

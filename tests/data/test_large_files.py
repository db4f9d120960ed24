"""Large images are read by windows as `read_image` reads them whole; what their files claim is checked."""

import bz2
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from helpers.zarr_files import write_zarr
from PIL import Image

from minunet.data import count_pages, read_image, read_info
from minunet.data.files.info import read_pages
from minunet.data.files.large import can_open, open_large
from minunet.data.files.lzw import is_sound
from minunet.errors import UserError

RNG = np.random.default_rng(0)
GREY, DEEP = RNG.integers(0, 255, (83, 70)).astype(np.uint8), RNG.integers(0, 60000, (83, 70, 3)).astype(np.uint16)
TIFFS = [
    (GREY, {}), (GREY, {"compression": "zlib"}), (GREY, {"tile": (16, 32)}), (DEEP, {"tile": (32, 16), "compression": "zlib"}),
    (DEEP, {"byteorder": ">"}), (DEEP, {"byteorder": ">", "rowsperstrip": 7, "compression": "zlib", "predictor": True}),
    (np.moveaxis(DEEP, -1, 0), {"planarconfig": "separate", "photometric": "rgb", "rowsperstrip": 9, "compression": "zlib"}),
    (np.moveaxis(DEEP, -1, 0), {"planarconfig": "separate", "photometric": "rgb"}), (GREY.astype(np.float64) / 7, {}),
    (GREY > 90, {}), (GREY, {"photometric": "palette", "colormap": RNG.integers(0, 65535, (3, 256)).astype(np.uint16)}),
    (GREY, {"compression": "lzw"}), (DEEP[..., [0, 1, 2, 2]], {"extrasamples": [2], "photometric": "rgb", "rowsperstrip": 5}),
]  # fmt: skip


@pytest.mark.parametrize("pixels, options", TIFFS, ids=lambda v: str(v) if isinstance(v, dict) else str(v.dtype))
def test_windows_of_tiffs(tmp_path, pixels, options):
    if options.get("compression") == "lzw" or options.get("predictor"):
        pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "x.tif", pixels, **options)
    whole, image = read_image(tmp_path / "x.tif"), open_large(tmp_path / "x.tif")
    assert image.shape == whole.shape and image.dtype == whole.dtype
    for _ in range(12):
        (r0, r1), (c0, c1) = (sorted(RNG.choice(n + 1, 2, replace=False)) for n in whole.shape[:2])
        part = image[r0:r1, c0:c1]
        assert part.dtype == whole.dtype and (part == whole[r0:r1, c0:c1]).all()


def test_numbers_of_a_header_are_numbers(tmp_path):
    """Bits (8, 8, 65535) reach us as a tuple, and "height times width times bits" as one of 2^31 entries and more."""
    tifffile.imwrite(tmp_path / "x.tif", DEEP.astype(np.uint8), photometric="rgb")
    with tifffile.TiffFile(tmp_path / "x.tif") as tiff:
        bits = tiff.pages[0].tags["BitsPerSample"].valueoffset
    content = bytearray((tmp_path / "x.tif").read_bytes())
    content[bits + 4 : bits + 6] = b"\xff\xff"
    (tmp_path / "x.tif").write_bytes(content)
    for read in (open_large, read_image):
        with pytest.raises(UserError, match=r"x\.tif: its bitspersample is \(8, 8, 65535\)"):
            read(tmp_path / "x.tif")


def test_strips_are_decoded_once_while_they_are_needed(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "x.tif", GREY, rowsperstrip=10, compression="zlib")
    image = open_large(tmp_path / "x.tif")
    image[0:40, 0:20]
    kept = dict(image.kept)
    image[0:40, 20:70]
    assert all(image.kept[i] is block for i, block in kept.items())
    monkeypatch.setattr("minunet.data.files.large_tiff.CACHE", 2000)
    image[40:83, 0:70]
    assert 2 <= len(image.kept) < 5 and sum(block.nbytes for block in image.kept.values()) <= 2000


def test_claims_are_checked(tmp_path):
    """Headers that claim more than the file can hold, cut files, and other kinds: one line, and no memory for the claim."""
    for compression in (None, "zlib"):
        path = tmp_path / f"{compression}.tif"
        tifffile.imwrite(path, GREY, compression=compression, metadata=None)
        whole = path.read_bytes()
        with tifffile.TiffFile(path) as tiff:
            place = tiff.pages[0].tags["ImageWidth"].valueoffset, tiff.pages[0].tags["ImageLength"].valueoffset
        for i, at in enumerate(place):
            damaged = bytearray(whole)
            damaged[at - 6 : at - 4] = (4).to_bytes(2, "little")  # a 32-bit value
            damaged[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
            (tmp_path / f"{i}.tif").write_bytes(damaged)
            with pytest.raises(UserError, match=r"claims|damaged"):
                open_large(tmp_path / f"{i}.tif")
        cut = tmp_path / "cut.tif"
        cut.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="cut"):
            open_large(cut)[0:83, 0:70]
    Image.fromarray(GREY).save(tmp_path / "x.png")
    assert not can_open(tmp_path / "x.png")
    with pytest.raises(UserError, match="only TIFF and OME-Zarr"):
        open_large(tmp_path / "x.png")
    nan = np.zeros((20, 20), np.float32)
    nan[3, 3] = np.inf
    tifffile.imwrite(tmp_path / "nan.tif", nan)
    with pytest.raises(UserError, match="infinity"):
        open_large(tmp_path / "nan.tif")[0:20, 0:20]


def pack(codes):
    """9-bit LZW codes as bytes."""
    bits = "".join(f"{code:09b}" for code in codes)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


@pytest.mark.parametrize("codes, sound", [
    ([256, 65, 66, 258, 260, 257], True), ([256, 65, 256, 66, 258, 257], True), ([256, 65, 66], True), ([256, 257], True),
    ([65, 66, 257], False), ([256, 258, 65, 257], False), ([256, 65, 259, 257], False), ([256, 65, 66, 261, 257], False),
    ([256, 65, 66, 256, 258, 257], False),
])  # fmt: skip
def test_lzw_codes_are_in_the_table(codes, sound):
    """The table by hand: after a clear one byte, then a code may be at most one more than the strings that were added."""
    assert is_sound(np.frombuffer(pack(codes), np.uint8)) == sound


def test_sound_lzw_of_every_width(tmp_path):
    """Tables that fill up and are cleared, written by libtiff."""
    for pixels in (RNG.integers(0, 255, (200, 300)), RNG.integers(0, 3, (300, 400)), np.zeros((400, 500))):
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "x.tif", compression="tiff_lzw")
        with tifffile.TiffFile(tmp_path / "x.tif") as tiff:
            page, whole = tiff.pages[0], (tmp_path / "x.tif").read_bytes()
        for offset, count in zip(page.dataoffsets, page.databytecounts):
            assert is_sound(np.frombuffer(whole[offset : offset + count], np.uint8))


def test_damaged_lzw_does_not_reach_the_decoder(tmp_path, monkeypatch):
    monkeypatch.setattr(tifffile.TiffPage, "decode", lambda *args, **options: pytest.fail("it was asked"))
    Image.fromarray(GREY).save(tmp_path / "x.tif", compression="tiff_lzw")
    with tifffile.TiffFile(tmp_path / "x.tif") as tiff:
        at = tiff.pages[0].dataoffsets[0]
    damaged = bytearray((tmp_path / "x.tif").read_bytes())
    damaged[at : at + 2] = pack([65, 66])[:2]
    (tmp_path / "x.tif").write_bytes(damaged)
    with pytest.raises(UserError, match="LZW"):
        open_large(tmp_path / "x.tif")


def test_a_decompressor_that_is_missing_is_named(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "x.tif", GREY, compression="zlib")

    def missing(*args, **options):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "decode", missing)
    with pytest.raises(UserError, match=r"pip install '.\[tiff\]'"):
        open_large(tmp_path / "x.tif")


@pytest.mark.parametrize("codec", ["blosc", "zstd"])
def test_claims_of_chunks_are_checked(tmp_path, codec):
    """A chunk that says it will fill the memory is not decompressed; sound chunks of blanks, however small, are."""
    zarr = pytest.importorskip("zarr", minversion="3")
    compressor = zarr.codecs.BloscCodec() if codec == "blosc" else zarr.codecs.ZstdCodec()
    array = zarr.create_array(
        str(tmp_path / "x"), shape=(2048, 2048), dtype="u1", chunks=(2048, 2048), compressors=compressor
    )
    array[...] = 7
    image = open_large(tmp_path / "x")
    assert (image[5:9, 7:2000] == 7).all()
    chunk = tmp_path / "x/c/0/0"
    data = bytearray(chunk.read_bytes())
    if codec == "blosc":
        data[4:8] = (2**31 - 100).to_bytes(4, "little")
    else:  # one segment, and its size in 8 bytes
        data[4:] = b"\xe0" + (1 << 40).to_bytes(8, "little") + bytes(20)
    chunk.write_bytes(data)
    with pytest.raises(UserError, match=r"c/0/0: claims [0-9,]+ bytes"):
        image[0:9, 0:9]


@pytest.fixture
def sharded(tmp_path):
    """Writes an array of 2 x 2 shards of 2 x 2 chunks, and opens it: pixels, image, the path of its first shard."""
    zarr = pytest.importorskip("zarr", minversion="3")

    def write(at="end", **options):
        options.setdefault("codecs", [zarr.codecs.BytesCodec(), zarr.codecs.BloscCodec()])
        codec = zarr.codecs.ShardingCodec(chunk_shape=(32, 32), index_location=at, **options)
        path = tmp_path / "x"
        array = zarr.create_array(
            str(path), shape=(128, 128), dtype="u1", chunks=(64, 64), serializer=codec, compressors=None, overwrite=True
        )
        array[...] = pixels = RNG.integers(0, 255, (128, 128)).astype(np.uint8)
        return pixels, open_large(path), path / "c/0/0"

    return write


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("side", [20, 64, 128])  # one chunk, a whole shard, all of them
def test_shards(sharded, at, side):
    """What Blosc's chunks in them say of their length is checked: the decompressor would read on behind them in memory."""
    pixels, image, shard = sharded(at)
    assert image.array.shards == (64, 64)
    assert (image[0:side, 0:side][..., 0] == pixels[:side, :side]).all()
    data = bytearray(shard.read_bytes())
    first = data.index(b"\x02\x01")  # versions of Blosc and of its compressor, where a chunk begins
    data[first + 12 : first + 16] = (1 << 30).to_bytes(4, "little")
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"c/0/0: a chunk of [0-9,]+ bytes lacks its end"):
        image[0:side, 0:side]


def test_shards_cut_off(sharded):
    _, image, shard = sharded()
    data = shard.read_bytes()
    for left in (data[:50], data[:-50], b""):
        shard.write_bytes(left)
        with pytest.raises(UserError):
            image[0:128, 0:128]


def test_shards_that_cannot_be_checked(sharded):
    zarr = pytest.importorskip("zarr", minversion="3")
    unusual = [zarr.codecs.BytesCodec(endian="big"), zarr.codecs.Crc32cCodec()]
    with pytest.raises(UserError, match="rewrite it"):
        sharded(index_codecs=unusual)
    pixels, image, _ = sharded(index_codecs=unusual, codecs=[zarr.codecs.BytesCodec(), zarr.codecs.GzipCodec()])
    assert (image[0:128, 0:100][..., 0] == pixels[:, :100]).all()


@pytest.mark.parametrize("at", ["start", "end"])
def test_a_check_sum_behind_a_chunk(sharded, at):
    zarr = pytest.importorskip("zarr", minversion="3")
    codecs = [zarr.codecs.BytesCodec(), zarr.codecs.BloscCodec(), zarr.codecs.Crc32cCodec()]
    pixels, image, shard = sharded(at, codecs=codecs)
    assert (image[0:128, 0:128][..., 0] == pixels).all()
    data = bytearray(shard.read_bytes())
    first = data.index(b"\x02\x01")
    data[first + 4 : first + 8] = (1 << 30).to_bytes(4, "little")
    shard.write_bytes(data)
    with pytest.raises(UserError, match="claims 1,073,741,824 bytes"):
        image[0:128, 0:128]


@pytest.mark.parametrize("codec, pack", [("zlib", zlib.compress), ("gzip", gzip.compress), ("bz2", bz2.compress),
                                         ("lzma", lzma.compress)])  # fmt: skip
def test_bombs_are_counted_piece_by_piece(codec, pack):
    from minunet.data.files.zarr_store import grows_beyond

    one = pack(bytes(3 << 20))
    assert grows_beyond((3 << 20) - 1, codec, one) and not grows_beyond(3 << 20, codec, one)
    assert not grows_beyond(3 << 20, codec, one[:-9]) and not grows_beyond(1, codec, b"no such thing")
    if codec != "zlib":  # of which a file has one stream
        assert grows_beyond(5 << 20, codec, one + one) and not grows_beyond(6 << 20, codec, one + one)


def test_a_chunk_that_is_a_bomb(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr", minversion="3")
    from minunet.data.files import zarr_store

    monkeypatch.setattr(zarr_store, "FREE", 1 << 20)
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(16, 16), dtype="u1", compressors=zarr.codecs.GzipCodec())
    array[...] = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert open_large(tmp_path / "a.zarr")[0:16, 0:16].max() == 255
    (chunk,) = (p for p in (tmp_path / "a.zarr").rglob("*") if p.is_file() and p.name != "zarr.json")
    chunk.write_bytes(gzip.compress(bytes(4 << 20)))
    with pytest.raises(UserError, match="a chunk becomes too large"):
        open_large(tmp_path / "a.zarr")[0:16, 0:16]


def test_pixels_that_look_like_a_frame(tmp_path):
    """What is not compressed may begin like Zstandard's, and claim what it likes."""
    array = pytest.importorskip("zarr", minversion="3").create_array(
        str(tmp_path / "x"), shape=(4, 8), dtype="u1", compressors=None
    )
    array[...] = pixels = np.frombuffer(b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 27, np.uint8).reshape(4, 8)
    assert (open_large(tmp_path / "x")[0:4, 0:8][..., 0] == pixels).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_error_in_a_forked_process(tmp_path):
    """There nobody runs zarr's loop, and nobody waits for it."""
    pytest.importorskip("zarr", minversion="3")
    image = open_large(write_zarr(tmp_path / "x.zarr", GREY, "yx", "0.5"))
    assert (image[0:9, 0:9][..., 0] == GREY[:9, :9]).all()
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            with image.store.settled():
                raise ValueError
        except ValueError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_cut_zarrs_are_one_line(tmp_path):
    """Nor does Python list, at its end, the chunks that were being read beside the damaged one."""
    array = pytest.importorskip("zarr", minversion="3").create_array(
        str(tmp_path / "x"), shape=(512, 512), dtype="u1", chunks=(32, 32)
    )
    array[...] = RNG.integers(0, 255, (512, 512))
    for chunk in ("0/3", "5/5"):
        path = tmp_path / "x/c" / chunk
        path.write_bytes(path.read_bytes()[:100])
    read = f"""
from minunet.data.files.large import open_large
from minunet.errors import UserError
try:
    open_large({str(tmp_path / "x")!r})[0:512, 0:512]
except UserError as e:
    print(e)
"""
    ran = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True)
    assert "damaged or cut off" in ran.stdout and not ran.stderr


def test_zarrs_run_no_code(tmp_path):
    """Codecs that unpickle are known to zarr; nothing of them is ever asked."""
    zarr = pytest.importorskip("zarr", minversion="3")
    array = zarr.create_array(str(tmp_path / "x"), shape=(4, 4), dtype="u1", zarr_format=2, compressors=None)
    array[...] = 7
    meta = json.loads((tmp_path / "x/.zarray").read_text())
    (tmp_path / "x/0.0").write_bytes(f"cpathlib\nPath.touch\n(cpathlib\nPath\n(V{tmp_path}/ran\ntRtR.".encode())
    for changed in ({"filters": [{"id": "pickle"}]}, {"compressor": {"id": "pickle"}},
                    {"dtype": "|O", "filters": [{"id": "pickle"}], "fill_value": None}):  # fmt: skip
        (tmp_path / "x/.zarray").write_text(json.dumps(meta | changed))
        with pytest.raises(UserError):
            open_large(tmp_path / "x")[0:4, 0:4]
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "cyx", "tczyx", "yxc"])
def test_windows_of_zarrs(tmp_path, version, axes):
    array = GREY if "c" not in axes else DEEP if axes == "yxc" else np.moveaxis(DEEP, -1, 0)
    stored = array[None, :, None] if axes == "tczyx" else array
    image = open_large(write_zarr(tmp_path / "x.ome.zarr", stored, axes, version))
    whole = GREY[..., None] if axes == "yx" else DEEP
    assert image.shape == whole.shape and image.dtype == whole.dtype
    assert (image[5:70, 20:69] == whole[5:70, 20:69]).all()


def test_time_and_slices_of_zarrs_are_images(tmp_path):
    stored = np.random.default_rng(1).integers(0, 256, (3, 2, 4, 40, 50), np.uint8)  # of four slices, three times
    path = write_zarr(tmp_path / "x.zarr", stored, "tczyx", "0.5")
    assert read_pages(path).page_axes == "TZ" and read_pages(path).page_shape == (3, 4) and count_pages(path) == 12
    image = open_large(path, 7)  # t = 1, z = 3
    assert image.shape == (40, 50, 2)
    assert (image[5:30, 20:45] == np.moveaxis(stored[1, :, 3, 5:30, 20:45], 0, -1)).all()
    with pytest.raises(UserError, match="12 images"):
        open_large(path)
    with pytest.raises(UserError, match="has no page 12"):
        open_large(path, 12)
    assert read_info(path, 0).kind == "8-bit 2 channels" and not read_info(path, 0).rgb
    assert open_large(path, 0, "CTZYX").shape == (40, 50, 3)  # as the user says
    with pytest.raises(UserError, match="--axes ZYX has 3 letters"):
        open_large(path, 0, "ZYX")


@pytest.mark.parametrize(
    ("shape", "names", "axes", "count", "size"),
    [
        ((5, 30, 40), None, None, 5, (30, 40, 1)),  # nothing is said: pages, as for any array
        ((30, 40, 3), None, None, 1, (30, 40, 3)),
        ((5, 30, 40), None, "CYX", 1, (30, 40, 5)),
        ((30, 40, 3), None, "ZYX", 30, (40, 3, 1)),
        ((30, 40), None, "ZYX", 1, (30, 40, 1)),
        ((30, 40, 5), ("y", "x", "channel"), None, 1, (30, 40, 5)),
        ((4, 30, 40), ("time", "y", "x"), None, 4, (30, 40, 1)),
    ],
)
def test_axes_of_zarr_arrays(tmp_path, shape, names, axes, count, size):
    zarr = pytest.importorskip("zarr", minversion="3")
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=shape, dtype="u2", dimension_names=names)
    array[...] = np.arange(np.prod(shape)).reshape(shape)
    pages = read_pages(tmp_path / "a.zarr", axes)
    image = open_large(tmp_path / "a.zarr", 0, axes)
    assert (pages.count, image.shape) == (count, size)
    assert pages.named == (count == 1 or names is not None or axes is not None)
    assert image[0:1, 1:2].ravel()[0] == (size[2] if image.division.axes[-1] in "CS" else 1)


def test_zarrs_of_several_images_say_where_they_are(tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    for name, said, words in (
        ("plate", {"plate": {"wells": [{"path": "A/1"}, {"path": "A/2"}]}}, "plate of 2 wells.*plate/A/1/0"),
        ("well", {"well": {"images": [{"path": "0"}]}}, "well of 1 images.*well/0"),
        ("series", {"bioformats2raw.layout": 3}, "series/0"),
        ("other", {"x": 1}, "without OME's multiscales"),
    ):
        zarr.create_group(str(tmp_path / name)).attrs.update({"ome": said})
        with pytest.raises(UserError, match=words):
            open_large(tmp_path / name)


def test_zarrs_that_are_no_image(tmp_path, monkeypatch):
    path = write_zarr(tmp_path / "zx.zarr", np.zeros((4, 20), np.uint8), "zx", "0.5")
    with pytest.raises(UserError, match="axes ZX and shape"):
        open_large(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_large(path)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=r"pip install '.\[zarr\]'"):
        open_large(path)

"""Large images: read by windows as `read_image` reads them whole, segmented into files as small ones are."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import roiread
from scipy.ndimage import find_objects

from minunet.checkpoint.file import save_checkpoint
from minunet.data import ClassMap, Preprocessing, read_image
from minunet.data.files.large import can_open, open_large
from minunet.data.files.lzw import is_sound
from minunet.errors import UserError
from minunet.models import UNetOptions, build
from minunet.predict import files, instance_files, pipeline
from minunet.predict.command import main as predict
from minunet.predict.instance_files import add_rois, new_rois, object_polygons
from minunet.predict.measure import measure
from minunet.predict.writers import new_tiff, new_zarr

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
    nan[3, 3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", nan)
    with pytest.raises(UserError, match="NaN"):
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
    with pytest.raises(UserError, match=r"pip install 'minunet\[tiff\]'"):
        open_large(tmp_path / "x.tif")


def write_zarr(path, array, axes, version):
    zarr = pytest.importorskip("zarr", minversion="3")
    group = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    image = {"version": version, "axes": [{"name": a} for a in axes], "datasets": [{"path": "full"}]}
    group.attrs.update({"multiscales": [image]} if version == "0.4" else {"ome": {"multiscales": [image]}})
    stored = group.create_array(
        "full", shape=array.shape, dtype=array.dtype, chunks=tuple(min(32, n) for n in array.shape)
    )
    stored[...] = array
    return path


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


def test_zarrs_that_are_no_image(tmp_path, monkeypatch):
    for axes, shape, words in (("zyx", (4, 20, 20), "flat image"), ("tyx", (2, 20, 20), "flat image")):
        path = write_zarr(tmp_path / f"{axes}.zarr", np.zeros(shape, np.uint8), axes, "0.5")
        with pytest.raises(UserError, match=words):
            open_large(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_large(path)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=r"pip install 'minunet\[zarr\]'"):
        open_large(path)


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint of a network that finds what is bright."""
    model = build(UNetOptions(in_channels=1, num_classes=2, base_width=2, depth=2, norm=None))
    for name, a in model.named_params().items():
        a[...] = abs(a) if name.endswith("w") else 0
    model.head.params["w"][...] = [[[[-1, 1], [-1, 1]]]]
    image = ((blobs() / 220)[None, ..., None]).astype(np.float32)
    model.head.params["b"][...] = np.array([1, -1]) * np.quantile(model(image)[..., 1], 0.8)
    path = tmp_path_factory.mktemp("model") / "x.safetensors"
    model.preprocessing = Preprocessing(1, ClassMap([0, 255], ["background", "cell"]), "range")
    save_checkpoint(path, model)
    return path


def blobs(H=150, W=131):
    y, x = np.mgrid[:H, :W]
    bright = np.zeros((H, W))
    for cy, cx, r in zip(RNG2.uniform(0, H, 25), RNG2.uniform(0, W, 25), RNG2.uniform(4, 8, 25)):
        bright = np.maximum(bright, np.clip(r - np.hypot(y - cy, x - cx), 0, 1))
    return (20 + 200 * bright).astype(np.uint8)


RNG2 = np.random.default_rng(1)


@pytest.fixture
def small_limits(monkeypatch):
    """As if images of some thousand pixels were large."""
    monkeypatch.setattr(files, "LARGE", 1000)
    monkeypatch.setattr(pipeline, "BLOCK", 50)
    monkeypatch.setattr(pipeline, "HALO", 16)
    monkeypatch.setattr(pipeline, "STRIP", 131 * 50)
    monkeypatch.setattr(pipeline, "OVERVIEW", 64)


def table(path):
    with open(path) as f:
        return [{k: float(v) for k, v in row.items() if k != "object"} for row in csv.DictReader(f)]


def test_streams_as_small_images_go(model, tmp_path, small_limits, capsys):
    """Masks, probabilities, objects and their table are those that the usual way gives, of a tiled TIFF and of an OME-Zarr."""
    image = blobs()
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 32), compression="zlib")
    write_zarr(tmp_path / "b.zarr", image, "yx", "0.4")
    flags = ["-m", str(model), "--instances", "--probabilities", "--min-size", "5", "--tta", "2"]
    assert predict([*flags, "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path / "whole"), "--tile", "0"]) == 0
    assert predict([*flags, "-i", str(tmp_path), "-o", str(tmp_path / "parts"), "--tile", "40"]) == 0
    assert "note" not in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "parts").iterdir()} == {
        "a_mask.tif", "a_labels.tif", "a_objects.csv", "a_overlay.png", "a_probabilities.tif",
        "b_mask.zarr", "b_labels.zarr", "b_objects.csv", "b_overlay.png", "b_probabilities.zarr",
    }  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    mask = np.asarray(Image.open(whole / "a_mask.png"))
    assert 0.1 < (mask > 0).mean() < 0.5
    p, labels = tifffile.imread(whole / "a_probabilities.tif"), tifffile.imread(whole / "a_labels.tif")
    assert labels.max() > 8
    for found in (tifffile.imread(parts / "a_mask.tif"), open_large(parts / "b_mask.zarr")[0:150, 0:131][..., 0]):
        assert found.dtype == np.uint8 and (found != mask).mean() < 1e-3
    for found in (tifffile.imread(parts / "a_probabilities.tif"),
                  np.moveaxis(open_large(parts / "b_probabilities.zarr")[0:150, 0:131], -1, 0)):  # fmt: skip
        assert abs(found - p).max() < 1e-5
    for found in (tifffile.imread(parts / "a_labels.tif"), open_large(parts / "b_labels.zarr")[0:150, 0:131][..., 0]):
        assert found.dtype == np.uint16
        pairs = {(a, b) for a, b in zip(labels.ravel().tolist(), found.ravel().tolist()) if a and b}
        assert len(pairs) == labels.max() == found.max()
    expected = sorted(table(whole / "a_objects.csv"), key=lambda row: row["centroid_x_px"])
    for name in "ab":
        rows = sorted(table(parts / f"{name}_objects.csv"), key=lambda row: row["centroid_x_px"])
        assert [r.keys() for r in rows] == [r.keys() for r in expected]
        assert all(abs(a[k] - b[k]) <= 1 for a, b in zip(rows, expected) for k in a)
        assert max(np.asarray(Image.open(parts / f"{name}_overlay.png")).shape) <= 64


def test_a_truth_is_not_overwritten_and_a_failure_leaves_nothing(model, tmp_path, small_limits, monkeypatch, capsys):
    tifffile.imwrite(tmp_path / "a.tif", blobs())
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path), "-n"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"a.tif"}
    (tmp_path / "a_mask.tif").write_bytes(b"truth")
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path)]) == 2
    assert "a_mask.tif" in capsys.readouterr().err and (tmp_path / "a_mask.tif").read_bytes() == b"truth"

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minunet.predict.writers.TiffWriter._write", full)
    out = tmp_path / "out"
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(out)]) == 2
    assert "No space left" in capsys.readouterr().err and not list(out.iterdir())


def outlines(labels):
    """The outlines of a whole label image's objects by their numbers."""
    return dict(object_polygons(labels, measure(labels, labels[..., None]).boxes, len(labels)))


def polygons(path):
    """The outlines in a file of ImageJ's ROI Manager, by what they hold: any corner first."""
    return sorted(sorted(map(tuple, roi.coordinates().tolist())) for roi in roiread(path))


@pytest.mark.parametrize("kind", ["tif", "zarr"])
def test_outlines_are_those_of_the_labels(model, tmp_path, small_limits, monkeypatch, capsys, kind):
    """Of objects within strips and across them; what is too large to look at is said."""
    image = blobs()
    image[5:145, 60:64] = 220
    if kind == "tif":
        tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 32))
    else:
        write_zarr(tmp_path / "a.zarr", image, "yx", "0.5")
    flags = ["-m", str(model), "-i", str(tmp_path / f"a.{kind}"), "--rois", "--min-size", "5", "--no-split"]
    assert predict([*flags, "-o", str(tmp_path / "out")]) == 0
    assert "note" not in capsys.readouterr().out
    read = tmp_path / f"out/a_labels.{kind}"
    labels = tifffile.imread(read) if kind == "tif" else open_large(read)[0:150, 0:131][..., 0]
    with new_rois(tmp_path / "expected.zip") as archive:
        add_rois(archive, outlines(labels).items())
    assert polygons(tmp_path / "out/a_rois.zip") == polygons(tmp_path / "expected.zip")
    spans = sorted((b[0].stop - b[0].start) * (b[1].stop - b[1].start) for b in find_objects(labels))
    assert len(spans) > 2 and spans[0] < spans[-1]
    monkeypatch.setattr(instance_files, "OUTLINED", spans[-1] - 1)
    assert predict([*flags, "-o", str(tmp_path / "less")]) == 0
    assert f"without the outlines of {spans.count(spans[-1])} objects" in capsys.readouterr().out
    assert len(polygons(tmp_path / "less/a_rois.zip")) == len(spans) - spans.count(spans[-1])


@pytest.mark.parametrize("new", [new_tiff, new_zarr])
def test_outlines_of_tall_objects(tmp_path, monkeypatch, new):
    """Of some that end in their strip, in the one below, and far below; those that are too large are left out."""
    labels = np.zeros((100, 40), np.uint32)
    labels[3:90, 2:6], labels[5:30, 8:30], labels[32:38, 9:20], labels[95:100, 0:40] = 1, 2, 3, 4
    labels[30:90, 20:38] = 5
    boxes = measure(labels, labels[..., None]).boxes
    monkeypatch.setattr(instance_files, "OUTLINED", 60 * 18 - 1)
    expected = outlines(labels)
    assert sorted(expected) == [1, 2, 3, 4]
    if new is new_zarr:
        pytest.importorskip("zarr", minversion="3")
    with new(tmp_path / "x", (100, 40), np.uint32) as store:
        store[0:100, 0:40] = labels
        found = dict(object_polygons(store, boxes, 20))
    assert found.keys() == expected.keys() and all((found[n] == expected[n]).all() for n in found)


def test_overviews_are_shown(model, tmp_path, small_limits, monkeypatch):
    shown = []
    monkeypatch.setattr("minunet.predict.images.show", lambda pictures, title: shown.extend(pictures))
    tifffile.imwrite(tmp_path / "a.tif", blobs())
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), "--viz"]) == 0
    assert (shown[0] == np.asarray(Image.open(tmp_path / "out/a_overlay.png"))).all() and max(shown[0].shape) <= 64


def test_many_objects_take_32_bits(model, tmp_path, small_limits, monkeypatch):
    each = lambda p, *rest, **more: 1 + np.arange(p[..., 0].size).reshape(p.shape[:2])  # noqa: E731
    monkeypatch.setattr(pipeline, "label_objects", each)
    flags = ["--instances", "--min-size", "0"]
    monkeypatch.setattr(pipeline, "HALO", 2)
    tifffile.imwrite(tmp_path / "a.tif", blobs(270, 260))
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), *flags]) == 0
    labels = tifffile.imread(tmp_path / "out" / "a_labels.tif")
    assert labels.dtype == np.uint32 and len(np.unique(labels)) == 270 * 260


def test_blending_is_noted(tmp_path, small_limits, capsys):
    grouped = build(UNetOptions(in_channels=1, num_classes=2, base_width=2, depth=2, norm="group"))
    grouped.preprocessing = Preprocessing(1, ClassMap([0, 255], ["background", "cell"]), "range")
    save_checkpoint(tmp_path / "m", grouped)
    tifffile.imwrite(tmp_path / "a.tif", blobs())
    Image.fromarray(blobs()).save(tmp_path / "b.png")
    for name in ("a.tif", "b.png"):
        flags = ["-m", str(tmp_path / "m"), "-i", str(tmp_path / name), "-o", str(tmp_path / "out"), "--tile", "64"]
        assert predict(flags) == 0
        assert "tiles are blended" in capsys.readouterr().out


def test_stacks_are_written_page_by_page(model, tmp_path, small_limits):
    tifffile.imwrite(tmp_path / "s.tif", np.stack([blobs(), blobs()]), photometric="minisblack")
    assert predict(["-m", str(model), "-i", str(tmp_path / "s.tif"), "-o", str(tmp_path / "out"), "--no-overlay"]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"s_000_mask.tif", "s_001_mask.tif"}


def test_stores(tmp_path):
    """Parts in any order, planes and samples; 32-bit offsets and 64-bit ones."""
    values = RNG.integers(0, 60000, (40, 30, 3)).astype(np.uint16)
    parts = [(slice(20, 40), slice(0, 30)), (slice(0, 20), slice(11, 30)), (slice(0, 20), slice(0, 11))]
    for planes, samples in ((3, 1), (1, 3)):
        path = Path(tmp_path / f"{planes}.tif")
        with new_tiff(path, (40, 30), np.uint16, planes, samples) as store:
            for part in parts:
                store[part] = values[part]
            assert (store[5:25, 3:20] == values[5:25, 3:20]).all()
            assert not path.exists()
        found = tifffile.imread(path)
        assert (found == (np.moveaxis(values, -1, 0) if planes > 1 else values)).all()
    with new_tiff(tmp_path / "gone.tif", (4, 3), np.uint8, keep=False) as store:
        store[0:4, 0:3] = np.ones((4, 3))
    assert not (tmp_path / "gone.tif").exists()

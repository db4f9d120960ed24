"""Reading files: every kind of image that people have, and every kind of broken one."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from helpers.fuzz_files import packed_tiff
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minunet.data import count_pages, read_image, read_info, read_mask, read_names
from minunet.data.files.images import read_indexed_mask
from minunet.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (11, 17), np.uint8)
RGB = RNG.integers(0, 256, (11, 17, 3), np.uint8)
RGBA = RNG.integers(0, 256, (11, 17, 4), np.uint8)
DEEP = RNG.integers(0, 65536, (11, 17), np.uint16)
BITS = GREY > 127


def expect(array):
    return array if array.ndim == 3 else array[..., None]


def save(path, array, **options):
    if path.suffix == ".tif" and not options:
        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "rgb"])
def test_eight_bits_come_back_exactly(tmp_path, ending, array):
    path = save(tmp_path / f"a.{ending}", array)
    assert np.array_equal(read_image(path), expect(array))
    info = read_info(path)
    assert (info.height, info.width, info.bands, info.jpeg) == (11, 17, expect(array).shape[-1], False)


@pytest.mark.parametrize("array", [RGBA, DEEP, RGB.astype(np.uint16) * 257, GREY.astype(np.float32) / 7])
def test_tiff_keeps_every_type(tmp_path, array):
    image = read_image(save(tmp_path / "a.tif", array))
    assert image.dtype == array.dtype and np.array_equal(image, expect(array))


@pytest.mark.parametrize("array", [RGBA, DEEP, RGBA[..., :2]], ids=["rgba", "16 bits", "grey with alpha"])
def test_png_keeps_alpha_and_sixteen_bits(tmp_path, array):
    image = read_image(save(tmp_path / "a.png", array))
    assert image.dtype == array.dtype and np.array_equal(image, expect(array))


def save_packed(path, array, bits):
    path.write_bytes(packed_tiff(array, bits))
    return path


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
@pytest.mark.parametrize("width", [16, 17])
def test_packed_tiff(tmp_path, bits, width):
    array = RNG.integers(0, 1 << bits, (11, width), np.uint16)
    image = read_image(save_packed(tmp_path / "a.tif", array, bits))
    assert image.dtype == (np.uint8 if bits < 8 else np.uint16) and np.array_equal(image[..., 0], array)
    assert read_info(tmp_path / "a.tif").kind == f"{bits}-bit grey"


def test_packed_tiff_in_colour(tmp_path):
    array = RNG.integers(0, 4096, (11, 16, 3), np.uint16)
    assert np.array_equal(read_image(save_packed(tmp_path / "a.tif", array, 12)), array)


def test_packed_tiff_cut_off(tmp_path):
    path = save_packed(tmp_path / "a.tif", RNG.integers(0, 4096, (11, 16), np.uint16), 12)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="cut off"):
        read_image(path)


def test_packed_tiff_that_claims_more_than_it_holds(tmp_path):
    path = save_packed(tmp_path / "a.tif", RNG.integers(0, 4096, (11, 16), np.uint16), 12)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(18)
    with pytest.raises(UserError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("array", [GREY, DEEP, RGB], ids=["grey", "16 bits", "rgb"])
def test_compressed_tiff(tmp_path, compression, array):
    path = save(tmp_path / "a.tif", array, compression=compression)
    image = read_image(path)
    assert image.dtype == array.dtype and np.array_equal(image, expect(array))


@pytest.mark.parametrize("array", [GREY, BITS], ids=["grey", "one bit"])
def test_white_is_zero_reads_alike_with_and_without_compression(tmp_path, array):
    for name, compression in (("plain", "raw"), ("lzw", "tiff_lzw")):
        Image.fromarray(array).save(tmp_path / f"{name}.tif", compression=compression, tiffinfo={262: 0})
    assert np.array_equal(read_mask(tmp_path / "plain.tif"), read_mask(tmp_path / "lzw.tif"))


def test_big_endian_tiff_is_read_in_native_order(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, byteorder=">")
    image = read_image(tmp_path / "a.tif")
    assert image.dtype.isnative and np.array_equal(image[..., 0], DEEP)


def test_planar_tiff_becomes_channels_last(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "a.tif"), RGB)


def test_jpeg_is_close(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
    path = save(tmp_path / "a.jpg", smooth, quality=95)
    assert read_info(path).jpeg
    assert np.abs(read_image(path)[..., 0].astype(int) - smooth).max() < 8


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_one_bit_is_0_255_as_image_and_0_1_as_mask(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(BITS).save(path)
    assert np.array_equal(read_image(path)[..., 0], BITS * np.uint8(255))
    assert np.array_equal(read_mask(path), BITS.astype(np.uint8))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_packed_grey_png_gives_its_numbers_as_a_mask(tmp_path, bits):
    numbers = np.arange(40).reshape(5, 8) % 2**bits
    packed = np.packbits((numbers[..., None] >> np.arange(bits)[::-1] & 1).reshape(5, -1).astype(np.uint8), axis=1)
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 5, bits, b"".join(b"\0" + row.tobytes() for row in packed)))
    assert np.array_equal(read_mask(path), numbers)
    assert np.array_equal(read_image(path)[..., 0], numbers * (255 // (2**bits - 1)))


def png(width, height, bits, rows):
    """The bytes of a grey PNG."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def palette_png(path, index, colours):
    image = Image.fromarray(index, "L").convert("L")
    image.putpalette(np.array(colours, np.uint8).ravel().tolist())
    image.save(path)
    return path


def test_palette_image_shows_its_colours(tmp_path):
    path = palette_png(tmp_path / "a.png", GREY % 3, [[0, 0, 0], [200, 0, 0], [0, 100, 0]])
    assert read_info(path).kind == "8-bit palette" and read_info(path).bands == 3
    assert np.array_equal(read_image(path)[..., 0], np.array([0, 200, 0])[GREY % 3])


def test_a_mask_with_a_palette_is_read_as_it_is_shown(tmp_path):
    index = GREY % 2
    coloured = palette_png(tmp_path / "voc.png", index, [[0, 0, 0], [128, 0, 0]])
    turned = palette_png(tmp_path / "turned.png", index, [[255, 255, 255], [0, 0, 0]])
    hidden = palette_png(tmp_path / "hidden.png", index, [[0, 0, 0], [0, 0, 0]])
    assert np.array_equal(read_mask(coloured), np.array([[0, 0, 0], [128, 0, 0]])[index])
    again = palette_png(tmp_path / "again.png", 1 - index, [[128, 0, 0], [0, 0, 0]])
    assert np.array_equal(read_mask(again), read_mask(coloured))  # another order of the palette
    pixels, colours = read_indexed_mask(coloured)
    assert np.array_equal(pixels, index) and np.array_equal(colours[pixels], read_mask(coloured))
    assert np.array_equal(read_mask(turned), 255 * (1 - index))
    assert np.array_equal(read_mask(hidden), index)  # only looks black


def test_mask_drops_alpha_and_grey_colours(tmp_path):
    mask = np.where(BITS, np.uint8(255), np.uint8(0))
    rgba = np.dstack([mask, mask, mask, np.full_like(mask, 9)])
    assert np.array_equal(read_mask(save(tmp_path / "a.png", rgba)), mask)
    assert np.array_equal(read_mask(save(tmp_path / "b.png", RGB)), RGB)
    assert np.array_equal(read_mask(save(tmp_path / "c.tif", BITS.astype(np.float32))), BITS)


def test_stack_pages(tmp_path):
    stack = RNG.integers(0, 256, (3, 9, 12), np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    assert count_pages(path) == 3 and count_pages(save(tmp_path / "a.png", GREY)) == 1
    assert np.array_equal(read_image(path, 2)[..., 0], stack[2])
    with pytest.raises(UserError, match=r"stack\.tif.*3 pages"):
        read_image(path)
    with pytest.raises(UserError, match=r"stack\.tif.*no page 3"):
        read_image(path, 3)
    Image.fromarray(stack[0]).save(
        tmp_path / "lzw.tif", save_all=True, append_images=[Image.fromarray(stack[1])], compression="tiff_lzw"
    )
    assert np.array_equal(read_image(tmp_path / "lzw.tif", 1)[..., 0], stack[1])


# ---- what is broken --------------------------------------------------------------------------------------------------


def png_bytes(array=GREY):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def tiff_bytes(array=GREY, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def claiming_tiff(width, height, compression=1):
    """A TIFF of about 100 bytes that claims a size."""
    tags = [(256, width), (257, height), (258, 8), (259, compression), (262, 1), (273, 8), (277, 1), (279, 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


def claiming_png(width, height):
    data = bytearray(png_bytes())
    data[16:24] = struct.pack(">II", width, height)
    import zlib

    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def counting_tiff(count):
    """A compressed TIFF whose strip claims so many bytes."""
    data = bytearray(tiff_bytes(GREY, compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        at = tiff.pages[0].tags["StripByteCounts"].valueoffset
    data[at : at + 4] = struct.pack("<I", count)
    return bytes(data)


def chunk_png(count):
    """A PNG with a chunk of pixels that claims so many bytes."""
    data = png_bytes()
    return data[:33] + struct.pack(">I", count) + b"IDAT" + data[33:]


def bare_png():
    """A PNG with a palette without a colour."""
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 3, 2, 8, 3, 0, 0, 0)
    rows = zlib.compress(bytes(2 * 4))
    chunks = chunk(b"IHDR", header), chunk(b"PLTE", b""), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BROKEN = {
    "empty.png": b"",
    "text.png": b"this is no image, however it is called\n",
    "text.tif": b"neither is this\n",
    "cut.png": png_bytes(RNG.integers(0, 256, (200, 200), np.uint8))[:3000],
    "header.png": png_bytes()[:20],
    "cut.tif": tiff_bytes(RGB)[:300],
    "magic.tif": b"II*\0",
    "cut.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "nan.tif": tiff_bytes(np.array([[0, np.nan]], np.float32)),
    "inf.tif": tiff_bytes(np.array([[0, np.inf]], np.float32)),
    "over.tif": tiff_bytes(np.array([[0, 1e300]])),
    "complex.tif": tiff_bytes(np.ones((4, 4), np.complex64)),
    "huge.tif": claiming_tiff(1 << 16, 1 << 15),
    "large.tif": claiming_tiff(10_000, 10_000, 8),
    "huge.png": claiming_png(60_000, 60_000),
    "large.png": claiming_png(10_000, 10_000),
    "count.tif": counting_tiff(1 << 31),
    "chunk.png": chunk_png((1 << 31) - 1),
    "palette.png": bare_png(),
    "volume.tif": tiff_bytes(np.zeros((16, 32, 32), np.uint8), volumetric=True, tile=(16, 16, 16)),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_broken_files_are_one_line_that_names_them(tmp_path, name, read, caplog, capfd):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with warnings.catch_warnings(), pytest.raises(UserError) as caught:
        warnings.simplefilter("error")
        read(path)
    assert name in str(caught.value) and "\n" not in str(caught.value) and ";" in str(caught.value)
    assert not caplog.records and capfd.readouterr() == ("", "")


def test_claims_are_refused_before_anything_is_allocated(tmp_path):
    import tracemalloc

    for name in ("huge.tif", "large.tif", "huge.png", "large.png", "count.tif", "chunk.png"):
        (tmp_path / name).write_bytes(BROKEN[name])
        tracemalloc.start()
        with pytest.raises(UserError, match=r"claims|cut off"):
            read_image(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 20e6
        tracemalloc.stop()


def test_missing_folder_and_fractions(tmp_path):
    with pytest.raises(UserError, match=r"gone\.png: no such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(UserError, match="is a folder"):
        read_info(tmp_path)
    with pytest.raises(UserError, match=r"soft\.tif.*fractions"):
        read_mask(save(tmp_path / "soft.tif", GREY / np.float32(255)))


def test_sixteen_bit_colour_png_is_not_read_as_eight(tmp_path):
    data = bytearray(png_bytes(RGB))
    data[24] = 16
    (tmp_path / "deep.png").write_bytes(data)
    import zlib

    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / "deep.png").write_bytes(data)
    with pytest.raises(UserError, match=r"deep\.png: 16-bit colour"):
        read_image(tmp_path / "deep.png")


@examples(60)
@given(st.sampled_from([png_bytes(), tiff_bytes(), claiming_tiff(9, 9)]), st.data())
def test_damaged_bytes_never_raise_anything_else(tmp_path_factory, good, data):
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.img"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(good)))])
    try:
        assert read_image(path).ndim == 3
        assert read_info(path).height > 0
    except UserError as error:
        assert "a.img" in str(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_pipes_devices_and_links_that_lead_nowhere(tmp_path):
    """Reading a pipe would wait for ever, and some devices never end."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    words = {
        "pipe": "a pipe or a device",
        "zero": "a pipe or a device",
        "loop": "symbolic links",
        "gone": "no such file",
    }
    for name, said in words.items():
        for read in (read_image, read_mask, read_info, count_pages):
            with pytest.raises(UserError, match=f"{name}.png.*{said}"):
                read(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match="is no list of names"):
        read_names(tmp_path / "zero.png")

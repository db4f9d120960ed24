"""Which numbers of a file are one image: axes, pages of several kinds, orientation, channels."""

import importlib.util
import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from minunet.data import count_pages, open_dataset, open_large, read_image, read_info, read_mask
from minunet.data.files.info import read_pages
from minunet.data.files.pixel_size import PixelSize
from minunet.errors import UserError

RNG = np.random.default_rng(3)
STACK = RNG.integers(0, 256, (3, 2, 21, 26), np.uint8)  # three images of two channels
GREY = STACK[:, 0]


def test_a_hyperstack_of_imagej_has_images_of_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "TCYX"})
    assert read_pages(tmp_path / "a.tif").axes == "TCYX" and count_pages(tmp_path / "a.tif") == 3
    for t in range(3):
        assert np.array_equal(read_image(tmp_path / "a.tif", t), np.moveaxis(STACK[t], 0, -1))
    assert read_info(tmp_path / "a.tif", 1).kind == "8-bit 2 channels"
    image = open_large(tmp_path / "a.tif", 2)
    assert np.array_equal(image[3:17, 5:20], np.moveaxis(STACK[2], 0, -1)[3:17, 5:20])


def test_slices_behind_a_single_directory_are_read(tmp_path):
    """As ImageJ writes stacks of more than 4 GB."""
    stack = RNG.integers(0, 60000, (4, 21, 26)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    assert count_pages(tmp_path / "a.tif") == 4
    assert (
        np.array_equal(read_image(tmp_path / "a.tif", 3)[..., 0], stack[3])
        and read_image(tmp_path / "a.tif", 0).dtype == "u2"
    )
    assert np.array_equal(open_large(tmp_path / "a.tif", 2)[2:9, 4:26][..., 0], stack[2, 2:9, 4:26])
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[:-600])
    with pytest.raises(UserError, match=r"a\.tif: claims 4 images but is too short"):
        read_image(tmp_path / "a.tif", 0)


@pytest.mark.parametrize(
    "how", [{"ome": True, "metadata": {"axes": "ZCYX"}}, {"metadata": {"axes": "ZCYX"}, "photometric": "minisblack"}]
)
def test_other_descriptions_of_axes(tmp_path, how):
    tifffile.imwrite(tmp_path / "a.tif", STACK, **how)
    assert count_pages(tmp_path / "a.tif") == 3
    assert np.array_equal(read_image(tmp_path / "a.tif", 1), np.moveaxis(STACK[1], 0, -1))


def test_a_volume_in_one_page(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, volumetric=True, photometric="minisblack")
    assert count_pages(tmp_path / "a.tif") == 3 and np.array_equal(read_image(tmp_path / "a.tif", 2)[..., 0], GREY[2])
    tifffile.imwrite(tmp_path / "b.tif", GREY, volumetric=True, photometric="minisblack", compression="zlib")
    assert np.array_equal(read_image(tmp_path / "b.tif", 1)[..., 0], GREY[1])


def test_reduced_copies_are_no_images_and_other_sizes_are(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(GREY[0], photometric="minisblack", metadata=None)
        tiff.write(GREY[0, ::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
        tiff.write(GREY[1, :9], photometric="minisblack", metadata=None)
    found = read_pages(tmp_path / "a.tif")
    assert found.count == 2 and any("1 reduced copy is left out" in n for n in found.notes)
    assert any("different sizes (26x21, 26x9)" in n for n in found.notes)
    assert np.array_equal(read_image(tmp_path / "a.tif", 1)[..., 0], GREY[1, :9])
    with tifffile.TiffWriter(tmp_path / "p.tif") as tiff:
        tiff.write(GREY[0], photometric="minisblack", subifds=1, metadata=None)
        tiff.write(GREY[0, ::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
    assert np.array_equal(read_image(tmp_path / "p.tif")[..., 0], GREY[0])


def test_frames_of_animations(tmp_path):
    pictures = [Image.fromarray(255 * (page > 99).astype(np.uint8)) for page in GREY]
    for ending in ("gif", "png"):
        pictures[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=pictures[1:], duration=40)
        assert count_pages(tmp_path / f"a.{ending}") == 3
        for n in range(3):
            assert np.array_equal(read_image(tmp_path / f"a.{ending}", n)[..., 0], 255 * (GREY[n] > 99))
        with pytest.raises(UserError, match="an animation of 3 frames"):
            read_image(tmp_path / f"a.{ending}")


def test_what_the_user_says_of_axes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="minisblack")
    assert count_pages(tmp_path / "a.tif") == 3 and not read_pages(tmp_path / "a.tif").named
    assert np.array_equal(read_image(tmp_path / "a.tif", axes="CYX"), np.moveaxis(GREY, 0, -1))
    assert np.array_equal(open_large(tmp_path / "a.tif", axes="CYX")[1:20, 3:9], np.moveaxis(GREY, 0, -1)[1:20, 3:9])
    assert np.array_equal(read_mask(tmp_path / "a.tif", 1, axes="ZCYX"), GREY[1])  # a mask has no channels
    with pytest.raises(UserError, match=r"--axes TZYX has 4 letters, the file has 3 axes"):
        read_image(tmp_path / "a.tif", axes="TZYX")
    with pytest.raises(UserError, match="axes: 'ZZX'"):
        open_dataset(tmp_path, axes="ZZX", layout="folder")
    last = RNG.integers(0, 256, (40, 50, 5), np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", last)  # the writer takes rows for pages
    with pytest.raises(UserError, match="give --axes YXC if the last axis counts channels, --axes ZYX"):
        read_image(tmp_path / "b.tif", 0)
    assert np.array_equal(read_image(tmp_path / "b.tif", axes="YXC"), last)
    colour = RNG.integers(0, 256, (21, 26, 3), np.uint8)
    tifffile.imwrite(tmp_path / "c.tif", colour, photometric="rgb")
    assert np.array_equal(read_image(tmp_path / "c.tif", axes="ZYX"), colour)  # its samples are told for certain


def test_arrays_of_numpy(tmp_path):
    np.save(tmp_path / "a.npy", GREY.astype(np.float64))
    np.save(tmp_path / "b.npy", RNG.integers(0, 9, (21, 26, 3)))
    assert count_pages(tmp_path / "a.npy") == 3 and read_image(tmp_path / "a.npy", 1).dtype == np.float32
    assert read_image(tmp_path / "b.npy").shape == (21, 26, 3) and read_image(tmp_path / "a.npy", axes="CYX").shape == (
        21,
        26,
        3,
    )
    np.save(tmp_path / "c.npy", np.array([{}, 1], object), allow_pickle=True)
    (tmp_path / "d.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-99])
    for name, text in (("c", "holds Python objects"), ("d", "damaged or cut off")):
        with pytest.raises(UserError, match=rf"{name}\.npy: {text}"):
            read_image(tmp_path / f"{name}.npy")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "lzw.tif", "deflate.tif", "tiles.tif"])
def test_orientation_of_images_and_masks(tmp_path, orientation, ending):
    """Pillow's way of turning an image upright is the reference."""
    from PIL import ImageOps

    stored = np.kron(RNG.integers(0, 2, (4, 6)), np.ones((16, 16), int)).astype(np.uint8) * 255
    exif, path = Image.Exif(), tmp_path / f"a.{ending}"
    exif[0x0112] = orientation
    kind = ending.partition(".")[0]
    if ending == "tiles.tif":
        extra = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, stored, tile=(32, 32), photometric="minisblack", extratags=extra, metadata=None)
    elif path.suffix == ".tif":
        compression = {"lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate"}.get(kind)
        Image.fromarray(stored).save(path, compression=compression, tiffinfo={274: orientation})
    else:
        Image.fromarray(stored).save(path, exif=exif.tobytes(), **({"quality": 100} if ending == "jpg" else {}))
    turned = Image.fromarray(stored)
    turned.getexif()[0x0112] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(turned))
    if ending == "jpg":
        assert np.array_equal(read_image(path)[..., 0] > 127, wanted > 127)
        return
    assert np.array_equal(read_image(path)[..., 0], wanted) and np.array_equal(read_mask(path), wanted)
    info = read_info(path)
    assert (info.height, info.width) == wanted.shape and info.turned == (orientation > 1)
    if path.suffix == ".tif" and ending != "lzw.tif":  # which is not read by windows without imagecodecs
        image = open_large(path)
        assert image.shape == (*wanted.shape, 1) and np.array_equal(image[5:60, 9:64][..., 0], wanted[5:60, 9:64])


def test_pixel_sizes(tmp_path):
    imagej = {"axes": "ZYX", "spacing": 1.5, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, resolution=(4.0, 2.0), metadata=imagej)
    assert read_pages(tmp_path / "a.tif").pixel == PixelSize(0.25, 0.5, "um", 1.5)
    ome = {
        "axes": "YX",
        "PhysicalSizeX": 90.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 90.0,
        "PhysicalSizeYUnit": "nm",
    }
    tifffile.imwrite(tmp_path / "b.tif", GREY[0], ome=True, metadata=ome)
    assert read_pages(tmp_path / "b.tif").pixel == PixelSize(90, 90, "nm")
    tifffile.imwrite(tmp_path / "c.tif", GREY[0], resolution=(20000, 20000), resolutionunit="CENTIMETER")
    assert read_pages(tmp_path / "c.tif").pixel == PixelSize(0.5, 0.5, "um")
    tifffile.imwrite(tmp_path / "d.tif", GREY[0], resolution=(300, 300), resolutionunit="INCH")  # a printer's
    assert read_pages(tmp_path / "d.tif").pixel is None


# ---- data sets -------------------------------------------------------------------------------------------------------


def make(path, images, masks, **how):
    for part, arrays in (("images", images), ("masks", masks)):
        (path / part).mkdir(parents=True, exist_ok=True)
        for i, array in enumerate(arrays):
            tifffile.imwrite(
                path / part / f"{i}.tif", array, photometric="minisblack", **(how if part == "images" else {})
            )
    return path


MASKS = (GREY > 127).astype(np.uint8) * 255


def test_stacks_with_stacks_of_masks(tmp_path):
    data = open_dataset(make(tmp_path, [GREY, GREY], [MASKS, MASKS], metadata={"axes": "TYX"}))
    assert data.names[:4] == ["0_000", "0_001", "0_002", "1_000"] and len(data) == 6 and data.ordered
    assert data.split(20) == ([0, 1, 2, 3, 4], [5])  # the last ones, not near copies of those that are trained on
    assert np.array_equal(data[4].labels, MASKS[1] > 0) and "2 of axis T: each page is an image" in data.describe()


def test_pages_or_channels_is_asked_where_the_masks_tell_nothing(tmp_path):
    path = make(tmp_path, [GREY, GREY], [MASKS[0], MASKS[1]])
    with pytest.raises(UserError, match=r"holds 3 pages, its mask one; .* give --axes CYX"):
        open_dataset(path)
    data = open_dataset(path, axes="CYX")
    assert len(data) == 2 and data.channels == 3 and data[0].image.shape == (21, 26, 3)
    (path / "masks" / "1.tif").unlink()
    tifffile.imwrite(path / "masks" / "1.tif", MASKS[:2], photometric="minisblack")
    with pytest.raises(UserError, match=r"has 1 images \(axes CYX\), its mask .*1\.tif has 2"):
        open_dataset(path, axes="CYX")


def test_channel_first_images_need_no_flag(tmp_path):
    data = open_dataset(make(tmp_path, STACK, MASKS, metadata={"axes": "CYX"}))
    assert len(data) == 3 and data.channels == 2 and data[1].image.shape == (21, 26, 2)
    with pytest.raises(UserError, match="8-bit 2 channels cannot become 1 channels"):
        open_dataset(tmp_path, channels=1)


def four(path, i, extra, value=None):
    bands = RNG.integers(0, 256, (21, 26, 4), np.uint8)
    bands[..., 3] = bands[..., 3] if value is None else value
    tifffile.imwrite(path, bands, photometric="rgb", extrasamples=[extra])


def test_four_channels_are_alpha_only_if_the_file_says_so(tmp_path):
    make(tmp_path, GREY, MASKS)
    for i in range(3):
        four(tmp_path / "images" / f"{i}.tif", i, "unspecified")
    data = open_dataset(tmp_path)
    assert data.channels == 4 and "no file marks the last one as alpha; --channels 3 leaves it out" in data.describe()
    assert open_dataset(tmp_path, channels=3)[0].image.shape[-1] == 3
    for i in range(3):
        four(tmp_path / "images" / f"{i}.tif", i, "unspecified", 255)
    data = open_dataset(tmp_path)
    assert data.channels == 3 and any("same everywhere, and taken for alpha" in w for w in data.warnings)
    for i in range(3):
        four(tmp_path / "images" / f"{i}.tif", i, "unassalpha")
    assert open_dataset(tmp_path).channels == 3 and open_dataset(tmp_path, channels=4)[0].image.shape[-1] == 4
    four(tmp_path / "images" / "1.tif", 1, "unspecified")
    with pytest.raises(UserError, match="--channels says how many"):
        open_dataset(tmp_path)


def test_a_mask_beside_a_turned_photograph(tmp_path):
    """What the image looks like in a viewer is what the mask is drawn on; if not, the error says why."""
    shown = np.zeros((20, 30), np.uint8)
    shown[3:9, 4:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    for part in ("imgs", "masks"):
        (tmp_path / part).mkdir()
    for i in range(2):
        Image.fromarray(np.rot90(shown).copy()).save(tmp_path / "imgs" / f"{i}.jpg", quality=100, exif=exif.tobytes())
        Image.fromarray(shown).save(tmp_path / "masks" / f"{i}.png")
    data = open_dataset(tmp_path)
    assert data[0].image[..., 0][data[0].labels == 1].min() > 0.5 and "2 images are turned upright" in data.describe()
    (warning,) = data.warnings
    assert "2 images are turned by their EXIF" in warning and "exiftool -n -Orientation=1 FILES" in warning
    from minunet.doctor import examine

    assert any(f.name == "orientation" and "2 images are turned" in f.text for f in examine(tmp_path))
    Image.fromarray(np.rot90(shown).copy()).save(tmp_path / "masks" / "1.png")
    with pytest.raises(UserError, match="the image is turned by its EXIF orientation, the mask is not"):
        open_dataset(tmp_path)


def test_impossible_descriptions_take_no_memory(tmp_path):
    for text in ("ImageJ=1.11a\nimages=4000000000\nslices=4000000000\n",):
        tifffile.imwrite(tmp_path / "a.tif", GREY[0], description=text, metadata=None)
        with pytest.raises(UserError, match=r"a\.tif: "):
            read_image(tmp_path / "a.tif", 7)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY[0], ome=True, metadata={"axes": "YX"})
    (tmp_path / "b.tif").write_bytes(buffer.getvalue().replace(b'SizeT="1"', b'SizeT="9"'))
    with pytest.raises(UserError, match=r"b\.tif"):
        read_image(tmp_path / "b.tif", 3)


# ---- compressions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_adobe_deflate", "zstd", "webp", "packbits"])
def test_nearly_blank_files_are_sound(tmp_path, compression):
    page = np.zeros((1400, 1100), bool) if compression.startswith("group") else np.zeros((1400, 1100), np.uint8)
    page[700, 500:520] = 1
    if compression == "webp":
        Image.fromarray(page).convert("RGB").save(tmp_path / "a.webp", lossless=True)
        assert read_image(tmp_path / "a.webp").sum() == 60
        return
    Image.fromarray(page).save(tmp_path / "a.tif", compression=compression)
    assert read_image(tmp_path / "a.tif").astype(bool).sum() == 20 and read_mask(tmp_path / "a.tif").sum() == 20


def test_planes_that_pillow_decodes(tmp_path, monkeypatch):
    colour = RNG.integers(0, 4, (3, 21, 26), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb", planarconfig="separate", compression="zlib")
    monkeypatch.setattr("minunet.data.files.tiff._is_plain_lzw", lambda page: True)
    assert np.array_equal(read_image(tmp_path / "a.tif"), np.moveaxis(colour, 0, -1))


def test_a_compression_that_needs_more_is_named(tmp_path):
    """Where it is there, what is no LERC is damaged."""
    tifffile.imwrite(tmp_path / "a.tif", GREY[0], compression="deflate")
    data = (tmp_path / "a.tif").read_bytes()
    tag = (259).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little")
    at = data.index(tag) + 8
    (tmp_path / "a.tif").write_bytes(data[:at] + (34887).to_bytes(2, "little") + data[at + 2 :])  # LERC
    missing = r"is compressed by LERC, which needs: pip install '.\[tiff\]'"
    with pytest.raises(UserError, match="damaged" if importlib.util.find_spec("imagecodecs") else missing):
        read_image(tmp_path / "a.tif")


def test_doctor_names_what_was_read_and_left_out(tmp_path):
    """Four channels for a network of four are no trouble, though the files call the last one alpha."""
    import minunet
    from minunet.checkpoint.file import save_checkpoint
    from minunet.data import ClassMap, Preprocessing
    from minunet.doctor import examine

    make(tmp_path / "data", GREY, MASKS)
    for i in range(3):
        four(tmp_path / "data" / "images" / f"{i}.tif", i, "unassalpha")
    (tmp_path / "data" / "images" / "raw.nd2").write_bytes(b"x")
    model = minunet.UNet(4, 2, base_width=2, depth=1)
    model.preprocessing = Preprocessing(4, ClassMap.binary())
    save_checkpoint(tmp_path / "m.safetensors", model)
    found = examine(tmp_path / "data", tmp_path / "m.safetensors")
    assert not [f for f in found if f.name == "channels" and f.severity == "trouble"]
    assert any(f.name == "left out" and "raw.nd2" in f.text for f in found)

"""Tiles: the same probabilities as from the whole image, which goes another way (`prepare`, `predict_logits`)."""

from functools import cache

import numpy as np
import pytest
from helpers.sizes import examples
from hypothesis import example, given
from hypothesis import strategies as st

import minunet
from minunet import UserError
from minunet.data import ClassMap, Preprocessing
from minunet.data.files.windows import Windows
from minunet.data.preprocess import NORMALISATIONS, prepare
from minunet.models import UNet
from minunet.predict import tiles
from minunet.predict.inference import WholeImage, make_tiles, probabilities
from minunet.predict.options import PredictionOptions
from minunet.predict.tta import SYMMETRIES

EQUAL = [{}, {"padding": "valid"}, {"up": "nearest", "norm": None}, {"padding": "valid", "up": "nearest", "norm": None}]
BLENDED = [{"norm": "group"}, {"up": "bilinear"}]


@cache
def network(options=(), depth=2, channels=1, normalise="percentile"):
    """A small network with drawn weights, and the running statistics of an image."""
    rng = np.random.default_rng(1)
    model = UNet(channels, 2, base_width=4, depth=depth, **dict(options))
    for name, a in model.named_params().items():
        if name.endswith(("beta", ".b")):
            a[...] = rng.normal(0, 0.2, a.shape)
    norms = [m for _, m in model.modules() if isinstance(m, minunet.nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1
    n = model.fit_size(128)
    model.forward(prepare(noise(n, n), channels)[None], rng=rng)
    model.preprocessing = Preprocessing(channels, ClassMap.binary(), normalise)
    return model


def noise(*shape, dtype=np.uint8):
    """Coarse and fine structure, so that near and far pixels matter."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 90, shape) + np.kron(rng.integers(0, 160, (9, 9)), np.ones((40, 40), int))[
        : shape[0], : shape[1]
    ].reshape(shape[0], shape[1], *[1] * (len(shape) - 2))
    return (image * (1 if dtype == np.uint8 else 91)).astype(dtype)


def by_tiles(model, image, **options):
    return make_tiles(model, image, PredictionOptions(**options))


def far_apart(model, image, tile, **options):
    whole = probabilities(model, image, tile=0, **{k: v for k, v in options.items() if k != "overlap"})
    assert whole[..., 1].std() > 1e-3 or min(image.shape) < 30  # there is something to differ in
    return abs(probabilities(model, image, tile=tile, **options) - whole).max()


@pytest.mark.drawn(quick=2)
@pytest.mark.parametrize("options", EQUAL, ids=str)
@examples(8)
@given(st.integers(1, 110), st.integers(5, 110), st.integers(8, 90), st.sampled_from([1, 8]), st.sampled_from([0, 9]))
@example(91, 110, 17, 8, 0)
@example(3, 110, 40, 1, 0)
def test_tiles_equal_the_whole(options, H, W, tile, tta, more):
    model = network(tuple(options.items()))
    overlap = tiles.default_overlap(model) + more
    assert far_apart(model, noise(H, W), tile, tta=tta, overlap=overlap) < 1e-5


@pytest.mark.parametrize("options", EQUAL[:2], ids=str)
@pytest.mark.parametrize("depth, size, tile", [(3, (141, 94), 40), (4, (289, 161), 96)])
def test_deeper_networks(options, depth, size, tile):
    """With the kernels, too, up to Winograd's rounding, which differs with the place in the window: the whole image is as far
    from what float64 gives."""
    model, image = network(tuple(options.items()), depth), noise(*size)
    assert far_apart(model, image, tile) < (1e-5 if depth == 3 else 5e-5)
    if depth == 3:
        with minunet.use("reference"):
            assert far_apart(model, image, tile) < 1e-6


@pytest.mark.parametrize("scale", [0.5, 0.83, 1.37])
@pytest.mark.parametrize("tta", [1, 4])
def test_other_scales(scale, tta):
    """The image is resized window by window, and the logits tile by tile."""
    for options in EQUAL[:2]:
        assert far_apart(network(tuple(options.items())), noise(117, 90), 40, scale=scale, tta=tta) < 1e-5


@pytest.mark.parametrize("options", BLENDED, ids=str)
def test_what_cannot_be_equal_is_said_and_blended(options):
    model, image = network(tuple(options.items())), noise(150, 131)
    found = by_tiles(model, image, tile=40)
    assert found.note and found.half
    whole, parts = probabilities(model, image, tile=0)[..., 1], probabilities(model, image, tile=40)[..., 1]
    assert np.corrcoef(whole.ravel(), parts.ravel())[0, 1] > 0.9
    found.half = 0
    cut = np.empty_like(whole)
    for rows, columns, p in found:
        cut[rows, columns] = p[..., 1]
    seams = [r.start for r in found.parts(0)[1:]]
    jump = [abs((a - whole)[seams] - (a - whole)[[s - 1 for s in seams]]).mean() for a in (parts, cut)]
    assert jump[0] < 0.8 * jump[1]  # at the borders of tiles the error changes less than without blending


def test_too_small_an_overlap_is_noticed():
    model, image = network(), noise(150, 131)
    small = by_tiles(model, image, tile=40, overlap=4)
    assert "less than the 23" in small.note and small.half == 2
    assert far_apart(model, image, 40, overlap=4) > 1e-3  # what the network sees does matter


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30), st.integers(0, 30))
def test_blended_tiles_add_up(H, W, tile, overlap):
    """Tiles of ones give ones, and every pixel once."""
    model = network((("norm", "group"),))
    found = by_tiles(model, np.zeros((H, W), np.uint8), tile=tile, overlap=overlap)
    found.probabilities = lambda r, c: np.ones((r.stop - r.start, c.stop - c.start, 2), np.float32)
    seen = np.zeros((H, W, 2))
    for rows, columns, p in found:
        seen[rows, columns] += p
    assert abs(seen - 1).max() < 1e-6


@pytest.mark.parametrize("up", ["transpose", "nearest", "bilinear"])
@pytest.mark.parametrize("depth", [1, 3])
def test_reach_is_what_a_pixel_changes(up, depth):
    """No output farther away than `reach` changes with a pixel, wherever among the pools' windows it lies; some near do."""
    model = UNet(1, 2, base_width=2, depth=depth, up=up, norm=None)
    for a in model.named_params().values():
        a[...] = abs(a) + 0.01  # nothing is cut off by a ReLU
    if up == "bilinear":
        for _, m in model.modules():
            if isinstance(m, minunet.nn.UpsampleBilinear):
                m.options["align_corners"] = False
    reach, step = tiles.reach(model), tiles.stride(model)
    assert step == 2**depth
    n = 2 * (reach // step + 2) * step
    farthest = 0
    for at in range(n // 2, n // 2 + step):
        x = np.zeros((1, 1 << depth, n, 1), np.float32)
        with minunet.use("reference"):  # Winograd's rounding goes a few pixels farther
            before = model(x)
            x[0, 0, at] = 1e3
            changed = np.flatnonzero(abs(model(x) - before).max((0, 1, 3)))
        farthest = max(farthest, abs(changed - at).max())
    assert reach - step < farthest <= reach


def test_the_paper_s_context():
    """Unpadded convolutions need no overlap: their windows are larger by the paper's 92 pixels a side."""
    model = UNet(1, 2, base_width=2, padding="valid")
    assert tiles.reach(model) == tiles.default_overlap(model) == 0
    assert tiles.reach(UNet(1, 2, base_width=2)) == 92 + 15 and tiles.default_overlap(UNet(1, 2, base_width=2)) == 112


@given(st.integers(1, 9), st.integers(-30, 20), st.integers(1, 40), st.booleans())
def test_mirrors_are_numpy_s(n, start, length, edge):
    if n == 1 and not edge:
        return
    padded = np.pad(np.arange(n), (40, 70), mode="symmetric" if edge else "reflect")
    part = slice(start, start + length)
    assert (tiles.mirrored(part, n, edge) == padded[40 + start : 40 + start + length]).all()


def test_symmetries():
    x = np.arange(12).reshape(3, 4)
    seen = {s.turn(x).tobytes() + bytes(s.turn(x).shape) for s in SYMMETRIES}
    assert len(seen) == 8
    assert {s.turn(x).tobytes() for s in SYMMETRIES[:4]} == {np.rot90(x, k).tobytes() for k in range(4)}
    for s in SYMMETRIES:
        assert (s.back(s.turn(x)) == x).all()
        there = s.turn_part(slice(0, 2), slice(1, 4), x.shape)
        assert (s.turn(x)[there] == s.turn(x[0:2, 1:4])).all()


# ---- windows of the prepared image -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", NORMALISATIONS)
@pytest.mark.parametrize("scale", [1, 0.4, 1.7])
@pytest.mark.parametrize("shape, channels, dtype", [
    ((90, 71), 1, np.uint8), ((61, 90, 3), 1, np.uint16), ((60, 70, 4), 3, np.float32), ((50, 70, 1), 3, bool),
])  # fmt: skip
def test_windows_equal_prepare(method, scale, shape, channels, dtype, monkeypatch):
    monkeypatch.setattr("minunet.data.files.windows.SIDE", 23)
    image = noise(*shape) > 100 if dtype is bool else noise(*shape, dtype=dtype)
    whole = prepare(image, channels, method, scale)
    windows = Windows(image, channels, method, scale)
    assert windows.size == whole.shape[:2]
    part = slice(7, 20), slice(3, 25)
    assert windows(*part).dtype == np.float32
    apart = abs(windows(*part) - whole[part])
    if method == "255" and scale != 1 and dtype is np.uint8:  # where Pillow rounds to grey levels
        assert (apart > 1e-5).mean() < 0.01 and apart.max() < 1.5 / 255
    else:
        assert apart.max() <= (0 if scale == 1 else 1e-5 * abs(whole).max())


def test_statistics_are_those_of_the_whole_image(monkeypatch):
    """Of images where only every so many pixels are looked at, of few bright pixels on black, and of flat ones."""
    monkeypatch.setattr("minunet.data.files.windows.SIDE", 100)
    large = np.random.default_rng(0).integers(0, 4000, (1500, 1300)).astype(np.uint16)
    few = np.zeros((200, 300), np.uint8)
    few[150, 170] = 9
    for image in (large, few, np.full((30, 40), 7)):
        assert (Windows(image, 1)(slice(5, 20), slice(0, 30)) == prepare(image, 1)[5:20, :30]).all()


def test_large_arrays(tmp_path, monkeypatch):
    """A memory map, tiles chosen by the memory that is free, a given array for the result."""
    model, image = network(), noise(300, 200)
    np.save(tmp_path / "image.npy", image)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    expected = minunet.segment(model, image, tile=0)
    assert isinstance(by_tiles(model, mapped), WholeImage)
    monkeypatch.setattr(tiles, "free_memory", lambda xp: 2 << 20)
    chosen = by_tiles(model, mapped)
    assert 4 <= chosen.tile[0] < 200 and not chosen.note
    assert tiles.needed(model, chosen.tile[0] + 48, chosen.tile[0] + 48) <= 1 << 20
    out = np.lib.format.open_memmap(tmp_path / "mask.npy", "w+", np.uint8, (300, 200))
    assert minunet.segment(model, mapped, out=out) is out
    assert (np.load(tmp_path / "mask.npy") != expected).sum() <= 1


def test_what_tiles_cannot_take():
    image = noise(40, 40).astype(np.float32)
    for tta in (0, 9):
        with pytest.raises(UserError, match=r"tta: .* at least 1 and at most 8"):
            probabilities(network(), image, tta=tta)
    image[30, 20] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        minunet.segment(network(), image, tile=16)

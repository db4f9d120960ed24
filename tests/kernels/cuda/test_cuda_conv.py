"""The CUDA convolutions against the plain ops in float64, emulated in every order, and on a GPU if there is one."""

import numpy as np
import pytest
from helpers import cuda_bugs
from helpers import cuda_conv_checks as check

from minunet import ops
from minunet.kernels.cuda import build, emulator, launch_conv, launch_norm
from minunet.kernels.cuda.start import has_wgmma

SHAPES = [  # N, H, W, C, K: chunks of 16 bytes or not, tiles filled or not, more than one tile of pixels and of channels
    (1, 9, 7, 16, 20),
    (2, 5, 6, 40, 72),
    (1, 8, 8, 3, 5),
    (1, 13, 11, 1, 8),
    (1, 1, 1, 8, 4),
    (1, 2, 3, 37, 2),
]


def needs_wgmma(cuda):
    if cuda.xp is not np and not has_wgmma(cuda.xp):
        pytest.skip("only GPUs of compute capability 9.0 have wgmma")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_and_its_gradients(exact_cuda, rng, shape):
    check.convolution(exact_cuda, rng, "float32", *shape)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]], ids=str)
def test_numbers_of_tensor_cores(cuda, rng, dtype, shape):
    check.convolution(cuda, rng, dtype, *shape)


@pytest.mark.parametrize("side", [1, 5, 17])
def test_other_sizes_of_filters(exact_cuda, rng, side):
    check.convolution(exact_cuda, rng, "float32", 1, 6, 5, 16, 12, side=side)


PATCHES = [
    (True, (1, 9, 17, 16, 20)),
    (True, (2, 17, 6, 40, 136)),
    (False, (2, 5, 6, 72, 136)),
    (False, (3, 2, 1, 40, 72)),
]
"""With a patch or without, and shapes: more than one tile in each direction and of channels, and more chunks than buffers."""


@pytest.mark.parametrize("columns", [launch_conv.BN, launch_conv.WIDE])
@pytest.mark.parametrize("patch, shape", PATCHES, ids=str)
def test_tiles_of_both_widths(exact_cuda, rng, patch, shape, columns):
    check.convolution(exact_cuda, rng, "float32", *shape, columns=columns, patch=patch)


ROWS = [  # N, H, W, pad, splits
    (2, 4, 11, 0, None),
    (2, 7, 9, 1, 3),
    (2, 3, 5, 2, 2),
    (3, 1, 2, 1, 1),
    (1, 1, 1, 2, 9),
]
"""Of a weight gradient: strips with zeros between them on either side, of more images than one, and fewer steps than blocks."""


@pytest.mark.parametrize("warpgroups", [False, True])
@pytest.mark.parametrize("N, H, W, pad, splits", ROWS)
def test_weights_of_any_pad(exact_cuda, rng, N, H, W, pad, splits, warpgroups):
    if warpgroups:
        needs_wgmma(exact_cuda)
    options = {"pad": pad, "splits": splits, "warpgroups": warpgroups}
    check.weights(exact_cuda, rng, "float32", N, H, W, 4, 8, **options)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_halves(cuda, rng, dtype):
    """Strips are wider then: 16 pixels."""
    check.weights(cuda, rng, dtype, 2, 5, 17, 72, 8, splits=2, warpgroups=False)


def test_a_tile_amid_others(exact_cuda, rng):
    """It has neighbours on all sides: 3 x 3 tiles."""
    check.convolution(exact_cuda, rng, "float32", 1, 17, 33, 4, 4)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("patch, splits", [(True, None), (True, 2), (False, 3)])
def test_wide_tiles_of_tensor_cores(cuda, rng, dtype, patch, splits):
    check.convolution(cuda, rng, dtype, 2, 7, 5, 72, 136, columns=launch_conv.WIDE, splits=splits, patch=patch)


@pytest.mark.parametrize("columns", [launch_conv.BN, launch_conv.WIDE])
@pytest.mark.parametrize("patch, shape", PATCHES, ids=str)
def test_products_by_warpgroups(exact_cuda, rng, patch, shape, columns):
    needs_wgmma(exact_cuda)
    check.convolution(exact_cuda, rng, "float32", *shape, columns=columns, warpgroups=True, patch=patch)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("columns, splits, patch", [(launch_conv.BN, None, True), (launch_conv.WIDE, 3, False)])
def test_numbers_of_warpgroups(cuda, rng, dtype, columns, splits, patch):
    needs_wgmma(cuda)
    shape = (2, 7, 5, 72, 136)
    check.convolution(cuda, rng, dtype, *shape, columns=columns, splits=splits, warpgroups=True, patch=patch)


NARROW, WIDE_GRADIENT = (np.dtype("f4"), launch_conv.BN, False), (np.dtype("f2"), launch_conv.WIDE, True)
OTHER_ROWS = "conv_patch.cu", cuda_bugs.APART, cuda_bugs.APART.replace("PATCH_W", "ACROSS")
SECOND_OFF = "conv.cu", cuda_bugs.OF_WARPS, cuda_bugs.OFF + cuda_bugs.OF_WARPS


@pytest.mark.parametrize(
    "variant, wrong",
    [
        ((*NARROW, True), None),
        ((*NARROW, True), OTHER_ROWS),
        ((*WIDE_GRADIENT, False), None),
        ((*WIDE_GRADIENT, False), SECOND_OFF),
    ],
    ids=["narrow", "narrow, other rows of the patch", "wide gradient", "wide gradient, second warpgroup off"],
)
def test_wgmma_is_not_trusted_unseen(monkeypatch, variant, wrong):
    """Before it is used on a GPU it must agree with mma.sync there; else one line says so, and mma.sync goes on."""
    if reason := emulator.missing():
        pytest.skip(reason)
    agrees = launch_conv.wgmma_agrees.__wrapped__  # what is kept are answers
    assert not agrees(np, 0, *variant)
    monkeypatch.setattr(launch_conv, "has_wgmma", lambda xp: True)
    if wrong is None:
        assert agrees(np, 0, *variant)
        return
    file, old, new = wrong
    planted = {file: (build.FOLDER / file).read_text().replace(old, new)}
    with build.sources(planted), pytest.warns(UserWarning, match="goes on with mma.sync"):
        assert not agrees(np, 0, *variant)


@pytest.mark.parametrize("wrong", [None, ("row_of_dy(below - 2)", "row_of_dy(below - 3)")], ids=["right", "wrong rows"])
def test_wgmma_is_not_trusted_unseen_with_weights(monkeypatch, wrong):
    if reason := emulator.missing():
        pytest.skip(reason)
    agrees, name = launch_conv.weights_agree.__wrapped__, "conv_patch_weights.cu"
    assert not agrees(np, 0, np.dtype("f2"))
    monkeypatch.setattr(launch_conv, "has_wgmma", lambda xp: True)
    if wrong is None:
        assert agrees(np, 0, np.dtype("f2"))
        return
    planted = {name: (build.FOLDER / name).read_text().replace(*wrong)}
    with build.sources(planted), pytest.warns(UserWarning, match="conv_patch_weights.*goes on with mma.sync"):
        assert not agrees(np, 0, np.dtype("f2"))


def test_where_shared_memory_is_small(exact_cuda, rng, monkeypatch):
    """Tiles that would leave room for one block only are not taken, and conv.cu has two stages."""
    started, run = [], launch_conv.run

    def noted(file, name, grid, block, arguments, shared=0, defines=()):
        if name in ("conv", "conv_patch"):
            started.append((name, shared, "WIDE" in defines, "TWO_STAGES" in defines))
        run(file, name, grid, block, arguments, shared, defines)

    monkeypatch.setattr(launch_conv, "two_blocks_fit", lambda xp, shared: shared <= 49 << 10)
    monkeypatch.setattr(launch_conv, "run", noted)
    for patch in (True, False):
        check.convolution(exact_cuda, rng, "float32", 1, 5, 4, 40, 128, patch=patch, splits=1)
    small = 48 << 10
    assert started == 2 * [("conv_patch", small, False, False)] + 2 * [("conv", small, False, True)]


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[2]], ids=str)
def test_sums_shared_among_blocks(exact_cuda, rng, shape):
    check.convolution(exact_cuda, rng, "float32", *shape, splits=3)


@pytest.mark.parametrize("size", [256, 512, 1024, 1664])
@pytest.mark.parametrize("level", range(5))
def test_splits_keep_all_processors_at_work(size, level):
    """In the 31 M-parameter network, on 132 multiprocessors: the busiest has not much more than its share of the steps."""
    P, C, processors = (size >> level) ** 2, 64 << level, 132
    side = launch_conv.WIDE if C >= launch_conv.WIDE else launch_conv.BN
    of_conv = -(-P // 256) * C // side, C * 4 // 64, launch_conv.SPLIT_CHUNKS
    of_weights = 9 * (C // side) ** 2, P // 32, launch_conv.SPLIT_STEPS
    n, in_a_tile = size >> level, 9 * launch_conv.BN**2 * 4
    tiles, steps, dw_bytes = (C // launch_conv.BN) ** 2, launch_conv.row_steps(1, n + 1, n, 4), 9 * C * C * 4
    splits = launch_conv.splits_of_rows(tiles, steps, processors, dw_bytes, 4 * P * C)
    parts = splits * dw_bytes * (splits > 1)
    assert parts <= max(launch_conv.MOST_SPLITS * in_a_tile, processors * in_a_tile)
    assert size == 256 or tiles * splits / processors > 0.9 * -(-tiles * splits // processors)
    for tiles, steps, cost in (of_conv, of_weights):
        splits = launch_conv.choose_splits(tiles, steps, processors, cost=cost)
        busiest = -(-tiles * splits // processors) * -(-steps // splits)
        few = tiles * steps < 10 * cost * processors  # then it takes longer to add them up
        assert (
            1 <= splits <= min(steps, launch_conv.MOST_SPLITS)
            and busiest <= (2 if few else 1.15) * tiles * steps / processors
        )
    assert launch_conv.choose_splits(1, 1, processors) == launch_conv.choose_splits(10_000, 1000, processors) == 1
    assert launch_conv.choose_splits(1, 0, processors) == 1


def test_moments_do_not_cancel(exact_cuda, rng):
    """A mean of 1000 standard deviations leaves the variance as it is."""
    x, w, b, _ = check.problem(rng, "float32", 1, 19, 20, 4, 8)
    b += 1000
    y, _ = ops.conv2d.plain(x, w, b)
    out = exact_cuda.empty(y.shape)
    tiles = launch_conv.conv(
        [exact_cuda.array(x, "float32")], check.filters(exact_cuda, w, "float32"), [out], side=3, pad=1,
        bias=exact_cuda.array(b, np.float32), moments=True,
    )  # fmt: skip
    mean, var, _ = launch_norm.merge_moments(tiles)
    limit = 1e-3 if exact_cuda.xp is not np else 1e-4  # a GPU rounds the products to TF32
    np.testing.assert_allclose(var.get() if hasattr(var, "get") else var, y.var((0, 1, 2)), rtol=limit)


@pytest.mark.parametrize("columns", [None, launch_conv.WIDE])
@pytest.mark.parametrize("C1, C2, K1, K2", [(16, 40, 12, 20), (5, 3, 7, 2), (72, 64, 64, 68)])
def test_halves_of_concatenations(exact_cuda, rng, C1, C2, K1, K2, columns):
    check.halves_of_concatenations(exact_cuda, rng, C1, C2, K1, K2, columns)


@pytest.mark.parametrize("K", [12, 5])
def test_scale_relu_and_accumulation(exact_cuda, rng, K):
    check.scale_relu_and_accumulation(exact_cuda, rng, K)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 16, 8), (1, 4, 3, 6, 3)], ids=str)
def test_transposed_convolution(exact_cuda, rng, dtype, shape):
    check.transposed_convolution(exact_cuda, rng, dtype, shape)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("C, K", [(64, 2), (7, 8), (140, 3)])
def test_head(cuda, rng, dtype, C, K):
    check.head(cuda, rng, dtype, C, K)

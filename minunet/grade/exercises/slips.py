"""More known mistakes in the exercises on convolutions, pooling, upsampling, crop and concat.

What a difference says by itself, such as a factor or a lost axis, needs no mistake here: see `grade/difference.py`.
"""

from __future__ import annotations

from .conv import conv_forward, im2col, winograd
from .filter import filter_image
from .gradients import DX, conv_backward, conv_transpose
from .maps import bilinear, crop_concat, max_pool

# ---- convolutions ----------------------------------------------------------------------------------------------------

filter_image.wrong(
    "sides_swapped_in_loops",
    "the sides of the filter are swapped: KH, KW, C = w.shape",
    ("(KH, KW, _) =", "(KW, KH, _) ="),
    (
        "(x[top : top + KH, left : left + KW] * w).sum()",
        "sum((x[top + i, left + j] * w[i, j]).sum() for i, j in np.ndindex(KH, KW))",
    ),
)
conv_forward.wrong(
    "channels_first",
    "x is unpacked as (N, C, H, W): here the channels are last, N, H, W, C = x.shape",
    ("(N, H, W, C), (KH, KW, Cg, K) = x.shape, w.shape", "(N, C, H, W), (KH, KW, Cg, K) = x.shape, w.shape"),
    ("Cg * groups != C", "False"),
)
for number, (side, which) in enumerate((("1", "last"), ("0", "first"))):
    conv_forward.wrong(
        f"one_number_for_both_sides_{number}",
        f"both sides get the {which} of the two numbers of zeros: pads is ((top, bottom), (left, right)), which may differ",
        ("padded = pad_spatial(x, pads)", f"padded = pad_spatial(x, tuple((p[{side}], p[{side}]) for p in pads))"),
    )
    conv_forward.wrongs.insert(0, conv_forward.wrongs.pop())  # before those that look the same for a stride alone
im2col.wrong(
    "filters_first",
    "w is made a matrix of K rows: w.reshape(KH * KW * C, K) keeps its order, whose last axis is K",
    ("w.reshape(KH * KW * C, K)", "w.reshape(K, KH * KW * C).T"),
)
_TAPS = "for i, j, cs, ks in taps(w.shape, groups):\n        seen"
conv_backward.wrong(
    "dx_overwritten_by_later_pixels",
    "dx: a pixel lies in several windows and gets a share from each: +=, not =",
    (DX, DX.replace("+=", "=")),
    (_TAPS, _TAPS.replace("taps(w.shape, groups)", "reversed(list(taps(w.shape, groups)))")),
)
conv_backward.wrong(
    "dw_of_the_last_image",
    "dw has the share of the last image only: sum over the batch",
    ("as_rows(seen).T @ as_rows(dy[..., ks])", "as_rows(seen[-1:]).T @ as_rows(dy[-1:, ..., ks])"),
)
_STAMPS = "for i, j, _, _ in taps(w.shape):\n        window(full"
conv_transpose.wrong(
    "stamps_overwritten_by_later_pixels",
    "where stamps overlap the last one overwrites the others: +=, not =",
    ("[...] += matmul(x, w[i, j])", "[...] = matmul(x, w[i, j])"),
    (
        "for i, j, _, _ in taps(w.shape):\n        window(full",
        "for i, j, _, _ in reversed(list(taps(w.shape))):\n        window(full",
    ),
)
conv_transpose.wrong("bias_forgotten", "the bias is not added", ("        y = y + b\n", "        y = y + 0 * b\n"))
winograd.wrong(
    "not_transposed_on_the_right",
    "the right factor is not transposed: B^T d B has B^T on the left and B, its transpose, on the right",
    ("return both_axes(BT, d)", 'return np.einsum("pi,jq,ij...->pq...", np.array(BT), np.array(BT), d)'),
)

# ---- pooling, upsampling, crop and concat ----------------------------------------------------------------------------

_PUT, _NUMBERS = (
    "[...] += dy * (winner == n)",
    "for n in range(size * size):\n        i, j = divmod(n, size)\n        window(dx",
)
for number, instead in enumerate(("[...] = dy * (winner == n)", "[winner == n] = dy[winner == n]")):
    for order, numbers in enumerate((_NUMBERS, _NUMBERS.replace("range(size * size)", "reversed(range(size * size))"))):
        max_pool.wrong(
            f"overwritten_{number}{order}",
            "where windows overlap, the last one overwrites what the others gave: += instead of =",
            (_NUMBERS + ", i, j, OH, OW, stride)" + _PUT, numbers + ", i, j, OH, OW, stride)" + instead),
        )
max_pool.wrong(
    "stride_is_the_size",
    "the stride is ignored: windows are `stride` pixels apart, and `size` only if no stride is given",
    ("stride = stride or size", "stride = size"),
)
_CLIP = "place = np.clip((r + 0.5) * n / m - 0.5, 0, n - 1)\n    below = np.minimum(place.astype(int), n - 1)"
for number, instead in enumerate((
    "place = (r + 0.5) * n / m - 0.5\n    below = np.minimum(place.astype(int), n - 1)",
    "place = (r + 0.5) * n / m - 0.5\n    below = np.minimum(np.floor(place).astype(int), n - 1)",
    "place = (r + 0.5) * n / m - 0.5\n    below = np.clip(np.floor(place).astype(int), 0, n - 1)",
    "place = (r + 0.5) * n / m - 0.5\n    below = np.clip(np.floor(place).astype(int), 0, n - 2)",
    "place = (r + 0.5) * n / m - 0.5\n    place[place < 0] %= 1\n    below = np.clip(place.astype(int), 0, n - 1)",
)):  # fmt: skip
    bilinear.wrong(
        f"not_clamped_{number}",
        "places outside the image are not clamped to it: at the edges (r + 1/2) * H / OH - 1/2 is below 0 or above H - 1",
        (_CLIP, instead),
    )
bilinear.wrong(
    "aligned_by_the_sizes",
    "with aligned corners the first and the last rows meet: the step is (H - 1) / (OH - 1), not H / OH",
    ("place = r * (n - 1) / max(m - 1, 1)", "place = np.minimum(r * n / m, n - 1)"),
)
bilinear.wrong(
    "nearest_below",
    "nothing is mixed: every output row is a mixture of the row below its place and the next one, by nearness",
    ("matrix[r, below] = 1 - nearness", "matrix[r, below] = 1"),
    ("+= nearness", "+= 0 * nearness"),
)
_CUT = "return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]"
crop_concat.wrong(
    "end_at_minus_zero",
    "a margin of 0 cuts off everything: -0 is 0, so x[:, t:-0] takes nothing; end at x.shape[1] - b",
    (_CUT, "return x[:, top:-bottom, left:-right]"),
    ("if top == bottom == left == right == 0:", "if False:"),
)
crop_concat.wrong(
    "margins_by_corner",
    "the margins are read as ((top, left), (bottom, right)): they are ((top, bottom), (left, right))",
    ("(top, bottom), (left, right) = margins\n    if", "(top, left), (bottom, right) = margins\n    if"),
)
crop_concat.wrong(
    "begins_without_end",
    "only what is above and on the left is cut off: the bottom and right margins count, too",
    (_CUT, "return x[:, top:, left:]"),
)
crop_concat.wrong(
    "put_at_the_corner",
    "the gradient is put back into the upper left corner: it begins at row `top` and column `left`",
    ("return pad_spatial(dy, margins)", "return pad_spatial(dy, tuple((0, sum(m)) for m in margins))"),
)
_SPLIT = "return tuple(dy[..., end - n : end] for n, end in zip(cache, ends))"
for number, instead in enumerate((
    "return tuple(np.split(dy, len(cache), axis=-1))",
    "return tuple(np.array_split(dy, len(cache), axis=-1))",
    "n = dy.shape[-1] // len(cache)\n    return tuple(dy[..., i * n : (i + 1) * n] for i in range(len(cache)))",
)):  # fmt: skip
    crop_concat.wrong(
        f"equal_parts_{number}",
        "dy is split into equal parts: each array gets back as many channels as it had",
        (_SPLIT, instead),
    )
for axis in (0, 1, 2):
    crop_concat.wrong(
        f"stacked_along_{axis}",
        "the arrays are stacked along another axis: the channels are the last one",
        ("concatenate(arrays, axis=-1)", f"concatenate(arrays, axis={axis})"),
    )

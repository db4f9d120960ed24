"""Mistakes to plant in the CUDA kernels, and the checks that must catch them.

``python cuda_bugs.py`` reads lines of JSON, [FOLDER, CHECK], and answers each with a line: who caught the kernels of FOLDER
in a mistake. Every check runs in a process of its own: a kernel with a mistake may well crash it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SECONDS = 600  # that a check may take


@dataclass
class Bug:
    """In `file` replace `old`, which stands there once, by `new`; `check` must notice."""

    name: str
    file: str
    old: str
    new: str
    check: str


IN_LOOP = "    __syncthreads();  // everybody's; and everybody is done with the tiles of the step before\n"
NEXT_ROW = "\n      if (++tap_j == side) tap_j = 0, ++tap_i"
FENCE = "    if (READ_BY_WGMMA) fence_for_wgmma();\n"
WAIT = "    cp_async_wait<STAGES - 2>();  // this thread's copies for this step have landed,\n"
OF_WARPS = "  for_each_pair(c, [&](int k, int p, float u, float v) { out[p * OUT_ROW + k] = u,"
OFF = "  if (threadIdx.x >= 128) const_cast<Sums&>(c)[0][0][0] += 1000.f;\n"
PREFETCH = "    if (step + STAGES - 1 < stop) copy(step + STAGES - 1);\n"
PATCH_BARRIER = "    __syncthreads();  // everybody's; and everybody has done what read these places\n"
PATCH_WEIGHTS = "    if (step + 1 < end) copy_weights(step + 1);\n"
APART = "rows_for_wgmma<64, PATCH_W * 64>(left));"
PATCH_STORE = "    UNROLL for (int j = 0; j < 32; ++j) UNROLL for (int e = 0; e < 4; ++e)\n      out[(j"
THREAD_FENCE = "  __threadfence();  // what this thread wrote is seen before the count is;\n"
PATCH_OFF = "    if (threadIdx.x >= 128) out[0] = 1000.f;\n"
ROWS_BARRIER = (
    "    __syncthreads();              // everybody's; and everybody is done with the tiles of the step before\n"
)
TURNED = "    __syncthreads();  // all three rows are turned\n"
ROWS_COPY = "    if (step + STAGES - 1 <= count) copy(step + STAGES - 1);\n"

BUGS = [
    # order and time
    Bug("no barrier in the loop", "conv.cu", IN_LOOP, "", "deep"),
    Bug("waits for one copy too few", "conv.cu", "cp_async_wait<STAGES - 2>", "cp_async_wait<STAGES - 1>", "deep"),
    Bug("copies before the barrier", "conv.cu", IN_LOOP + PREFETCH, PREFETCH + IN_LOOP, "deep"),
    Bug(
        "results over tiles in use", "conv.cu", "  __syncthreads();  // the results take the tiles' place\n", "", "deep"
    ),
    Bug(
        "results read too early",
        "conv.cu",
        "  store_sums(c, s->result.out);\n  __syncthreads();\n",
        "  store_sums(c, s->result.out);\n",
        "deep",
    ),
    Bug(
        "no barrier between the moments' sums",
        "epilogue.cuh",
        "  mean /= pixels;\n  __syncthreads();",
        "  mean /= pixels;",
        "deep",
    ),
    Bug("no barrier in the weights' loop", "conv_weights.cu", "    __syncthreads();  ", "", "weights"),
    Bug(
        "waits too little for pixels",
        "conv_weights.cu",
        "cp_async_wait<STAGES - 2>",
        "cp_async_wait<STAGES - 1>",
        "weights",
    ),
    Bug(
        "no barrier before sums are reused",
        "sums.cuh",
        "  __syncthreads();  // what was there before has been read\n",
        "",
        "norm",
    ),
    Bug(
        "no barrier between halvings",
        "sums.cuh",
        "    __syncthreads();\n    if (threadIdx.x < half)",
        "    if (threadIdx.x < half)",
        "loss",
    ),
    Bug(
        "some threads leave before a barrier",
        "loss.cu",
        "  if (n < P) {\n    const int label",
        "  if (n >= P) return;\n  {\n    const int label",
        "loss",
    ),
    Bug("warpgroups: no barrier in the loop", "conv.cu", IN_LOOP, "", "warpgroups"),
    Bug("warpgroups: copies without a fence", "conv.cu", FENCE, "", "warpgroups"),
    Bug("warpgroups: the fence before the wait", "conv.cu", WAIT + FENCE, FENCE + WAIT, "warpgroups"),
    Bug("warpgroups: sums read while products go on", "tiles.cuh", "  wgmma_wait(c, fragments);\n", "", "warpgroups"),
    Bug(
        "warpgroups: registers used before they are there",
        "tiles.cuh",
        "  wgmma_fence(c, fragments);\n",
        "",
        "warpgroups",
    ),
    Bug(
        "warpgroups: a fence for other sums",
        "tiles.cuh",
        "  wgmma_fence(c, fragments);\n",
        "  float other[16][4] = {};\n  wgmma_fence(other, fragments);\n",
        "warpgroups",
    ),
    Bug(
        "warpgroups: a fence for the first factors only",
        "tiles.cuh",
        "  wgmma_fence(c, fragments);\n",
        "  wgmma_fence(c, reinterpret_cast<uint32_t(&)[1][4]>(fragments));\n",
        "warpgroups",
    ),
    Bug(
        "warpgroups: a wait for other sums",
        "tiles.cuh",
        "  wgmma_wait(c, fragments);\n",
        "  float other[16][4] = {};\n  wgmma_wait(other, fragments);\n",
        "warpgroups",
    ),
    # what a GPU with wgmma looks for itself, before it trusts it
    Bug("trusted: the second warpgroup is off", "conv.cu", OF_WARPS, OFF + OF_WARPS, "trusted"),
    Bug("trusted: the second warpgroup is off in gradients", "conv.cu", OF_WARPS, OFF + OF_WARPS, "trusted gradient"),
    Bug(
        "trusted: both warpgroups multiply by the same weights",
        "conv.cu",
        "a, b, threadIdx.x / 32 * 16",
        "a, b, threadIdx.x % 128 / 32 * 16",
        "trusted",
    ),
    # layouts
    Bug("warpgroups: rows of another tile", "tiles.cuh", "<128, 8 * 128>", "<128, 8 * 64>", "warpgroups"),
    Bug("warpgroups: another swizzle", "tiles.cuh", "? row & 7 :", "? row & 3 :", "warpgroups"),
    Bug("warpgroups: steps too short", "tiles.cuh", "a + i * STEP_K", "a + i * STEP_K / 2", "warpgroups"),
    Bug(
        "warpgroups: warps overlap",
        "conv.cu",
        "a, b, threadIdx.x / 32 * 16",
        "a, b, threadIdx.x / 32 * 8",
        "warpgroups",
    ),
    Bug(
        "warpgroups: results as for warps",
        "conv.cu",
        "out[(p + 1) * OUT_ROW + k] = v",
        "out[p * OUT_ROW + k + 1] = v",
        "warpgroups",
    ),
    Bug(
        "copied without the swizzle",
        "conv.cu",
        "&a[along_k<BK>(tid / 8 + i * (THREADS / 8), tid % 8 * PER_CHUNK)]",
        "&a[(tid / 8 + i * (THREADS / 8)) * ROW + tid % 8 * PER_CHUNK]",
        "conv",
    ),
    Bug(
        "copied to no multiple of 16 bytes",
        "conv.cu",
        "across_k<BN>(r, n)], weight",
        "across_k<BN>(r, n) + 1], weight",
        "conv",
    ),
    Bug(
        "a's fragment transposed",
        "tiles.cuh",
        "m + i + 8 * second, k + last * PER_CHUNK",
        "m + i + 8 * last, k + second * PER_CHUNK",
        "conv",
    ),
    Bug(
        "b's fragment in another order",
        "tiles.cuh",
        "k + (lane & 3) + 4 * (j & 1), n + (lane >> 2) + 8 * (j >> 1)",
        "k + (lane & 3) + 4 * (j >> 1), n + (lane >> 2) + 8 * (j & 1)",
        "conv",
    ),
    Bug("16-bit fragment not transposed", "tiles.cuh", "ldmatrix4<true>(w,", "ldmatrix4<false>(w,", "half"),
    Bug(
        "transposed weights stored as they are",
        "conv_weights.cu",
        "(transposed ? ((long long)tap * K + k) * C + c : i)",
        "i",
        "transposed",
    ),
    # edges
    Bug(
        "halo of one row too many",
        "conv.cu",
        "end = min(side, size - first)",
        "end = min(side, size - first + 1)",
        "conv",
    ),
    Bug(
        "rows and columns of taps exchanged",
        "conv.cu",
        "shift = tap_i * W + tap_j",
        "shift = tap_j * W + tap_i",
        "conv",
    ),
    Bug("the next row of taps not begun", "conv.cu", NEXT_ROW, "\n      if (++tap_j == side) ++tap_i", "deep"),
    Bug("flat: the next row of taps not begun", "conv.cu", "\n  " + NEXT_ROW[1:], "\n        ++tap_j", "flat"),
    Bug("flat: the next row of pixels not begun", "conv_weights.cu", "if (++oh == OH) oh = 0, ++image;", "", "flat"),
    Bug("splits all begin at the first tap", "conv.cu", "tap_i = first / chunks / side", "tap_i = 0", "splits"),
    Bug("a new image's rows not begun", "conv_weights.cu", "top[k] = 0, image[k] += H", "image[k] += H", "weights"),
    Bug("wide: warps overlap", "conv.cu", "threadIdx.x / 64 * WN", "threadIdx.x / 64 * 32", "wide"),
    Bug("wide: weights' warps overlap", "conv_weights.cu", "warp / (BM / 64) * WN", "warp / (BM / 64) * 32", "wide"),
    Bug("wide: half of the tile's weights not copied", "conv.cu", "i < BN * 8 / THREADS", "i < 4", "wide"),
    Bug(
        "no mask at the last channels in",
        "conv.cu",
        "(inside[i] & here) == here && c < last;",
        "(inside[i] & here) == here;",
        "halves",
    ),
    Bug("no mask at the last channels out", "epilogue.cuh", "        if (k + e >= K) continue;\n", "", "flat"),
    Bug(
        "no mask at the last pixels",
        "conv_weights.cu",
        "const bool inside = p < P && ",
        "const bool inside = ",
        "weights",
    ),
    Bug(
        "the second source's weights from the first's place",
        "conv.cu",
        "cw = c0 + (second ? C1 : 0)",
        "cw = c0",
        "halves",
    ),
    Bug(
        "the last tile counted as full",
        "norm_merge.cu",
        "min(across, W - i % in_row * across)",
        "across",
        "norm",
    ),
    Bug(
        "bilinear: too few rows come back",
        "resample.cu",
        "r < min(OH, (h + 2) * scale)",
        "r < min(OH, (h + 1) * scale)",
        "bilinear",
    ),
    # sums
    Bug("accumulation forgotten", "epilogue.cuh", "q.accumulate ? to_float(*to) + v[e] : v[e]", "v[e]", "accumulate"),
    # two sources or outputs that lie in arrays of unlike widths
    Bug("the second source's width is the first's", "conv.cu", "? ldx2 : ldx1", "? ldx1 : ldx1", "halves"),
    Bug(
        "the second output's width is the first's",
        "epilogue.cuh",
        "pixel * q.ldy2 + (k - q",
        "pixel * q.ldy1 + (k - q",
        "halves",
    ),
    Bug(
        "patch: the second source's width is the first's",
        "conv_patch.cu",
        "? ldx2 : ldx1",
        "? ldx1 : ldx1",
        "patch halves",
    ),
    Bug(
        "weights: the second source's width is the first's",
        "conv_weights.cu",
        "? ldx2 : ldx1",
        "? ldx1 : ldx1",
        "halves",
    ),
    # the patch
    Bug("patch: no barrier in the loop", "conv_patch.cu", PATCH_BARRIER, "", "patch"),
    Bug("patch: waits for one copy too few", "conv_patch.cu", "cp_async_wait<1>", "cp_async_wait<2>", "patch"),
    Bug(
        "patch: weights copied before the barrier",
        "conv_patch.cu",
        PATCH_BARRIER + PATCH_WEIGHTS,
        PATCH_WEIGHTS + PATCH_BARRIER,
        "patch",
    ),
    Bug("patch: the next one starts a step too late", "conv_patch.cu", "step % 3 == 1 &&", "step % 3 == 2 &&", "patch"),
    Bug(
        "patch: the next one starts while wgmma reads the last one",
        "conv_patch.cu",
        "step % 3 == 1 &&",
        "step % 3 == 0 &&",
        "patch warpgroups",
    ),
    Bug("patch: copies without a fence", "conv_patch.cu", FENCE, "", "patch warpgroups"),
    Bug("patch: products that nobody waits for", "conv_patch.cu", "    sums.wait();\n", "", "patch warpgroups"),
    Bug("patch: products that are no group", "conv_patch.cu", "    wgmma_commit();\n", "", "patch warpgroups"),
    Bug("patch: the right half is the left one", "conv_patch.cu", "(left + 8 * BK)", "(left)", "patch warpgroups"),
    Bug(
        "patch: the next eight rows too near",
        "conv_patch.cu",
        APART,
        APART.replace("PATCH_W", "ACROSS"),
        "patch warpgroups",
    ),
    Bug("patch: another swizzle", "tiles.cuh", "row >> 1 & 3", "row & 3", "patch warpgroups"),
    Bug("patch: fragments from a row too far", "tiles.cuh", "m + APART * i, k", "m + 16 * i, k", "patch"),
    Bug("patch: no border at the right", "conv_patch.cu", " && (unsigned)w < (unsigned)W", "", "patch"),
    Bug(
        "patch: no border where a tile has neighbours on both sides",
        "conv_patch.cu",
        "(unsigned)w < (unsigned)W;",
        "(unsigned)w < (unsigned)W && (!column || column + 1 == across || r % PATCH_W < PATCH_W - 1);",
        "patch amid others",
    ),
    Bug("patch: no mask at the last channels in", "conv_patch.cu", "valid = some && ", "valid = ", "patch halves"),
    Bug("patch: rows of another image", "conv_patch.cu", "(at.image * H + h) * W", "h * W", "patch"),
    Bug("patch: a gradient with taps as they are", "conv_patch.cu", "of = flip ? 8 - tap : tap", "of = tap", "patch"),
    Bug("patch: moments of a whole tile", "conv_patch.cu", "return min(DOWN, OH - top) * ", "return DOWN * ", "patch"),
    Bug(
        "patch: pixels of the first image's tiles only",
        "norm_merge.cu",
        "i / in_row % in_column * down",
        "i / in_row * down",
        "patch",
    ),
    Bug(
        "patch: splits all begin at the first chunk",
        "conv_patch.cu",
        "first = blockIdx.z * share, stop = min(chunks, first + share)",
        "first = 0, stop = min(chunks, ((int)blockIdx.z + 1) * share)",
        "patch splits",
    ),
    Bug(
        "trusted: the patch's second warpgroup is off",
        "conv_patch.cu",
        PATCH_STORE,
        PATCH_OFF + PATCH_STORE,
        "trusted patch",
    ),
    # the patch of a weight gradient
    Bug("rows: no barrier in the loop", "conv_patch_weights.cu", ROWS_BARRIER, "", "rows"),
    Bug("rows: waits for one copy too few", "conv_patch_weights.cu", "wait<STAGES - 2>", "wait<STAGES - 1>", "rows"),
    Bug(
        "rows: copied before the barrier",
        "conv_patch_weights.cu",
        ROWS_BARRIER + ROWS_COPY,
        ROWS_COPY + ROWS_BARRIER,
        "rows",
    ),
    Bug("rows: those of dy the other way round", "conv_patch_weights.cu", "(t + 3 - i) % 3", "(t + i) % 3", "rows"),
    Bug(
        "rows: a block takes none of dy before its first",
        "conv_patch_weights.cu",
        "take(1, s->dy[0]), ",
        "",
        "rows splits",
    ),
    Bug("rows: turned without a fence", "conv_patch_weights.cu", "    fence_for_wgmma();\n", "", "rows warpgroups"),
    Bug("rows: no barrier after they are turned", "conv_patch_weights.cu", TURNED, "", "rows warpgroups"),
    Bug(
        "rows: turned in place of the last four",
        "conv_patch_weights.cu",
        "row / 4 % 2] + along",
        "0] + along",
        "rows warpgroups",
    ),
    Bug("rows: products that nobody waits for", "conv_patch_weights.cu", "    sums.wait();\n", "", "rows warpgroups"),
    Bug("rows: products that are no group", "conv_patch_weights.cu", "    wgmma_commit();\n", "", "rows warpgroups"),
    Bug(
        "rows: warpgroups take the same column",
        "conv_patch_weights.cu",
        "t * ACROSS_X + warp / 4)",
        "t * ACROSS_X)",
        "rows warpgroups",
    ),
    Bug(
        "trusted: a warpgroup of a weight gradient is off",
        "conv_patch_weights.cu",
        "use(3 * i + threadIdx.x / 128, m",
        "use(3 * i + threadIdx.x / 256, m",
        "trusted weights",
    ),
    Bug("rows: dy without other channels between its rows", "conv_patch_weights.cu", "w, ldy)", "w, K)", "rows"),
    Bug("rows: no zeros between strips", "conv_patch_weights.cu", "rows = H + pad,", "rows = H,", "rows"),
    Bug("rows: the next image not begun", "conv_patch_weights.cu", "left = 0, ++image", "left = 0", "rows"),
    Bug("rows: no border at the right", "conv_patch_weights.cu", " && (unsigned)w < (unsigned)W", "", "rows"),
    Bug("rows: no mask at dy's last columns", "conv_patch_weights.cu", " && w < OW", "", "rows"),
    Bug("rows: without a pad dy a row too high", "conv_patch_weights.cu", "max(0, 1 - pad)", "0", "rows unpadded"),
    Bug("rows: warps overlap", "conv_patch_weights.cu", "threadIdx.x / 128 * 32 + 16 * half", "16 * half", "rows wide"),
    Bug(
        "rows: splits all begin at the first", "conv_patch_weights.cu", "(first - 1) * DOWN +", "-DOWN +", "rows splits"
    ),
    Bug(
        "rows: the second source's width is the first's",
        "conv_patch_weights.cu",
        "? ldx2 : ldx1",
        "? ldx1 : ldx1",
        "patch halves",
    ),
    Bug(
        "more parts than eight, and half of them left out",
        "conv_weights.cu",
        "split += 8",
        "split += 16",
        "rows splits",
    ),
    Bug(
        "the last split takes what is not there",
        "conv.cu",
        "stop = min(steps, first + share)",
        "stop = first + share",
        "splits",
    ),
    Bug(
        "the first split left out",
        "conv.cu",
        "for (int i = 0; i < splits; ++i) sum += partial",
        "for (int i = 1; i < splits; ++i) sum += partial",
        "splits",
    ),
    Bug("lanes left out of a sum", "head.cu", "int other = 16; other", "int other = 8; other", "head"),
    Bug(
        "a variance that cancels",
        "norm.cu",
        "]) - mean;\n    squares += d * d;",
        "]);\n    squares += d * d - mean * mean;",
        "moments",
    ),
    Bug(
        "norm's gradient lacks a term",
        "norm.cu",
        " + d * r * r * (of_set * sums[(n * 2 + 1) * C + k])",
        "",
        "norm",
    ),
    Bug(
        "ReLU's mask without the shift",
        "norm.cu",
        "relu && !(d * scale + beta > 0.f)",
        "relu && !(d * scale > 0.f)",
        "norm",
    ),
    Bug(
        "group norm: columns added before all are there",
        "norm_merge.cu",
        "  if (threadIdx.y == 0) shared[threadIdx.x] = v;\n  __syncthreads();\n",
        "  if (threadIdx.y == 0) shared[threadIdx.x] = v;\n",
        "group",
    ),
    Bug(
        "group norm: a variance without that of the channels' means",
        "norm_merge.cu",
        "c = j % D;\n    const double d = partial[(long long)i * 2 * C + c] - whole;",
        "c = j % D;\n    const double d = 0;",
        "group moments",
    ),
    Bug(
        "group norm: threads without a channel leave before a barrier",
        "norm_merge.cu",
        "for (int c0 = 0; c0 < D; c0 += 32) {",
        "for (int c0 = 0; c0 + (int)threadIdx.x < D; c0 += 32) {",
        "group",
    ),
    Bug("group norm: gamma left out of a group's sum", "norm_merge.cu", "A += gamma[k] * a;", "A += a;", "group"),
    Bug(
        "group norm: the first image's mean for all",
        "norm.cu",
        "  mean += (long long)blockIdx.z * C;\n",
        "",
        "group",
    ),
    Bug(
        "group norm: the first image's sums for all", "norm.cu", "const int n = p / image;", "const int n = 0;", "group"
    ),
    Bug(
        "norm: a bias that the norm does not move",
        "norm_merge.cu",
        "+ ((bias ? bias[c] : 0.f) - mean[c])",
        "- mean[c]",
        "folded",
    ),
    Bug("norm: dgamma of the first channels only", "norm_merge.cu", "rstd[c - C / 2];", "rstd[0];", "norm"),
    Bug(
        "the head's gradient of weights from the channels beside",
        "head.cu",
        "of_weight[k] += g * v;",
        "of_weight[k] += g * sum;",
        "head",
    ),
    Bug(
        "the head's bias counted by every channel",
        "head.cu",
        "if (c == 0 && threadIdx.y == 0)",
        "if (threadIdx.y == 0)",
        "head",
    ),
    Bug(
        "no barrier before the head's sums are reused",
        "sums.cuh",
        "  __syncthreads();  // what was there before has been read\n",
        "",
        "head",
    ),
    # the head and its losses in one start
    Bug("losses: the last block does not wait for the others' sums", "sums.cuh", THREAD_FENCE, "", "head loss"),
    Bug("losses: the first block counts as the last", "sums.cuh", "- 1) == gridDim.x - 1", "- 1) == 0", "head loss"),
    Bug(
        "losses: the count does not begin again",
        "sums.cuh",
        "atomicInc(finished, gridDim.x - 1)",
        "atomicInc(finished, ~0u)",
        "head loss",
    ),
    Bug(
        "losses: sums of warps that are not there yet",
        "head.cu",
        "  __syncthreads();\n  if (threadIdx.x < J)",
        "  if (threadIdx.x < J)",
        "head loss",
    ),
    Bug(
        "losses: a block takes no more than one group",
        "head.cu",
        "p0 += gridDim.x * 8LL * WITH_LOSS",
        "p0 += P",
        "head loss",
    ),
    Bug(
        "losses: lanes without a pixel count",
        "head.cu",
        "if (lane >= count) continue;",
        "if (lane >= WITH_LOSS) continue;",
        "head loss",
    ),
    Bug(
        "losses: each lane has the first pixel's logits",
        "head.cu",
        "k < K && lane == i) z",
        "k < K && !i) z",
        "head loss",
    ),
    Bug(
        "losses: ignored pixels count",
        "pixel_loss.cuh",
        "counts ? (weight ? weight[n] : 1.f) : 0.f",
        "weight ? weight[n] : 1.f",
        "head loss",
    ),
    Bug(
        "losses: classes weigh in Dice's pixels, too",
        "pixel_loss.cuh",
        "-of_dice * pixel.seen",
        "-of_dice * pixel.share",
        "head loss",
    ),
    Bug(
        "losses: a label's upper half read as the next one",
        "pixel_loss.cuh",
        "wide ? static_cast<const long long*>(labels)[n] : ",
        "",
        "head loss",
    ),
    Bug(
        "losses: dy of pixels that nobody has computed yet",
        "head.cu",
        "  __syncthreads();\n  float w[CLASSES]",
        "  float w[CLASSES]",
        "head loss",
    ),
    Bug(
        "losses: the gradient is not divided by the total",
        "head.cu",
        "scale * of_ce / result[1]",
        "scale * of_ce",
        "head loss",
    ),
    Bug(
        "head and losses: rows of a view too short",
        "head.cu",
        "<1>(z, x + p0 * ldx,",
        "<1>(z, x + p0 * C,",
        "head loss odd",
    ),
    Bug("head: gradients to rows of x", "head.cu", "* lddx + c]", "* C + c]", "head loss"),
    Bug("head and losses: a wrong label is no NaN", "head.cu", 'wrong ? nanf("") : 1 - mean', "1 - mean", "head loss"),
    Bug(
        "Dice: only pixels of the class in a union",
        "loss.cu",
        "either[k] += here * (v + (k == label ? 1.f : 0.f))",
        "either[k] += here * v * (k == label ? 2.f : 0.f)",
        "dice",
    ),
    Bug(
        "Dice: unseen pixels have gradients",
        "loss.cu",
        "-(dloss_at ? *dloss_at : dloss) * seen[n]",
        "-(dloss_at ? *dloss_at : dloss)",
        "dice",
    ),
    Bug("Dice: no softmax on the way back", "loss.cu", "p[n * K + k] * (dp[k] - sum)", "p[n * K + k] * dp[k]", "dice"),
    Bug(
        "norm: the biased variance moves the running one",
        "norm_merge.cu",
        "unbiased * (float)(squares / P)",
        "(float)(squares / P)",
        "norm",
    ),
    Bug(
        "norm: dgamma of a single tile is not scaled",
        "norm.cu",
        "if (dgamma) dgamma[c] = b * rstd[c];",
        "if (dgamma) dgamma[c] = b;",
        "norm of a tile",
    ),
    # many arrays at once
    Bug(
        "an array begins where the last one did", "tables.cuh", "(chunk - t.first[row]) * CHUNK", "chunk * CHUNK", "sgd"
    ),
    Bug("beyond an array's end", "tables.cuh", "min(t.size[row] - start, CHUNK)", "CHUNK", "sgd"),
    Bug("no more than one array skipped", "tables.cuh", "while (chunk >=", "if (chunk >=", "sgd"),
    Bug(
        "later chunks left out",
        "tables.cuh",
        "chunk += gridDim.x) {\n    while",
        "chunk += 1 << 20) {\n    while",
        "sgd",
    ),
    Bug("Nesterov does not look ahead", "optim.cu", "g + momentum * speed : speed);", "speed : speed);", "sgd"),
    Bug("decay of the gradient where it is decoupled", "optim.cu", "    if (decoupled)\n", "    if (false)\n", "adam"),
    Bug("the flag to leave a step out is not read", "optim.cu", "if (now[3] != 0.f) return;", "", "adam"),
    Bug("a norm of its own for every block", "optim.cu", "i < blocks; i += 256", "i < 1; i += 256", "clip"),
    Bug("infinity counts as finite", "optim.cu", "!(g[i] - g[i] == 0.f)", "g[i] != g[i]", "unscale"),
    Bug(
        "halves cut off in place of rounded",
        "cast.cu",
        "from_float(t.at[0][row][i])",
        "from_float(t.at[0][row][i] * 0.999f)",
        "cast",
    ),
    Bug("pool: the last of equals wins", "pool.cu", "if (v[e] > best[e])", "if (v[e] >= best[e])", "pool"),
    Bug(
        "pool: overlapping windows missed",
        "pool.cu",
        "oh0 = max(0, (h - size + stride) / stride)",
        "oh0 = h / stride",
        "pool",
    ),
]


def checks():
    """The checks by name, each a function of (device, rng), on the smallest shapes that show the mistakes."""
    from helpers import cuda_conv_checks as conv
    from helpers import cuda_many_checks as many
    from helpers import cuda_map_checks as maps

    return {
        "conv": lambda d, r: conv.convolution(d, r, "float32", 2, 5, 4, 8, 12, patch=False),
        "deep": lambda d, r: conv.convolution(d, r, "float32", 1, 7, 8, 40, 12, patch=False),  # two steps a tap
        "flat": lambda d, r: conv.convolution(d, r, "float32", 1, 5, 4, 3, 5),
        "half": lambda d, r: conv.convolution(d, r, "float16", 1, 5, 4, 8, 16, patch=False),
        "splits": lambda d, r: conv.convolution(d, r, "float32", 1, 4, 4, 8, 8, splits=2, patch=False),
        "patch": lambda d, r: conv.convolution(d, r, "float32", 2, 9, 17, 40, 8),  # three chunks, four tiles
        "patch warpgroups": lambda d, r: conv.convolution(d, r, "float32", 1, 17, 13, 40, 72, warpgroups=True),
        "patch halves": lambda d, r: conv.halves_of_concatenations(d, r, 16, 40, 12, 20, None),
        "patch amid others": lambda d, r: conv.convolution(d, r, "float32", 1, 17, 33, 4, 4),  # 3 x 3 tiles
        "patch splits": lambda d, r: conv.convolution(d, r, "float32", 1, 4, 4, 40, 8, splits=2),
        "weights": lambda d, r: conv.convolution(d, r, "float32", 2, 13, 11, 8, 8, patch=False),
        "rows": lambda d, r: conv.weights(d, r, "float32", 2, 9, 13, 4, 8),  # two strips, and more steps than stages
        "rows splits": lambda d, r: conv.weights(d, r, "float32", 1, 9, 17, 4, 4, splits=10),
        "rows unpadded": lambda d, r: conv.weights(d, r, "float32", 1, 5, 9, 4, 4, pad=0),
        "rows warpgroups": lambda d, r: conv.weights(d, r, "float32", 2, 9, 13, 4, 8, warpgroups=True),
        "rows wide": lambda d, r: conv.weights(d, r, "float32", 1, 3, 4, 72, 72),
        "wide": lambda d, r: conv.convolution(d, r, "float32", 1, 13, 11, 112, 104, columns=128, patch=False),
        "warpgroups": lambda d, r: conv.convolution(d, r, "float32", 1, 13, 11, 40, 72, warpgroups=True, patch=False),
        "trusted": lambda d, r: conv.wgmma_is_trusted(d, False, False),
        "trusted patch": lambda d, r: conv.wgmma_is_trusted(d, False, True),
        "trusted gradient": lambda d, r: conv.wgmma_is_trusted(d, True, False),
        "trusted weights": lambda d, r: conv.wgmma_is_trusted_with_weights(d),
        "halves": lambda d, r: conv.halves_of_concatenations(d, r, 16, 40, 12, 20, None, patch=False),
        "accumulate": lambda d, r: conv.scale_relu_and_accumulation(d, r, 5),
        "transposed": lambda d, r: conv.transposed_convolution(d, r, "float32", (2, 3, 5, 16, 8)),
        "head": lambda d, r: conv.head(d, r, "float32", 140, 3),
        "norm": lambda d, r: maps.batch_norm(d, r, (1, 17, 16, 36), "float32", True),
        "norm of a tile": lambda d, r: maps.batch_norm(d, r, (2, 5, 3, 7), "float32", True),
        "folded": lambda d, r: maps.norm_folded_into_a_convolution(d, r, 3, True),
        "moments": lambda d, r: maps.moments_do_not_cancel(d, r),
        "group": lambda d, r: maps.group_norm(d, r, (2, 9, 30, 70), 2, "float32", True),
        "group moments": lambda d, r: maps.moments_of_groups_do_not_cancel(d, r),
        "sgd": lambda d, r: many.sgd(d, r, nesterov=True, weight_decay=0.1),
        "adam": lambda d, r: many.adam(d, r, weight_decay=0.1, decoupled=True),
        "clip": lambda d, r: many.clip(d, r, 0.5),
        "unscale": lambda d, r: many.unscale(d, r, np.inf),
        "cast": lambda d, r: many.cast(d, r, "float16"),
        "loss": lambda d, r: maps.cross_entropy(d, r, 2, False),
        "head loss": lambda d, r: maps.head_loss(d, r, "float32", 40, 3, True),
        "head loss odd": lambda d, r: maps.head_loss(d, r, "float32", 7, 3, True),
        "dice": lambda d, r: maps.soft_dice(d, r, 3, True),
        "pool": lambda d, r: maps.max_pool(d, r, "float32", 3, 2, (2, 5, 3, 7)),
        "bilinear": lambda d, r: maps.bilinear(d, r, "float32", 2, True, (1, 4, 5, 36)),
    }


def first_to_notice(folder: str, check: str) -> str:
    """Run a check on the kernels in a folder, in every order until it fails."""
    from helpers.cuda_device import CONDITIONS, device

    from minunet.kernels.cuda import build, emulator

    build.FOLDER = Path(folder)
    for condition in CONDITIONS:
        try:
            with device(condition, exact=True) as d:
                checks()[check](d, np.random.default_rng(0))
        except (AssertionError, emulator.EmulatorError) as e:
            if "does not compile" in str(e):
                raise
            return f"caught by {check}, {condition}: {(str(e).splitlines() or ['?'])[0]}"
    return "passed"


def main() -> None:
    checks()  # what they import is imported once, for all
    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.alarm(SECONDS)
            print(first_to_notice(*json.loads(line)), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if number := os.waitstatus_to_exitcode(status):
            print("failed" if number > 0 else f"caught: crashed with signal {-number}", flush=True)


if __name__ == "__main__":
    main()

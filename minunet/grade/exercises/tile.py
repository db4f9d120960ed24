"""The exercise on a GPU's tile: places in shared memory, banks, and which lane of a warp holds which number."""

from __future__ import annotations

import numpy as np

from .. import later_answers as answers
from ..exercise import Exercise
from ..sheet import Sheet

PLAIN = "grade/later_answers.py"
NAMES = ("across_k", "bank_turns", "load_a", "load_b", "store_c")

warp_tile = Exercise(
    "warp_tile",
    "A tile in shared memory, as a warp reads it",
    lesson=9,
    minutes=45,
    task="""Write what a kernel computes of addresses, for all 32 lanes at once: where a number lies in a tile that is stored
across k, how many turns the banks take for what a warp reads at one moment, what each lane loads of the fragments of a and b
for one mma.sync, and where it stores its results. These are the places of minunet's CUDA kernels (tiles.cuh, float32). They are
not those of the lesson's `along_k`: there a tile's row holds numbers along k, here one k for all rows of a, or columns of b.

    g, t = lane // 4, lane % 4""",
    write=tuple((PLAIN, name) for name in NAMES),
)


def _tile(rng: np.random.Generator, width: int) -> np.ndarray:
    return rng.standard_normal(32 * width)


@warp_tile.check("places")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    for width in (64, 128):
        k, i = rng.integers(0, 32, 40), rng.integers(0, width, 40)
        wanted = answers.across_k(k, i, width)
        sheet.same("places", f"width {width}", sheet.call("across_k", k, i, width), wanted, 0.0)
        row, column = int(k[0]), int(i[0])
        got, wanted = sheet.call("across_k", row, i, width), answers.across_k(row, i, width)
        sheet.same("places", f"width {width}, one row, k = {row}", got, wanted, 0.0)
        for one in range(row, row + 4):  # four rows in a row are permuted each in its own way
            got, wanted = sheet.call("across_k", one, column, width), answers.across_k(one, column, width)
            sheet.same("places", f"width {width}, two numbers, k = {one} and i = {column}", got, wanted, 0.0)


@warp_tile.check("turns", "words wanted twice")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    g, t = np.divmod(np.arange(32), 4)
    start = int(rng.integers(0, 500))
    cases = {
        "turns": {
            "neighbours": start + rng.permutation(32),
            "every fifth": start + 5 * np.arange(32),
            "every second": start + 2 * np.arange(32),
            "rows of 64 words, not swizzled": start + 64 * t + g,
            "a column": start + 32 * np.arange(32),
            "by chance": rng.choice(4000, 32, replace=False),
        },
        "words wanted twice": {
            "one word for all": np.full(32, start),
            "eight words, each for four lanes": start + 32 * g,
            "two words of a bank, and others": np.r_[[start] * 9, start + np.arange(22), start + 32],
        },
    }
    for part, of_part in cases.items():
        for asked, places in of_part.items():
            sheet.same(part, asked, sheet.call("bank_turns", places), answers.bank_turns(places), 0.0)


@warp_tile.check("a", "b")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    for width in (64, 128):
        tile, k = _tile(rng, width), 8 * int(rng.integers(1, 4))
        m, n = 16 * int(rng.integers(1, width // 16)), 8 * int(rng.integers(1, width // 8))
        got, wanted = sheet.call("load_a", tile, width, m, k), answers.load_a(tile, width, m, k)
        sheet.same("a", f"width {width}, m = {m}, k = {k}", got, wanted, 0.0)
        got, wanted = sheet.call("load_b", tile, width, n, k), answers.load_b(tile, width, n, k)
        sheet.same("b", f"width {width}, n = {n}, k = {k}", got, wanted, 0.0)


@warp_tile.check("results")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    sums = rng.standard_normal((32, 4))
    sheet.same("results", "", sheet.call("store_c", sums), answers.store_c(sums), 0.0)


_CHUNK, _A = "(i // 4) ^ (2 * (k % 4))", "places = [(g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)]"
_READ_A, _STORE = "tile[across_k(k + column, m + row, width)]", "c[g + 8 * (j // 2), 2 * t + j % 2] = sums[:, j]"
warp_tile.wrong(
    "not_swizzled",
    "the chunks are not permuted: chunk c of row k lies where c xor 2 (k mod 4) would",
    (_CHUNK, "i // 4"),
)
warp_tile.wrong(
    "swizzled_by_the_row",
    "the chunk is permuted by the whole of k, as `along_k` does with rows: here it is by 2 (k mod 4)",
    (_CHUNK, "(i // 4) ^ (k % 8)"),
)
warp_tile.wrong("not_doubled", "the chunk is permuted by k mod 4: it is 2 (k mod 4)", (_CHUNK, "(i // 4) ^ (k % 4)"))
warp_tile.wrong(
    "numbers_permuted",
    "single numbers are permuted: it is chunks of four",
    ("4 * chunk + i % 4", "(i ^ (2 * (k % 4)))"),
)
warp_tile.wrong("not_their_place", "what comes back is the chunk's place: its four numbers lie in it one after the other",
                ("4 * chunk + i % 4", "4 * chunk"))  # fmt: skip
warp_tile.wrong("added", "the two numbers are added: xor is ^ in Python", (_CHUNK, "(i // 4) + (2 * (k % 4))"))
warp_tile.wrong(
    "same_word_again",
    "a word that several lanes want counts more than once: a bank gives it to all of them in one turn",
    ("np.unique(places) % 32", "places % 32"),
)
warp_tile.wrong(
    "banks_counted",
    "this counts the banks that give something: the turns are the words of the busiest bank",
    ("np.bincount(np.unique(places) % 32).max()", "len(np.unique(places % 32))"),
)
warp_tile.wrong(
    "the_mean_bank",
    "this is the mean over banks: all wait for the busiest one",
    ("np.bincount(np.unique(places) % 32).max()", "np.ceil(len(np.unique(places)) / 32)"),
)
warp_tile.wrong(
    "rest_of_the_division",
    "place p is in bank p mod 32, not p // 32: neighbours have different banks",
    ("np.unique(places) % 32", "np.unique(places) // 32"),
)
warp_tile.wrong(
    "g_and_t_swapped", "g and t are swapped: g = lane // 4, t = lane % 4", ("g, t = np.divmod(", "t, g = np.divmod(")
)
warp_tile.wrong(
    "second_register_to_the_right",
    "the second and the third number are swapped: first down by 8 rows, then to the right by 4 columns",
    (_A, "places = [(g, t), (g, t + 4), (g + 8, t), (g + 8, t + 4)]"),
)
warp_tile.wrong(
    "fragment_transposed",
    "rows and columns of the fragment are swapped: a's column is the tile's row",
    (_READ_A, "tile[across_k(k + row % 8, m + column + 8 * (row // 8), width)]"),
)
warp_tile.wrong("read_without_the_swizzle", "the tile is read as if it were not swizzled: ask `across_k` for the places",
                (_READ_A, "tile[(k + column) * width + m + row]"),
                ("tile[across_k(k + row, n + g, width)]", "tile[(k + row) * width + n + g]"))  # fmt: skip
warp_tile.wrong(
    "registers_first",
    "the axes are swapped: (32, 4), a row for each lane",
    ("for row, column in places], axis=1)", "for row, column in places])"),
)
warp_tile.wrong(
    "b_neighbours",
    "b's rows are t and t + 4, not 2t and 2t + 1",
    ("for row in (t, t + 4)", "for row in (2 * t, 2 * t + 1)"),
)
warp_tile.wrong("b_transposed", "rows and columns of b are swapped: a lane holds rows t and t + 4 of column g",
                ("tile[across_k(k + row, n + g, width)]", "tile[across_k(k + g, n + row, width)]"))  # fmt: skip
warp_tile.wrong(
    "results_like_a",
    "the results are stored as a's numbers are held, in columns t and t + 4: it is columns 2t and 2t + 1",
    (_STORE, "c[g + 8 * (j // 2), t + 4 * (j % 2)] = sums[:, j]"),
)
warp_tile.wrong(
    "results_down_first",
    "the second and the third result are swapped: first to the right, then down by 8 rows",
    (_STORE, "c[g + 8 * (j % 2), 2 * t + j // 2] = sums[:, j]"),
)

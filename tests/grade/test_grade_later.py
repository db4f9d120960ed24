"""The exercises of lessons 09 to 12: their answers are the package's. (Verdicts are in test_verdicts.py.)"""

import numpy as np
import pytest

from minunet import optim
from minunet.gradcheck import check
from minunet.grade import later_answers as answers
from minunet.grade.exercises import tape
from minunet.kernels.cuda import build, emulator, launch
from minunet.models import UNet
from minunet.models.summary import summary

# ---- the answers -----------------------------------------------------------------------------------------------------

READ_TILE = r"""
#include "tiles.cuh"
extern "C" __global__ void __launch_bounds__(32)
read_tile(const float* tile, float* a, float* b, float* sums, int* places, int m, int n, int k) {
  uint32_t ra[4], rb[2][2];
  fragment_a<128, false>(ra, tile, m, k);
  fragment_b<128, false>(rb, tile, n, k);
  const int lane = threadIdx.x;
  UNROLL for (int j = 0; j < 4; ++j) a[lane * 4 + j] = *reinterpret_cast<const float*>(&ra[j]);
  UNROLL for (int j = 0; j < 2; ++j) b[lane * 2 + j] = *reinterpret_cast<const float*>(&rb[0][j]);
  float c[4] = {};
  mma_tf32(c, ra, rb[0]);
  UNROLL for (int j = 0; j < 4; ++j) sums[lane * 4 + j] = c[j];
  for (int i = lane; i < 32 * 128; i += 32) places[i] = across_k<128>(i / 128, i % 128);
}
"""


@pytest.mark.slow
@pytest.mark.skipif(emulator.missing() is not None, reason="the CUDA emulator needs a C++ compiler")
def test_a_tile_is_read_as_the_kernels_read_it(rng):
    """Places, fragments and results by tiles.cuh, on the emulator."""
    tile = rng.integers(-9, 10, 32 * 128).astype(np.float32)  # small whole numbers: TF32 is exact
    a, b, sums, places = (np.zeros(shape, np.float32) for shape in ((32, 4), (32, 2), (32, 4), (32, 128)))
    places = places.astype(np.int32)
    with build.sources({"answers.cu": READ_TILE}):
        numbers = [np.int32(n) for n in (48, 80, 16)]
        launch.run("answers.cu", "read_tile", (1,), (32,), (tile, a, b, sums, places, *numbers))
    k, i = np.indices((32, 128))
    assert np.array_equal(answers.across_k(k, i, 128), places)
    assert np.array_equal(
        answers.load_a(tile, 128, 48, 16), np.round(a)
    )  # the kernels enlarge a little what will be cut
    assert np.array_equal(answers.load_b(tile, 128, 80, 16), np.round(b))
    plain = tile[places]  # (k, number)
    assert np.array_equal(answers.store_c(sums), plain[16:24, 48:64].T @ plain[16:24, 80:88])


def test_what_a_warp_reads_comes_from_all_banks():
    """Across k it reads 4 rows and 8 columns: in one turn with the swizzle, in four without."""
    g, t = np.divmod(np.arange(32), 4)
    assert answers.bank_turns(answers.across_k(t, g, 64)) == 1
    assert answers.bank_turns(64 * t + g) == 4


@pytest.mark.slow
def test_costs_are_those_of_the_paper():
    net = UNet(3, 2)
    found, shape = summary(net, (1, 64, 64, 3), fused=False), (1, 64, 64, 3)
    assert answers.unet_parameters(3, 2, 64, 4) == net.num_params() == 31_037_698
    assert answers.unet_operations(shape, 2, 64, 4) == found.flops and answers.unet_kept(shape, 2, 64, 4) == found.kept


def test_without_a_warm_up_it_is_the_cosine():
    cosine = optim.Schedule("cosine", 0.3, 17)
    for step in range(25):
        assert answers.learning_rate(step, 17, 0.3) == pytest.approx(cosine(step), abs=1e-12)
    rates = [answers.learning_rate(step, 17, 0.3, 5) for step in range(18)]
    assert np.argmax(rates) in (4, 5) and (np.diff(rates[5:]) < 0).all() and rates[-1] == 0


def test_a_graph_is_walked_back_to_its_gradients(rng):
    for _ in range(5):
        lines, end = tape.graph(rng)
        mixed = tape.shuffled(lines, end, rng)

        def forward(leaves, lines=lines, end=end, mixed=mixed):
            values = tape.run(lines, leaves)
            return values[end], (mixed, values, end)

        assert check((forward, lambda dy, cache: answers.walk_back(*cache, dy)[:3]), rng.uniform(0.5, 1.5, (3, 2, 2)))
        assert not tape.fault(answers.walk_order(mixed, end), mixed, end)


@pytest.mark.parametrize(
    "order, says",
    [
        ([1, 0, 2], ""),
        ([1, 2, 0], ""),
        ([0, 1, 2], "line 0 (add) comes before line 1, which uses its output"),
        ([1, 0], "line 2 is missing"),
        ([1, 0, 2, 0], "line 0 is walked twice"),
        ([1, 0, 2, 7], "there is no line 7"),
        (None, "None came back"),
        (3.0, "no list of whole numbers"),
        ([0.5], "no list of whole numbers"),
        (("a",), "no list of whole numbers"),
    ],
)
def test_what_is_wrong_with_an_order_is_said(order, says):
    lines = [("add", (0, 1), 3), ("multiply", (3, 4), 5), ("tanh", (2,), 4), ("tanh", (4,), 6)]
    found = tape.fault(order, lines, 5)
    assert (says in found) if says else found == ""

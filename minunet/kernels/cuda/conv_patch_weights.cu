// The gradient of the weights of 3 x 3 taps, where every pixel is fetched once for all nine taps: row by row.
//
//     for a tile of BM channels of x and BN of dy, for strips of ACROSS columns of dy and one more of x on either side:
//         for each row of x, downwards:
//             above, same, below = same, below, dy's next row                 which stay in registers for three rows of x
//             for j in 0, 1, 2, for w in columns of dy, for c, k in channels:
//                 dw[0, j, c, k] += x[w + j - pad, c] * below[w, k]
//                 dw[1, j, c, k] += x[w + j - pad, c] * same[w, k]
//                 dw[2, j, c, k] += x[w + j - pad, c] * above[w, k]
//
// It stands for conv_weights.cu with side = 3, stride = 1 and a pad of at most 2, and writes `partial` as that does, for
// conv_weights_sum.
//
// Rows are counted through all strips of all images, with rows of zeros between, so that what is above a strip's first row and
// below its last one multiplies zeros:
//
//     number       0       1       2    ...   H - 1     H       H + 1     H + 2          with a pad of 1; without one
//     row of x     0       1       2    ...   H - 1   zeros       0         1            dy lies a row further down,
//     row of dy    0       1       2    ...   H - 1   zeros       0         1            and with a pad of 2 x does
//                |---------- a strip ----------|              |--- the next one ---
//
// Tile of a block: 64 x 64 channels and nine taps, in 8 warps of 16 x 32 channels: 144 sums in a thread. A warp reads a number of
// x from shared memory three times, and one of dy once. A step is DOWN rows of x, and of dy those one further down; STAGES steps
// are under way at once. A block begins with the step before its first one, of which it only takes the rows of dy. The rows are
// shared out among `splits` blocks.
// With -DWARPGROUPS (sm_90a) wgmma multiplies, and each of three warpgroups has the 64 x 64 channels of one column of taps. Its
// warps read 16 channels of x, and wgmma reads dy by itself. In TF32 it takes only what lies along the pixels, so all warps turn
// the rows of dy when they arrive. There is place for eight turned rows: five are multiplied while three arrive.
//
// Shapes: channels are multiples of 16 bytes and rows are aligned to 16 bytes. Numbers: -DF16, -DBF16, else float32 by TF32
// products; sums are float32.
//
// Measure: python bench/cuda_kernels.py conv_patch_weights
#include "tiles.cuh"

#ifdef WARPGROUPS
constexpr int THREADS = 384;
#else
constexpr int THREADS = 256;
#endif
constexpr int BM = 64, BN = 64, DOWN = 3, ACROSS = STEP_K, ACROSS_X = ACROSS + 2, STAGES = 4;
constexpr int PIECES = BM / PER_CHUNK;  // of 16 bytes, in a tile's pixel

struct Tiles {
#ifdef WARPGROUPS
  number turned[2][BN * ROW];  // dy's channels x eight rows of pixels, in turns; begins at a multiple of 1024 bytes
#endif
  number x[STAGES][DOWN * ACROSS_X * BM], dy[STAGES][DOWN * ACROSS * BN];
};

// How a block multiplies: a thread's sums; what is done with a step's tiles once they are there; its products; and where the sums
// belong, for use(tap, channel of x, channel of dy, two sums)
#ifdef WARPGROUPS
struct Sums {  // of a warp: 16 channels of x x 64 of dy, for the three taps of the warpgroup's column
  float c[3 * 8][4] = {};
  uint32_t fragments[DOWN][4] = {}, next[DOWN][4];  // of x: the step's rows, and the next one's

  __device__ __forceinline__ void prepare(Tiles* s, int step) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, t = warp % 3, n = warp / 3 * 16;
    uint32_t w[2][2];  // a warp turns 16 channels of a row of dy
    fragment_b<BN, false>(w, s->dy[step % STAGES], n, t * ACROSS);
    UNROLL for (int j = 0; j < 4; ++j) {
      const int channel = n + lane / 4 + j / 2 * 8, word = lane % 4 + j % 2 * 4, row = step * DOWN + t;
      store_shared_word(s->turned[row / 4 % 2] + along_k<ROW>(channel, row % 4 * STEP_K + word * PER_WORD), w[j / 2][j % 2]);
    }
    fence_for_wgmma();
    __syncthreads();  // all three rows are turned
    UNROLL for (int t = 0; t < DOWN; ++t)
      fragment_a<BM, false>(next[t], s->x[step % STAGES], warp % 4 * 16, t * ACROSS_X + warp / 4);
  }
  __device__ __forceinline__ void begin(Tiles*) {}
  __device__ __forceinline__ void add(Tiles* s, int step) {
    UNROLL for (int t = 0; t < DOWN; ++t) UNROLL for (int e = 0; e < 4; ++e) fragments[t][e] = next[t][e];
    wgmma_fence(c, fragments);
    auto row_of_dy = [&](int row) { return rows_for_wgmma<128, 8 * 128>(s->turned[row / 4 % 2] + row % 4 * STEP_K); };
    UNROLL for (int t = 0; t < DOWN; ++t) {
      const int below = step * DOWN + t;
      wgmma64<0>(c, fragments[t], row_of_dy(below));
      wgmma64<8>(c, fragments[t], row_of_dy(below - 1));
      wgmma64<16>(c, fragments[t], row_of_dy(below - 2));
    }
    wgmma_commit();
  }
  __device__ __forceinline__ void wait() { wgmma_wait(c, fragments); }  // products that have been begun are done
  template <class F> __device__ __forceinline__ void for_each(F use) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, m = threadIdx.x / 32 % 4 * 16;
    UNROLL for (int i = 0; i < 3; ++i) UNROLL for (int e = 0; e < 8; ++e) UNROLL for (int h = 0; h < 2; ++h)
      use(3 * i + threadIdx.x / 128, m + g + 8 * h, 8 * e + 2 * t, c[8 * i + e][2 * h], c[8 * i + e][2 * h + 1]);
  }
};
#else
struct Sums {  // of a warp: 16 channels of x x 32 of dy, for nine taps
  float c[9][4][4] = {};
  uint32_t b[3][2][2][2];  // three rows of dy

  __device__ __forceinline__ void take(int t, const number* dy) {
    UNROLL for (int half = 0; half < 2; ++half)
      fragment_b<BN, false>(b[t][half], dy, threadIdx.x / 128 * 32 + 16 * half, t * ACROSS);
  }
  __device__ __forceinline__ void prepare(Tiles*, int) {}
  __device__ __forceinline__ void begin(Tiles* s) { take(1, s->dy[0]), take(2, s->dy[0]); }
  __device__ __forceinline__ void add(Tiles* s, int step) {
    UNROLL for (int t = 0; t < DOWN; ++t) {
      take(t, s->dy[step % STAGES]);
      UNROLL for (int j = 0; j < 3; ++j) {
        uint32_t a[4];
        fragment_a<BM, false>(a, s->x[step % STAGES], threadIdx.x / 32 % 4 * 16, t * ACROSS_X + j);
        UNROLL for (int i = 0; i < 3; ++i) UNROLL for (int e = 0; e < 4; ++e)
          mma(c[3 * i + j][e], a, b[(t + 3 - i) % 3][e / 2][e % 2]);
      }
    }
  }
  __device__ __forceinline__ void wait() {}
  template <class F> __device__ __forceinline__ void for_each(F use) const {
    const int m = threadIdx.x / 32 % 4 * 16, n = threadIdx.x / 128 * 32;
    for_each_pair(c, [&](int row, int k, float u, float v) { use(row / 16, m + row % 16, n + k, u, v); });
  }
};
#endif

struct Row {  // a row of a strip, whose first column of dy is `left`
  int image, left, row;
  __device__ void next(int rows, int OW) {
    if (++row < rows) return;
    row = 0, left += ACROSS;
    if (left >= OW) left = 0, ++image;
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1)
conv_patch_weights(const number* __restrict__ x1, const number* __restrict__ x2, const number* __restrict__ dy, float* partial,
                   int N, int OH, int OW, int H, int W, int C1, int C2, int ldx1, int ldx2, int K, int ldy, int pad, int splits) {
  SHARED(Tiles, s);
  const int tid = threadIdx.x, n0 = blockIdx.y * BN, C = C1 + C2, tiles1 = (C1 + BM - 1) / BM, tile = blockIdx.x;
  const bool second = tile >= tiles1;
  const int c0 = (second ? tile - tiles1 : tile) * BM, last = second ? C2 : C1, ldx = second ? ldx2 : ldx1;
  const int rows = H + pad, strips = (OW + ACROSS - 1) / ACROSS;
  const int steps = (N * strips * rows + DOWN - 1) / DOWN, share = (steps + splits - 1) / splits;
  const int first = blockIdx.z * share, count = min(steps - first, share);  // steps of this block

  // a thread copies a piece of one pixel of each row: the first ones of x, the last ones of dy
  constexpr int FIRST_DY = THREADS - ACROSS * PIECES;
  const int piece = tid % PIECES * PER_CHUNK, of_x = tid / PIECES, of_dy = (tid - FIRST_DY) / PIECES;
  const bool to_x = tid < ACROSS_X * PIECES, to_dy = tid >= FIRST_DY, in_x = c0 + piece < last, in_dy = n0 + piece < K;
  const number *x = (second ? x2 : x1) + c0 + piece, *dy_n = dy + n0 + piece;
  const int x_down = max(0, pad - 1), dy_down = max(0, 1 - pad);  // rows of zeros above a strip
  const int before = (first - 1) * DOWN + DOWN * strips * rows;   // rows before the first copied, with those of DOWN more images
  Row at = {before / (strips * rows) - DOWN, before / rows % strips * ACROSS, before % rows};
  auto copy = [&](int step) {
    ROLLED for (int t = 0; t < DOWN; ++t) {
      if (to_x) {
        const int h = at.row - x_down, w = at.left - pad + of_x;
        const bool inside = (unsigned)at.image < (unsigned)N && (unsigned)h < (unsigned)H && (unsigned)w < (unsigned)W;
        const number* from = x + times((at.image * H + h) * W + w, ldx);
        cp_async16(&s->x[step % STAGES][across_k<BM>(t * ACROSS_X + of_x, piece)], from, in_x && inside && step);
      }
      at.next(rows, OW);
      if (to_dy) {
        const int h = at.row - dy_down, w = at.left + of_dy;
        const bool inside = (unsigned)at.image < (unsigned)N && (unsigned)h < (unsigned)OH && w < OW;
        const number* from = dy_n + times((at.image * OH + h) * OW + w, ldy);
        cp_async16(&s->dy[step % STAGES][across_k<BN>(t * ACROSS + of_dy, piece)], from, in_dy && inside);
      }
    }
  };

  Sums sums;
  auto arrive = [&](int step) {
    cp_async_wait<STAGES - 2>();  // this thread's copies for this step have landed,
    __syncthreads();              // everybody's; and everybody is done with the tiles of the step before
    if (step + STAGES - 1 <= count) copy(step + STAGES - 1);
    cp_async_commit();
    sums.prepare(s, step);
  };
  for (int step = 0; step < STAGES - 1; ++step) {
    if (step <= count) copy(step);
    cp_async_commit();
  }
  if (count > 0) {
    arrive(0);
    sums.begin(s);
    arrive(1);
  }
  for (int step = 1; step <= count; ++step) {
    sums.add(s, step);
    if (step < count) arrive(step + 1);
    sums.wait();
  }
  partial += (long long)blockIdx.z * 9 * C * K;
  sums.for_each([&](int tap, int channel, int column, float u, float v) {
    const int k = n0 + column;  // K is even
    if (c0 + channel >= last || k >= K) return;
    float* to = partial + ((long long)tap * C + (second ? C1 : 0) + c0 + channel) * K + k;
    to[0] = u, to[1] = v;
  });
}

// Convolution as an implicit matrix product on tensor cores: pixels x channels out = (pixels x taps x channels in) * weights.
//
//     for n, h, w in the output's pixels, for k in its channels:
//         y[n, h, w, k] = 0
//         for i, j in taps, for c in channels:                          x is 0 outside of its H x W pixels
//             y[n, h, w, k] += x[n, h * stride + i - pad, w * stride + j - pad, c] * weight[i, j, c, k]
//         and what epilogue.cuh adds
//
// One kernel, compiled in six ways, does for all convolutions of a U-Net and their data gradients, though those of 3 x 3 taps, which
// are most of the work, have a better one in conv_patch.cu: this one fetches a pixel from memory once for every tap.
//
//     convolution              side x side taps, stride 1, pad                                   (weights HWIO, ACROSS k)
//     its data gradient        the same over dy, taps read backwards (flip), pad = side - 1 - pad, and -DGRADIENT, where the
//                              weights [tap][c][k] are summed over k
//     transposed convolution   1 x 1 taps; each of up x up taps of the weights makes its own pixels (up)
//     its data gradient        a convolution over dy with side = stride = up, no pad, -DGRADIENT
//
// Input channels come from two arrays, x1 (C1 channels) and x2 (C2, or none); output channels go to two, y1 (K1) and y2 (K2,
// or none). Each has its own step between pixels (ldx, ldy: numbers), so any of them may be a half of a concatenation.
//
// Tile of a block: BM pixels x BN channels out, BK = 128 bytes of channels in a step, STAGES steps under way at once: 128 x 64
// in 4 warps of 64 x 32, 72 KB of shared memory, or with -DWIDE, where channels out fill it, 128 x 128 in 4 warps of 64 x 64,
// 96 KB. Steps go over taps and chunks of BK channels of x1, then of x2. -DTWO_STAGES is for GPUs with 100 KB a multiprocessor:
// with 48 KB two blocks of 128 x 64 fit there.
// With -DWARPGROUPS (sm_90a) wgmma multiplies the same tiles, transposed: a warpgroup of 128 threads takes 64 channels out and
// all pixels, and reads 192 k from shared memory for 8192 k products; its tensor cores are faster that way, too.
// Small maps have too few tiles to fill a GPU: then `splits` blocks share the steps of a tile, leave float32 sums in
// `partial` [split][pixel][channel], and conv_finish adds these in their order and applies the epilogue (scale, bias, ReLU).
//
// Shapes: any. By default channels in are multiples of 16 bytes, rows of x and weights are aligned to 16 bytes, side is at most
// 16, and there are fewer than 2^31 weights; with -DFLAT anything goes: steps then go over the flattened (tap, channel), number
// by number, which a first layer of 1 or 3 channels wants anyway (its 9 or 27 products fill one step). `wide`: y's rows may be
// written 4 channels at a time.
// Numbers: -DF16, -DBF16, else float32 by TF32 products; sums float32.
//
// Measure: python bench/cuda_kernels.py conv
#include "epilogue.cuh"
#include "tiles.cuh"

#ifdef WIDE
constexpr int BN = 128;
#else
constexpr int BN = 64;
#endif
#ifdef TWO_STAGES
constexpr int STAGES = 2;
#else
constexpr int STAGES = 3;
#endif
constexpr int BM = 128, BK = ROW;
constexpr int OUT_ROW = BN + 4;  // floats: a tile of results in shared memory, rows shifted by 4 banks
#ifdef GRADIENT
constexpr bool B_ALONG_K = true;
constexpr int B_ROW = BK;  // numbers in a row of b's tile
#else
constexpr bool B_ALONG_K = false;
constexpr int B_ROW = BN;
#endif

// How a block multiplies: its threads; a thread's sums; one step; and where a thread's sums belong in the tile of results.
#ifdef WARPGROUPS
constexpr bool READ_BY_WGMMA = true;
constexpr int THREADS = 2 * BN, BLOCKS = BN == 64 ? 3 : 2;  // a warpgroup for 64 channels out; blocks a multiprocessor
typedef float Sums[1][BM / 8][4];                           // of a warp: 16 channels out x all pixels

__device__ __forceinline__ void multiply(Sums& c, const number* a, const number* b) {
  multiply_transposed<BK, B_ROW, B_ALONG_K>(c[0], a, b, threadIdx.x / 32 * 16);
}
__device__ __forceinline__ void store_sums(const Sums& c, float* out) {
  out += threadIdx.x / 32 * 16;
  for_each_pair(c, [&](int k, int p, float u, float v) { out[p * OUT_ROW + k] = u, out[(p + 1) * OUT_ROW + k] = v; });
}
#else
constexpr bool READ_BY_WGMMA = false;
constexpr int THREADS = 128, BLOCKS = BN == 64 ? 3 : 2;
constexpr int WN = BN / 2;
typedef float Sums[4][WN / 8][4];  // of a warp: 64 pixels x WN channels out

__device__ __forceinline__ int first_pixel() { return threadIdx.x / 32 % 2 * 64; }
__device__ __forceinline__ int first_channel() { return threadIdx.x / 64 * WN; }
__device__ __forceinline__ void multiply(Sums& c, const number* a, const number* b) {
  multiply_tiles<BK, BK, true, B_ROW, B_ALONG_K>(c, a, b, first_pixel(), first_channel());
}
__device__ __forceinline__ void store_sums(const Sums& c, float* out) {
  out += first_pixel() * OUT_ROW + first_channel();
  for_each_pair(c, [&](int p, int k, float u, float v) { out[p * OUT_ROW + k] = u, out[p * OUT_ROW + k + 1] = v; });
}
#endif

struct Factors {
  number a[STAGES][BM * BK], b[STAGES][BN * BK];
};
struct Results {
  float out[BM * OUT_ROW], sums[THREADS];
};
union Tiles {  // of structs with names: NVRTC before 12.8 finds no members of those without
  Factors in;
  Results result;
};

// of `side` taps in a row from `first` on, which lie in 0...size - 1, as bits
__device__ __forceinline__ uint32_t taps_inside(int first, int size, int side) {
  const int lowest = max(0, -first), end = min(side, size - first);
  return end > lowest ? (1u << end) - (1u << lowest) : 0;
}

// Pixels m0... of all images, one after another; in a transposed convolution each makes up x up pixels of y, here number up_tap.
struct Row {
  int m0, P, OH, OW, up, up_tap;
  __device__ int pixels() const { return min(BM, P - m0); }
  __device__ bool holds(int r) const { return m0 + r < P; }
  __device__ long long sum(int r) const { return m0 + r; }
  __device__ long long pixel(int r) const {
    const int p = m0 + r;
    if (up == 1) return p;
    const int w = p % OW, h = p / OW % OH, n = p / OW / OH;
    return ((long long)n * OH * up + h * up + up_tap / up) * OW * up + w * up + up_tap % up;
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
conv(const number* __restrict__ x1, const number* __restrict__ x2, const number* __restrict__ weight,
     const float* __restrict__ scale, const float* __restrict__ bias, number* y1, number* y2, float* moments, float* partial,
     int N, int OH, int OW, int H, int W, int C1, int C2, int ldx1, int ldx2, int K1, int K2, int ldy1, int ldy2, int side,
     int stride, int pad, int flip, int up, int splits, int relu, int accumulate, int wide) {
  SHARED(Tiles, s);
  const int tid = threadIdx.x, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN;
  const int up_tap = blockIdx.z / splits, split = blockIdx.z % splits;
  const int P = N * OH * OW, C = C1 + C2, K = K1 + K2, taps = side * side;
  weight += (long long)up_tap * C * K;

#ifdef FLAT
  const int steps = (taps * C + BK - 1) / BK;
#else
  const int chunks1 = (C1 + BK - 1) / BK, chunks = chunks1 + (C2 + BK - 1) / BK, steps = taps * chunks;
#endif
  const int share = (steps + splits - 1) / splits, first = split * share, stop = min(steps, first + share);

#ifdef FLAT
  // a thread copies, number by number, row tid of a (its pixel stays the same) and column tid % BN or so of b
  static_assert(THREADS == BM, "a thread for each pixel");
  const int row = tid, p = m0 + row;
  const int image = p / OW / OH, top = p / OW % OH * stride - pad, left = p % OW * stride - pad;
  auto copy = [&](int step) {
    number *a = s->in.a[step % STAGES], *b = s->in.b[step % STAGES];
    int c = step * BK % C, tap_i = step * BK / C / side, tap_j = step * BK / C % side;  // no division for each number
    for (int i = 0; i < BK; ++i) {
      const int y = top + tap_i, x = left + tap_j;
      number v = from_float(0.f);
      if (p < P && tap_i < side && (unsigned)y < (unsigned)H && (unsigned)x < (unsigned)W) {
        const long long pixel = ((long long)image * H + y) * W + x;
        v = c < C1 ? x1[pixel * ldx1 + c] : x2[pixel * ldx2 + (c - C1)];
      }
      a[along_k<BK>(row, i)] = v;
      if (++c == C) {
        c = 0;
        if (++tap_j == side) tap_j = 0, ++tap_i;
      }
    }
    for (int item = tid; item < BN * BK; item += THREADS) {
      const int n = B_ALONG_K ? item / BK : item % BN, i = B_ALONG_K ? item % BK : item / BN;
      const int r = step * BK + i, tap = flip ? taps - 1 - r / C : r / C, c = r % C, k = n0 + n;
      const bool valid = k < K && r < taps * C;
      const long long at = B_ALONG_K ? ((long long)tap * K + k) * C + c : ((long long)tap * C + c) * K + k;
      b[B_ALONG_K ? along_k<BK>(n, i) : across_k<BN>(i, n)] = valid ? weight[at] : from_float(0.f);
    }
  };
#else
  // a thread copies chunk tid % 8 of ROWS rows of a, whose pixels stay the same, and as many chunks of b as are its share
  constexpr int ROWS = BM * 8 / THREADS;
  int corner[ROWS];       // the pixel of x at the first tap,
  uint32_t inside[ROWS];  // and which rows of taps (bits 0...15) and columns (bits 16...31) lie in x
  UNROLL for (int i = 0; i < ROWS; ++i) {
    const int p = m0 + tid / 8 + i * (THREADS / 8), top = p / OW % OH * stride - pad, left = p % OW * stride - pad;
    corner[i] = (p / OW / OH * H + top) * W + left;
    inside[i] = p < P ? taps_inside(top, H, side) | taps_inside(left, W, side) << 16 : 0;
  }
  int tap_i = first / chunks / side, tap_j = first / chunks % side, chunk = first % chunks;  // of the step to copy next
  auto copy = [&](int step) {
    number *a = s->in.a[step % STAGES], *b = s->in.b[step % STAGES];
    const int tap = tap_i * side + tap_j, second = chunk >= chunks1;
    const int c0 = (second ? chunk - chunks1 : chunk) * BK, last = second ? C2 : C1;  // channels of this source
    const number* x = second ? x2 : x1;
    const int ldx = second ? ldx2 : ldx1, c = c0 + tid % 8 * PER_CHUNK;
    const uint32_t here = 1u << tap_i | 0x10000u << tap_j;
    const int shift = tap_i * W + tap_j;
    UNROLL for (int i = 0; i < ROWS; ++i) {
      const bool valid = (inside[i] & here) == here && c < last;
      const number* from = x + c + times(corner[i] + shift, ldx);
      cp_async16(&a[along_k<BK>(tid / 8 + i * (THREADS / 8), tid % 8 * PER_CHUNK)], from, valid);
    }
    const int cw = c0 + (second ? C1 : 0), of_tap = flip ? taps - 1 - tap : tap;
    constexpr int ACROSS = BN / PER_CHUNK;  // chunks in a row of b across k
    UNROLL for (int i = 0; i < BN * 8 / THREADS; ++i) {
      const int r = B_ALONG_K ? tid % 8 * PER_CHUNK : tid / ACROSS + i * (THREADS / ACROSS);
      const int n = B_ALONG_K ? tid / 8 + i * (THREADS / 8) : tid % ACROSS * PER_CHUNK;
      const bool valid = c0 + r < last && n0 + n < K;
      const int at = B_ALONG_K ? (of_tap * K + n0 + n) * C + cw + r : (of_tap * C + cw + r) * K + n0 + n;
      cp_async16(&b[B_ALONG_K ? along_k<BK>(n, r) : across_k<BN>(r, n)], weight + at, valid);
    }
    if (++chunk == chunks) {  // a division takes longer than all this
      chunk = 0;
      if (++tap_j == side) tap_j = 0, ++tap_i;
    }
  };
#endif

  Sums c = {};
  for (int step = first; step < first + STAGES - 1; ++step) {
    if (step < stop) copy(step);
    cp_async_commit();
  }
  for (int step = first; step < stop; ++step) {
    cp_async_wait<STAGES - 2>();  // this thread's copies for this step have landed,
    if (READ_BY_WGMMA) fence_for_wgmma();
    __syncthreads();  // everybody's; and everybody is done with the tiles of the step before
    if (step + STAGES - 1 < stop) copy(step + STAGES - 1);
    cp_async_commit();
    multiply(c, s->in.a[step % STAGES], s->in.b[step % STAGES]);
  }
  cp_async_wait<0>();
  __syncthreads();  // the results take the tiles' place
  store_sums(c, s->result.out);
  __syncthreads();
  const Row at = {m0, P, OH, OW, up, up_tap};
  if (splits > 1) return leave_sums<BM, BN, THREADS>(s->result.out, partial + (long long)blockIdx.z * P * K, at, n0, K);
  if (moments) moments += (long long)blockIdx.x * 2 * K;
  const Output q = {scale, bias, y1, y2, moments, K1, K2, ldy1, ldy2, relu, accumulate, wide};
  finish_tile<BM, BN, THREADS>(s->result.out, s->result.sums, at, q, n0);
}

// the sums of all splits, added in their order; a block for each tile, as above (those of conv_patch.cu, too)
extern "C" __global__ void __launch_bounds__(THREADS, 1)
conv_finish(const float* __restrict__ partial, const float* __restrict__ scale, const float* __restrict__ bias, number* y1,
            number* y2, float* moments, int N, int OH, int OW, int K1, int K2, int ldy1, int ldy2, int up, int splits, int relu,
            int accumulate, int wide) {
  SHARED(Tiles, s);
  const int m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, P = N * OH * OW, K = K1 + K2;
  partial += (long long)blockIdx.z * splits * P * K;
  for (int item = threadIdx.x; item < BM * BN; item += THREADS) {
    const int row = item / BN, column = item % BN;
    float sum = 0.f;
    if (m0 + row < P && n0 + column < K)
      for (int i = 0; i < splits; ++i) sum += partial[((long long)i * P + m0 + row) * K + n0 + column];
    s->result.out[row * OUT_ROW + column] = sum;
  }
  __syncthreads();
  const Row at = {m0, P, OH, OW, up, (int)blockIdx.z};
  if (moments) moments += (long long)blockIdx.x * 2 * K;
  const Output q = {scale, bias, y1, y2, moments, K1, K2, ldy1, ldy2, relu, accumulate, wide};
  finish_tile<BM, BN, THREADS>(s->result.out, s->result.sums, at, q, n0);
}

// The gradient of a convolution's weights as a matrix product over the pixels, on tensor cores, in two deterministic stages.
// Of 3 x 3 taps with stride 1, which are most of the work, conv_patch_weights.cu does the first one, by a patch.
//
//     for i, j in taps, for c in channels of x, for k in channels of dy:                x is 0 outside of its H x W pixels
//         dw[i, j, c, k] = 0
//         for n, h, w in dy's pixels:
//             dw[i, j, c, k] += x[n, h * stride + i - pad, w * stride + j - pad, c] * dy[n, h, w, k]
//
// Of a transposed convolution with side = up the same with the roles exchanged: x is dy, shifted with stride = up and no pad,
// dy is x, and conv_weights_sum writes the result transposed, [tap][k][c] as [tap][c][k].
//
// x comes from two arrays, x1 (C1 channels) and x2 (C2, or none), with ldx1 and ldx2 numbers between pixels: the halves of a
// concatenation.
//
// Tile of a block: BM channels of x, at one tap, by BN channels of dy; BK pixels in a step, STAGES steps under way at once;
// 64 x 64 in 2 warps of 64 x 32, or with -DWIDE 128 x 128 in 4 warps of 64 x 64. The pixels are shared out among `splits`
// blocks, which leave float32 sums in `partial` [split][tap][c][k]; conv_weights_sum adds these in their order: no atomics, the
// same bits every time.
//
// Shapes: any. By default channels are multiples of 16 bytes and rows aligned to 16 bytes; with -DFLAT anything goes: the
// tile's rows are then flattened (tap, channel) numbers, which a first layer of 1 or 3 channels wants anyway.
// Numbers: -DF16, -DBF16, else float32 by TF32 products; sums and dw are float32.
//
// Measure: python bench/cuda_kernels.py conv_weights
#include "tiles.cuh"

#ifdef WIDE
constexpr int BM = 128, WN = 64;
#else
constexpr int BM = 64, WN = 32;
#endif
constexpr int BN = BM, BK = 32, STAGES = 3, THREADS = BM, BLOCKS = 256 / BM;  // warps of 64 x WN; blocks a multiprocessor

struct Tiles {
  number a[STAGES][BK * BM], b[STAGES][BK * BN];
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
conv_weights(const number* __restrict__ x1, const number* __restrict__ x2, const number* __restrict__ dy, float* partial, int N,
             int OH, int OW, int H, int W, int C1, int C2, int ldx1, int ldx2, int K, int ldy, int side, int stride, int pad,
             int splits) {
  SHARED(Tiles, s);
  const int tid = threadIdx.x, warp = tid >> 5, n0 = blockIdx.y * BN, split = blockIdx.z;
  const int P = N * OH * OW, C = C1 + C2, taps = side * side;
  const int steps = (P + BK - 1) / BK, share = (steps + splits - 1) / splits;
  const int first = split * share, stop = min(steps, first + share);
#ifdef FLAT
  const int r0 = blockIdx.x * BM, rows = taps * C;  // rows of dw, flattened
  static_assert(THREADS == BM && BM == BN, "a thread for each column");
  const int i = tid, r = r0 + i, channel = r % C, dh = r / C / side - pad, dw = r / C % side - pad;
  auto copy = [&](int step) {  // number by number, a thread always the same column
    number *a = s->a[step % STAGES], *b = s->b[step % STAGES];
    int p = step * BK, image = p / OW / OH, oh = p / OW % OH, ow = p % OW;  // no division for each number
    for (int j = 0; j < BK; ++j, ++p) {
      const int y = oh * stride + dh, x = ow * stride + dw;
      number u = from_float(0.f), v = from_float(0.f);
      if (p < P && r < rows && (unsigned)y < (unsigned)H && (unsigned)x < (unsigned)W) {
        const long long pixel = ((long long)image * H + y) * W + x;
        u = channel < C1 ? x1[pixel * ldx1 + channel] : x2[pixel * ldx2 + (channel - C1)];
      }
      if (p < P && n0 + i < K) v = dy[(long long)p * ldy + n0 + i];
      a[across_k<BM>(j, i)] = u;
      b[across_k<BN>(j, i)] = v;
      if (++ow == OW) {
        ow = 0;
        if (++oh == OH) oh = 0, ++image;
      }
    }
  };
#else
  // tiles of channels of x1, then of x2, at each tap; a thread copies every eighth chunk of ROWS pixels
  const int tiles1 = (C1 + BM - 1) / BM, tiles = tiles1 + (C2 + BM - 1) / BM;
  const int tap = blockIdx.x / tiles, tile = blockIdx.x % tiles, second = tile >= tiles1;
  const int c0 = (second ? tile - tiles1 : tile) * BM, last = second ? C2 : C1, ldx = second ? ldx2 : ldx1;
  const number *x = (second ? x2 : x1) + c0, *dy_n = dy + n0;
  constexpr int ROWS = BK / (THREADS / 8);
  const int dh = tap / side - pad, dw = tap % side - pad, j0 = tid / 8;
  // the pixels to copy next: their image's first row, row and column of x; to divide in each step takes as long as to multiply
  int image[ROWS], top[ROWS], left[ROWS];
  UNROLL for (int k = 0; k < ROWS; ++k) {
    const int p = first * BK + j0 + k * (THREADS / 8);
    image[k] = p / OW / OH * H, top[k] = p / OW % OH * stride, left[k] = p % OW * stride;
  }
  auto copy = [&](int step) {
    number *a = s->a[step % STAGES], *b = s->b[step % STAGES];
    UNROLL for (int k = 0; k < ROWS; ++k) {
      const int j = j0 + k * (THREADS / 8), p = step * BK + j, h = top[k] + dh, w = left[k] + dw;
      const bool inside = p < P && (unsigned)h < (unsigned)H && (unsigned)w < (unsigned)W;
      const number *from_x = x + times((image[k] + h) * W + w, ldx), *from_dy = dy_n + times(p, ldy);
      UNROLL for (int chunk = 0; chunk < BM / PER_CHUNK; chunk += 8) {
        const int i = (chunk + tid % 8) * PER_CHUNK;
        const bool in_x = inside && c0 + i < last, in_dy = p < P && n0 + i < K;
        cp_async16(&a[across_k<BM>(j, i)], from_x + i, in_x);
        cp_async16(&b[across_k<BN>(j, i)], from_dy + i, in_dy);
      }
      for (left[k] += BK * stride; left[k] >= OW * stride; left[k] -= OW * stride)
        if ((top[k] += stride) == OH * stride) top[k] = 0, image[k] += H;
    }
  };
  const int r0 = tap * C + (second ? C1 : 0) + c0, rows = tap * C + (second ? C1 : 0) + last;
#endif

  float c[4][WN / 8][4] = {};
  for (int step = first; step < first + STAGES - 1; ++step) {
    if (step < stop) copy(step);
    cp_async_commit();
  }
  const int wm = warp % (BM / 64) * 64, wn = warp / (BM / 64) * WN;  // this warp's corner
  for (int step = first; step < stop; ++step) {
    cp_async_wait<STAGES - 2>();  // this thread's copies for this step have landed,
    __syncthreads();              // everybody's; and everybody is done with the tiles of the step before
    if (step + STAGES - 1 < stop) copy(step + STAGES - 1);
    cp_async_commit();
    multiply_tiles<BK, BM, false, BN, false>(c, s->a[step % STAGES], s->b[step % STAGES], wm, wn);
  }
  partial += (long long)split * taps * C * K;
  for_each_pair(c, [&](int row, int column, float u, float v) {
    const int r = r0 + wm + row, k = n0 + wn + column;
    if (r < rows && k < K) partial[(long long)r * K + k] = u;
    if (r < rows && k + 1 < K) partial[(long long)r * K + k + 1] = v;
  });
}

// dw = (dw +) the sums of all splits, added in their order; transposed: [tap][c][k] to [tap][k][c]
extern "C" __global__ void __launch_bounds__(256, 1)
conv_weights_sum(const float* __restrict__ partial, float* dw, int taps, int C, int K, int splits, int transposed,
                 int accumulate) {
  const long long size = (long long)taps * C * K, i = blockIdx.x * 256LL + threadIdx.x;
  if (i >= size) return;
  float sum = 0.f;
  for (int split = 0; split < splits; split += 8) {  // eight on their way at once; what is 0 changes no sum
    float v[8];
    UNROLL for (int e = 0; e < 8; ++e) v[e] = split + e < splits ? partial[(split + e) * size + i] : 0.f;
    UNROLL for (int e = 0; e < 8; ++e) sum += v[e];
  }
  const int k = i % K, c = i / K % C, tap = i / K / C;
  float* to = dw + (transposed ? ((long long)tap * K + k) * C + c : i);
  *to = accumulate ? *to + sum : sum;
}

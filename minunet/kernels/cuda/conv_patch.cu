// Convolutions of 3 x 3 taps, most of a U-Net's work, where every pixel is fetched once for all nine taps: by the patch.
//
//     for a tile of DOWN x 16 pixels of y and BN of its channels, for each chunk of BK channels of x:
//         fetch the patch: these channels of the tile's pixels and of a border of one pixel                  once
//         for i in rows of taps:
//             fetch the weights of taps (i, 0), (i, 1), (i, 2)
//             for j in 0, 1, 2, for h, w in the tile's pixels, for k in its channels, for c in the chunk:
//                 y[h, w, k] += patch[h + i, w + j, c] * weight[i, j, c, k]
//
//                 18 pixels                                  A tap's pixels are 16 x DOWN rows of the patch that lie together,
//        + . . . . . . . . . +  the border, or what                shifted by i rows and j pixels:
//        . o o o o o o o o o .  the next tiles make                   (0, 0)          (1, 2)
//        . o o o o o o o o o .                                        x x x x .       . . . . .
//     10 . o o o o o o o o o .  o: a tile of 8 x 16                   x x x x .       . . x x x x
//        . o o o o o o o o o .                                        x x x x .       . . x x x x
//        + . . . . . . . . . +                                        . . . . .       . . x x x x
//
// 8 x 16 pixels need 10 x 18 = 180 rows of the patch, where conv.cu fetches 9 x 128 = 1152. It stands for conv.cu with side = 3,
// stride = 1 and up = 1: the convolution, and with `flip` and -DGRADIENT its data gradient, weights, sources and outputs as there.
//
// Tile of a block: 8 x 16 pixels x 64 channels out in 4 warps of 4 rows x 32 channels, 48 KB of shared memory, so that two blocks
// fit where a multiprocessor has 100 KB; or with -DWIDE x 128 channels in 4 warps of 4 rows x 64 channels, 72 KB. With
// -DWARPGROUPS (sm_90a) 16 x 16 pixels, as there the weights are what L2 takes longest for: a warpgroup takes 64 channels out and
// all pixels by wgmma, which finds a tap's pixels in the patch by itself: 8 neighbours at a time, and 18 further the next 8.
// Chunks of 64 bytes of channels, of x1, then of x2. A step is a row of taps. The next step's weights are on their way while a
// step is multiplied, and in each chunk's second step the next chunk's patch starts, which has a step more to arrive. wgmma goes
// on past the next step's barrier, so that tensor cores have work while the warps wait there and start copies.
// Small maps have too few tiles to fill a GPU: then `splits` blocks share a tile's chunks, see conv_finish in conv.cu.
//
// Shapes: channels in are multiples of 16 bytes, rows of x and weights are aligned to 16 bytes, and there are fewer than 2^31
// weights. `wide`: y's rows may be written 4 channels at a time.   Numbers: -DF16, -DBF16, else float32 by TF32 products.
//
// Measure: python bench/cuda_kernels.py conv_patch
#include "epilogue.cuh"
#include "tiles.cuh"

#ifdef WIDE
constexpr int BN = 128;
#else
constexpr int BN = 64;
#endif
#ifdef WARPGROUPS
constexpr bool READ_BY_WGMMA = true;
constexpr int DOWN = 16, THREADS = 2 * BN, BLOCKS = BN == 64 ? 2 : 1;  // blocks a multiprocessor
#else
constexpr bool READ_BY_WGMMA = false;
constexpr int DOWN = 8, THREADS = 128, BLOCKS = BN == 64 ? 3 : 2;
#endif
constexpr int ACROSS = 16, PIXELS = DOWN * ACROSS, BK = ROW / 2, PIECES = BK / PER_CHUNK;  // 4 pieces of 16 bytes
constexpr int PATCH_W = ACROSS + 2, PATCH = (DOWN + 2) * PATCH_W;                         // rows of BK channels
constexpr int OUT_ROW = BN + 4;  // floats: a tile of results in shared memory, rows shifted by 4 banks
#ifdef GRADIENT
constexpr bool B_ALONG_K = true;
constexpr int B_ROW = BK;  // numbers in a row of the weights' tile
#else
constexpr bool B_ALONG_K = false;
constexpr int B_ROW = BN;
#endif

struct Factors {  // in turns; a patch begins at a multiple of 1024 bytes
  number patch[2][(PATCH + 15) / 16 * 16 * BK], b[2][3][BN * BK];
};
struct Results {
  float out[PIXELS * OUT_ROW], sums[THREADS];
};
union Tiles {  // of structs with names: NVRTC before 12.8 finds no members of those without
  Factors in;
  Results result;
};

// How a block multiplies: a thread's sums; a step, of taps (i, 0), (i, 1), (i, 2); and where sums belong in the tile of results.
#ifdef WARPGROUPS
struct Sums {  // of a warp: 16 channels out x all pixels, first the 8 left ones of each row, then the 8 right ones
  float c[32][4] = {};
  uint32_t fragments[3 * BK / STEP_K][4] = {};  // the step's weights

  __device__ __forceinline__ void wait() { wgmma_wait(c, fragments); }  // products that have been begun are done
  __device__ __forceinline__ void add(const number* patch, const number (*b)[BN * BK], int i) {
    constexpr int K = BK / STEP_K;
    const int n = threadIdx.x / 32 * 16;
    UNROLL for (int f = 0; f < 3 * K; ++f) fragment_a<B_ROW, B_ALONG_K>(fragments[f], b[f / K], n, f % K * STEP_K);
    wgmma_fence(c, fragments);
    UNROLL for (int f = 0; f < 3 * K; ++f) {
      const number* left = patch + (i * PATCH_W + f / K) * BK + f % K * STEP_K;
      wgmma<0>(c, fragments[f], rows_for_wgmma<64, PATCH_W * 64>(left));
      wgmma<16>(c, fragments[f], rows_for_wgmma<64, PATCH_W * 64>(left + 8 * BK));
    }
    wgmma_commit();
  }
  __device__ __forceinline__ void store(float* out) const {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
    out += threadIdx.x / 32 * 16 + g;
    UNROLL for (int j = 0; j < 32; ++j) UNROLL for (int e = 0; e < 4; ++e)
      out[(j % 16 * ACROSS + j / 16 * 8 + 2 * t + e % 2) * OUT_ROW + e / 2 * 8] = c[j][e];
  }
};
#else
struct Sums {  // of a warp: 4 rows of 16 pixels x BN / 2 channels out
  float c[4][BN / 16][4] = {};

  __device__ __forceinline__ void wait() {}
  __device__ __forceinline__ void add(const number* patch, const number (*b)[BN * BK], int i) {
    const int top = threadIdx.x / 32 % 2 * 4 + i, n = threadIdx.x / 64 * (BN / 2);
    ROLLED for (int j = 0; j < 3; ++j)
      multiply_tiles<BK, BK, true, B_ROW, B_ALONG_K, PATCH_W>(c, patch, b[j], top * PATCH_W + j, n);
  }
  __device__ __forceinline__ void store(float* out) const {
    out += threadIdx.x / 32 % 2 * 64 * OUT_ROW + threadIdx.x / 64 * (BN / 2);
    for_each_pair(c, [&](int p, int k, float u, float v) { out[p * OUT_ROW + k] = u, out[p * OUT_ROW + k + 1] = v; });
  }
};
#endif

// Pixels top..., left... of an image, as many as there are
struct Block {
  int image, top, left, OH, OW;
  __device__ int pixels() const { return min(DOWN, OH - top) * min(ACROSS, OW - left); }
  __device__ bool holds(int r) const { return top + r / ACROSS < OH && left + r % ACROSS < OW; }
  __device__ long long sum(int r) const { return ((long long)image * OH + top + r / ACROSS) * OW + left + r % ACROSS; }
  __device__ long long pixel(int r) const { return sum(r); }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
conv_patch(const number* __restrict__ x1, const number* __restrict__ x2, const number* __restrict__ weight,
           const float* __restrict__ scale, const float* __restrict__ bias, number* y1, number* y2, float* moments, float* partial,
           int N, int OH, int OW, int H, int W, int C1, int C2, int ldx1, int ldx2, int K1, int K2, int ldy1, int ldy2, int pad,
           int flip, int splits, int relu, int accumulate, int wide) {
  SHARED(Tiles, s);
  const int tid = threadIdx.x, n0 = blockIdx.y * BN, C = C1 + C2, K = K1 + K2;
  const int across = (OW + ACROSS - 1) / ACROSS, down = (OH + DOWN - 1) / DOWN;
  const int row = blockIdx.x / across % down, column = blockIdx.x % across;
  const Block at = {(int)blockIdx.x / across / down, row * DOWN, column * ACROSS, OH, OW};
  const int chunks1 = (C1 + BK - 1) / BK, chunks = chunks1 + (C2 + BK - 1) / BK;
  const int share = (chunks + splits - 1) / splits, first = blockIdx.z * share, stop = min(chunks, first + share);

  auto copy_patch = [&](int chunk) {  // a thread copies piece tid % 4 of some rows
    const bool second = chunk >= chunks1;
    const int c = (second ? chunk - chunks1 : chunk) * BK + tid % PIECES * PER_CHUNK, ldx = second ? ldx2 : ldx1;
    const number* x = (second ? x2 : x1) + c;
    const bool some = c < (second ? C2 : C1);
    ROLLED for (int r = tid / PIECES; r < PATCH; r += THREADS / PIECES) {
      const int h = at.top - pad + r / PATCH_W, w = at.left - pad + r % PATCH_W;
      const bool valid = some && (unsigned)h < (unsigned)H && (unsigned)w < (unsigned)W;
      const number* from = x + times((at.image * H + h) * W + w, ldx);
      cp_async16(&s->in.patch[chunk % 2][along_k<BK>(r, tid % PIECES * PER_CHUNK)], from, valid);
    }
  };
  auto copy_weights = [&](int step) {  // of a row of taps
    const int chunk = step / 3;
    const bool second = chunk >= chunks1;
    const int c0 = (second ? chunk - chunks1 : chunk) * BK, last = second ? C2 : C1, cw = c0 + (second ? C1 : 0);
    constexpr int IN_ROW = B_ROW / PER_CHUNK;  // pieces
    ROLLED for (int i = 0; i < BN * PIECES / THREADS; ++i) {  // unrolled it would take registers that products need
      const int across = tid % IN_ROW * PER_CHUNK, r = tid / IN_ROW + i * (THREADS / IN_ROW);
      const int c = B_ALONG_K ? across : r, n = B_ALONG_K ? r : across;
      const bool valid = c0 + c < last && n0 + n < K;
      UNROLL for (int j = 0; j < 3; ++j) {
        const int tap = step % 3 * 3 + j, of = flip ? 8 - tap : tap;
        const int from = B_ALONG_K ? (of * K + n0 + n) * C + cw + c : (of * C + cw + c) * K + n0 + n;
        number* b = s->in.b[step % 2][j];
        cp_async16(&b[B_ALONG_K ? along_k<B_ROW>(n, c) : across_k<B_ROW>(c, n)], weight + from, valid);
      }
    }
  };

  const int begin = 3 * first, end = 3 * stop;
  auto arrive = [&](int step) {  // so that a step's tiles can be read; and those that nobody reads any more are filled
    cp_async_wait<1>();          // this thread's copies for it have landed; a patch's for the next chunk need not,
    if (READ_BY_WGMMA) fence_for_wgmma();
    __syncthreads();  // everybody's; and everybody has done what read these places
    if (step + 1 < end) copy_weights(step + 1);
    cp_async_commit();
    if (step % 3 == 1 && step / 3 + 1 < stop) copy_patch(step / 3 + 1);
    cp_async_commit();
  };
  Sums sums;
  if (begin < end) {
    copy_patch(first), copy_weights(begin);
    cp_async_commit();
    cp_async_commit();
    arrive(begin);
  }
  for (int step = begin; step < end; ++step) {
    sums.add(s->in.patch[step / 3 % 2], s->in.b[step % 2], step % 3);
    if (step + 1 < end) arrive(step + 1);
    sums.wait();
  }
  cp_async_wait<0>();
  __syncthreads();  // the results take the tiles' place
  sums.store(s->result.out);
  __syncthreads();
  const long long P = (long long)N * OH * OW;
  if (splits > 1) return leave_sums<PIXELS, BN, THREADS>(s->result.out, partial + blockIdx.z * P * K, at, n0, K);
  if (moments) moments += (long long)blockIdx.x * 2 * K;
  const Output q = {scale, bias, y1, y2, moments, K1, K2, ldy1, ldy2, relu, accumulate, wide};
  finish_tile<PIXELS, BN, THREADS>(s->result.out, s->result.sums, at, q, n0);
}

// Tiles of a matrix product in shared memory, and how a warp reads its fragments for mma.sync from them.
//
//     for each step over k:    c[BM][BN] += a[BM][BK] * b[BK][BN]         (a block; each warp 64 x 32 or 64 x 64 of c)
//
// For k numbers a warp of 64 x 64 reads 128 k from shared memory and does 4096 k products, one of 64 x 32 reads 96 k for
// 2048 k: a third less for as much from the memory that tensor cores wait for.
//
// Two layouts. ALONG_K: a row of the tile is one row of a (or one column of b), 64 or 128 bytes of k. ACROSS_K: a row of the tile
// is one k, with WIDTH rows of a (columns of b) beside each other. So both operands are copied as they lie in memory.
//
// Chunks of 16 bytes are permuted within a row of the tile (swizzled), so that what a warp reads at once, 8 rows at the same
// chunk, comes from all 32 banks. Across k in float32 it reads single words of 4 rows and 8 columns: 2 chunks a row.
//
// The 16-bit fragments of m16n8k16 hold pairs where the TF32 ones of m16n8k8 hold single numbers. Counted in words of
// 4 bytes both are the same, and so is the code along k. Across k, 16-bit numbers are transposed by ldmatrix.
#pragma once
#include "prim.cuh"

constexpr int ROW = 128 / sizeof(number);  // numbers in a row of 128 bytes
constexpr int STEP_K = 8 * PER_WORD;       // k of one mma.sync

// where number i of row `row` lies in a tile whose rows have WIDTH numbers along k: 128 bytes, or 64, of which two fill all banks
template <int WIDTH> __device__ __forceinline__ int along_k(int row, int i) {
  const int swizzle = WIDTH == ROW ? row & 7 : row >> 1 & 3;
  return row * WIDTH + (((i / PER_CHUNK) ^ swizzle) * PER_CHUNK | i % PER_CHUNK);
}
// where number i of k's row lies in a tile with WIDTH numbers a row, a multiple of 128 bytes
template <int WIDTH> __device__ __forceinline__ int across_k(int k, int i) {
  const int swizzle = sizeof(number) == 4 ? (k & 3) << 1 : k & 7;
  return k * WIDTH + (((i / PER_CHUNK) ^ swizzle) * PER_CHUNK | i % PER_CHUNK);
}

// rows m..m+15, k..k+STEP_K-1 of a
template <int WIDTH, bool ALONG_K> __device__ __forceinline__ void fragment_a(uint32_t (&r)[4], const number* tile, int m, int k) {
  const int lane = threadIdx.x & 31, i = lane & 7, second = lane >> 3 & 1, last = lane >> 4;
  if (ALONG_K)
    ldmatrix4<false>(r, tile + along_k<WIDTH>(m + i + 8 * second, k + last * PER_CHUNK));
#if defined(F16) || defined(BF16)
  else
    ldmatrix4<true>(r, tile + across_k<WIDTH>(k + i + 8 * last, m + 8 * second));
#else
  else
    UNROLL for (int j = 0; j < 4; ++j)
      r[j] = shared_word(tile + across_k<WIDTH>(k + (lane & 3) + 4 * (j >> 1), m + (lane >> 2) + 8 * (j & 1)));
#endif
  UNROLL for (int j = 0; j < 4; ++j) r[j] = operand(r[j]);
}

// columns n..n+15, k..k+STEP_K-1 of b: the fragments of two multiplications
template <int WIDTH, bool ALONG_K>
__device__ __forceinline__ void fragment_b(uint32_t (&r)[2][2], const number* tile, int n, int k) {
  const int lane = threadIdx.x & 31, i = lane & 7, second = lane >> 3 & 1, last = lane >> 4;
  uint32_t w[4];
  if (ALONG_K)
    ldmatrix4<false>(w, tile + along_k<WIDTH>(n + i + 8 * last, k + second * PER_CHUNK));
#if defined(F16) || defined(BF16)
  else
    ldmatrix4<true>(w, tile + across_k<WIDTH>(k + i + 8 * second, n + 8 * last));
#else
  else
    UNROLL for (int j = 0; j < 4; ++j)
      w[j] = shared_word(tile + across_k<WIDTH>(k + (lane & 3) + 4 * (j & 1), n + (lane >> 2) + 8 * (j >> 1)));
#endif
  UNROLL for (int j = 0; j < 4; ++j) r[j >> 1][j & 1] = operand(w[j]);
}

// a warp's 64 x 8 J corner at (m, n): c += a b over one step of DEPTH numbers; c[i][j] is the fragment of a's rows m + APART i... and
// b's columns n + 8 j... Rows of the tiles have A_WIDTH and B_WIDTH numbers
template <int DEPTH, int A_WIDTH, bool A_ALONG_K, int B_WIDTH, bool B_ALONG_K, int APART = 16, int J>
__device__ __forceinline__ void multiply_tiles(float (&c)[4][J][4], const number* a, const number* b, int m, int n) {
  UNROLL for (int k = 0; k < DEPTH; k += STEP_K) {
    uint32_t fa[4][4], fb[J / 2][2][2];
    UNROLL for (int i = 0; i < 4; ++i) fragment_a<A_WIDTH, A_ALONG_K>(fa[i], a, m + APART * i, k);
    UNROLL for (int j = 0; j < J / 2; ++j) fragment_b<B_WIDTH, B_ALONG_K>(fb[j], b, n + 16 * j, k);
    UNROLL for (int i = 0; i < 4; ++i) UNROLL for (int j = 0; j < J; ++j) mma(c[i][j], fa[i], fb[j >> 1][j & 1]);
  }
}

// the same transposed, by wgmma on sm_90a: c (columns n..n+15 of b x 128 rows of a) += (a b)^T, where n is this warp's.
// b's fragments come through registers, as its tile may lie across k; a's tile is left to wgmma. So in float32 nothing makes up
// for what it cuts off there: results are smaller by 0.035 % in the mean.
template <int DEPTH, int B_WIDTH, bool B_ALONG_K>
__device__ __forceinline__ void multiply_transposed(float (&c)[16][4], const number* a, const number* b, int n) {
  uint32_t fragments[DEPTH / STEP_K][4];
  UNROLL for (int i = 0; i < DEPTH / STEP_K; ++i) fragment_a<B_WIDTH, B_ALONG_K>(fragments[i], b, n, i * STEP_K);
  wgmma_fence(c, fragments);
  UNROLL for (int i = 0; i < DEPTH / STEP_K; ++i) wgmma<0>(c, fragments[i], rows_for_wgmma<128, 8 * 128>(a + i * STEP_K));
  wgmma_commit();
  wgmma_wait(c, fragments);
}

// calls use(row, column, two neighbouring values) for all of a lane's numbers in its warp's 16 I x 8 J corner
template <int I, int J, class F> __device__ __forceinline__ void for_each_pair(const float (&c)[I][J][4], F use) {
  const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
  UNROLL for (int i = 0; i < I; ++i) UNROLL for (int j = 0; j < J; ++j) UNROLL for (int h = 0; h < 2; ++h)
    use(16 * i + g + 8 * h, 8 * j + 2 * t, c[i][j][2 * h], c[i][j][2 * h + 1]);
}

// What follows the sums of a convolution's tile, which lie in shared memory with OUT_ROW floats for a pixel: bias, moments, ReLU,
// and coalesced stores to the halves of y; or, where several blocks share a sum, the part of it for conv_finish.
//
//     y = sum * scale[k] + bias[k]                                    at inference these can be a batch norm's
//     moments: mean and sum of squared deviations of y over each tile's pixels (not with scale)
//     y = max(y, 0) if relu;   y is added to what was there if accumulate
//
// Which pixels these are a kernel says by a type PLACE: `pixels()` are in the tile; holds(r): whether the tile's row r is one of
// them; sum(r): its number among the sums' pixels; pixel(r): its number among y's, which are more in a transposed convolution.
#pragma once
#include "prim.cuh"

struct alignas(16) Four {
  float v[4];
};
struct Output {  // channels go to y1 (K1) and y2 (K2, or none), with ldy numbers between pixels; moments are this tile's
  const float *scale, *bias;
  number *y1, *y2;
  float* moments;
  int K1, K2, ldy1, ldy2, relu, accumulate, wide;
};

// the tile's mean and sum of squared deviations, centred, so that nothing cancels: a thread takes a column's rows group, group +
// GROUPS...
template <int ROWS, int BN, int THREADS, class PLACE>
__device__ __forceinline__ void write_moments(const float* out, float* sums, const PLACE& at, const Output& q, int n0) {
  constexpr int GROUPS = THREADS / BN, OUT_ROW = BN + 4;
  const int tid = threadIdx.x, K = q.K1 + q.K2, column = tid % BN, group = tid / BN, pixels = at.pixels();
  float mean = 0.f, squares = 0.f;
  for (int r = group; r < ROWS; r += GROUPS) mean += at.holds(r) ? out[r * OUT_ROW + column] : 0.f;
  sums[tid] = mean;
  __syncthreads();
  mean = 0.f;
  for (int i = 0; i < GROUPS; ++i) mean += sums[i * BN + column];
  mean /= pixels;
  __syncthreads();
  for (int r = group; r < ROWS; r += GROUPS) {
    const float d = at.holds(r) ? out[r * OUT_ROW + column] - mean : 0.f;
    squares += d * d;
  }
  sums[tid] = squares;
  __syncthreads();
  if (group || n0 + column >= K) return;
  squares = 0.f;
  for (int i = 0; i < GROUPS; ++i) squares += sums[i * BN + column];
  q.moments[n0 + column] = mean + (q.bias ? q.bias[n0 + column] : 0.f);
  q.moments[K + n0 + column] = squares;
}

template <int ROWS, int BN, int THREADS, class PLACE>
__device__ __forceinline__ void finish_tile(const float* out, float* sums, const PLACE& at, const Output& q, int n0) {
  constexpr int QUADS = BN / 4, OUT_ROW = BN + 4;  // a thread always writes the same four channels
  const int tid = threadIdx.x, K = q.K1 + q.K2, k = n0 + tid % QUADS * 4;
  if (q.moments) write_moments<ROWS, BN, THREADS>(out, sums, at, q, n0);
  float by[4], plus[4];
  UNROLL for (int e = 0; e < 4; ++e) {
    by[e] = q.scale && k + e < K ? q.scale[k + e] : 1.f;
    plus[e] = q.bias && k + e < K ? q.bias[k + e] : 0.f;
  }
  for (int r = tid / QUADS; r < ROWS; r += THREADS / QUADS) {
    if (!at.holds(r)) continue;
    const Four value = load<Four>(out + r * OUT_ROW + tid % QUADS * 4);
    const long long pixel = at.pixel(r);
    float v[4];
    UNROLL for (int e = 0; e < 4; ++e) {
      v[e] = value.v[e] * by[e] + plus[e];
      if (q.relu) v[e] = v[e] > 0.f ? v[e] : 0.f;
    }
    if (q.wide) {  // K1 and K2 are multiples of 4
      if (k >= K) continue;
      number* to = k < q.K1 ? q.y1 + pixel * q.ldy1 + k : q.y2 + pixel * q.ldy2 + (k - q.K1);
      Quad quad;
      if (q.accumulate) {
        quad = load<Quad>(to);
        UNROLL for (int e = 0; e < 4; ++e) v[e] += to_float(quad.v[e]);
      }
      UNROLL for (int e = 0; e < 4; ++e) quad.v[e] = from_float(v[e]);
      store(to, quad);
    } else {
      UNROLL for (int e = 0; e < 4; ++e) {
        if (k + e >= K) continue;
        number* to = k + e < q.K1 ? q.y1 + pixel * q.ldy1 + k + e : q.y2 + pixel * q.ldy2 + (k + e - q.K1);
        *to = from_float(q.accumulate ? to_float(*to) + v[e] : v[e]);
      }
    }
  }
}

// the sums of one of several blocks that share a tile, as they are, to partial [pixel][K]
template <int ROWS, int BN, int THREADS, class PLACE>
__device__ __forceinline__ void leave_sums(const float* out, float* partial, const PLACE& at, int n0, int K) {
  for (int item = threadIdx.x; item < ROWS * BN; item += THREADS) {
    const int row = item / BN, column = item % BN;
    if (at.holds(row) && n0 + column < K) partial[at.sum(row) * K + n0 + column] = out[row * (BN + 4) + column];
  }
}

// The 1 x 1 convolution at a network's end: many channels in, a few classes out. Memory-bound: x is read once.
//
//     for each pixel p, class k:      y[p, k] = bias[k] + sum over c of x[p, c] * weight[c, k]
//     for each pixel p, channel c:    dx[p, c] = sum over k of dy[p, k] * weight[c, k]
//                                     dweight[c, k] += x[p, c] * dy[p, k];   dbias[k] += dy[p, k]
//
// In the tiles of conv.cu and conv_weights.cu most columns would be empty.
//
// Forward: 256 threads, a warp takes PIXELS pixels one after another; its lanes share out the channels and add up by
// shuffles. Backward: all three in one start; merge_sums of norm.cu adds up the sums of its tiles, in float64.
//
// Shapes: any C; K at most CLASSES. `wide`: C a multiple of 4, rows of x aligned to 4 numbers.   Numbers: float32, -DF16,
// -DBF16; weight, bias, y and dy are float32, as the loss wants them, and products are not rounded to TF32.
//
// Measure: python bench/cuda_kernels.py head
#include "prim.cuh"

constexpr int PIXELS = 4, CLASSES = 8;

template <int E>
__device__ __forceinline__ void forward(const number* x, const float* weight, const float* bias, float* y, int P, int C, int K,
                                        int ldx) {
  const int lane = threadIdx.x & 31, p0 = (blockIdx.x * 8 + threadIdx.x / 32) * PIXELS;
  for (int p = p0; p < min(P, p0 + PIXELS); ++p) {
    float sum[CLASSES];
    UNROLL for (int k = 0; k < CLASSES; ++k) sum[k] = 0.f;
    for (int c = lane * E; c < C; c += 32 * E) {
      float v[E];
      read(v, x + (long long)p * ldx + c);
      UNROLL for (int e = 0; e < E; ++e) UNROLL for (int k = 0; k < CLASSES; ++k)
        if (k < K) sum[k] += v[e] * weight[(c + e) * K + k];
    }
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K) {  // the same for all lanes
        UNROLL for (int other = 16; other; other >>= 1) sum[k] += __shfl_xor_sync(0xFFFFFFFFu, sum[k], other);
        if (lane == k) y[(long long)p * K + k] = sum[k] + (bias ? bias[k] : 0.f);
      }
  }
}
extern "C" __global__ void __launch_bounds__(256, 1)
head(const number* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias, float* y, int P, int C, int K,
     int ldx, int wide) {
  if (wide)
    forward<4>(x, weight, bias, y, P, C, K, ldx);
  else
    forward<1>(x, weight, bias, y, P, C, K, ldx);
}

// A block: TILE pixels x 32 channels, 32 x 8 threads (channel, row). x is read, and dx written, once; the block's sums go to
// partial [tile][C K + K]: dweight, then dbias.
constexpr int TILE = 256, ROWS = 8;

__device__ __forceinline__ float sum_rows(float* shared, float v) {  // over threadIdx.y; everybody gets it
  __syncthreads();
  shared[threadIdx.y * 32 + threadIdx.x] = v;
  __syncthreads();
  float sum = 0.f;
  for (int i = 0; i < ROWS; ++i) sum += shared[i * 32 + threadIdx.x];
  return sum;
}

extern "C" __global__ void __launch_bounds__(256, 1)
head_back(const number* __restrict__ x, const float* __restrict__ dy, const float* __restrict__ weight, number* dx, float* partial,
          int P, int C, int K, int ldx, int lddx) {
  SHARED(float, s);
  const int c = blockIdx.y * 32 + threadIdx.x, p0 = blockIdx.x * TILE, stop = min(P, p0 + TILE);
  float w[CLASSES], of_weight[CLASSES] = {}, of_bias[CLASSES] = {};
  UNROLL for (int k = 0; k < CLASSES; ++k) w[k] = k < K && c < C ? weight[c * K + k] : 0.f;
  for (int p = p0 + threadIdx.y; p < stop && c < C; p += ROWS) {
    const float v = to_float(x[(long long)p * ldx + c]);
    float sum = 0.f;
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K) {
        const float g = dy[(long long)p * K + k];
        sum += g * w[k];
        of_weight[k] += g * v;
        of_bias[k] += g;
      }
    dx[(long long)p * lddx + c] = from_float(sum);
  }
  partial += (long long)blockIdx.x * (C + 1) * K;
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) {  // the same for all threads
      const float a = sum_rows(s, of_weight[k]), b = sum_rows(s, of_bias[k]);
      if (c < C && threadIdx.y == 0) partial[c * K + k] = a;
      if (c == 0 && threadIdx.y == 0) partial[(long long)C * K + k] = b;
    }
}

// The 1 x 1 convolution at a network's end: many channels in, a few classes out. Memory-bound: x is read once.
//
//     for each pixel p, class k:      y[p, k] = bias[k] + sum over c of x[p, c] * weight[c, k]
//     for each pixel p, channel c:    dx[p, c] = sum over k of dy[p, k] * weight[c, k]
//
// (Its weight gradient is conv_weights.cu's with one tap.) In the tiles of conv.cu most columns would be empty.
//
// Forward: 256 threads, a warp takes PIXELS pixels one after another; its lanes share out the channels and add up by
// shuffles. Backward: 256 threads, each 1 or 4 channels (`wide`) of a pixel.
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

template <int E>
__device__ __forceinline__ void backward(const float* dy, const float* weight, number* dx, int P, int C, int K, int ldx) {
  const int c = channel<E>();
  const int p = pixel();
  if (p >= P || c >= C) return;
  float sum[E];
  UNROLL for (int e = 0; e < E; ++e) {
    sum[e] = 0.f;
    for (int k = 0; k < K; ++k) sum[e] += dy[(long long)p * K + k] * weight[(c + e) * K + k];
  }
  write(dx + (long long)p * ldx + c, sum);
}
extern "C" __global__ void __launch_bounds__(256, 1)
head_back(const float* __restrict__ dy, const float* __restrict__ weight, number* dx, int P, int C, int K, int ldx, int wide) {
  if (wide)
    backward<4>(dy, weight, dx, P, C, K, ldx);
  else
    backward<1>(dy, weight, dx, P, C, K, ldx);
}

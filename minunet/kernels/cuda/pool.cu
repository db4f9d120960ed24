// Max-pool with the winner's number in a byte, and its backward.
//
//     for n, oh, ow, c:                                         i, j over the size x size window, in reading order
//         y[n, oh, ow, c] = max of x[n, oh * stride + i, ow * stride + j, c];   winner = i * size + j of the first maximum
//     for n, h, w, c:                                           backwards every pixel looks which windows it has won
//         dx[n, h, w, c] = plus[n, h, w, c] + sum over windows (oh, ow) that hold (h, w):
//                              dy[n, oh, ow, c] if winner[n, oh, ow, c] = (h - oh * stride) * size + (w - ow * stride)
//
// 256 threads, each 1 or 4 channels (`wide`) of a pixel. x, y, dy, dx and plus have ld numbers between pixels, winner has C.
// plus (or none, null) is what came over a skip connection; it may be dx itself.
//
// Shapes: any; size at most 16.   Numbers: float32, -DF16, -DBF16.
//
// Measure: python bench/cuda_kernels.py pool
#include "prim.cuh"

template <int E>
__device__ __forceinline__ void forward(const number* x, number* y, uint8_t* winner, int N, int H, int W, int C, int OH, int OW,
                                        int ldx, int ldy, int size, int stride) {
  const int c = channel<E>();
  const int p = pixel();
  if (p >= N * OH * OW || c >= C) return;
  const int ow = p % OW, oh = p / OW % OH, n = p / OW / OH;
  const number* corner = x + (((long long)n * H + oh * stride) * W + ow * stride) * ldx + c;
  float best[E];
  int first[E];
  read(best, corner);
  UNROLL for (int e = 0; e < E; ++e) first[e] = 0;
  for (int i = 0; i < size; ++i)
    for (int j = 0; j < size; ++j) {
      float v[E];
      read(v, corner + ((long long)i * W + j) * ldx);
      UNROLL for (int e = 0; e < E; ++e)
        if (v[e] > best[e]) best[e] = v[e], first[e] = i * size + j;
    }
  write(y + (long long)p * ldy + c, best);
  UNROLL for (int e = 0; e < E; ++e) winner[(long long)p * C + c + e] = first[e];
}
extern "C" __global__ void __launch_bounds__(256, 1)
max_pool(const number* __restrict__ x, number* y, uint8_t* winner, int N, int H, int W, int C, int OH, int OW, int ldx, int ldy,
         int size, int stride, int wide) {
  if (wide)
    forward<4>(x, y, winner, N, H, W, C, OH, OW, ldx, ldy, size, stride);
  else
    forward<1>(x, y, winner, N, H, W, C, OH, OW, ldx, ldy, size, stride);
}

template <int E>
__device__ __forceinline__ void backward(const number* dy, const uint8_t* winner, const number* plus, number* dx, int N, int H, int W, int C, int OH,
                                         int OW, int ldy, int ldplus, int ldx, int size,
                                         int stride) {
  const int c = channel<E>();
  const int p = pixel();
  if (p >= N * H * W || c >= C) return;
  const int w = p % W, h = p / W % H, n = p / W / H;
  float sum[E], v[E];
  UNROLL for (int e = 0; e < E; ++e) sum[e] = 0.f;
  if (plus) read(sum, plus + (long long)p * ldplus + c);
  const int oh0 = max(0, (h - size + stride) / stride), ow0 = max(0, (w - size + stride) / stride);  // rounded up
  for (int oh = oh0; oh < OH && oh * stride <= h; ++oh)
    for (int ow = ow0; ow < OW && ow * stride <= w; ++ow) {
      const int i = h - oh * stride, j = w - ow * stride;
      if (i >= size || j >= size) continue;  // stride > size: between the windows
      const long long from = ((long long)n * OH + oh) * OW + ow;
      read(v, dy + from * ldy + c);
      UNROLL for (int e = 0; e < E; ++e)
        if (winner[from * C + c + e] == i * size + j) sum[e] += v[e];
    }
  write(dx + (long long)p * ldx + c, sum);
}
extern "C" __global__ void __launch_bounds__(256, 1)
max_pool_back(const number* __restrict__ dy, const uint8_t* __restrict__ winner, const number* plus, number* dx, int N, int H, int W, int C, int OH,
              int OW, int ldy, int ldplus, int ldx, int size, int stride, int wide) {
  if (wide)
    backward<4>(dy, winner, plus, dx, N, H, W, C, OH, OW, ldy, ldplus, ldx, size, stride);
  else
    backward<1>(dy, winner, plus, dx, N, H, W, C, OH, OW, ldy, ldplus, ldx, size, stride);
}

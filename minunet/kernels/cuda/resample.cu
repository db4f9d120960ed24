// Bilinear upsampling by a whole factor, and its transpose.
//
//     row r of scale * H lies at place(r) among the H rows: between row below(r) and the next one, with the share near(r)
//     for n, r, q, c:   y[n, r, q, c] = sum over h, w of R[r, h] * Q[q, w] * x[n, h, w, c]           four terms each
//     for n, h, w, c:  dx[n, h, w, c] = sum over r, q of R[r, h] * Q[q, w] * dy[n, r, q, c]          those near (h, w)
//     R[r, h] = (1 - near(r) if h = below(r)) + (near(r) if h = min(below(r) + 1, H - 1)); Q the same for columns
//
//     place(r) = r (H - 1) / (scale H - 1) with corners, else (r + 1/2) / scale - 1/2, clamped to 0..H - 1
//
// Places are fractions of whole numbers, so below(r) is exact. 256 threads, each 1 or 4 channels (`wide`) of a pixel.
//
// Shapes: any.   Numbers: float32, -DF16, -DBF16.
//
// Measure: python bench/cuda_kernels.py resample
#include "prim.cuh"

__device__ __forceinline__ int place(int r, int H, int scale, int corners, float& near) {
  const int over = corners ? max(scale * H - 1, 1) : 2 * scale;
  const int place = corners ? r * (H - 1) : min(max(2 * r + 1 - scale, 0), (H - 1) * over);
  const int below = min(place / over, H - 1);
  near = (float)(place - below * over) / over;
  return below;
}
__device__ __forceinline__ float share(int r, int h, int H, int scale, int corners) {  // R[r, h]
  float near;
  const int below = place(r, H, scale, corners, near);
  return (h == below ? 1.f - near : 0.f) + (h == min(below + 1, H - 1) ? near : 0.f);
}

template <int E>
__device__ __forceinline__ void forward(const number* x, number* y, int N, int H, int W, int C, int scale, int corners, int ldx,
                                        int ldy) {
  const int c = channel<E>(), OH = H * scale, OW = W * scale;
  const int p = pixel();
  if (p >= N * OH * OW || c >= C) return;
  float down, right, a[E], b[E], d[E], f[E];
  const int h = place(p / OW % OH, H, scale, corners, down), w = place(p % OW, W, scale, corners, right);
  const long long image = p / OW / OH * H;
  const int h1 = min(h + 1, H - 1), w1 = min(w + 1, W - 1);
  read(a, x + ((image + h) * W + w) * ldx + c);
  read(b, x + ((image + h) * W + w1) * ldx + c);
  read(d, x + ((image + h1) * W + w) * ldx + c);
  read(f, x + ((image + h1) * W + w1) * ldx + c);
  UNROLL for (int e = 0; e < E; ++e)
    a[e] = (1.f - down) * ((1.f - right) * a[e] + right * b[e]) + down * ((1.f - right) * d[e] + right * f[e]);
  write(y + (long long)p * ldy + c, a);
}
extern "C" __global__ void __launch_bounds__(256, 1)
bilinear(const number* __restrict__ x, number* y, int N, int H, int W, int C, int scale, int corners, int ldx, int ldy, int wide) {
  if (wide)
    forward<4>(x, y, N, H, W, C, scale, corners, ldx, ldy);
  else
    forward<1>(x, y, N, H, W, C, scale, corners, ldx, ldy);
}

template <int E>
__device__ __forceinline__ void backward(const number* dy, number* dx, int N, int H, int W, int C, int scale, int corners,
                                         int ldy, int ldx) {
  const int c = channel<E>(), OH = H * scale, OW = W * scale;
  const int p = pixel();
  if (p >= N * H * W || c >= C) return;
  const int w = p % W, h = p / W % H;
  const long long image = p / W / H * OH;
  float sum[E], v[E];
  UNROLL for (int e = 0; e < E; ++e) sum[e] = 0.f;
  for (int r = max(0, (h - 1) * scale); r < min(OH, (h + 2) * scale); ++r) {  // no other rows come near row h
    const float vertical = share(r, h, H, scale, corners);
    if (vertical == 0.f) continue;
    for (int q = max(0, (w - 1) * scale); q < min(OW, (w + 2) * scale); ++q) {
      const float both = vertical * share(q, w, W, scale, corners);
      if (both == 0.f) continue;
      read(v, dy + ((image + r) * OW + q) * ldy + c);
      UNROLL for (int e = 0; e < E; ++e) sum[e] += both * v[e];
    }
  }
  write(dx + (long long)p * ldx + c, sum);
}
extern "C" __global__ void __launch_bounds__(256, 1)
bilinear_back(const number* __restrict__ dy, number* dx, int N, int H, int W, int C, int scale, int corners, int ldy, int ldx,
              int wide) {
  if (wide)
    backward<4>(dy, dx, N, H, W, C, scale, corners, ldy, ldx);
  else
    backward<1>(dy, dx, N, H, W, C, scale, corners, ldy, ldx);
}

// Batch norm and group norm with their ReLU, forwards and backwards, and the sums over pixels that they and biases need.
//
//     batch norm's sets: a channel, over all pixels.   group norm's: a group of D channels, over an image.   M numbers in a set.
//     forward:   mean, var = moments of x over its set        from those of tiles and channels: conv.cu leaves them too
//                rstd = 1 / sqrt(var + eps)
//                y = (x - mean) * rstd * gamma + beta,  and max(y, 0) if relu
//     backward:  g = dy, but 0 where relu and y <= 0                     y is computed again, it needs not be kept
//                dbeta = sum g,  dgamma = sum g * (x - mean) * rstd      over the channel's pixels in all images
//                A = sum gamma * g / M,  B = sum gamma * g * (x - mean) / M                              over the set
//                dx = rstd * (gamma * g - A - (x - mean) * rstd^2 * B)
//
// Sums have two stages, always in the same order: here each block's tile of pixels in float32, centred; then norm_merge.cu adds up
// the tiles. mean and rstd are kept for each image and channel, [images][C]; for batch norm all pixels are one image.
//
// Tiles: TILE pixels of an image x 32 channels, 32 x 8 threads (channel, row). Elementwise kernels: 256 threads, 1 or 4
// channels each. Maps have ld numbers between pixels, so they may be halves of a concatenation.
//
// Shapes: any; `wide` says that 4 channels may be read and written at once.   Numbers: float32, -DF16, -DBF16.
//
// Measure: python bench/cuda_kernels.py norm
#include "sums.cuh"

constexpr int TILE = 256, ROWS = 8;

// each tile's mean and sum of squared deviations, of P pixels an image: partial [image][tile][2][C]
extern "C" __global__ void __launch_bounds__(256, 1)
moments(const number* __restrict__ x, float* partial, int P, int C, int ldx) {
  SHARED(float, s);
  const int c = blockIdx.y * 32 + threadIdx.x, p0 = blockIdx.x * TILE, stop = min(P, p0 + TILE);
  x += (long long)blockIdx.z * P * ldx;
  partial += (long long)blockIdx.z * gridDim.x * 2 * C;
  float sum = 0.f, squares = 0.f;
  for (int p = p0 + threadIdx.y; p < stop && c < C; p += ROWS) sum += to_float(x[(long long)p * ldx + c]);
  const float mean = sum_rows(s, sum) / (stop - p0);
  for (int p = p0 + threadIdx.y; p < stop && c < C; p += ROWS) {
    const float d = to_float(x[(long long)p * ldx + c]) - mean;
    squares += d * d;
  }
  squares = sum_rows(s, squares);
  if (c >= C || threadIdx.y) return;
  partial[(long long)blockIdx.x * 2 * C + c] = mean;
  partial[((long long)blockIdx.x * 2 + 1) * C + c] = squares;
}

// each tile's sum of x, partial [tile][C]: the gradient of a bias
extern "C" __global__ void __launch_bounds__(256, 1)
channel_sums(const number* __restrict__ x, float* partial, int P, int C, int ldx) {
  SHARED(float, s);
  const int c = blockIdx.y * 32 + threadIdx.x, p0 = blockIdx.x * TILE, stop = min(P, p0 + TILE);
  float sum = 0.f;
  for (int p = p0 + threadIdx.y; p < stop && c < C; p += ROWS) sum += to_float(x[(long long)p * ldx + c]);
  sum = sum_rows(s, sum);
  if (c < C && threadIdx.y == 0) partial[(long long)blockIdx.x * C + c] = sum;
}

template <int E>
__device__ __forceinline__ void apply(const number* x, const float* mean, const float* rstd, const float* gamma, const float* beta,
                                      number* y, int P, int image, int C, int ldx, int ldy, int relu) {
  const int c = channel<E>();
  const int p = pixel();
  if (p >= P || c >= C) return;
  const int at = p / image * C + c;
  float v[E];
  read(v, x + (long long)p * ldx + c);
  UNROLL for (int e = 0; e < E; ++e) {
    v[e] = (v[e] - mean[at + e]) * (gamma[c + e] * rstd[at + e]) + beta[c + e];
    if (relu && !(v[e] > 0.f)) v[e] = 0.f;
  }
  write(y + (long long)p * ldy + c, v);
}
// P pixels, `image` of them an image
extern "C" __global__ void __launch_bounds__(256, 1)
norm_apply(const number* __restrict__ x, const float* __restrict__ mean, const float* __restrict__ rstd, const float* __restrict__ gamma,
           const float* __restrict__ beta, number* y, int P, int image, int C, int ldx, int ldy, int relu, int wide) {
  if (wide)
    apply<4>(x, mean, rstd, gamma, beta, y, P, image, C, ldx, ldy, relu);
  else
    apply<1>(x, mean, rstd, gamma, beta, y, P, image, C, ldx, ldy, relu);
}

// g of the head comment, from d = x - mean
__device__ __forceinline__ float passed(float dy, float d, float scale, float beta, int relu) {
  return relu && !(d * scale + beta > 0.f) ? 0.f : dy;
}

// each tile's sums of g and of g * (x - mean), of P pixels an image: partial [image][tile][2][C]; if it is the only tile, dgamma too
extern "C" __global__ void __launch_bounds__(256, 1)
norm_sums(const number* __restrict__ x, const number* __restrict__ dy, const float* __restrict__ mean,
          const float* __restrict__ rstd, const float* __restrict__ gamma, const float* __restrict__ beta, float* partial,
          float* dgamma, int P, int C, int ldx, int ldy, int relu) {
  SHARED(float, s);
  const int c = blockIdx.y * 32 + threadIdx.x, p0 = blockIdx.x * TILE, stop = min(P, p0 + TILE);
  x += (long long)blockIdx.z * P * ldx;
  dy += (long long)blockIdx.z * P * ldy;
  mean += (long long)blockIdx.z * C;
  rstd += (long long)blockIdx.z * C;
  partial += (long long)blockIdx.z * gridDim.x * 2 * C;
  const float scale = c < C ? gamma[c] * rstd[c] : 0.f, shift = relu && c < C ? beta[c] : 0.f;
  float a = 0.f, b = 0.f;
  for (int p = p0 + threadIdx.y; p < stop && c < C; p += ROWS) {
    const float d = to_float(x[(long long)p * ldx + c]) - mean[c];
    const float g = passed(to_float(dy[(long long)p * ldy + c]), d, scale, shift, relu);
    a += g;
    b += g * d;
  }
  a = sum_rows(s, a);
  b = sum_rows(s, b);
  if (c >= C || threadIdx.y) return;
  partial[(long long)blockIdx.x * 2 * C + c] = a;
  partial[((long long)blockIdx.x * 2 + 1) * C + c] = b;
  if (dgamma) dgamma[c] = b * rstd[c];
}

template <int E>
__device__ __forceinline__ void back(const number* x, const number* dy, const float* mean, const float* rstd, const float* gamma,
                                     const float* beta, const float* sums, number* dx, float M, int grouped, int P,
                                     int image, int C, int ldx, int ldy, int lddx, int relu) {
  const int c = channel<E>();
  const int p = pixel();
  if (p >= P || c >= C) return;
  const int n = p / image;
  float v[E], g[E];
  read(v, x + (long long)p * ldx + c);
  read(g, dy + (long long)p * ldy + c);
  UNROLL for (int e = 0; e < E; ++e) {
    const int k = c + e;
    const float d = v[e] - mean[n * C + k], r = rstd[n * C + k], of_set = (grouped ? 1.f : gamma[k]) / M;
    g[e] = gamma[k] * passed(g[e], d, gamma[k] * r, relu ? beta[k] : 0.f, relu);
    if (sums) g[e] -= of_set * sums[n * 2 * C + k] + d * r * r * (of_set * sums[(n * 2 + 1) * C + k]);
    g[e] *= r;
  }
  write(dx + (long long)p * lddx + c, g);
}
// sums: of norm_sums over all tiles, [2][C], or totals if `grouped`; none if mean and rstd were given, not x's. dx may be dy.
extern "C" __global__ void __launch_bounds__(256, 1)
norm_back(const number* __restrict__ x, const number* dy, const float* __restrict__ mean,
          const float* __restrict__ rstd, const float* __restrict__ gamma, const float* __restrict__ beta,
          const float* __restrict__ sums, number* dx, float M, int grouped, int P, int image, int C, int ldx, int ldy, int lddx,
          int relu, int wide) {
  if (wide)
    back<4>(x, dy, mean, rstd, gamma, beta, sums, dx, M, grouped, P, image, C, ldx, ldy, lddx, relu);
  else
    back<1>(x, dy, mean, rstd, gamma, beta, sums, dx, M, grouped, P, image, C, ldx, ldy, lddx, relu);
}

// y = max(x, 0), or with dy: y = dy where x > 0, else 0; y may be x or dy
template <int E>
__device__ __forceinline__ void clip(const number* x, const number* dy, number* y, int P, int C, int ldx, int lddy, int ldy) {
  const int c = channel<E>();
  const int p = pixel();
  if (p >= P || c >= C) return;
  float v[E], g[E];
  read(v, x + (long long)p * ldx + c);
  if (dy) read(g, dy + (long long)p * lddy + c);
  UNROLL for (int e = 0; e < E; ++e) v[e] = v[e] > 0.f ? (dy ? g[e] : v[e]) : 0.f;
  write(y + (long long)p * ldy + c, v);
}
extern "C" __global__ void __launch_bounds__(256, 1)
relu(const number* x, const number* dy, number* y, int P, int C, int ldx, int lddy, int ldy, int wide) {
  if (wide)
    clip<4>(x, dy, y, P, C, ldx, lddy, ldy);
  else
    clip<1>(x, dy, y, P, C, ldx, lddy, ldy);
}

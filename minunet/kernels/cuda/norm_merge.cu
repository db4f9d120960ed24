// The second half of what norm.cu sums up: from tiles of pixels to all of them, and what is made of statistics alone.
//
//     moments:  mean = sum over tiles i of n_i mean_i / M;   M2 = sum (M2_i + n_i (mean_i - mean)^2)        nothing cancels
//               of a channel, or of a group's D channels in an image; n_i pixels in a tile, M numbers in all
//     sums:     of a channel over all tiles; or A and B of norm.cu, over a group's channels, too
//
// In float64, always in the same order. A block of 32 x MERGE_ROWS threads (channel, tile) has 32 channels, and one of 32 x ROWS a
// group; elementwise kernels have 256 threads.
//
// Shapes: any.   Numbers: float32.
//
// Measure: python bench/cuda_kernels.py norm_merge
#include "sums.cuh"

constexpr int ROWS = 8, MERGE_ROWS = 32;

// the sum over a block of 32 x ROWS threads of v; everybody gets it
template <class V> __device__ __forceinline__ V sum_block(V* shared, V v) {
  v = sum_rows(shared, v);
  __syncthreads();  // all columns have been read
  if (threadIdx.y == 0) shared[threadIdx.x] = v;
  __syncthreads();
  V sum = 0;
  for (int i = 0; i < 32; ++i) sum += shared[i];
  return sum;
}

// pixels of tile i, of an image after another; its tiles have down x across pixels, if the last rows and columns have as many
__device__ __forceinline__ int tile_pixels(int i, int H, int W, int down, int across) {
  const int in_row = (W + across - 1) / across, in_column = (H + down - 1) / down;
  return min(down, H - i / in_row % in_column * down) * min(across, W - i % in_row * across);
}

// running = (1 - momentum) * running + momentum * batch
__device__ __forceinline__ float moved(float running, float batch, float momentum) {
  return (1 - momentum) * running + momentum * batch;
}

// moments of tiles to those of all P pixels: mean, biased variance, rstd;
// and, if there are running statistics, these are moved, the variance times `unbiased`
extern "C" __global__ void __launch_bounds__(1024, 1)
merge_moments(const float* __restrict__ partial, float* mean, float* var, float* rstd, int tiles, int P, int C, int H, int W,
              int down, int across, float eps, float* running_mean, float* running_var, float momentum, float unbiased) {
  SHARED(double, s);
  const int c = blockIdx.x * 32 + threadIdx.x;
  double sum = 0, squares = 0;
  for (int i = threadIdx.y; i < tiles && c < C; i += MERGE_ROWS)
    sum += (double)tile_pixels(i, H, W, down, across) * partial[(long long)i * 2 * C + c];
  const double whole = sum_rows(s, sum) / P;
  for (int i = threadIdx.y; i < tiles && c < C; i += MERGE_ROWS) {
    const double d = partial[(long long)i * 2 * C + c] - whole;
    squares += partial[((long long)i * 2 + 1) * C + c] + tile_pixels(i, H, W, down, across) * d * d;
  }
  squares = sum_rows(s, squares);
  if (c >= C || threadIdx.y) return;
  mean[c] = whole;
  var[c] = squares / P;
  rstd[c] = 1 / sqrt(squares / P + eps);
  if (running_mean) {
    running_mean[c] = moved(running_mean[c], whole, momentum);
    running_var[c] = moved(running_var[c], unbiased * (float)(squares / P), momentum);
  }
}

// the same for an image's group of D channels, a block each: mean and rstd [image][C], for every channel those of its group
extern "C" __global__ void __launch_bounds__(256, 1)
merge_group_moments(const float* __restrict__ partial, float* mean, float* rstd, int tiles, int C, int D, int H, int W, int down,
                    int across, float eps) {
  SHARED(double, s);
  const int tid = threadIdx.y * 32 + threadIdx.x, first = blockIdx.x * D;
  const double M = (double)H * W * D;
  partial += (long long)blockIdx.y * tiles * 2 * C + first;
  double sum = 0, squares = 0;
  for (long long j = tid; j < (long long)tiles * D; j += 32 * ROWS) {
    const int i = j / D, c = j % D;
    sum += (double)tile_pixels(i, H, W, down, across) * partial[(long long)i * 2 * C + c];
  }
  const double whole = sum_block(s, sum) / M;
  for (long long j = tid; j < (long long)tiles * D; j += 32 * ROWS) {
    const int i = j / D, c = j % D;
    const double d = partial[(long long)i * 2 * C + c] - whole;
    squares += partial[((long long)i * 2 + 1) * C + c] + tile_pixels(i, H, W, down, across) * d * d;
  }
  squares = sum_block(s, squares);
  for (int c = tid; c < D; c += 32 * ROWS) {
    mean[blockIdx.y * C + first + c] = whole;
    rstd[blockIdx.y * C + first + c] = 1 / sqrt(squares / M + eps);
  }
}

// sums [C] = the sum of partial [tiles][C] over the tiles; with rstd [C / 2] the second half times it: dgamma [C / 2]
extern "C" __global__ void __launch_bounds__(1024, 1)
merge_sums(const float* __restrict__ partial, float* sums, const float* __restrict__ rstd, float* dgamma, int tiles, int C) {
  SHARED(double, s);
  const int c = blockIdx.x * 32 + threadIdx.x;
  double sum = 0;
  for (int i = threadIdx.y; i < tiles && c < C; i += MERGE_ROWS) sum += partial[(long long)i * C + c];
  sum = sum_rows(s, sum);
  if (c >= C || threadIdx.y) return;
  sums[c] = sum;
  if (rstd && c >= C / 2) dgamma[c - C / 2] = (float)sum * rstd[c - C / 2];
}

// from partial of norm.cu's norm_sums, for an image's group of D channels, a block each: sums [image][2][C] over the tiles, of g and of
// g * (x - mean) * rstd; totals [image][2][C], for every channel M A and M B of its group
extern "C" __global__ void __launch_bounds__(256, 1)
merge_group_sums(const float* __restrict__ partial, const float* __restrict__ rstd, const float* __restrict__ gamma, float* sums,
                 float* totals, int tiles, int C, int D) {
  SHARED(double, s);
  const int first = blockIdx.x * D;
  const long long image = (long long)blockIdx.y * 2 * C;
  partial += image * tiles;
  double A = 0, B = 0;
  for (int c0 = 0; c0 < D; c0 += 32) {  // the same rounds for all threads: there are barriers within
    const int c = c0 + threadIdx.x, k = first + c;
    double a = 0, b = 0;
    for (int i = threadIdx.y; i < tiles && c < D; i += ROWS) {
      a += partial[(long long)i * 2 * C + k];
      b += partial[((long long)i * 2 + 1) * C + k];
    }
    a = sum_rows(s, a);
    b = sum_rows(s, b);
    if (c < D && threadIdx.y == 0) {
      sums[image + k] = a;
      sums[image + C + k] = b * rstd[blockIdx.y * C + k];
      A += gamma[k] * a;
      B += gamma[k] * b;
    }
  }
  A = sum_block(s, A);
  B = sum_block(s, B);
  for (int c = threadIdx.y * 32 + threadIdx.x; c < D; c += 32 * ROWS) {
    totals[image + first + c] = A;
    totals[image + C + first + c] = B;
  }
}

// running statistics moved by a batch's that are known
extern "C" __global__ void __launch_bounds__(256, 1)
running_average(float* mean, float* var, const float* __restrict__ batch_mean, const float* __restrict__ batch_var, int C,
                float momentum, float unbiased) {
  const int c = blockIdx.x * 256 + threadIdx.x;
  if (c >= C) return;
  mean[c] = moved(mean[c], batch_mean[c], momentum);
  var[c] = moved(var[c], unbiased * batch_var[c], momentum);
}

// given statistics, at inference, as what a convolution's epilogue takes: its bias comes before the norm, scale and shift after
extern "C" __global__ void __launch_bounds__(256, 1)
fold_norm(const float* __restrict__ mean, const float* __restrict__ var, const float* __restrict__ gamma,
          const float* __restrict__ beta, const float* __restrict__ bias, float* scale, float* shift, float* rstd, int C, float eps) {
  const int c = blockIdx.x * 256 + threadIdx.x;
  if (c >= C) return;
  rstd[c] = 1 / sqrtf(var[c] + eps);
  scale[c] = gamma[c] * rstd[c];
  shift[c] = beta[c] + ((bias ? bias[c] : 0.f) - mean[c]) * scale[c];
}

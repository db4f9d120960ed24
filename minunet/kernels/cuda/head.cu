// The 1 x 1 convolution at a network's end: many channels in, a few classes out; alone, or with the losses that follow it.
// Memory-bound: x is read once.
//
//     for each pixel p, class k:      y[p, k] = bias[k] + sum over c of x[p, c] * weight[c, k]
//     for each pixel p, channel c:    dx[p, c] = sum over k of dy[p, k] * weight[c, k]
//                                     dweight[c, k] += x[p, c] * dy[p, k];   dbias[k] += dy[p, k]
//
// In the tiles of conv.cu and conv_weights.cu most columns would be empty. The losses, cross-entropy and soft Dice, and dy, their
// gradient, are loss.cu's; here their starts are saved, and dy never is in memory.
//
// Forward: 256 threads, a warp takes PIXELS pixels one after another; its lanes share out the channels and add up by
// shuffles. With losses, lane i then has the logits of pixel i and adds to the losses' sums. A block leaves its sums in
// partial [block][3 + 2 K], and the last block to be done adds these, in float64, always in the same order:
// result = (cross-entropy, total of the shares, wrong, soft Dice), then [3][K]: each class's share, Dice and union.
// Backward: all three in one start; merge_sums of norm_merge.cu adds up the sums of its tiles, in float64.
//
// Shapes: any C; K at most CLASSES, with losses 2 at least. `wide`: C a multiple of 4, rows of x aligned to 4 numbers.
// Numbers: float32, -DF16, -DBF16; weight is as x is, but bias, y and dy are float32, as the loss wants them, and products are not
// rounded to TF32.
//
// Measure: python bench/cuda_kernels.py head
#include "pixel_loss.cuh"
#include "sums.cuh"

constexpr int PIXELS = 4, WITH_LOSS = 8;  // of a warp

// sum[k] for a pixel whose channels lie at x: every lane of the warp gets it
template <int E>
__device__ __forceinline__ void logits_at(float (&sum)[CLASSES], const number* x, const number* weight, int C, int K) {
  UNROLL for (int k = 0; k < CLASSES; ++k) sum[k] = 0.f;
  for (int c = (threadIdx.x & 31) * E; c < C; c += 32 * E) {
    float v[E];
    read(v, x + c);
    UNROLL for (int e = 0; e < E; ++e) UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K) sum[k] += v[e] * to_float(weight[(c + e) * K + k]);
  }
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K)  // the same for all lanes
      UNROLL for (int other = 16; other; other >>= 1) sum[k] += __shfl_xor_sync(0xFFFFFFFFu, sum[k], other);
}

template <int E>
__device__ __forceinline__ void forward(const number* x, const number* weight, const float* bias, float* y, int P, int C, int K,
                                        int ldx) {
  const int lane = threadIdx.x & 31, p0 = (blockIdx.x * 8 + threadIdx.x / 32) * PIXELS;
  for (int p = p0; p < min(P, p0 + PIXELS); ++p) {
    float sum[CLASSES];
    logits_at<E>(sum, x + (long long)p * ldx, weight, C, K);
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K && lane == k) y[(long long)p * K + k] = sum[k] + (bias ? bias[k] : 0.f);
  }
}
extern "C" __global__ void __launch_bounds__(256, 1)
head(const number* __restrict__ x, const number* __restrict__ weight, const float* __restrict__ bias, float* y, int P, int C, int K,
     int ldx, int wide) {
  if (wide)
    forward<4>(x, weight, bias, y, P, C, K, ldx);
  else
    forward<1>(x, weight, bias, y, P, C, K, ldx);
}

// z[k] of this lane's pixel, the lane-th of `count` that lie at x one after another
template <int E>
__device__ __forceinline__ void logits_of_lane(float (&z)[CLASSES], const number* x, const number* weight, const float* bias, int count,
                                               int C, int K, int ldx) {
  const int lane = threadIdx.x & 31;
  for (int i = 0; i < count; ++i) {
    float sum[CLASSES];
    logits_at<E>(sum, x + (long long)i * ldx, weight, C, K);
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K && lane == i) z[k] = sum[k] + (bias ? bias[k] : 0.f);
  }
}

// what the losses are, from the sums over all pixels; by one thread
__device__ __forceinline__ void losses_of(const double* sums, const float* class_weight, float* result, int K, float smooth) {
  const double total = sums[1] > 0 ? sums[1] : 1;
  const bool wrong = sums[2] > 0;
  double weights = 0, mean = 0;
  for (int k = 0; k < K; ++k) weights += class_weight ? class_weight[k] : 1.f;
  for (int k = 0; k < K; ++k) {
    const double both = sums[SUMS + OF_CLASS * k], unions = sums[SUMS + OF_CLASS * k + 1] + smooth;
    const double share = (class_weight ? class_weight[k] : 1.f) / weights, dice = (2 * both + smooth) / unions;
    mean += share * dice;
    result[4 + k] = share, result[4 + K + k] = dice, result[4 + 2 * K + k] = unions;
  }
  result[0] = wrong ? nanf("") : sums[0] / total, result[1] = total, result[2] = sums[2];
  result[3] = wrong ? nanf("") : 1 - mean;
}

extern "C" __global__ void __launch_bounds__(256, 1)
head_loss(const number* __restrict__ x, const number* __restrict__ weight, const float* __restrict__ bias,
          const void* __restrict__ labels, const float* __restrict__ pixel_weight, const float* __restrict__ class_weight, float* y,
          double* partial, uint32_t* finished, float* result, int P, int C, int K, int ldx, int wide, int wide_labels, int ignore,
          float smooth) {
  SHARED(double, s);
  const int lane = threadIdx.x & 31, warp = threadIdx.x / 32, J = SUMS + OF_CLASS * K;
  float sums[SUMS + OF_CLASS * CLASSES] = {};
  for (long long p0 = (blockIdx.x * 8LL + warp) * WITH_LOSS; p0 < P; p0 += gridDim.x * 8LL * WITH_LOSS) {
    const int count = P - p0 < WITH_LOSS ? P - p0 : WITH_LOSS;
    float z[CLASSES] = {};
    if (wide)
      logits_of_lane<4>(z, x + p0 * ldx, weight, bias, count, C, K, ldx);
    else
      logits_of_lane<1>(z, x + p0 * ldx, weight, bias, count, C, K, ldx);
    if (lane >= count) continue;
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K) y[(p0 + lane) * K + k] = z[k];
    add_pixel(sums, z, pixel_at(p0 + lane, labels, wide_labels, ignore, pixel_weight, class_weight, K), K);
  }
  UNROLL for (int j = 0; j < SUMS + OF_CLASS * CLASSES; ++j)
    if (j < J) {  // the same for all threads
      const double sum = warp_sum(sums[j]);
      if (lane == 0) s[warp * J + j] = sum;
    }
  __syncthreads();
  if (threadIdx.x < J) {
    double sum = 0;
    for (int i = 0; i < 8; ++i) sum += s[i * J + threadIdx.x];
    partial[(long long)blockIdx.x * J + threadIdx.x] = sum;
  }
  if (!is_last_block(finished, s)) return;
  for (int j = warp; j < J; j += 8) {
    double sum = 0;
    for (int i = lane; i < gridDim.x; i += 32) sum += partial[(long long)i * J + j];
    sum = warp_sum(sum);
    if (lane == 0) s[j] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) losses_of(s, class_weight, result, K, smooth);
}

// A block: TILE pixels x 32 channels, 32 x 8 threads (channel, row), one for each pixel's dy, too. x is read, and dx written, once;
// the block's sums go to partial [tile][C K + K]: dweight, then dbias.
constexpr int TILE = 256, ROWS = 8;

// gradient(g, p) fills in g[k] = dy[p, k]
template <class Gradient>
__device__ __forceinline__ void backward(Gradient gradient, const number* x, const number* weight, number* dx, float* partial, int P,
                                         int C, int K, int ldx, int lddx) {
  SHARED(float, s);
  float* dy = s + 32 * ROWS;  // [K][TILE]
  const int c = blockIdx.y * 32 + threadIdx.x, p0 = blockIdx.x * TILE, here = threadIdx.y * 32 + threadIdx.x;
  if (here < P - p0) {
    float g[CLASSES];
    gradient(g, p0 + here);
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K) dy[k * TILE + here] = g[k];
  }
  __syncthreads();
  float w[CLASSES], of_weight[CLASSES] = {}, of_bias[CLASSES] = {};
  UNROLL for (int k = 0; k < CLASSES; ++k) w[k] = k < K && c < C ? to_float(weight[c * K + k]) : 0.f;
  for (int i = threadIdx.y; i < min(TILE, P - p0) && c < C; i += ROWS) {
    const float v = to_float(x[(long long)(p0 + i) * ldx + c]);
    float sum = 0.f;
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K) {
        const float g = dy[k * TILE + i];
        sum += g * w[k];
        of_weight[k] += g * v;
        of_bias[k] += g;
      }
    dx[(long long)(p0 + i) * lddx + c] = from_float(sum);
  }
  partial += (long long)blockIdx.x * (C + 1) * K;
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) {  // the same for all threads
      const float a = sum_rows(s, of_weight[k]), b = sum_rows(s, of_bias[k]);
      if (c < C && threadIdx.y == 0) partial[c * K + k] = a;
      if (c == 0 && threadIdx.y == 0) partial[(long long)C * K + k] = b;
    }
}

extern "C" __global__ void __launch_bounds__(256, 1)
head_back(const number* __restrict__ x, const float* __restrict__ dy, const number* __restrict__ weight, number* dx, float* partial,
          int P, int C, int K, int ldx, int lddx) {
  auto given = [=](float (&g)[CLASSES], int p) {
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K) g[k] = dy[(long long)p * K + k];
  };
  backward(given, x, weight, dx, partial, P, C, K, ldx, lddx);
}

// dy is of_ce times the gradient of cross-entropy plus of_dice times that of soft Dice, both times *now if that is not null
extern "C" __global__ void __launch_bounds__(256, 1)
head_loss_back(const number* __restrict__ x, const float* __restrict__ z, const void* __restrict__ labels,
               const float* __restrict__ pixel_weight, const float* __restrict__ class_weight, const float* __restrict__ result,
               const float* __restrict__ share, const float* __restrict__ dice, const float* __restrict__ unions,
               const float* __restrict__ now, float of_ce, float of_dice, const number* __restrict__ weight, number* dx,
               float* partial, int P, int C, int K, int ldx, int lddx, int wide_labels, int ignore) {
  const float scale = now ? *now : 1.f;
  auto of_losses = [=](float (&g)[CLASSES], int p) {
    float logits[CLASSES] = {};
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K) logits[k] = z[(long long)p * K + k];
    const Pixel pixel = pixel_at(p, labels, wide_labels, ignore, pixel_weight, class_weight, K);
    gradient_of(g, logits, pixel, scale * of_ce / result[1], scale * of_dice, share, dice, unions, K);
  };
  backward(of_losses, x, weight, dx, partial, P, C, K, ldx, lddx);
}

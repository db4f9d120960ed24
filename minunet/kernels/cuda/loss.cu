// Softmax cross-entropy, forwards and backwards; soft Dice is at the end. float32.
//
//     for each pixel:  p = softmax(z);   share = class_weight[label] * weight, 0 where the label is ignored
//                      loss += share * -log p[label];   total += share;   wrong += the label is no class
//     loss /= total;   NaN if wrong                                                    (total 0 counts as 1)
//     backwards:       dz[k] = dloss * share / total * (p[k] - [k = label])
//
// A thread takes a pixel; a block of 256 adds up in shared memory and leaves its three sums in partial [block][3];
// one more block adds these, in float64, always in the same order: result = (loss, total, wrong).
// The host never synchronises: a wrong label makes the loss NaN, which shows when it is read; dloss may lie in device memory.
//
// Shapes: 2 classes or more; weight and class_weight may be missing (null).
//
// Measure: python bench/cuda_kernels.py loss
#include "sums.cuh"

extern "C" __global__ void __launch_bounds__(256, 1)
cross_entropy(const float* __restrict__ z, const int* __restrict__ labels, const float* __restrict__ weight,
              const float* __restrict__ class_weight, float* p, float* share, double* partial, int P, int K, int ignore) {
  SHARED(double, s);
  const int n = blockIdx.x * 256 + threadIdx.x;
  float loss = 0.f, here = 0.f;
  int wrong = 0;
  if (n < P) {
    const int label = labels[n], counts = label != ignore, is_class = label >= 0 && label < K, t = is_class ? label : 0;
    float top = z[(long long)n * K], sum = 0.f;
    for (int k = 1; k < K; ++k) top = fmaxf(top, z[(long long)n * K + k]);
    for (int k = 0; k < K; ++k) sum += expf(z[(long long)n * K + k] - top);
    for (int k = 0; k < K; ++k) p[(long long)n * K + k] = expf(z[(long long)n * K + k] - top) / sum;
    here = counts ? (class_weight ? class_weight[t] : 1.f) * (weight ? weight[n] : 1.f) : 0.f;
    loss = here * (logf(sum) - (z[(long long)n * K + t] - top));
    wrong = counts && !is_class;
    share[n] = here;
  }
  const double sums[3] = {block_sum(s, loss), block_sum(s, here), block_sum(s, wrong)};
  if (threadIdx.x < 3) partial[blockIdx.x * 3 + threadIdx.x] = threadIdx.x == 0 ? sums[0] : threadIdx.x == 1 ? sums[1] : sums[2];
}

extern "C" __global__ void __launch_bounds__(256, 1)
cross_entropy_sum(const double* __restrict__ partial, float* result, int blocks) {
  SHARED(double, s);
  double sums[3] = {0, 0, 0};
  for (int i = threadIdx.x; i < blocks; i += 256)
    UNROLL for (int j = 0; j < 3; ++j) sums[j] += partial[i * 3LL + j];
  UNROLL for (int j = 0; j < 3; ++j) sums[j] = block_sum(s, sums[j]);
  const double total = sums[1] > 0 ? sums[1] : 1;
  if (threadIdx.x == 0) result[0] = sums[2] > 0 ? nanf("") : sums[0] / total, result[1] = total, result[2] = sums[2];
}

// dloss lies at dloss_at, if that is not null; without result the shares have been divided by the total already
extern "C" __global__ void __launch_bounds__(256, 1)
cross_entropy_back(const float* __restrict__ p, const int* __restrict__ labels, const float* __restrict__ share,
                   const float* __restrict__ result, const float* __restrict__ dloss_at, float dloss, float* dz, int P, int K) {
  const int n = blockIdx.x * 256 + threadIdx.x;
  if (n >= P) return;
  const float here = (dloss_at ? *dloss_at : dloss) * share[n] / (result ? result[1] : 1.f);
  for (int k = 0; k < K; ++k) dz[(long long)n * K + k] = here * (p[(long long)n * K + k] - (k == labels[n] ? 1.f : 0.f));
}

// Soft Dice over classes k, weighed like the loss above; s is `smooth`.
//
//     for each pixel:  p = softmax(z);   seen = weight, 0 where the label is ignored;   true[k] = [k = label]
//     both[k] = sum seen * p[k] * true[k];   either[k] = sum seen * (p[k] + true[k]);   union[k] = either[k] + s
//     dice[k] = (2 both[k] + s) / union[k];   loss = 1 - sum share[k] * dice[k]          share = class_weight / its sum
//     backwards:  dp[k] = -dloss * seen * (2 true[k] - dice[k]) * share[k] / union[k];   dz[k] = p[k] * (dp[k] - sum dp * p)
//
// At most CLASSES of them. A thread takes a pixel after another; a block leaves both, either and `wrong` in partial [block][2 K + 1];
// one more block adds these: result = (loss, wrong), per_class [3][K] = share, dice, union.
constexpr int CLASSES = 8;

extern "C" __global__ void __launch_bounds__(256, 1)
soft_dice(const float* __restrict__ z, const int* __restrict__ labels, const float* __restrict__ weight, float* p, float* seen,
          double* partial, int P, int K, int ignore) {
  SHARED(double, s);
  float both[CLASSES] = {}, either[CLASSES] = {};
  int wrong = 0;
  for (long long n = blockIdx.x * 256LL + threadIdx.x; n < P; n += gridDim.x * 256LL) {
    const int label = labels[n];
    const float here = label != ignore ? (weight ? weight[n] : 1.f) : 0.f;
    float top = z[n * K], sum = 0.f;
    for (int k = 1; k < K; ++k) top = fmaxf(top, z[n * K + k]);
    for (int k = 0; k < K; ++k) sum += expf(z[n * K + k] - top);
    UNROLL for (int k = 0; k < CLASSES; ++k)
      if (k < K) {
        const float v = expf(z[n * K + k] - top) / sum;
        p[n * K + k] = v;
        both[k] += k == label ? here * v : 0.f;
        either[k] += here * (v + (k == label ? 1.f : 0.f));
      }
    seen[n] = here;
    wrong += label != ignore && !(label >= 0 && label < K);
  }
  partial += blockIdx.x * (2LL * K + 1);
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) {  // the same for all threads
      const double b = block_sum(s, both[k]), e = block_sum(s, either[k]);
      if (threadIdx.x == 0) partial[2 * k] = b, partial[2 * k + 1] = e;
    }
  const double w = block_sum(s, wrong);
  if (threadIdx.x == 0) partial[2 * K] = w;
}

extern "C" __global__ void __launch_bounds__(256, 1)
soft_dice_sum(const double* __restrict__ partial, const float* __restrict__ class_weight, float* result, float* per_class, int blocks,
              int K, float smooth) {
  SHARED(double, s);
  double weights = 0, loss = 0;
  for (int k = 0; k < K; ++k) weights += class_weight ? class_weight[k] : 1.f;
  for (int k = 0; k < K; ++k) {
    double b = 0, e = 0;
    for (int i = threadIdx.x; i < blocks; i += 256) b += partial[i * (2LL * K + 1) + 2 * k], e += partial[i * (2LL * K + 1) + 2 * k + 1];
    b = block_sum(s, b);
    e = block_sum(s, e) + smooth;
    const double share = (class_weight ? class_weight[k] : 1.f) / weights, dice = (2 * b + smooth) / e;
    loss += share * dice;
    if (threadIdx.x == 0) per_class[k] = share, per_class[K + k] = dice, per_class[2 * K + k] = e;
  }
  double wrong = 0;
  for (int i = threadIdx.x; i < blocks; i += 256) wrong += partial[i * (2LL * K + 1) + 2 * K];
  wrong = block_sum(s, wrong);
  if (threadIdx.x == 0) result[0] = wrong > 0 ? nanf("") : 1 - loss, result[1] = wrong;
}

extern "C" __global__ void __launch_bounds__(256, 1)
soft_dice_back(const float* __restrict__ p, const int* __restrict__ labels, const float* __restrict__ seen,
               const float* __restrict__ share, const float* __restrict__ dice, const float* __restrict__ unions,
               const float* __restrict__ dloss_at, float dloss, float* dz, int P, int K) {
  const long long n = blockIdx.x * 256LL + threadIdx.x;
  if (n >= P) return;
  const float here = -(dloss_at ? *dloss_at : dloss) * seen[n];
  const int label = labels[n];
  float dp[CLASSES], sum = 0.f;
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) {
      dp[k] = here * ((k == label ? 2.f : 0.f) - dice[k]) * (share[k] / unions[k]);
      sum += dp[k] * p[n * K + k];
    }
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) dz[n * K + k] = p[n * K + k] * (dp[k] - sum);
}

// Softmax cross-entropy, forwards and backwards; float32.
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

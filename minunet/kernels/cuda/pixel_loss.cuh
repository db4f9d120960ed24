// Cross-entropy and soft Dice of one pixel of at most CLASSES classes, in registers; what they are over all pixels says loss.cu.
#pragma once
#include "prim.cuh"

constexpr int CLASSES = 8;

struct Pixel {
  int label;          // its class; -1 where it has none
  float seen, share;  // how much it counts for soft Dice, and for cross-entropy
  bool wrong;         // the label is neither a class nor `ignore`
};

// labels of 32 bits or, `wide`, of 64
__device__ __forceinline__ Pixel pixel_at(long long n, const void* labels, int wide, int ignore, const float* weight,
                                          const float* class_weight, int K) {
  const long long label = wide ? static_cast<const long long*>(labels)[n] : static_cast<const int*>(labels)[n];
  const bool counts = label != ignore, is_class = label >= 0 && label < K;
  Pixel pixel;
  pixel.label = is_class ? (int)label : -1;
  pixel.seen = counts ? (weight ? weight[n] : 1.f) : 0.f;
  pixel.share = class_weight && is_class ? pixel.seen * class_weight[label] : pixel.seen;
  pixel.wrong = counts && !is_class;
  return pixel;
}

// p = softmax(z); returns log(sum over k of e^z[k])
__device__ __forceinline__ float softmax(float (&p)[CLASSES], const float (&z)[CLASSES], int K) {
  float top = z[0], sum = 0.f;
  UNROLL for (int k = 1; k < CLASSES; ++k)
    if (k < K) top = fmaxf(top, z[k]);
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) sum += p[k] = expf(z[k] - top);
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) p[k] /= sum;
  return top + logf(sum);
}

// The sums that the losses are made of: share * -log p[label], share, wrong, and both[k] and either[k] of each class
constexpr int SUMS = 3, OF_CLASS = 2;

__device__ __forceinline__ void add_pixel(float (&sums)[SUMS + OF_CLASS * CLASSES], const float (&z)[CLASSES], Pixel pixel, int K) {
  float p[CLASSES];
  const float log_sum = softmax(p, z, K);
  sums[1] += pixel.share;
  sums[2] += pixel.wrong;
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) {
      const bool is = k == pixel.label;
      if (is) sums[0] += pixel.share * (log_sum - z[k]);
      sums[SUMS + OF_CLASS * k] += is ? pixel.seen * p[k] : 0.f;
      sums[SUMS + OF_CLASS * k + 1] += pixel.seen * (p[k] + (is ? 1.f : 0.f));
    }
}

// g = the gradient of z: of_ce times that of the sum of share * -log p[label], plus of_dice times that of soft Dice, which needs
// of each class its share in the mean, its Dice and its union
__device__ __forceinline__ void gradient_of(float (&g)[CLASSES], const float (&z)[CLASSES], Pixel pixel, float of_ce, float of_dice,
                                            const float* share, const float* dice, const float* unions, int K) {
  float p[CLASSES], dp[CLASSES], sum = 0.f;
  softmax(p, z, K);
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) {
      dp[k] = -of_dice * pixel.seen * ((k == pixel.label ? 2.f : 0.f) - dice[k]) * (share[k] / unions[k]);
      sum += dp[k] * p[k];
    }
  UNROLL for (int k = 0; k < CLASSES; ++k)
    if (k < K) g[k] = of_ce * pixel.share * (p[k] - (k == pixel.label ? 1.f : 0.f)) + p[k] * (dp[k] - sum);
}

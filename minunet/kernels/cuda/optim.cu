// Optimiser steps, and what mixed precision does before them, in place; float32.
//
//     unscale: g *= factor;   *broken = 1 if any of g is not finite
//     sgd:    g += decay * p;   v = momentum * v + g;   p -= lr * (g + momentum * v if nesterov else v)
//     adam:   p -= lr * decay * p if decoupled, else g += decay * p
//             m += gain1 * (g - m);   s += gain2 * (g * g - s)                            gain = 1 - beta
//             p -= lr * (m / correction1) / (sqrt(s / correction2) + eps)         correction = 1 - beta^steps
//
// factor, lr and corrections are arguments, or lie in memory, `now`, where a recorded step (cuda_graph.py) finds its own.
// There the optimisers' last number is a flag, set where gradients were not finite: the kernels read it and skip the update, so
// that the host never synchronises.
//
// 256 threads, each takes numbers `threads of the grid` apart, so that reads and writes are coalesced.
//
// Shapes: any, contiguous.
//
// Measure: python bench/cuda_kernels.py optim
#include "prim.cuh"

extern "C" __global__ void __launch_bounds__(256, 1)
unscale(float* g, float* broken, long long size, const float* __restrict__ now, float factor) {
  if (now) factor = now[0];
  for (long long i = blockIdx.x * 256LL + threadIdx.x; i < size; i += gridDim.x * 256LL) {
    g[i] *= factor;
    if (!(g[i] - g[i] == 0.f)) *broken = 1.f;  // infinity or NaN; all threads that write write the same
  }
}

extern "C" __global__ void __launch_bounds__(256, 1)
sgd(float* p, const float* __restrict__ gradient, float* v, long long size, const float* __restrict__ now, float lr,
    float momentum, float decay, int nesterov) {
  if (now) {
    if (now[1] != 0.f) return;
    lr = now[0];
  }
  for (long long i = blockIdx.x * 256LL + threadIdx.x; i < size; i += gridDim.x * 256LL) {
    const float g = gradient[i] + decay * p[i];
    v[i] = momentum * v[i] + g;
    p[i] -= lr * (nesterov ? g + momentum * v[i] : v[i]);
  }
}

extern "C" __global__ void __launch_bounds__(256, 1)
adam(float* p, const float* __restrict__ gradient, float* m, float* s, long long size, const float* __restrict__ now, float lr,
     float gain1, float gain2, float eps, float decay, int decoupled, float correction1, float correction2) {
  if (now) {
    if (now[3] != 0.f) return;
    lr = now[0], correction1 = now[1], correction2 = now[2];
  }
  for (long long i = blockIdx.x * 256LL + threadIdx.x; i < size; i += gridDim.x * 256LL) {
    float w = p[i], g = gradient[i];
    if (decoupled)
      w -= lr * decay * w;
    else
      g += decay * w;
    m[i] += gain1 * (g - m[i]);
    s[i] += gain2 * (g * g - s[i]);
    p[i] = w - lr * (m[i] / correction1) / (sqrtf(s[i] / correction2) + eps);
  }
}

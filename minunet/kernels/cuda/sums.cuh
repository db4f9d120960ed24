// The sum over a block of 256 threads, in shared memory; always in the same order.
#pragma once
#include "prim.cuh"

__device__ __forceinline__ double block_sum(double* shared, double v) {  // everybody gets it
  __syncthreads();
  shared[threadIdx.x] = v;
  for (int half = 128; half; half >>= 1) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  __syncthreads();
  return shared[0];
}

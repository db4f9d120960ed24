// Sums over a block of threads, a column of it, a warp, and a grid; always in the same order.
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

// Over threadIdx.y, of a block of 32 x blockDim.y threads; everybody gets that of its threadIdx.x.
template <class V> __device__ __forceinline__ V sum_rows(V* shared, V v) {
  __syncthreads();  // what was there before has been read
  shared[threadIdx.y * 32 + threadIdx.x] = v;
  __syncthreads();
  V sum = 0;
  for (int i = 0; i < blockDim.y; ++i) sum += shared[i * 32 + threadIdx.x];
  return sum;
}

__device__ __forceinline__ double warp_sum(double v) {  // every lane gets it
  UNROLL for (int other = 16; other; other >>= 1) v += __shfl_xor_sync(0xFFFFFFFFu, v, other);
  return v;
}

// Whether all other blocks have been here, so that what they wrote before can be read; in a grid of one row. `finished` is 0
// before, and again when the last block has been here ("Memory Fence Functions" in the CUDA C++ Programming Guide).
__device__ __forceinline__ bool is_last_block(uint32_t* finished, void* shared) {
  bool* is = static_cast<bool*>(shared);
  __threadfence();  // what this thread wrote is seen before the count is;
  __syncthreads();  // and so is everybody's
  if (threadIdx.x == 0) {
    *is = atomicInc(finished, gridDim.x - 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  const bool found = *is;
  __syncthreads();  // shared memory may be written to again
  return found;
}

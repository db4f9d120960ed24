// Many arrays in one start. Their addresses and sizes come by value, as an argument of the kernel, which may have 4096 bytes of
// arguments. So nothing is uploaded, the arrays may lie elsewhere at the next start, and a recorded graph holds its own table.
#pragma once
#include "prim.cuh"

constexpr int ARRAYS = 96, CHUNK = 2048;

struct Table {
  float* at[4][ARRAYS];   // where the arrays of up to four columns begin; all arrays of a row have its size
  int first[ARRAYS + 1];  // a row's first chunk, counted over all rows; first[rows] is how many chunks there are
  int size[ARRAYS];
  int rows;
};
static_assert(sizeof(Table) == 3848, "as launch_many.py has it");

// work(row, i) for every number i of every row, each block in turn CHUNK numbers of one row; by 256 threads
template <class Work> __device__ __forceinline__ void for_each_number(const Table& t, Work work) {
  int row = 0;
  for (int chunk = blockIdx.x; chunk < t.first[t.rows]; chunk += gridDim.x) {
    while (chunk >= t.first[row + 1]) ++row;
    const int start = (chunk - t.first[row]) * CHUNK, stop = min(t.size[row] - start, CHUNK);
    for (int i = threadIdx.x; i < stop; i += 256) work(row, start + i);
  }
}

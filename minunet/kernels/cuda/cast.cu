// Many arrays of float32 into as many of 16 bits, in one start: mixed precision does so with its weights in every step.
//
//     for each pair of arrays, number i:   half[i] = the half nearest to full[i], ties to even
//
// Shapes: any, contiguous.   Numbers: float32 (a copy), -DF16, -DBF16.
//
// Measure: python bench/cuda_kernels.py cast
#include "tables.cuh"

extern "C" __global__ void __launch_bounds__(256, 1)
cast(Table t) {
  for_each_number(t, [&](int row, int i) {
    reinterpret_cast<number*>(t.at[1][row])[i] = from_float(t.at[0][row][i]);
  });
}

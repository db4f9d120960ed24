// The primitives that kernels use beside plain CUDA C++: one PTX instruction each on the GPU (sm_80 and later); with EMULATOR
// defined, emulator/emulator.h stands in for all of them and for CUDA itself. No other header is needed, NVRTC finds none.
#pragma once

#ifdef EMULATOR
#include "emulator/emulator.h"
#define UNROLL
#else
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#define UNROLL _Pragma("unroll")
#define SHARED(T, name)                                    \
  extern __shared__ __align__(1024) unsigned char arena[]; \
  T* name = reinterpret_cast<T*>(arena)

__device__ __forceinline__ uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

// 16 bytes from global to shared memory while the thread goes on; zeros where not valid (then nothing is read)
__device__ __forceinline__ void cp_async16(void* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void cp_async_wait() {  // all of this thread's groups but the N newest have landed
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
// four matrices of 8 rows of 16 bytes: lane 8 m + i says where row i of matrix m lies; lane 4 g + t gets word t of row g, or
// TRANSPOSED the 16-bit numbers g of rows 2 t and 2 t + 1
template <bool TRANSPOSED> __device__ __forceinline__ void ldmatrix4(uint32_t (&r)[4], const void* row) {
  if (TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ float half_to_float(uint16_t h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
__device__ __forceinline__ uint16_t float_to_half(float f) {
  uint16_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
__device__ __forceinline__ float bfloat_to_float(uint16_t h) { return __uint_as_float((uint32_t)h << 16); }
__device__ __forceinline__ uint16_t float_to_bfloat(float f) {
  uint16_t h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
// float32 bits rounded to the 10 bits of fraction that the tensor cores read: to nearest, ties away from zero
__device__ __forceinline__ uint32_t to_tf32(uint32_t bits) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(bits)));
  return r;
}
#define MMA(name, shape_and_types)                                                                                  \
  __device__ __forceinline__ void name(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) {               \
    asm volatile("mma.sync.aligned." shape_and_types " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"       \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                               \
  }
MMA(mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
MMA(mma_half, "m16n8k16.row.col.f32.f16.f16.f32")
MMA(mma_bfloat, "m16n8k16.row.col.f32.bf16.bf16.f32")

template <class V> __device__ __forceinline__ V load(const void* p) { return *reinterpret_cast<const V*>(p); }
template <class V> __device__ __forceinline__ void store(void* p, V v) { *reinterpret_cast<V*>(p) = v; }
#endif

// ---- storage types: F32 (tensor cores round products to TF32), F16, BF16; sums are always float32 ----------------------

#if defined(F16) || defined(BF16)
typedef uint16_t number;
#else
typedef float number;
#endif
constexpr int PER_WORD = 4 / sizeof(number);    // numbers in 4 bytes
constexpr int PER_CHUNK = 16 / sizeof(number);  // numbers in 16 bytes, what one asynchronous copy moves

#if defined(F16)
__device__ __forceinline__ float to_float(number v) { return half_to_float(v); }
__device__ __forceinline__ number from_float(float v) { return float_to_half(v); }
__device__ __forceinline__ uint32_t operand(uint32_t word) { return word; }
#define mma mma_half
#elif defined(BF16)
__device__ __forceinline__ float to_float(number v) { return bfloat_to_float(v); }
__device__ __forceinline__ number from_float(float v) { return float_to_bfloat(v); }
__device__ __forceinline__ uint32_t operand(uint32_t word) { return word; }
#define mma mma_bfloat
#else
__device__ __forceinline__ float to_float(number v) { return v; }
__device__ __forceinline__ number from_float(float v) { return v; }
__device__ __forceinline__ uint32_t operand(uint32_t word) { return to_tf32(word); }
#define mma mma_tf32
#endif

struct alignas(4 * sizeof(number)) Quad {  // four channels
  number v[4];
};

// What a thread of an elementwise kernel works on: a pixel, and its first channel of E; blocks of (channels / E) x pixels
__device__ __forceinline__ int pixel() { return blockIdx.x * blockDim.y + threadIdx.y; }
template <int E> __device__ __forceinline__ int channel() { return (blockIdx.y * blockDim.x + threadIdx.x) * E; }

// E channels at p, 1 or 4, to and from float32
template <int E> __device__ __forceinline__ void read(float (&v)[E], const number* p) {
  if (E == 4) {
    const Quad quad = load<Quad>(p);
    UNROLL for (int e = 0; e < E; ++e) v[e] = to_float(quad.v[e]);
  } else
    v[0] = to_float(*p);
}
template <int E> __device__ __forceinline__ void write(number* p, const float (&v)[E]) {
  if (E == 4) {
    Quad quad;
    UNROLL for (int e = 0; e < E; ++e) quad.v[e] = from_float(v[e]);
    store(p, quad);
  } else
    *p = from_float(v[0]);
}

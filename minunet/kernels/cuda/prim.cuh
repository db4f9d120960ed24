// The primitives that kernels use beside plain CUDA C++: one PTX instruction each on the GPU (sm_80 and later); with EMULATOR
// defined, emulator/emulator.h stands in for all of them and for CUDA itself. No other header is needed, NVRTC finds none.
#pragma once

#ifdef EMULATOR
#include "emulator/emulator.h"
#define UNROLL
#define ROLLED
#else
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define SHARED(T, name)                                    \
  extern __shared__ __align__(1024) unsigned char arena[]; \
  T* name = reinterpret_cast<T*>(arena)

__device__ __forceinline__ uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

// 16 bytes from global to shared memory while the thread goes on; zeros where not valid: then nothing is read, and `from` may
// be any multiple of 16
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
#define MMA(name, shape_and_types)                                                                                  \
  __device__ __forceinline__ void name(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) {               \
    asm volatile("mma.sync.aligned." shape_and_types " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"       \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                               \
  }
MMA(mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
MMA(mma_half, "m16n8k16.row.col.f32.f16.f16.f32")
MMA(mma_bfloat, "m16n8k16.row.col.f32.bf16.bf16.f32")

// ---- sm_90a alone: a warpgroup, 4 warps, multiplies 64 x 128 or 64 x 64, and reads the second matrix from shared memory by itself

// what this thread has stored, and its copies that it has waited for, can be seen by wgmma, too (after a barrier, by everybody's)
__device__ __forceinline__ void fence_for_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Registers that wgmma works on belong to it from the fence to the wait: d, which it adds to, and a, which it reads. Both
// functions name them all, so that the compiler neither moves them nor anything that touches them across (PTX ISA, "wgmma.fence")
template <int N, int D> __device__ __forceinline__ void held(float (&d)[D][4], uint32_t (&a)[N][4]) {
  UNROLL for (int i = 0; i < D; ++i) asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
  UNROLL for (int i = 0; i < N; ++i) asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
}
// to be said before the first wgmma that finds registers changed
template <int N, int D> __device__ __forceinline__ void wgmma_fence(float (&d)[D][4], uint32_t (&a)[N][4]) {
  held(d, a);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// those begun since the last call are a group that one can wait for
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// all groups have been done: their registers and tiles are free again
template <int N, int D> __device__ __forceinline__ void wgmma_wait(float (&d)[D][4], uint32_t (&a)[N][4]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  held(d, a);
}
// d[AT]... (64 x 128) += a (64 x 8 words) * b (8 words x 128), where warp w holds rows 16 w... as mma.sync's fragments
#define OF_D(i) "+f"(d[AT + i][0]), "+f"(d[AT + i][1]), "+f"(d[AT + i][2]), "+f"(d[AT + i][3])
#define WGMMA(name, shape_and_types, transposes)                                                                       \
  template <int AT, int D>                                                                                             \
  __device__ __forceinline__ void name(float(&d)[D][4], const uint32_t(&a)[4], uint64_t b) {                           \
    asm volatile("{.reg .pred p; setp.eq.u32 p, 1, 1; wgmma.mma_async.sync.aligned." shape_and_types                 \
                 " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,"  \
                 "%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,"  \
                 "%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, {%64,%65,%66,%67}, %68, p, 1, 1"         \
                 transposes ";}"                                                                                     \
                 : OF_D(0), OF_D(1), OF_D(2), OF_D(3), OF_D(4), OF_D(5), OF_D(6), OF_D(7), OF_D(8), OF_D(9),         \
                   OF_D(10), OF_D(11), OF_D(12), OF_D(13), OF_D(14), OF_D(15)                                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                              \
  }
WGMMA(wgmma_tf32, "m64n128k8.f32.tf32.tf32", "")
WGMMA(wgmma_half, "m64n128k16.f32.f16.f16", ", 0")
WGMMA(wgmma_bfloat, "m64n128k16.f32.bf16.bf16", ", 0")
// the same for 64 columns
#define WGMMA64(name, shape_and_types, transposes)                                                                     \
  template <int AT, int D>                                                                                             \
  __device__ __forceinline__ void name(float(&d)[D][4], const uint32_t(&a)[4], uint64_t b) {                           \
    asm volatile("{.reg .pred p; setp.eq.u32 p, 1, 1; wgmma.mma_async.sync.aligned." shape_and_types                 \
                 " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,"  \
                 "%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1" transposes ";}"                         \
                 : OF_D(0), OF_D(1), OF_D(2), OF_D(3), OF_D(4), OF_D(5), OF_D(6), OF_D(7)                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                              \
  }
WGMMA64(wgmma64_tf32, "m64n64k8.f32.tf32.tf32", "")
WGMMA64(wgmma64_half, "m64n64k16.f32.f16.f16", ", 0")
WGMMA64(wgmma64_bfloat, "m64n64k16.f32.bf16.bf16", ", 0")

__device__ __forceinline__ uint32_t shared_word(const void* p) { return *reinterpret_cast<const uint32_t*>(p); }
__device__ __forceinline__ void store_shared_word(void* p, uint32_t word) { *reinterpret_cast<uint32_t*>(p) = word; }
template <class V> __device__ __forceinline__ V load(const void* p) { return *reinterpret_cast<const V*>(p); }
template <class V> __device__ __forceinline__ void store(void* p, V v) { *reinterpret_cast<V*>(p) = v; }
#endif

// How wgmma is told of rows of BYTES, 64 or 128, along k, swizzled as along_k does; 8 at a time lie side by side, and APART bytes
// further the next 8. The swizzle goes by addresses, so rows may begin anywhere in a tile that begins at a multiple of 1024 (and
// 32, 64 or 96 bytes later, at a later k). In units of 16 bytes: the address; 1, which has no meaning here; APART; and code 1 for
// a swizzle of 128 bytes, 2 for 64. The base offset is 0, as the pattern begins at 1024 (PTX ISA, "Matrix Descriptor Format").
template <int BYTES, int APART> __device__ __forceinline__ uint64_t rows_for_wgmma(const void* first) {
  return (uint64_t)((shared_address(first) & 0x3FFFF) / 16) | 1ull << 16 | (uint64_t)(APART / 16) << 32 |
         (uint64_t)(BYTES == 128 ? 1 : 2) << 62;
}

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
#define wgmma wgmma_half
#define wgmma64 wgmma64_half
#elif defined(BF16)
__device__ __forceinline__ float to_float(number v) { return bfloat_to_float(v); }
__device__ __forceinline__ number from_float(float v) { return float_to_bfloat(v); }
__device__ __forceinline__ uint32_t operand(uint32_t word) { return word; }
#define mma mma_bfloat
#define wgmma wgmma_bfloat
#define wgmma64 wgmma64_bfloat
#else
// Tensor cores cut float32 down to TF32: they ignore 13 of the 23 bits of the fraction. That takes 0.7213 * 2^-11 of a number
// off in the mean (1 / (2 ln 2), if fractions are spread as they mostly are), and this puts it back beforehand. What TF32 holds
// stays what it is, and so do infinity and NaN. To round to nearest (cvt.rna) takes two instructions on sm_90.
constexpr float BEFORE_CUT = 1.f + 0.7213475f / 2048;
__device__ __forceinline__ uint32_t to_tf32(uint32_t bits) {
#ifdef EXACT  // the emulator's way to take numbers as they are
  return bits;
#else
  const float v = *reinterpret_cast<const float*>(&bits) * BEFORE_CUT;
  return *reinterpret_cast<const uint32_t*>(&v);
#endif
}
__device__ __forceinline__ float to_float(number v) { return v; }
__device__ __forceinline__ number from_float(float v) { return v; }
__device__ __forceinline__ uint32_t operand(uint32_t word) { return to_tf32(word); }
#define mma mma_tf32
#define wgmma wgmma_tf32
#define wgmma64 wgmma64_tf32
#endif

// pixels * numbers between pixels, neither negative: one instruction, with signs it would be five
__device__ __forceinline__ uint64_t times(int a, int b) { return (uint64_t)(uint32_t)a * (uint32_t)b; }

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

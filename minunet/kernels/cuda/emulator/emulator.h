// CUDA's execution model on the CPU: compile a .cu file with g++ through this header and run it where there is no GPU.
//
//     launch:  for each block of the grid:                      one after another, in an order of the schedule
//                  fill its shared memory with NaN
//                  for each of its threads: a fiber (a stack of its own)
//                  until all are done:
//                      pick a fiber that can go on, by the schedule; run it up to its next barrier
//                      all fibers at the block's barrier? let them all go on.   None can go on? fail: a deadlock
//
// A fiber gives way only at __syncthreads() and at what a warp does together (shuffles, ldmatrix, mma.sync); there the last
// of the 32 lanes does the work for all of them, in their registers, which lie on their sleeping stacks.
//
// What it finds: wrong indices, missing barriers (a schedule runs some thread far ahead of, or behind, the others), missing
// waits and overwritten tiles (asynchronous copies land as late as CUDA allows while wgmma reads and writes at once, or at once
// while wgmma waits as long as it may), copies that wgmma may not see for lack of a fence, blocks that are counted (atomicInc)
// without one, reads of shared memory that nobody wrote (NaN), barriers that not all threads reach, lanes at different
// instructions, misaligned vector accesses and asynchronous copies outside shared memory.
// What it cannot find: speed, bank conflicts, spills, what the memory model allows beyond these orders, and a mistake in its
// own tables of how mma.sync and wgmma spread a matrix over the lanes and how wgmma finds a tile's rows (those follow the PTX ISA,
// "Matrix Fragments for mma", "Register Fragments for wgmma", "Shared Memory Matrix Layout").
//
// How a fiber starts: makecontext; how it is switched: _setjmp and _longjmp, which unlike swapcontext make no system call.
#pragma once
#include <csetjmp>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) alignas(n)
// __shared__ is not defined: kernels take their shared memory from SHARED, so that all of it is poisoned

struct dim3 {
  unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

// std::function and std::mt19937, whose headers would take longer to compile than most kernels
struct Task {
  virtual void run() = 0;
  virtual ~Task() {}
};
template <class F> struct TaskOf : Task {
  F f;
  explicit TaskOf(F f) : f(f) {}
  void run() override { f(); }
};
template <class F> std::unique_ptr<Task> task(F f) { return std::unique_ptr<Task>(new TaskOf<F>(f)); }
struct Random {  // a linear congruential generator (Knuth's MMIX), of which the upper half is good
  uint64_t state = 1;
  unsigned below(unsigned n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 32) % n;
  }
};

enum State { READY, AT_BLOCK, AT_WARP, DONE };
enum Schedule { UP, DOWN, SHUFFLED, WARPS_UP, WARPS_DOWN };  // the last two: a warp runs alone up to the block's barrier
constexpr size_t STACK = 64 << 10, WARP = 32;                // bytes; lanes

struct Copy {
  void* to;
  const void* from;  // null: zeros
  int bytes;
};
struct Fiber {
  ucontext_t context;
  jmp_buf where;
  bool started;
  bool fenced;  // by __threadfence, since the block began
  State state;
  dim3 index;
  int number;
  std::vector<std::vector<Copy>> groups;  // of asynchronous copies; the last one is still open
  std::vector<Copy> landed;               // those that it has waited for, and wgmma has not been shown
  std::unique_ptr<char[]> stack{new char[STACK]};
};
struct Held {  // registers of a lane that wgmma works on
  const float *d, *d_end;
  const uint32_t *a, *a_end;
};
struct Warp {
  int arrived = 0;
  const void* instruction = nullptr;
  void* operands[WARP];
  bool fenced = false;                       // for wgmma,
  Held held[WARP];                           // with these registers
  std::vector<std::unique_ptr<Task>> works;  // what wgmma has begun,
  size_t committed = 0;                      // and how many of these a wait waits for
  std::vector<uint32_t> words[WARP];         // that lanes read one by one from shared memory, if this is counted
};
struct Counts {  // of a launch: bytes that asynchronous copies fetched; products; bytes read from shared memory, and in how many
  long long copied, multiplied, read, turns, barriers;  // turns of 32 banks; barriers of the first block
};

static std::vector<std::unique_ptr<Fiber>> fibers;
static std::vector<Warp> warps;
static std::vector<unsigned char> arena, seen;  // shared memory; and what wgmma sees of it
static size_t shared_bytes;
static Fiber* current;
static int threads;
static jmp_buf scheduler;
static std::unique_ptr<Task> kernel;
static Schedule schedule;
static bool eager, counting;
static char error[512];
static Counts counts;

[[noreturn]] inline void fail(const char* format, ...) {
  int n = snprintf(error, sizeof error, "block (%u, %u, %u), thread %d: ", blockIdx.x, blockIdx.y, blockIdx.z,
                   current ? current->number : -1);
  va_list more;
  va_start(more, format);
  vsnprintf(error + n, sizeof error - n, format, more);
  va_end(more);
  _longjmp(scheduler, 2);
}

__attribute__((noinline)) static void give_way(State state) {
  current->state = state;
  if (!_setjmp(current->where)) _longjmp(scheduler, 1);
}
static void first_call() {
  kernel->run();
  current->state = DONE;
  _longjmp(scheduler, 1);
}
__attribute__((noinline)) static void run(Fiber& fiber) {  // up to its next barrier
  current = &fiber;
  threadIdx = fiber.index;
  fiber.state = READY;
  const int from = _setjmp(scheduler);
  if (from == 2) throw 0;
  if (from == 1) return;
  if (fiber.started) _longjmp(fiber.where, 1);
  fiber.started = true;
  setcontext(&fiber.context);
}
inline void* shared() { return (void*)(((uintptr_t)arena.data() + 1023) & ~(uintptr_t)1023); }
inline unsigned char* as_seen(const void* p) { return seen.data() + ((const unsigned char*)p - (const unsigned char*)shared()); }
inline void require_shared(const void* p, size_t bytes, size_t alignment, const char* what) {
  const size_t offset = (const unsigned char*)p - (const unsigned char*)shared();
  if (offset + bytes > shared_bytes || offset % alignment)
    fail("%s: %zu bytes at offset %zd of %zu bytes of shared memory", what, bytes, (ptrdiff_t)offset, shared_bytes);
}
inline void require_aligned(const void* p, size_t bytes, const char* what) {
  if ((uintptr_t)p % bytes) fail("%s: the address is no multiple of %zu bytes", what, bytes);
}

static void start_block() {
  while ((int)fibers.size() < threads) fibers.emplace_back(new Fiber);
  warps.clear(), warps.resize((threads + WARP - 1) / WARP);
  memset(arena.data(), 0xFF, arena.size());  // NaN, in every format
  memset(seen.data(), 0xFF, seen.size());
  for (int t = 0; t < threads; ++t) {
    Fiber& f = *fibers[t];
    f.started = f.fenced = false, f.state = READY, f.number = t;
    f.groups.assign(1, {}), f.landed.clear();
    f.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get(), f.context.uc_stack.ss_size = STACK, f.context.uc_link = nullptr;
    makecontext(&f.context, first_call, 0);
  }
}
inline void run_warp_alone(int t) {
  const int start = t / WARP * WARP, stop = start + (int)WARP < threads ? start + (int)WARP : threads;
  for (bool again = true; again;) {
    again = false;
    for (int i = 0; i < stop - start; ++i) {
      Fiber& f = *fibers[schedule == WARPS_DOWN ? stop - 1 - i : start + i];
      if (f.state == READY) run(f), again = true;
    }
  }
}
static void run_block(Random& random) {
  start_block();
  std::vector<int> order(threads);
  for (int t = 0; t < threads; ++t) order[t] = schedule == DOWN || schedule == WARPS_DOWN ? threads - 1 - t : t;
  for (;;) {
    if (schedule == SHUFFLED)
      for (int t = threads - 1; t > 0; --t) std::swap(order[t], order[random.below(t + 1)]);
    bool progress = false;
    for (int t : order)
      if (fibers[t]->state == READY) {
        progress = true;
        schedule >= WARPS_UP ? run_warp_alone(t) : run(*fibers[t]);
      }
    if (progress) continue;
    int waiting = 0, done = 0;
    for (int t = 0; t < threads; ++t) waiting += fibers[t]->state == AT_BLOCK, done += fibers[t]->state == DONE;
    if (done == threads) return;
    current = nullptr;
    if (_setjmp(scheduler)) throw 0;
    if (!(blockIdx.x | blockIdx.y | blockIdx.z)) ++counts.barriers;
    if (waiting < threads)
      fail("deadlock: of %d threads %d wait at __syncthreads, %d at a warp's instruction, %d are done", threads, waiting,
           threads - waiting - done, done);
    for (int t = 0; t < threads; ++t) fibers[t]->state = READY;
  }
}
// eight rows of 16 bytes at these offsets are read: in one turn if they lie in different banks
inline void count_rows(const uint32_t (&rows)[8]) {
  int most = 0;
  for (int i = 0; i < 8; ++i) {
    int same = 1;
    for (int j = 0; j < i; ++j) same += rows[j] / 16 % 8 == rows[i] / 16 % 8 && rows[j] / 16 != rows[i] / 16;
    if (same > most) most = same;
  }
  counts.read += 128, counts.turns += most;
}
// the same of the words that lanes have read one by one: the nth of each lane at once
static void count_words() {
  for (Warp& warp : warps)
    for (size_t n = 0; n < warp.words[0].size(); ++n) {
      int most = 0;
      for (size_t l = 0; l < WARP; ++l) {
        int same = 1;
        for (size_t j = 0; j < l; ++j)
          same += warp.words[j][n] / 4 % 32 == warp.words[l][n] / 4 % 32 && warp.words[j][n] != warp.words[l][n];
        if (same > most) most = same;
      }
      counts.read += 128, counts.turns += most;
    }
}
template <class F> const char* launch(const unsigned* grid, const unsigned* block, size_t bytes, int order, int early, F f) {
  gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
  threads = block[0] * block[1] * block[2];
  schedule = (Schedule)order, eager = early & 1, counting = early & 2;
  counts = {};
  shared_bytes = bytes, arena.resize(bytes + 1024), seen.resize(bytes), kernel = task(f);
  Random random;
  const long blocks = (long)grid[0] * grid[1] * grid[2];
  try {
    for (long n = 0; n < blocks; ++n) {
      const long b = schedule == DOWN || schedule == WARPS_DOWN ? blocks - 1 - n : n;
      blockIdx = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
      run_block(random);
      if (counting) count_words();
    }
  } catch (int) {
    return error;
  }
  return nullptr;
}

// What all lanes of a warp do together: each leaves a pointer to its operands, the last one does the work for all.
template <class Operands, class Work> void together(const void* instruction, Operands& mine, Work work) {
  Warp& warp = warps[current->number / WARP];
  if (warp.arrived && warp.instruction != instruction) fail("lanes of a warp are at different instructions");
  warp.instruction = instruction;
  warp.operands[current->number % WARP] = &mine;
  if (++warp.arrived < (int)WARP) return give_way(AT_WARP);
  warp.arrived = 0;
  Operands* all[WARP];
  for (size_t l = 0; l < WARP; ++l) all[l] = (Operands*)warp.operands[l];
  work(all);
  const int start = current->number / WARP * WARP;
  for (size_t l = 0; l < WARP; ++l) fibers[start + l]->state = READY;
}

inline float as_float(uint32_t bits) {
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
inline uint32_t as_bits(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  return bits;
}
inline float from_half(uint16_t h) {
  const uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31, fraction = h & 0x3FF;
  if (exponent == 31) return as_float(sign | 0x7F800000 | fraction << 13);
  if (exponent) return as_float(sign | (exponent + 112) << 23 | fraction << 13);
  return as_float(sign | as_bits(fraction * 0x1p-24f));
}
inline uint16_t to_half(float f) {  // to nearest, ties to even
  const uint32_t bits = as_bits(f), sign = bits >> 16 & 0x8000;
  const float a = fabsf(f);
  if (f != f) return 0x7FFF;
  if (a >= 65520.f) return sign | 0x7C00;
  if (a < 0x1p-14f) return sign | (uint16_t)nearbyintf(a * 0x1p24f);
  const uint32_t b = as_bits(a), rounded = b + 0xFFF + (b >> 13 & 1);
  return sign | (rounded - (112u << 23)) >> 13;
}
inline uint16_t to_bfloat(float f) {
  const uint32_t bits = as_bits(f);
  return f != f ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

// d (16 x 8) += a (16 x DEPTH) * b (DEPTH x 8), where a lane's registers hold PER numbers each. Lane 4 g + t has, in words of
// PER numbers: a[0] row g, word t; a[1] row g + 8, word t; a[2], a[3] the same 4 words on; b[0] word t of column g, b[1] 4
// words on; d[0], d[1] row g, columns 2 t and 2 t + 1; d[2], d[3] row g + 8.
struct Mma {
  float* d;
  const uint32_t *a, *b;
};
template <int PER, int N, class Decode>
void multiply(float* const* d, const uint32_t* const* of_a, const float (&b)[8 * PER][N], Decode decode) {
  float a[16][8 * PER];
  counts.multiplied += 16 * N * 8 * PER;
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i)
      for (int e = 0; e < PER; ++e) a[(l >> 2) + 8 * (i & 1)][((l & 3) + 4 * (i >> 1)) * PER + e] = decode(of_a[l][i], e);
  for (int row = 0; row < 16; ++row) {
    float sum[N] = {};
    for (int k = 0; k < 8 * PER; ++k)
      for (int n = 0; n < N; ++n) sum[n] += a[row][k] * b[k][n];
    for (int n = 0; n < N; ++n) d[(row & 7) * 4 + n % 8 / 2][n / 8 * 4 + 2 * (row >> 3) + n % 2] += sum[n];
  }
}
template <int PER, class Decode> void mma(const void* instruction, Mma mine, Decode decode) {
  together(instruction, mine, [&](Mma** lane) {
    float b[8 * PER][8], *d[32];
    const uint32_t* a[32];
    for (int l = 0; l < 32; ++l) {
      d[l] = lane[l]->d, a[l] = lane[l]->a;
      for (int i = 0; i < 2; ++i)
        for (int e = 0; e < PER; ++e) b[((l & 3) + 4 * i) * PER + e][l >> 2] = decode(lane[l]->b[i], e);
    }
    multiply<PER>(d, a, b, decode);
  });
}

// A warp's quarter of d (64 x 128) += a (64 x DEPTH) * b (DEPTH x 128): a and d in registers, spread as above, and b in shared
// memory, column n in 32 bytes of row n of swizzled rows. It happens when the warp waits for it or, with late copies, at once.
struct Wgmma {
  float* d;
  const uint32_t* a;
  uint64_t b;
};
inline uint32_t place_in_tile(uint64_t tile, int row, int word) {  // an offset in shared memory
  const uint32_t start = (tile & 0x3FFF) << 4, apart = (tile >> 32 & 0x3FFF) << 4;
  const bool narrow = tile >> 62 == 2;  // rows of 64 bytes
  const uint32_t at = start + row / 8 * apart + row % 8 * (narrow ? 64 : 128) + word * 4;
  return at ^ (at >> 7 & (narrow ? 3 : 7)) << 4;
}
inline uint32_t word_of_tile(uint64_t tile, int row, int word) {
  const uint32_t place = place_in_tile(tile, row, word);
  if (place + 4 > shared_bytes) fail("wgmma: offset %u of %zu bytes of shared memory", place, shared_bytes);
  uint32_t bits;
  memcpy(&bits, seen.data() + place, 4);
  return bits;
}
template <int PER, class Decode> void wgmma(const void* instruction, Wgmma mine, Decode decode) {
  together(instruction, mine, [&](Wgmma** lane) {
    Warp& warp = warps[current->number / WARP];
    if (!warp.fenced) fail("wgmma: registers were changed, and there was no wgmma.fence since");
    if (threads % 128) fail("wgmma: %d threads are no whole warpgroups", threads);
    const uint64_t tile = lane[0]->b;
    if ((tile >> 62) % 3 == 0 || tile >> 49 & 7) fail("wgmma: the tile is not swizzled by 64 or 128 bytes from a multiple of 1024");
    float* d[32];
    const uint32_t* a[32];
    for (int l = 0; l < 32; ++l) {
      d[l] = lane[l]->d, a[l] = lane[l]->a;
      if (lane[l]->b != tile) fail("wgmma: lanes name different tiles");
      const Held& held = warp.held[l];
      if (d[l] < held.d || d[l] >= held.d_end || a[l] < held.a || a[l] >= held.a_end)
        fail("wgmma: the fence did not name its registers");
    }
    if (current->number / WARP % 4 == 0)  // once for the four warps
      for (int n = 0; n < 128; n += 8)
        for (int piece = 0; piece < 2; ++piece) {
          uint32_t rows[8];
          for (int i = 0; i < 8; ++i) rows[i] = place_in_tile(tile, n + i, 4 * piece);
          count_rows(rows);
        }
    auto work = [=] {
      static float b[8 * PER][128];
      for (int n = 0; n < 128; ++n)
        for (int k = 0; k < 8 * PER; ++k) b[k][n] = decode(word_of_tile(tile, n, k / PER), k % PER);
      multiply<PER>(d, a, b, decode);
    };
    eager ? warp.works.push_back(task(work)) : work();
  });
}
}  // namespace emulator

// ---- what CUDA C++ offers ---------------------------------------------------------------------------------------------

inline void __syncthreads() { emulator::give_way(emulator::AT_BLOCK); }
inline void __syncwarp() {
  static char here;
  int nothing = 0;
  emulator::together(&here, nothing, [](int**) {});
}
template <class T> T __shfl_xor_sync(unsigned, T v, int mask) {
  static char here;
  struct Operands {
    T give, get;
    int mask;
  } mine{v, v, mask};
  emulator::together(&here, mine, [](Operands** lane) {
    for (int l = 0; l < 32; ++l) lane[l]->get = lane[l ^ lane[l]->mask]->give;
  });
  return mine.get;
}
inline void __threadfence() { emulator::current->fenced = true; }
inline unsigned atomicInc(unsigned* p, unsigned most) {  // blocks run one after another here: fences are looked for, not needed
  for (int t = 0; t < emulator::threads; ++t)
    if (!emulator::fibers[t]->fenced) emulator::fail("atomicInc: thread %d has no __threadfence before it", t);
  const unsigned before = *p;
  *p = before >= most ? 0 : before + 1;
  return before;
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

// ---- the primitives of prim.cuh ---------------------------------------------------------------------------------------

#define SHARED(T, name) T* name = (T*)emulator::shared()

inline uint32_t shared_address(const void* p) { return (const char*)p - (const char*)emulator::shared(); }

inline void cp_async16(void* to, const void* from, bool valid) {
  emulator::require_shared(to, 16, 16, "cp.async");
  emulator::require_aligned(from, 16, "cp.async");
  if (valid) emulator::counts.copied += 16;
  if (emulator::eager) {
    valid ? memcpy(to, from, 16) : memset(to, 0, 16);
    memcpy(emulator::as_seen(to), to, 16);
  }
  emulator::current->groups.back().push_back({to, valid ? from : nullptr, 16});
}
inline void cp_async_commit() { emulator::current->groups.emplace_back(); }
template <int N> void cp_async_wait() {  // all groups but the N newest have landed
  auto& groups = emulator::current->groups;
  for (; (int)groups.size() - 1 > N; groups.erase(groups.begin()))
    for (auto& c : groups.front()) {
      if (!emulator::eager) c.from ? memcpy(c.to, c.from, c.bytes) : memset(c.to, 0, c.bytes);
      emulator::current->landed.push_back(c);
    }
}
template <bool TRANSPOSED> void ldmatrix4(uint32_t (&r)[4], const void* row) {
  static char here;
  struct Operands {
    uint32_t* r;
    const void* row;
  } mine{r, row};
  emulator::require_shared(row, 16, 16, "ldmatrix");
  emulator::together(&here, mine, [](Operands** lane) {
    for (int m = 0; m < 4; ++m) {
      uint32_t rows[8];
      for (int i = 0; i < 8; ++i) rows[i] = shared_address(lane[8 * m + i]->row);
      emulator::count_rows(rows);
    }
    for (int l = 0; l < 32; ++l)
      for (int m = 0; m < 4; ++m) {  // lane 8 m + i says where row i of matrix m lies: 8 numbers of 16 bits
        uint16_t pair[2];
        for (int e = 0; e < 2; ++e) {
          const int i = TRANSPOSED ? 2 * (l & 3) + e : l >> 2, j = TRANSPOSED ? l >> 2 : 2 * (l & 3) + e;
          memcpy(&pair[e], (const char*)lane[8 * m + i]->row + 2 * j, 2);
        }
        memcpy(&lane[l]->r[m], pair, 4);
      }
  });
}
inline float half_to_float(uint16_t h) { return emulator::from_half(h); }
inline uint16_t float_to_half(float f) { return emulator::to_half(f); }
inline float bfloat_to_float(uint16_t h) { return emulator::as_float((uint32_t)h << 16); }
inline uint16_t float_to_bfloat(float f) { return emulator::to_bfloat(f); }

#ifdef EXACT  // float32 products: what remains is the rounding of sums, so that small mistakes show
constexpr uint32_t TF32_BITS = ~0u;
#else
constexpr uint32_t TF32_BITS = ~0x1FFFu;  // tensor cores read no more than these
#endif
inline float of_tf32(uint32_t word, int) { return emulator::as_float(word & TF32_BITS); }
inline float of_half(uint32_t word, int e) { return emulator::from_half(word >> 16 * e); }
inline float of_bfloat(uint32_t word, int e) { return emulator::as_float(e ? word & 0xFFFF0000u : word << 16); }
#define MULTIPLIES(kind, PER)                                                            \
  inline void mma_##kind(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { \
    static char here;                                                                    \
    emulator::mma<PER>(&here, {d, a, b}, of_##kind);                                     \
  }                                                                                      \
  template <int AT, int D>                                                               \
  void wgmma_##kind(float (&d)[D][4], const uint32_t (&a)[4], uint64_t b) {              \
    static char here;                                                                    \
    emulator::wgmma<PER>(&here, {d[AT], a, b}, of_##kind);                               \
  }
MULTIPLIES(tf32, 1)
MULTIPLIES(half, 2)
MULTIPLIES(bfloat, 2)

inline void fence_for_wgmma() {  // only asynchronous copies are followed, not stores
  for (auto& c : emulator::current->landed) memcpy(emulator::as_seen(c.to), c.to, c.bytes);
  emulator::current->landed.clear();
}
// both name the registers that are wgmma's from the one to the other
template <int N, int D> void wgmma_fence(float (&d)[D][4], uint32_t (&a)[N][4]) {
  static char here;
  emulator::Held mine{d[0], d[D - 1] + 4, a[0], a[N - 1] + 4};
  emulator::together(&here, mine, [](emulator::Held** lane) {
    emulator::Warp& warp = emulator::warps[emulator::current->number / emulator::WARP];
    for (size_t l = 0; l < emulator::WARP; ++l) warp.held[l] = *lane[l];
    warp.fenced = true;
  });
}
inline void wgmma_commit() {
  emulator::Warp& warp = emulator::warps[emulator::current->number / emulator::WARP];
  warp.committed = warp.works.size();  // each lane says it, the last one after all have begun their products together
}
template <int N, int D> void wgmma_wait(float (&d)[D][4], uint32_t (&a)[N][4]) {
  static char here;
  emulator::Held mine{d[0], d[D - 1] + 4, a[0], a[N - 1] + 4};
  emulator::together(&here, mine, [](emulator::Held** lane) {
    emulator::Warp& warp = emulator::warps[emulator::current->number / emulator::WARP];
    for (size_t l = 0; l < emulator::WARP; ++l)
      if (warp.fenced && (lane[l]->d != warp.held[l].d || lane[l]->a != warp.held[l].a))
        emulator::fail("wgmma: the wait does not name its registers");
    for (size_t i = 0; i < warp.committed; ++i) warp.works[i]->run();
    warp.works.erase(warp.works.begin(), warp.works.begin() + warp.committed);
    warp.committed = 0, warp.fenced = false;
  });
}
inline uint32_t shared_word(const void* p) {
  if (emulator::counting)
    emulator::warps[emulator::current->number / emulator::WARP].words[emulator::current->number % emulator::WARP].push_back(shared_address(p));
  uint32_t bits;
  memcpy(&bits, p, 4);
  return bits;
}
// a vector load or store: as on the GPU, its address must be a multiple of its size
template <class V> V load(const void* p) {
  emulator::require_aligned(p, sizeof(V), "a vector load");
  V v;
  memcpy(&v, p, sizeof v);
  return v;
}
template <class V> void store(void* p, V v) {
  emulator::require_aligned(p, sizeof(V), "a vector store");
  memcpy(p, &v, sizeof v);
}

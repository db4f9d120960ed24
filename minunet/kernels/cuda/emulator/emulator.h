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
// own tables (products.h) of how mma.sync and wgmma spread a matrix over the lanes and how wgmma finds a tile's rows (those follow
// the PTX ISA, "Matrix Fragments for mma", "Register Fragments for wgmma", "Shared Memory Matrix Layout").
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
// Words that lanes of a warp have read one by one, the nth of each lane at once: in how many turns of the 32 banks
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

#include "products.h"
#include "primitives.h"  // which uses both

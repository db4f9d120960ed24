// What stands in for the primitives of prim.cuh, one function for each. Only emulator.h includes this.
#pragma once

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
    emulator::wgmma<PER, 128>(&here, {d[AT], a, b}, of_##kind);                          \
  }                                                                                      \
  template <int AT, int D>                                                               \
  void wgmma64_##kind(float (&d)[D][4], const uint32_t (&a)[4], uint64_t b) {            \
    static char here;                                                                    \
    emulator::wgmma<PER, 64>(&here, {d[AT], a, b}, of_##kind);                           \
  }
MULTIPLIES(tf32, 1)
MULTIPLIES(half, 2)
MULTIPLIES(bfloat, 2)

inline void fence_for_wgmma() {  // of stores only those by store_shared_word are followed
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
inline void store_shared_word(void* p, uint32_t word) {
  emulator::require_shared(p, 4, 4, "a store");
  if (emulator::counting)
    emulator::warps[emulator::current->number / emulator::WARP].words[emulator::current->number % emulator::WARP].push_back(shared_address(p));
  memcpy(p, &word, 4);
  emulator::current->landed.push_back({p, nullptr, 4});
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

// The emulator's 16-bit numbers and its tensor cores: how mma.sync and wgmma spread matrices over a warp's registers, and how
// they are found in shared memory. Only emulator.h includes this.
#pragma once

namespace emulator {
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

// A warp's quarter of d (64 x N) += a (64 x DEPTH) * b (DEPTH x N): a and d in registers, spread as above, and b in shared
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
template <int PER, int N, class Decode> void wgmma(const void* instruction, Wgmma mine, Decode decode) {
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
      for (int n = 0; n < N; n += 8)
        for (int piece = 0; piece < 2; ++piece) {
          uint32_t rows[8];
          for (int i = 0; i < 8; ++i) rows[i] = place_in_tile(tile, n + i, 4 * piece);
          count_rows(rows);
        }
    auto work = [=] {
      static float b[8 * PER][N];
      for (int n = 0; n < N; ++n)
        for (int k = 0; k < 8 * PER; ++k) b[k][n] = decode(word_of_tile(tile, n, k / PER), k % PER);
      multiply<PER>(d, a, b, decode);
    };
    eager ? warp.works.push_back(task(work)) : work();
  });
}
}  // namespace emulator

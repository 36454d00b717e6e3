// AMX: float32 products from three-part bfloat16 tiles (AVX-512 F, BW, VL, BF16; AMX-TILE, AMX-BF16; Linux).
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/amx_kernels.h"

namespace palimpsest::cpu {
namespace {

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

void begin() {
  TileConfiguration configuration;
  for (int tile = 0; tile < 8; ++tile) configuration.row_bytes[tile] = 64, configuration.rows[tile] = 16;
  // The intrinsic does not say that it reads all of it.
  asm volatile("" : : "r"(&configuration) : "memory");
  _tile_loadconfig(&configuration);
}

void end() { _tile_release(); }

// Takes the nearest bfloat16 of both vectors away, and returns it: pairs (low lane, high lane) of 16 bits.
inline __m512i take_part(__m512& low, __m512& high) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const __m512i l = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(low), half), upper);
  const __m512i h = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(high), half), upper);
  low = _mm512_sub_ps(low, _mm512_castsi512_ps(l));
  high = _mm512_sub_ps(high, _mm512_castsi512_ps(h));
  return _mm512_or_si512(_mm512_srli_epi32(l, 16), h);
}

// One row of a tile's three parts; the third holds what is left, whose lower 16 bits are zero unless it underflows.
inline void store_row(__m512 low, __m512 high, int64_t row, uint16_t* tile) {
  uint16_t* to = tile + row * amx_depth;
  _mm512_store_si512(to, take_part(low, high));
  _mm512_store_si512(to + amx_part, take_part(low, high));
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const __m512i last = _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(low), 16),
                                       _mm512_and_si512(_mm512_castps_si512(high), upper));
  _mm512_store_si512(to + 2 * amx_part, last);
}

inline void clear_rows(int64_t row, uint16_t* tile) {
  const __m512i zero = _mm512_setzero_si512();
  for (; row < amx_rows; ++row) {
    for (int part = 0; part < 3; ++part) _mm512_store_si512(tile + part * amx_part + row * amx_depth, zero);
  }
}

inline __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1);
}

void pack_left(int64_t rows, int64_t depth, const float* from, int64_t row_distance, uint16_t* tile) {
  const __mmask16 low = first_lanes(depth), high = first_lanes(depth - 16);
  for (int64_t row = 0; row < rows; ++row, from += row_distance) {
    store_row(_mm512_maskz_loadu_ps(low, from), _mm512_maskz_loadu_ps(high, from + 16), row, tile);
  }
  clear_rows(rows, tile);
}

void pack_right(int64_t columns, int64_t depth, const float* from, int64_t depth_distance, uint16_t* tile) {
  const __mmask16 mask = first_lanes(columns);
  const int64_t rows = depth < 16 ? depth : 16;
  for (int64_t row = 0; row < rows; ++row, from += depth_distance) {
    const __mmask16 second = row + 16 < depth ? mask : 0;
    store_row(_mm512_maskz_loadu_ps(mask, from),
              _mm512_maskz_loadu_ps(second, from + (second ? 16 * depth_distance : 0)), row, tile);
  }
  clear_rows(rows, tile);
}

// Transposes the 16 x 16 pairs of one part: left and right layout of the same numbers.
inline void transpose_pairs(uint16_t* part) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_load_si512(part + i * amx_depth);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
    b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
    b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
    b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88);
    a[i + 8] = _mm512_shuffle_i32x4(b[i], b[i + 8], 0xdd);
    a[i + 4] = _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0x88);
    a[i + 12] = _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0xdd);
  }
  for (int i = 0; i < 16; ++i) _mm512_store_si512(part + i * amx_depth, a[i]);
}

void transpose_tile(uint16_t* tile) {
  for (int part = 0; part < 3; ++part) transpose_pairs(tile + part * amx_part);
}

void pack_left_by_columns(int64_t rows, int64_t depth, const float* from, int64_t depth_distance, uint16_t* tile) {
  pack_right(rows, depth, from, depth_distance, tile);
  transpose_tile(tile);
}

void pack_right_by_columns(int64_t columns, int64_t depth, const float* from, int64_t column_distance, uint16_t* tile) {
  pack_left(columns, depth, from, column_distance, tile);
  transpose_tile(tile);
}

void pack_right_at(int64_t columns, const float* const* at, int64_t offset, uint16_t* tile) {
  const __mmask16 mask = first_lanes(columns);
  alignas(64) static constexpr float nothing[16] = {};
  const auto load = [&](const float* from) {
    return _mm512_maskz_loadu_ps(mask, from == nullptr ? nothing : from + offset);
  };
  for (int64_t row = 0; row < amx_rows; ++row) store_row(load(at[row]), load(at[row + amx_rows]), row, tile);
}

void pack_left_at(int64_t rows, const float* const* at, int64_t offset, uint16_t* tile) {
  pack_right_at(rows, at, offset, tile);
  transpose_tile(tile);
}

void add_squares(int64_t count, const float* x, float* sums) {
  for (int64_t i = 0; i < count; i += 16) {
    const __m512 value = _mm512_load_ps(x + i);
    _mm512_store_ps(sums + i, _mm512_fmadd_ps(value, value, _mm512_load_ps(sums + i)));
  }
}

// Tiles 0 to 3 are c's, 4 and 5 the left factor's part of both rows, 6 and 7 the right one's of both columns.
template <int row_tiles, int column_tiles>
void load_c(const AmxProduct& p) {
  const int64_t distance = p.c_distance * 4;
  _tile_loadd(0, p.c, distance);
  if constexpr (column_tiles == 2) _tile_loadd(1, p.c + 16, distance);
  if constexpr (row_tiles == 2) _tile_loadd(2, p.c + p.c_second, distance);
  if constexpr (row_tiles == 2 && column_tiles == 2) _tile_loadd(3, p.c + p.c_second + 16, distance);
}

template <int row_tiles, int column_tiles>
void store_c(const AmxProduct& p) {
  const int64_t distance = p.c_distance * 4;
  _tile_stored(0, p.c, distance);
  if constexpr (column_tiles == 2) _tile_stored(1, p.c + 16, distance);
  if constexpr (row_tiles == 2) _tile_stored(2, p.c + p.c_second, distance);
  if constexpr (row_tiles == 2 && column_tiles == 2) _tile_stored(3, p.c + p.c_second + 16, distance);
}

template <int row_tiles, int column_tiles>
inline __attribute__((always_inline)) void add_products() {
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (column_tiles == 2) _tile_dpbf16ps(1, 4, 7);
  if constexpr (row_tiles == 2) _tile_dpbf16ps(2, 5, 6);
  if constexpr (row_tiles == 2 && column_tiles == 2) _tile_dpbf16ps(3, 5, 7);
}

template <int row_tiles, int column_tiles>
void multiply_tiles(const AmxProduct& p) {
  if (p.add) {
    load_c<row_tiles, column_tiles>(p);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const int64_t a_second = p.a_second * amx_tile, b_second = p.b_second * amx_tile;
  for (int64_t step = 0; step < p.steps; ++step) {
    const uint16_t* a = p.a + p.a_at[step] * amx_tile;
    const uint16_t* b = p.b + p.b_at[step] * amx_tile;
    const auto left = [&](int part) __attribute__((always_inline)) {
      _tile_loadd(4, a + part * amx_part, 64);
      if constexpr (row_tiles == 2) _tile_loadd(5, a + a_second + part * amx_part, 64);
    };
    const auto right = [&](int part) __attribute__((always_inline)) {
      _tile_loadd(6, b + part * amx_part, 64);
      if constexpr (column_tiles == 2) _tile_loadd(7, b + b_second + part * amx_part, 64);
    };
    // In an order in which each part is loaded seldom: 14 loads for 24 products of tiles.
    left(0), right(2), add_products<row_tiles, column_tiles>();
    right(1), add_products<row_tiles, column_tiles>();
    left(1), add_products<row_tiles, column_tiles>();
    right(0), add_products<row_tiles, column_tiles>();
    left(2), add_products<row_tiles, column_tiles>();
    left(0), add_products<row_tiles, column_tiles>();
  }
  store_c<row_tiles, column_tiles>(p);
}

void multiply(const AmxProduct& p) {
  if (p.row_tiles == 2) return p.column_tiles == 2 ? multiply_tiles<2, 2>(p) : multiply_tiles<2, 1>(p);
  return p.column_tiles == 2 ? multiply_tiles<1, 2>(p) : multiply_tiles<1, 1>(p);
}

constexpr AmxKernels table{
    begin,        end,           multiply,   pack_left, pack_left_by_columns, pack_right, pack_right_by_columns,
    pack_left_at, pack_right_at, add_squares};

}  // namespace

const AmxKernels* amx_kernels_of_build() { return &table; }

bool amx_granted() {
  constexpr int request_permission = 0x1023, tile_data = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
  static const bool granted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return granted;
}

}  // namespace palimpsest::cpu

// Elementwise operations on tiles: short stretches of elements that stay in the first-level cache,
// so that a chain of operations touches memory only at its ends (tile_program.h).
//
// A tile holds elements in the type they are computed in: f32 for f32 and bf16 (which is rounded to
// bf16 after each operation, as if stored), f64, integers, and pred as one byte; f8 as its codes, which
// are only converted from and to f32 and bf16. Functions may compute up to a multiple of 64 elements;
// tiles are padded to that.
#pragma once

#include <cstdint>

#include "core/types/dtype.h"

namespace tessera::cpu {

enum class TileOp : uint8_t {
  copy,
  negate,
  abs,
  sign,
  exponential,
  log,
  tanh,
  sqrt,
  rsqrt,
  logistic,
  erf,
  sine,
  cosine,
  tan,
  cbrt,
  exponential_minus_one,
  log_plus_one,
  floor,
  ceil,
  round_nearest_even,
  round_nearest_afz,
  is_finite,
  popcnt,
  count_leading_zeros,
  logical_not,
  gelu,
  gelu_tanh,
  power_of_two,  // to the nearest one: reduce_precision to no mantissa bits
  add,
  subtract,
  multiply,
  divide,
  maximum,
  minimum,
  power,
  remainder,
  atan2,
  logical_and,
  logical_or,
  logical_xor,
  shift_left,
  shift_right_arithmetic,
  shift_right_logical,
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  total_eq,  // by the bits of floats: -NaN < -inf < ... < -0 < 0 < ... < NaN
  total_ne,
  total_lt,
  total_le,
  total_gt,
  total_ge,
  gelu_grad,
  gelu_tanh_grad,
  select,
  clamp,
  convert,
};

inline constexpr int64_t kTileElements = 512;

// out[i] = op(a[i], b[i], c[i]) for i < n; operands that the op lacks are ignored.
using TileFunction = void (*)(int64_t n, void* out, const void* a, const void* b, const void* c);

bool has_tiles(DType dtype);
// Bytes of an element within a tile.
int64_t tile_element_bytes(DType dtype);

// Null where there is none. `operand` is the type of the first operand (of the second for select),
// `result` that of the result. Results of bf16 are not yet rounded: see `tile_round_bf16`.
TileFunction find_tile_function(TileOp op, DType operand, DType result);

void tile_round_bf16(int64_t n, void* tile);
// Between memory and a tile, which differ for bf16 alone. `n` is exact: nothing is touched beyond.
void tile_load(DType dtype, int64_t n, const void* memory, void* tile);
void tile_store(DType dtype, int64_t n, const void* tile, void* memory);
// Every element the same, from one element in memory.
void tile_fill(DType dtype, int64_t n, const void* element, void* tile);

}  // namespace tessera::cpu

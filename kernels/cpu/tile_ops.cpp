#include "kernels/cpu/tile_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <type_traits>

#include "core/base/error.h"
#include "core/types/dispatch.h"
#include "kernels/cpu/tile_functions.h"

namespace tessera::cpu {
namespace {

// Calls body<T>() with the type that tiles of `dtype` hold; null where there are none.
template <typename Body>
TileFunction with_tile_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
    case DType::bf16:
      return body.template operator()<float>();
    case DType::f64:
      return body.template operator()<double>();
    case DType::s32:
      return body.template operator()<int32_t>();
    case DType::s64:
      return body.template operator()<int64_t>();
    case DType::s8:
      return body.template operator()<int8_t>();
    case DType::s16:
      return body.template operator()<int16_t>();
    case DType::u8:
      return body.template operator()<uint8_t>();
    case DType::u16:
      return body.template operator()<uint16_t>();
    case DType::u32:
      return body.template operator()<uint32_t>();
    case DType::u64:
      return body.template operator()<uint64_t>();
    case DType::pred:
      return body.template operator()<bool>();
    default:
      return nullptr;
  }
}

}  // namespace

bool has_tiles(DType dtype) {
  if (is_f8(dtype)) return true;
  return with_tile_type(dtype, []<typename T>() { return find_any<T>(TileOp::copy); }) != nullptr;
}

int64_t tile_element_bytes(DType dtype) { return dtype == DType::bf16 ? 4 : size_of(dtype); }

TileFunction find_tile_function(TileOp op, DType operand, DType result) {
  if (!has_tiles(operand) || !has_tiles(result)) return nullptr;
  if (is_f8(operand) || is_f8(result)) return find_f8(op, operand, result);
  if (op == TileOp::power_of_two) {
    if (operand != DType::f32) return nullptr;
    return [](int64_t n, void* out, const void* a, const void*, const void*) {
      const float* x = static_cast<const float*>(a);
      for (int64_t i = 0; i < n; ++i) static_cast<float*>(out)[i] = nearest_power_of_two(x[i]);
    };
  }
  return with_tile_type(operand, [&]<typename T>() -> TileFunction {
    if (op == TileOp::convert) {
      return with_tile_type(result,
                            []<typename R>() -> TileFunction { return convert_tile<T, R>; });
    }
    if constexpr (std::is_floating_point_v<T>) {
      if (const TileFunction found = find_float<T>(op)) return found;
    } else {
      if (const TileFunction found = find_integer<T>(op)) return found;
    }
    return find_any<T>(op);
  });
}

void tile_round_bf16(int64_t n, void* tile) {
  float* values = static_cast<float*>(tile);
  for (int64_t i = 0; i < n; i += 16) {
    simd::store(values + i, simd::round_to_bf16(simd::load(values + i)));
  }
}

void tile_load(DType dtype, int64_t n, const void* memory, void* tile) {
  if (dtype != DType::bf16) {
    std::memcpy(tile, memory, static_cast<size_t>(n * size_of(dtype)));
    return;
  }
  const auto* from = static_cast<const bfloat16*>(memory);
  auto* to = static_cast<float*>(tile);
  simd::for_each_vector<float>(n, [&](auto load, auto store) { store(to, load(from)); });
}

void tile_store(DType dtype, int64_t n, const void* tile, void* memory) {
  if (dtype != DType::bf16) {
    std::memcpy(memory, tile, static_cast<size_t>(n * size_of(dtype)));
    return;
  }
  const auto* from = static_cast<const float*>(tile);
  auto* to = static_cast<bfloat16*>(memory);
  simd::for_each_vector<float>(n, [&](auto load, auto store) { store(to, load(from)); });
}

void tile_fill(DType dtype, int64_t n, const void* element, void* tile) {
  alignas(8) char value[8];
  tile_load(dtype, 1, element, value);
  switch (tile_element_bytes(dtype)) {
    case 1:
      std::memset(tile, value[0], static_cast<size_t>(n));
      return;
    case 2: {
      uint16_t word;
      std::memcpy(&word, value, 2);
      std::fill_n(static_cast<uint16_t*>(tile), n, word);
      return;
    }
    case 4: {
      uint32_t word;
      std::memcpy(&word, value, 4);
      std::fill_n(static_cast<uint32_t*>(tile), n, word);
      return;
    }
    default: {
      uint64_t word;
      std::memcpy(&word, value, 8);
      std::fill_n(static_cast<uint64_t*>(tile), n, word);
    }
  }
}

}  // namespace tessera::cpu

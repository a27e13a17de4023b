// From a run-time DType to a C++ element type, once, at the edge.
#pragma once

#include <complex>
#include <cstdint>

#include "core/base/error.h"
#include "core/types/dtype.h"
#include "core/types/narrow_float.h"

namespace tessera {

// Calls `body.template operator()<T>()` with the storage type of `dtype` (pred is bool).
template <typename Body>
decltype(auto) dispatch_dtype(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::pred: return body.template operator()<bool>();
    case DType::s8: return body.template operator()<int8_t>();
    case DType::s16: return body.template operator()<int16_t>();
    case DType::s32: return body.template operator()<int32_t>();
    case DType::s64: return body.template operator()<int64_t>();
    case DType::u8: return body.template operator()<uint8_t>();
    case DType::u16: return body.template operator()<uint16_t>();
    case DType::u32: return body.template operator()<uint32_t>();
    case DType::u64: return body.template operator()<uint64_t>();
    case DType::f8e4m3fn: return body.template operator()<float8_e4m3fn>();
    case DType::f8e5m2: return body.template operator()<float8_e5m2>();
    case DType::bf16: return body.template operator()<bfloat16>();
    case DType::f16: return body.template operator()<float16>();
    case DType::f32: return body.template operator()<float>();
    case DType::f64: return body.template operator()<double>();
    case DType::c64: return body.template operator()<std::complex<float>>();
  }
  TESSERA_CHECK(false, "unknown dtype ", static_cast<int>(dtype));
  __builtin_unreachable();
}

// The storage type to DType, at compile time.
template <typename T> struct DTypeOf;
template <> struct DTypeOf<bool> { static constexpr DType value = DType::pred; };
template <> struct DTypeOf<int8_t> { static constexpr DType value = DType::s8; };
template <> struct DTypeOf<int16_t> { static constexpr DType value = DType::s16; };
template <> struct DTypeOf<int32_t> { static constexpr DType value = DType::s32; };
template <> struct DTypeOf<int64_t> { static constexpr DType value = DType::s64; };
template <> struct DTypeOf<uint8_t> { static constexpr DType value = DType::u8; };
template <> struct DTypeOf<uint16_t> { static constexpr DType value = DType::u16; };
template <> struct DTypeOf<uint32_t> { static constexpr DType value = DType::u32; };
template <> struct DTypeOf<uint64_t> { static constexpr DType value = DType::u64; };
template <> struct DTypeOf<float8_e4m3fn> { static constexpr DType value = DType::f8e4m3fn; };
template <> struct DTypeOf<float8_e5m2> { static constexpr DType value = DType::f8e5m2; };
template <> struct DTypeOf<bfloat16> { static constexpr DType value = DType::bf16; };
template <> struct DTypeOf<float16> { static constexpr DType value = DType::f16; };
template <> struct DTypeOf<float> { static constexpr DType value = DType::f32; };
template <> struct DTypeOf<double> { static constexpr DType value = DType::f64; };
template <> struct DTypeOf<std::complex<float>> { static constexpr DType value = DType::c64; };

}  // namespace tessera

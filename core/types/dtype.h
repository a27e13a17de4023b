// Element types, with the names of the StableHLO specification (section "Element types").
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <span>
#include <string_view>

namespace tessera {

enum class DType : uint8_t {
  pred, s8, s16, s32, s64, u8, u16, u32, u64, f8e4m3fn, f8e5m2, bf16, f16, f32, f64, c64,
};

// Every element type, in the order of the enum.
std::span<const DType> all_dtypes();

std::string_view name_of(DType dtype);
std::optional<DType> parse_dtype(std::string_view name);

int64_t size_of(DType dtype);  // bytes of one element
bool is_float(DType dtype);    // f8 .. f64, not c64
inline bool is_f8(DType dtype) { return dtype == DType::f8e4m3fn || dtype == DType::f8e5m2; }
bool is_integer(DType dtype);  // s8 .. u64, not pred
bool is_signed_integer(DType dtype);

std::ostream& operator<<(std::ostream& out, DType dtype);

}  // namespace tessera

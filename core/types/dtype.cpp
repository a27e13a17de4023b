#include "core/types/dtype.h"

#include <array>
#include <ostream>

namespace tessera {
namespace {

enum class Kind : uint8_t { pred, signed_integer, unsigned_integer, floating, complex };

struct Facts {
  DType dtype;
  std::string_view name;
  int8_t size;
  Kind kind;
};

constexpr std::array kFacts = {
    Facts{DType::pred, "pred", 1, Kind::pred},
    Facts{DType::s8, "s8", 1, Kind::signed_integer},
    Facts{DType::s16, "s16", 2, Kind::signed_integer},
    Facts{DType::s32, "s32", 4, Kind::signed_integer},
    Facts{DType::s64, "s64", 8, Kind::signed_integer},
    Facts{DType::u8, "u8", 1, Kind::unsigned_integer},
    Facts{DType::u16, "u16", 2, Kind::unsigned_integer},
    Facts{DType::u32, "u32", 4, Kind::unsigned_integer},
    Facts{DType::u64, "u64", 8, Kind::unsigned_integer},
    Facts{DType::f8e4m3fn, "f8e4m3fn", 1, Kind::floating},
    Facts{DType::f8e5m2, "f8e5m2", 1, Kind::floating},
    Facts{DType::bf16, "bf16", 2, Kind::floating},
    Facts{DType::f16, "f16", 2, Kind::floating},
    Facts{DType::f32, "f32", 4, Kind::floating},
    Facts{DType::f64, "f64", 8, Kind::floating},
    Facts{DType::c64, "c64", 8, Kind::complex},
};

constexpr auto kAll = [] {
  std::array<DType, kFacts.size()> all{};
  for (size_t i = 0; i < all.size(); ++i) all[i] = kFacts[i].dtype;
  return all;
}();

const Facts& facts(DType dtype) { return kFacts[static_cast<size_t>(dtype)]; }

}  // namespace

std::span<const DType> all_dtypes() { return kAll; }
std::string_view name_of(DType dtype) { return facts(dtype).name; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (const Facts& entry : kFacts)
    if (entry.name == name) return entry.dtype;
  return std::nullopt;
}

int64_t size_of(DType dtype) { return facts(dtype).size; }
bool is_float(DType dtype) { return facts(dtype).kind == Kind::floating; }
bool is_integer(DType dtype) {
  return facts(dtype).kind == Kind::signed_integer || facts(dtype).kind == Kind::unsigned_integer;
}
bool is_signed_integer(DType dtype) { return facts(dtype).kind == Kind::signed_integer; }

std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }

}  // namespace tessera

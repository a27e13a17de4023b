#include "core/types/host_tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace tessera {
namespace {

template <typename T>
inline constexpr bool kIsComplex = std::is_same_v<T, std::complex<float>>;

// `value` as a float that rounds to the same narrow float as `value` itself: truncated, with the
// last bit set where anything was lost (round to odd, which makes a second rounding harmless).
template <typename V>
float round_to_odd(V value) {
  const float nearest = static_cast<float>(value);
  if (!std::isfinite(nearest) || static_cast<V>(nearest) == value) return nearest;
  const bool away = std::abs(static_cast<V>(nearest)) > std::abs(value);
  const uint32_t truncated = std::bit_cast<uint32_t>(nearest) - (away ? 1 : 0);
  return std::bit_cast<float>(truncated | 1);
}

// As XLA converts: out of range goes to the nearest integer there is, NaN to zero.
template <typename T, typename V>
T saturate(V value) {
  if (std::isnan(value)) return 0;
  // The bounds are powers of two (or one less, which then rounds up): exact where it matters.
  if (value >= static_cast<V>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  if (value <= static_cast<V>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  return static_cast<T>(value);
}

// T is any element type; V is double, long double or int64_t.
template <typename T, typename V>
T convert_element(V value) {
  if constexpr (kIsComplex<T>) return T(static_cast<float>(value), 0.0f);
  else if constexpr (std::is_same_v<T, bool>) return value != V(0);
  else if constexpr (std::is_integral_v<T> && std::is_floating_point_v<V>) return saturate<T>(value);
  else if constexpr (std::is_arithmetic_v<T>) return static_cast<T>(value);
  else if constexpr (std::is_integral_v<V>) return T(round_to_odd(static_cast<long double>(value)));
  else return T(round_to_odd(value));
}

template <typename V, typename T>
V read_element(T value) {
  if constexpr (kIsComplex<T>) return read_element<V>(value.real());
  else if constexpr (std::is_integral_v<T>) return static_cast<V>(value);
  else if constexpr (std::is_integral_v<V>) return saturate<V>(static_cast<double>(value));
  else if constexpr (std::is_arithmetic_v<T>) return static_cast<V>(value);
  else return static_cast<V>(static_cast<float>(value));
}

}  // namespace

HostTensor HostTensor::filled(TensorType type, double value) {
  HostTensor tensor(std::move(type));
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_real(i, value);
  return tensor;
}

double HostTensor::get_real(int64_t index) const {
  return dispatch_dtype(dtype(), [&]<typename T>() { return read_element<double>(data<T>()[index]); });
}
void HostTensor::set_real(int64_t index, double value) {
  dispatch_dtype(dtype(), [&]<typename T>() { data<T>()[index] = convert_element<T>(value); });
}
int64_t HostTensor::get_int(int64_t index) const {
  return dispatch_dtype(dtype(), [&]<typename T>() { return read_element<int64_t>(data<T>()[index]); });
}
void HostTensor::set_int(int64_t index, int64_t value) {
  dispatch_dtype(dtype(), [&]<typename T>() { data<T>()[index] = convert_element<T>(value); });
}
std::complex<double> HostTensor::get_complex(int64_t index) const {
  if (dtype() != DType::c64) return {get_real(index), 0};
  return std::complex<double>(data<std::complex<float>>()[index]);
}
void HostTensor::set_complex(int64_t index, std::complex<double> value) {
  if (dtype() != DType::c64) return set_real(index, value.real());
  data<std::complex<float>>()[index] = std::complex<float>(value);
}

namespace {

// Calls body(offset in `outer`, offset in block, elements) for each contiguous row of the block.
template <typename Body>
void for_each_row(const Shape& outer, std::span<const int64_t> start, const Shape& block, Body body) {
  TESSERA_CHECK(outer.rank() == block.rank() && static_cast<int>(start.size()) == outer.rank());
  if (block.elements() == 0) return;
  const int rank = outer.rank();
  const int64_t row = rank == 0 ? 1 : block[rank - 1];
  for (int d = 0; d < rank; ++d)
    TESSERA_CHECK(start[d] >= 0 && start[d] + block[d] <= outer[d], "block ", block, " at [",
                  join(start, ","), "] does not lie in ", outer);
  const auto strides = outer.strides();
  std::vector<int64_t> position(static_cast<size_t>(rank), 0);
  for (int64_t done = 0; done < block.elements(); done += row) {
    int64_t offset = 0;
    for (int d = 0; d < rank; ++d) offset += (start[d] + position[d]) * strides[d];
    body(offset, done, row);
    for (int d = rank - 2; d >= 0; --d) {
      if (++position[d] < block[d]) break;
      position[d] = 0;
    }
  }
}

}  // namespace

HostTensor HostTensor::slice(std::span<const int64_t> start, const Shape& block) const {
  HostTensor result({dtype(), block});
  const int64_t size = size_of(dtype());
  for_each_row(shape(), start, block, [&](int64_t outer, int64_t inner, int64_t count) {
    std::memcpy(result.bytes_.data() + inner * size, bytes_.data() + outer * size, count * size);
  });
  return result;
}

void HostTensor::put(std::span<const int64_t> start, const HostTensor& block) {
  TESSERA_CHECK(block.dtype() == dtype());
  const int64_t size = size_of(dtype());
  for_each_row(shape(), start, block.shape(), [&](int64_t outer, int64_t inner, int64_t count) {
    std::memcpy(bytes_.data() + outer * size, block.bytes_.data() + inner * size, count * size);
  });
}

HostTensor HostTensor::reshaped(Shape shape) const {
  TESSERA_CHECK(shape.elements() == elements(), "reshape of ", type_, " to ", shape);
  HostTensor result = *this;
  result.type_.shape = std::move(shape);
  return result;
}

HostTensor HostTensor::cast(DType target) const {
  HostTensor result({target, shape()});
  if (dtype() == DType::c64 && target == DType::c64) return *this;
  const bool from_integers = !is_float(dtype()) && dtype() != DType::c64;
  const bool to_integers = !is_float(target) && target != DType::c64;
  for (int64_t i = 0; i < elements(); ++i) {
    if (from_integers && to_integers) result.set_int(i, get_int(i));
    else if (from_integers) result.set_wide(i, get_wide(i));
    else result.set_real(i, get_real(i));
  }
  return result;
}

// Long double holds every 64-bit integer, so an integer becomes a float with a single rounding.
long double HostTensor::get_wide(int64_t index) const {
  return dispatch_dtype(dtype(),
                        [&]<typename T>() { return read_element<long double>(data<T>()[index]); });
}
void HostTensor::set_wide(int64_t index, long double value) {
  dispatch_dtype(dtype(), [&]<typename T>() { data<T>()[index] = convert_element<T>(value); });
}

bool HostTensor::operator==(const HostTensor& other) const {
  return type_ == other.type_ && bytes_ == other.bytes_;
}

int64_t linear_index(std::span<const int64_t> position, const Shape& shape) {
  int64_t index = 0;
  for (int d = 0; d < shape.rank(); ++d) index = index * shape[d] + position[d];
  return index;
}

std::vector<int64_t> position_of(int64_t index, const Shape& shape) {
  std::vector<int64_t> position(static_cast<size_t>(shape.rank()));
  for (int d = shape.rank() - 1; d >= 0; --d) {
    position[d] = index % shape[d];
    index /= shape[d];
  }
  return position;
}

bool next_position(std::vector<int64_t>& position, const Shape& shape) {
  for (int d = shape.rank() - 1; d >= 0; --d) {
    if (++position[d] < shape[d]) return true;
    position[d] = 0;
  }
  return false;
}

double max_relative_error(const HostTensor& a, const HostTensor& b, double floor) {
  if (a.shape() != b.shape()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const std::complex<double> x = a.get_complex(i), y = b.get_complex(i);
    if (x == y || (std::isnan(std::abs(x)) && std::isnan(std::abs(y)))) continue;
    const double error = std::abs(x - y) / std::max({std::abs(x), std::abs(y), floor});
    if (std::isnan(error)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, error);
  }
  return worst;
}

}  // namespace tessera

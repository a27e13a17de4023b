// A dense row-major tensor in host memory: what the interpreters, constants and checkpoints hold.
#pragma once

#include <algorithm>
#include <complex>
#include <cstddef>
#include <span>
#include <vector>

#include "core/base/error.h"
#include "core/types/dispatch.h"
#include "core/types/shape.h"

namespace tessera {

class HostTensor {
 public:
  HostTensor() : type_{DType::f32, {0}} {}  // no elements
  explicit HostTensor(TensorType type)
      : type_(std::move(type)), bytes_(static_cast<size_t>(type_.bytes())) {}

  template <typename T>
  static HostTensor of(Shape shape, std::span<const T> values) {
    HostTensor tensor({DTypeOf<T>::value, std::move(shape)});
    TESSERA_CHECK(static_cast<int64_t>(values.size()) == tensor.elements());
    std::copy(values.begin(), values.end(), tensor.data<T>().begin());
    return tensor;
  }
  // A tensor with every element `value`, rounded to `type.dtype`.
  static HostTensor filled(TensorType type, double value);

  const TensorType& type() const { return type_; }
  DType dtype() const { return type_.dtype; }
  const Shape& shape() const { return type_.shape; }
  int64_t elements() const { return type_.elements(); }

  std::span<std::byte> bytes() { return bytes_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  template <typename T>
  std::span<T> data() {
    TESSERA_CHECK(DTypeOf<T>::value == type_.dtype, "tensor holds ", type_.dtype);
    return {reinterpret_cast<T*>(bytes_.data()), static_cast<size_t>(elements())};
  }
  template <typename T>
  std::span<const T> data() const {
    TESSERA_CHECK(DTypeOf<T>::value == type_.dtype, "tensor holds ", type_.dtype);
    return {reinterpret_cast<const T*>(bytes_.data()), static_cast<size_t>(elements())};
  }

  // Element `index` (row-major) in one of three domains, whatever the dtype. Floats go through
  // double and round once, to nearest even, on the way back; integers go through int64 and wrap.
  // A real goes to the nearest integer toward zero that the type holds, NaN to 0.
  double get_real(int64_t index) const;
  void set_real(int64_t index, double value);
  int64_t get_int(int64_t index) const;
  void set_int(int64_t index, int64_t value);
  std::complex<double> get_complex(int64_t index) const;
  void set_complex(int64_t index, std::complex<double> value);

  // The block that starts at `start` and has `shape`; and its inverse.
  HostTensor slice(std::span<const int64_t> start, const Shape& shape) const;
  void put(std::span<const int64_t> start, const HostTensor& block);

  HostTensor reshaped(Shape shape) const;  // same elements, same order
  HostTensor cast(DType dtype) const;      // rounds once; a complex keeps its real part

  bool operator==(const HostTensor& other) const;  // bitwise

 private:
  long double get_wide(int64_t index) const;
  void set_wide(int64_t index, long double value);

  TensorType type_;
  std::vector<std::byte> bytes_;
};

// The row-major index of `position` in `shape`, and back.
int64_t linear_index(std::span<const int64_t> position, const Shape& shape);
std::vector<int64_t> position_of(int64_t index, const Shape& shape);
// Advances `position` in row-major order; false after the last one.
bool next_position(std::vector<int64_t>& position, const Shape& shape);

// max |a-b| / max(|a|, |b|, floor) over the elements; inf where shapes differ or just one is NaN.
double max_relative_error(const HostTensor& a, const HostTensor& b, double floor = 1e-30);

}  // namespace tessera

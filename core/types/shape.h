// Shapes and tensor types: small values that compare and print ("f32[4,64,768]").
#pragma once

#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/types/dtype.h"

namespace tessera {

// Sizes of the dims of a tensor, in elements, outermost first. Rank 0 is a scalar.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  explicit Shape(std::vector<int64_t> dims) : dims_(std::move(dims)) {}

  int rank() const { return static_cast<int>(dims_.size()); }
  int64_t operator[](int dim) const { return dims_[static_cast<size_t>(dim)]; }
  int64_t& operator[](int dim) { return dims_[static_cast<size_t>(dim)]; }
  int64_t elements() const;  // 1 for a scalar
  std::span<const int64_t> dims() const { return dims_; }
  auto begin() const { return dims_.begin(); }
  auto end() const { return dims_.end(); }
  void push_back(int64_t size) { dims_.push_back(size); }

  // Row-major strides in elements.
  std::vector<int64_t> strides() const;

  bool operator==(const Shape&) const = default;

 private:
  std::vector<int64_t> dims_;
};

struct TensorType {
  DType dtype = DType::f32;
  Shape shape;

  int rank() const { return shape.rank(); }
  int64_t elements() const { return shape.elements(); }
  int64_t bytes() const { return elements() * size_of(dtype); }
  bool operator==(const TensorType&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);      // [4,64]
std::ostream& operator<<(std::ostream& out, const TensorType& type);  // f32[4,64]

// Reads what operator<< prints; nullopt where the text is not a tensor type.
std::optional<TensorType> parse_tensor_type(std::string_view text);

}  // namespace tessera

// Random bodies of fusions whose every op rounds exactly, so that kernels give the reference's bits.
#pragma once

#include <random>

#include "core/ops/elementwise.h"
#include "core/ops/fusion.h"
#include "core/ops/structure.h"

namespace tessera::testing {

class RandomFusion {
 public:
  // Of values of `shape`, from operands of that shape and of `narrow` ones (shape and dimensions of the broadcast).
  RandomFusion(std::mt19937& random, const Shape& shape, const std::vector<std::pair<Shape, Ints>>& narrow)
      : random_(random), body_(std::make_shared<Graph>()), b_(*body_), shape_(shape) {
    const std::vector<DType> dtypes = {DType::f32, DType::bf16, DType::f16, DType::s32, DType::s8, DType::f64};
    std::vector<DType> used;
    for (int i = 0; i < 2; ++i) used.push_back(dtypes[random_() % dtypes.size()]);
    for (DType dtype : used) values_.push_back(input({dtype, shape}));
    for (const auto& [small, dimensions] : narrow)
      values_.push_back(ops::broadcast_in_dim(b_, input({used[random_() % 2], small}), shape, dimensions));
  }

  GraphRef body(int operations, int outputs) {
    for (int i = 0; i < operations; ++i) values_.push_back(next());
    for (int i = 0; i < outputs; ++i)
      b_.output(i == 0 ? values_.back() : values_[random_() % values_.size()], cat("y", i));
    return body_;
  }
  std::vector<TensorType> operands() const { return operands_; }

 private:
  Value input(const TensorType& type) {
    operands_.push_back(type);
    return b_.input(InputKind::data, cat("x", operands_.size()), type);
  }
  Value any() { return values_[random_() % values_.size()]; }
  // Of a number's type.
  Value number() {
    const Value value = any();
    return b_.dtype(value) == DType::pred ? ops::convert(b_, value, DType::f32) : value;
  }
  Value like(Value x) { return ops::convert(b_, any(), b_.dtype(x)); }

  Value next() {
    const Value x = number();
    switch (random_() % 12) {
      case 0:
      case 1: return ops::add(b_, x, like(x));
      case 2: return ops::multiply(b_, x, like(x));
      case 3: return ops::subtract(b_, like(x), x);
      case 4: return ops::maximum(b_, x, like(x));
      case 5: return ops::negate(b_, x);
      case 6: return is_integer(b_.dtype(x)) && !is_signed_integer(b_.dtype(x)) ? ops::negate(b_, x) : ops::abs(b_, x);
      case 7: return ops::compare(b_, x, like(x), CompareDirection::lt);
      case 8:
        return ops::select(b_, ops::compare(b_, x, like(x), CompareDirection::ge), x, like(x));
      case 9: return ops::scale(b_, x, is_float(b_.dtype(x)) ? 0.3 : 3);
      case 10: return ops::divide(b_, x, like(x));
      default: {
        constexpr DType kTo[] = {DType::f32, DType::bf16, DType::s32, DType::f16, DType::u8};
        return ops::convert(b_, x, kTo[random_() % std::size(kTo)]);
      }
    }
  }

  std::mt19937& random_;
  std::shared_ptr<Graph> body_;
  Builder b_;
  Shape shape_;
  std::vector<Value> values_;
  std::vector<TensorType> operands_;
};

// Shapes with what may be broadcast to them: rows, columns, middles, one element.
struct BroadcastShapes {
  Shape shape;
  std::vector<std::pair<Shape, Ints>> narrow;
};
inline std::vector<BroadcastShapes> broadcast_shapes() {
  return {
      {{37}, {{{}, {}}}},
      {{9, 24}, {{{24}, {1}}, {{9}, {0}}, {{}, {}}}},
      {{9, 25}, {{{25}, {1}}, {{9}, {0}}, {{9, 1}, {0, 1}}}},
      {{5, 12}, {{{12}, {1}}, {{1, 12}, {0, 1}}}},
      {{3, 4, 5, 8}, {{{4, 8}, {1, 3}}, {{3, 5}, {0, 2}}, {{4, 5, 8}, {1, 2, 3}}}},
      {{2, 3, 7, 5}, {{{3, 5}, {1, 3}}, {{2, 7}, {0, 2}}, {{5}, {3}}}},
      {{6, 1, 20}, {{{1, 20}, {1, 2}}, {{6, 1}, {0, 1}}}},
      {{4, 6, 10}, {{{4, 10}, {0, 2}}, {{6}, {1}}}},
  };
}

}  // namespace tessera::testing

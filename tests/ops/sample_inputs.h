// Random inputs for the test samples of ops, and the combiners of partial values.
#pragma once

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "core/ir/op_def.h"
#include "core/types/host_tensor.h"
#include "tests/support/tensor_types.h"

namespace tessera::testing {

using Reals = std::vector<double>;

template <typename T>
HostTensor tensor(Shape shape, const std::vector<T>& values) {
  return HostTensor::of<T>(std::move(shape), values);
}

inline HostTensor random_tensor(const TensorType& type, double low, double high,
                                std::mt19937_64& rng) {
  HostTensor tensor(type);
  std::uniform_real_distribution<double> real(low, high);
  std::uniform_int_distribution<int64_t> whole(static_cast<int64_t>(std::ceil(low)),
                                               static_cast<int64_t>(std::floor(high)));
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (type.dtype == DType::pred)
      tensor.set_int(i, static_cast<int64_t>(rng() & 1));
    else if (type.dtype == DType::c64)
      tensor.set_complex(i, {real(rng), real(rng)});
    else if (is_float(type.dtype))
      tensor.set_real(i, real(rng));
    else
      tensor.set_int(i, whole(rng));
  }
  return tensor;
}

inline HostTensor random_operand(const OpSample& sample, size_t operand, std::mt19937_64& rng) {
  const auto [low, high] =
      operand < sample.ranges.size() ? sample.ranges[operand] : std::pair{-1.0, 1.0};
  return random_tensor(sample.operands[operand], low, high, rng);
}

inline std::vector<HostTensor> random_operands(const OpSample& sample, std::mt19937_64& rng) {
  std::vector<HostTensor> operands;
  for (size_t i = 0; i < sample.operands.size(); ++i)
    operands.push_back(random_operand(sample, i, rng));
  return operands;
}

inline Reals reals(const HostTensor& x) {
  Reals values;
  for (int64_t i = 0; i < x.elements(); ++i) values.push_back(x.get_real(i));
  return values;
}

// The results of one op, with types as inferred.
inline std::vector<HostTensor> evaluate(const OpDef& op, const Attributes& attributes,
                                        const std::vector<HostTensor>& operands) {
  const std::vector<TensorType> types = types_of(operands);
  const OpCall call{types, attributes};
  std::vector<HostTensor> results;
  for (const TensorType& type : infer_types(op, call)) results.emplace_back(type);
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& operand : operands) pointers.push_back(&operand);
  op.eval(call, pointers, results);
  return results;
}

inline HostTensor combine(ReduceKind kind, const HostTensor& a, const HostTensor& b) {
  HostTensor result(a.type());
  for (int64_t i = 0; i < a.elements(); ++i) {
    if (a.dtype() == DType::c64) {
      result.set_complex(i, kind == ReduceKind::sum ? a.get_complex(i) + b.get_complex(i)
                                                    : a.get_complex(i) * b.get_complex(i));
      continue;
    }
    auto apply = [kind](auto x, auto y) {
      using T = decltype(x);
      switch (kind) {
        case ReduceKind::sum:
          return x + y;
        case ReduceKind::product:
          return x * y;
        case ReduceKind::max:
          return std::max(x, y);
        case ReduceKind::min:
          return std::min(x, y);
        case ReduceKind::logical_and:
          return static_cast<T>(x != 0 && y != 0);
        case ReduceKind::logical_or:
          return static_cast<T>(x != 0 || y != 0);
      }
      return x;
    };
    if (is_float(a.dtype()))
      result.set_real(i, apply(a.get_real(i), b.get_real(i)));
    else
      result.set_int(i, apply(a.get_int(i), b.get_int(i)));
  }
  return result;
}

// How far apart two right results of this dtype may be, relative to values of about 1.
inline double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-12;
    case DType::f32:
    case DType::c64:
      return 1e-6;
    case DType::f16:
      return 4e-3;
    case DType::bf16:
      return 3e-2;
    default:
      return is_float(dtype) ? 0.3 : 0;
  }
}

// Empty where `actual` is `expected` within the tolerance of its dtype.
inline std::string difference(const HostTensor& actual, const HostTensor& expected) {
  if (actual.type() != expected.type())
    return cat("type ", actual.type(), " instead of ", expected.type());
  const double floor = actual.dtype() == DType::f64 ? 1e-2 : 1.0;
  const double error = max_relative_error(actual, expected, floor);
  return error <= tolerance_of(actual.dtype())
             ? ""
             : cat("relative error ", error, " in ", actual.type());
}

}  // namespace tessera::testing

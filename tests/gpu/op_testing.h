// What tests of single ops share beside the fixture: random shapes and operands inside of
// RapidCheck's properties.
#pragma once

#include <rapidcheck.h>

#include "core/ir/builder.h"
#include "tests/gpu/device_testing.h"
#include "tests/support/random_tensor.h"

namespace tessera {

class OpTest : public DeviceTest {
 protected:
  // Whether nothing was wrong so far. For ops that compute: against their evaluation in f64.
  static bool computes(const OpDef& op, std::vector<HostTensor> operands,
                       const Attributes& attributes, const std::string& kernel,
                       std::optional<double> tolerance = std::nullopt) {
    check_kernel(op, attributes, std::move(operands), {.kernel = kernel, .tolerance = tolerance});
    return !HasFailure();
  }
  // For those that move elements, of any type: exactly.
  static bool moves(const OpDef& op, std::vector<HostTensor> operands, const Attributes& attributes,
                    const std::string& kernel) {
    check_kernel(op, attributes, std::move(operands),
                 {.kernel = kernel, .tolerance = 0, .in_f64 = false});
    return !HasFailure();
  }
  // Whether the reference was chosen, for a reason with these words.
  static bool is_refused(const OpDef& op, std::vector<HostTensor> operands,
                         const Attributes& attributes, const std::string& words) {
    const CheckedKernel checked =
        check_kernel(op, attributes, std::move(operands), {.may_be_reference = true});
    return checked.is_reference && checked.refusals.find(words) != std::string::npos;
  }
};

inline HostTensor scalar_tensor(DType dtype, double value) {
  return HostTensor::filled({dtype, {}}, value);
}
// Uniform in [low, high]; pred in both of its values, complex numbers in both of their parts.
inline HostTensor uniform_tensor(const TensorType& type, double low, double high,
                                 unsigned seed = 1) {
  if (type.dtype == DType::pred) return random_operand_tensor(type, seed, {0, 1});
  if (type.dtype != DType::c64) return random_operand_tensor(type, seed, {low, high});
  const TensorType part{DType::f32, type.shape};
  const HostTensor real = random_operand_tensor(part, seed, {low, high}),
                   imaginary = random_operand_tensor(part, seed + 1, {low, high});
  HostTensor tensor(type);
  for (int64_t i = 0; i < tensor.elements(); ++i)
    tensor.set_complex(i, {real.get_real(i), imaginary.get_real(i)});
  return tensor;
}

// ---- Inside of properties

// A whole number in [low, high].
inline int64_t pick(int64_t low, int64_t high) { return *rc::gen::inRange<int64_t>(low, high + 1); }
template <typename T>
T pick_of(const std::vector<T>& choices) {
  return choices[static_cast<size_t>(pick(0, static_cast<int64_t>(choices.size()) - 1))];
}
// A dtype of each width that elements have.
inline DType pick_width() {
  return pick_of<DType>({DType::pred, DType::s8, DType::bf16, DType::f32, DType::f64, DType::c64});
}
// At most `most` elements; dims of whole packs and others, now and then an empty one.
inline Shape pick_shape(int64_t rank, int64_t most, bool may_be_empty = true) {
  Shape shape;
  int64_t elements = 1;
  for (int64_t d = 0; d < rank; ++d) {
    const int64_t kind = pick(0, 11);
    int64_t size = kind == 0 && may_be_empty ? 0 : kind < 4 ? 8 * pick(1, 5) : pick(1, 5);
    if (elements * size > most) size = 1;
    elements *= std::max<int64_t>(size, 1);
    shape.push_back(size);
  }
  return shape;
}
inline Ints ints_of_shape(const Shape& shape) { return Ints(shape.begin(), shape.end()); }
inline HostTensor pick_tensor(DType dtype, const Shape& shape, double low = -100,
                              double high = 100) {
  return uniform_tensor({dtype, shape}, low, high, static_cast<unsigned>(pick(1, 1000)));
}
inline Ints pick_order(int64_t count) {
  Ints order;
  for (int64_t i = 0; i < count; ++i) order.insert(order.begin() + pick(0, i), i);
  return order;
}

}  // namespace tessera

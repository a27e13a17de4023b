// Every elementwise op at every dtype it takes, with its attributes: what generated kernels are tested with.
#pragma once

#include "core/base/error.h"
#include "core/ir/op_def.h"
#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"
#include "core/ops/op_list.h"

namespace tessera::testing {

struct ElementwiseCase {
  const OpDef* op;
  Attributes attributes;
  std::vector<TensorType> operands;
  TensorType result;
  std::vector<std::pair<double, double>> ranges;  // of the operands' elements

  std::string text() const {
    std::vector<std::string> parts;
    for (const TensorType& type : operands) parts.push_back(cat(type));
    for (const auto& [key, value] : attributes.entries()) parts.push_back(print_attribute(key, value, nullptr));
    return cat(op->name, "(", join(parts), ")");
  }
};

// What generated kernels compute in.
inline bool is_generated(const OpDef& op, DType dtype) {
  const bool is_f8 = dtype == DType::f8e4m3fn || dtype == DType::f8e5m2;
  return dtype != DType::c64 && (!is_f8 || &op == &ops::kConvert);
}

namespace detail {

// The op's attributes as its samples have them, and those that they leave out.
inline std::vector<Attributes> attributes_of(const OpDef& op) {
  std::vector<Attributes> all;
  const auto add = [&](const Attributes& attributes) {
    if (std::find(all.begin(), all.end(), attributes) == all.end()) all.push_back(attributes);
  };
  for (const OpSample& sample : op.samples()) add(sample.attributes);
  if (&op == &ops::kCompare)
    for (const Attributes& plain : std::vector(all)) {
      Attributes total = plain;
      total.set(Attr::total_order, true);
      add(total);
    }
  if (&op == &ops::kConvert)
    for (DType to : all_dtypes()) add({{Attr::dtype, to}});
  if (&op == &ops::kReducePrecision)
    for (const auto& [exponent, mantissa] : {std::pair{8, 7}, {5, 10}, {4, 3}, {8, 0}, {2, 60}, {11, 52}})
      add({{Attr::exponent_bits, int64_t{exponent}}, {Attr::mantissa_bits, int64_t{mantissa}}});
  return all;
}

}  // namespace detail

// With operands of `shape`; only dtypes of which kernels are generated.
inline std::vector<ElementwiseCase> elementwise_cases(const Shape& shape) {
  std::vector<ElementwiseCase> cases;
  for (const OpDef* op : all_ops()) {
    if (!op->elementwise) continue;
    const OpSample sample = op->samples()[0];
    for (const Attributes& attributes : detail::attributes_of(*op)) {
      for (DType dtype : all_dtypes()) {
        ElementwiseCase one{op, attributes, {}, {}, sample.ranges};
        for (size_t i = 0; i < sample.operands.size(); ++i)
          one.operands.push_back({op == &ops::kSelect && i == 0 ? DType::pred : dtype, shape});
        try {
          one.result = infer_types(*op, {one.operands, attributes})[0];
        } catch (const UserError&) {
          continue;  // not of this dtype
        }
        if (is_generated(*op, dtype) && is_generated(*op, one.result.dtype)) cases.push_back(std::move(one));
      }
    }
  }
  return cases;
}

}  // namespace tessera::testing

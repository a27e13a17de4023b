// Linear sets are proven by execution: an op on addends must give the addends of its result.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/ops/elementwise.h"
#include "core/ops/op_list.h"
#include "core/ops/structure.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::combine;
using testing::difference;
using testing::evaluate;
using testing::random_operand;

bool is_in(const std::vector<int>& list, int value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// A sum of rounded numbers is not the rounded sum, so sums are tested where they are exact enough.
bool is_testable(const OpSample& sample, const LinearSet& set) {
  if (set.kind != ReduceKind::sum && set.kind != ReduceKind::product) return true;
  for (int operand : set.operands) {
    const DType dtype = sample.operands[static_cast<size_t>(operand)].dtype;
    if (is_float(dtype) && dtype != DType::f64 && dtype != DType::f32) return false;
  }
  return true;
}

// Empty where op(a combined with b) = op(a) combined with op(b), the operands outside the set
// fixed. With `is_kept`, b holds the identity throughout: a replicated value kept on coordinate 0
// alone.
std::string check_linear(const OpDef& op, const OpSample& sample, const LinearSet& set,
                         bool is_kept, std::mt19937_64& rng) {
  std::vector<HostTensor> a, b, whole;
  for (size_t i = 0; i < sample.operands.size(); ++i) {
    a.push_back(random_operand(sample, i, rng));
    if (!is_in(set.operands, static_cast<int>(i))) {
      b.push_back(a[i]);
      whole.push_back(a[i]);
      continue;
    }
    b.push_back(is_kept ? HostTensor::filled(sample.operands[i],
                                             ops::identity_of(set.kind, sample.operands[i].dtype))
                        : random_operand(sample, i, rng));
    whole.push_back(combine(set.kind, a[i], b[i]));
  }
  const auto of_a = evaluate(op, sample.attributes, a), of_b = evaluate(op, sample.attributes, b);
  const auto expected = evaluate(op, sample.attributes, whole);
  for (size_t r = 0; r < expected.size(); ++r) {
    const bool is_partial = set.results.empty() || is_in(set.results, static_cast<int>(r));
    const HostTensor made = is_partial ? combine(set.kind, of_a[r], of_b[r]) : of_a[r];
    if (const auto text = difference(made, expected[r]); !text.empty())
      return cat("result ", r, ": ", text);
  }
  return "";
}

TEST(LinearSets, HoldWhenExecutedOnAddends) {
  std::mt19937_64 rng(20240608);
  int proven = 0;
  for (const OpDef* op : all_ops()) {
    if (!op->linear) continue;
    for (const OpSample& sample : op->samples()) {
      for (const LinearSet& set : linear_sets(*op, {sample.operands, sample.attributes})) {
        if (!is_testable(sample, set)) continue;
        for (bool is_kept : {false, true}) {
          EXPECT_EQ(check_linear(*op, sample, set, is_kept, rng), "")
              << op->name << "(" << join(sample.operands) << ") in {" << join(set.operands) << "} "
              << set.kind << " kept " << is_kept;
          ++proven;
        }
      }
    }
  }
  EXPECT_GT(proven, 100);
}

TEST(LinearSets, ALieIsFound) {
  std::mt19937_64 rng(2);
  const OpSample sample{{{DType::f64, {4, 6}}}, {}};
  EXPECT_NE(check_linear(ops::kTanh, sample, {{0}, ReduceKind::sum}, false, rng), "");
  EXPECT_NE(check_linear(ops::kNegate, sample, {{0}, ReduceKind::max}, false, rng), "");
  const OpSample two{{{DType::f64, {4, 6}}, {DType::f64, {4, 6}}}, {}};
  EXPECT_NE(check_linear(ops::kMultiply, two, {{0, 1}, ReduceKind::sum}, false, rng), "");
  EXPECT_NE(check_linear(ops::kAdd, two, {{0}, ReduceKind::sum}, false, rng), "");
}

// Narrowing before a reduction loses digits, so it is not claimed.
TEST(LinearSets, ConvertIsLinearOnlyWhereItWidens) {
  auto kinds = [](DType from, DType to) {
    const std::vector<TensorType> operands{{from, {4}}};
    const Attributes attributes{{Attr::dtype, to}};
    std::vector<ReduceKind> kinds;
    for (const LinearSet& set : linear_sets(ops::kConvert, {operands, attributes}))
      kinds.push_back(set.kind);
    return kinds;
  };
  EXPECT_EQ(kinds(DType::bf16, DType::f32),
            (std::vector<ReduceKind>{ReduceKind::sum, ReduceKind::max, ReduceKind::min}));
  EXPECT_EQ(kinds(DType::f32, DType::bf16),
            (std::vector<ReduceKind>{ReduceKind::max, ReduceKind::min}));
  EXPECT_TRUE(kinds(DType::f32, DType::s32).empty());
}

}  // namespace
}  // namespace tessera

// Convolutions, pooling and scans against answers worked out by hand.
#include <gtest/gtest.h>

#include "core/ops/convolution.h"
#include "core/ops/op_list.h"
#include "core/ops/reduce_window.h"
#include "core/ops/scan.h"
#include "core/ops/structure.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::evaluate;
using testing::Reals;
using testing::reals;

HostTensor f64s(Shape shape, const Reals& values) {
  return HostTensor::of<double>(std::move(shape), values);
}

// The one result of an op that `make` appends to inputs like `operands`.
template <typename Make>
Reals made_by(const std::vector<HostTensor>& operands, Make make) {
  Graph graph;
  Builder b(graph);
  std::vector<Value> inputs;
  for (size_t i = 0; i < operands.size(); ++i)
    inputs.push_back(b.input(InputKind::data, cat("x", i), operands[i].type()));
  const Instruction& last = graph.at(make(b, inputs));
  const HostTensor result = evaluate(*last.op, last.attributes, operands)[0];
  return reals(result);
}

TEST(WindowValues, Convolution) {
  const HostTensor x = f64s({1, 4, 1}, {1, 2, 3, 4}), w = f64s({3, 1, 1}, {1, 10, 100});
  ops::Convolution c = ops::Convolution::channels_last(1);
  const auto convolved = [&](const ops::Convolution& how) {
    return made_by({x, w}, [&](Builder& b, const std::vector<Value>& in) {
      return ops::convolution(b, in[0], in[1], how);
    });
  };
  EXPECT_EQ(convolved(c), (Reals{321, 432}));
  c.same_padding({3});
  EXPECT_EQ(convolved(c), (Reals{210, 321, 432, 43}));
  c.strides = {2};
  EXPECT_EQ(convolved(c), (Reals{210, 432}));
  c.strides = {}, c.reversal = {1};
  EXPECT_EQ(convolved(c), (Reals{12, 123, 234, 340}));
  c = ops::Convolution::channels_last(1);
  c.base_dilations = {2}, c.low = {-1}, c.high = {0};  // 0 2 0 3 0 4
  EXPECT_EQ(convolved(c), (Reals{20, 302, 30, 403}));
  c = ops::Convolution::channels_last(1);
  c.dilations = {2}, c.low = {1}, c.high = {1};  // 0 1 2 3 4 0
  EXPECT_EQ(convolved(c), (Reals{420, 31}));
}

TEST(WindowValues, Pooling) {
  const HostTensor x = f64s({5}, {3, 1, 4, 1, 5});
  const auto pooled = [&](const ops::Pooling& how, ReduceKind kind) {
    return made_by({x}, [&](Builder& b, const std::vector<Value>& in) {
      return ops::reduce_window(b, in[0], how, kind);
    });
  };
  EXPECT_EQ(pooled({.window = {2}}, ReduceKind::max), (Reals{3, 4, 4, 5}));
  EXPECT_EQ(pooled({.window = {3}, .strides = {2}, .low = {1}, .high = {1}}, ReduceKind::sum),
            (Reals{4, 6, 6}));
  // Both windows of 2 over the 4 choose it; of equals the first is taken.
  const Attributes windows{{Attr::window_dimensions, Ints{2}},
                           {Attr::reduce_kind, ReduceKind::max}};
  const HostTensor source = f64s({4}, {1, 10, 100, 1000});
  EXPECT_EQ(evaluate(ops::kSelectAndScatter, windows, {x, source})[0],
            f64s({5}, {1, 0, 110, 0, 1000}));
  EXPECT_EQ(evaluate(ops::kSelectAndScatter, windows, {f64s({5}, {2, 2, 2, 2, 2}), source})[0],
            f64s({5}, {1, 10, 100, 1000, 0}));
}

TEST(WindowValues, Scans) {
  const HostTensor x = f64s({4}, {2, 3, 1, 4});
  const auto scanned = [&](ReduceKind kind, ops::ScanOptions options = {}) {
    return made_by({x}, [&](Builder& b, const std::vector<Value>& in) {
      return ops::scan(b, in[0], 0, kind, options);
    });
  };
  EXPECT_EQ(scanned(ReduceKind::sum), (Reals{2, 5, 6, 10}));
  EXPECT_EQ(scanned(ReduceKind::sum, {.is_exclusive = true}), (Reals{0, 2, 5, 6}));
  EXPECT_EQ(scanned(ReduceKind::product, {.is_reverse = true}), (Reals{24, 12, 4, 4}));
  EXPECT_EQ(scanned(ReduceKind::max), (Reals{2, 3, 3, 4}));
  const Reals logs = made_by({x}, [&](Builder& b, const std::vector<Value>& in) {
    return ops::log_sum_exp_scan(b, in[0], 0);
  });
  EXPECT_NEAR(logs[3], std::log(std::exp(2) + std::exp(3) + std::exp(1) + std::exp(4)), 1e-14);
  EXPECT_EQ(made_by({f64s({3}, {9, 2, 3}), f64s({3}, {1, 1, 1})},
                    [&](Builder& b, const std::vector<Value>& in) {
                      return ops::linear_recurrence(b, in[0], in[1], 0);
                    }),
            (Reals{1, 3, 10}));
}

TEST(WindowValues, TurnedDims) {
  const HostTensor x = f64s({5}, {0, 1, 2, 3, 4});
  EXPECT_EQ(evaluate(ops::kReverse, {{Attr::dimensions, Ints{0}}}, {x})[0],
            f64s({5}, {4, 3, 2, 1, 0}));
  EXPECT_EQ(
      evaluate(ops::kRotate, {{Attr::dimension, int64_t{0}}, {Attr::shift, int64_t{-1}}}, {x})[0],
      f64s({5}, {4, 0, 1, 2, 3}));
  EXPECT_EQ(
      evaluate(ops::kPad,
               {{Attr::edge_low, Ints{-3}}, {Attr::edge_high, Ints{2}}, {Attr::interior, Ints{1}}},
               {x, f64s({}, {9})})[0],
      f64s({8}, {9, 2, 9, 3, 9, 4, 9, 9}));
}

}  // namespace
}  // namespace tessera

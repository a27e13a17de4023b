// Gradients of products and of reductions by regions, where finite differences do not look: at
// zeros, at ties, and at what has none.
#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce_region.h"
#include "core/ops/reduce_window.h"
#include "core/ops/structure.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::Reals;
using testing::tensor;
using Make = std::function<Value(Builder&, const std::vector<Value>&)>;

// d sum(w * make(inputs)) / d inputs[0], w = 1, 10, 100, ...
HostTensor gradient_of(const std::vector<HostTensor>& inputs, const Make& make) {
  Graph graph;
  Builder b(graph);
  std::vector<Value> values;
  for (const HostTensor& input : inputs)
    values.push_back(b.input(InputKind::data, "x", input.type()));
  const Value y = make(b, values);
  HostTensor weights(b.type(y));
  double weight = 1;
  for (int64_t i = 0; i < weights.elements(); ++i, weight *= 10) weights.set_real(i, weight);
  const Value loss = ops::reduce_all(b, ops::multiply(b, y, ops::constant(b, weights)));
  b.output(gradients(b, loss, std::vector<Value>{values[0]})[0], "dx");
  return interpret(graph, inputs)[0];
}

std::string refusal_of(const std::vector<HostTensor>& inputs, const Make& make) {
  try {
    gradient_of(inputs, make);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(ReduceGrad, ProductsWithZeros) {
  const HostTensor x = tensor<double>({3, 3}, {2, 3, 4, 2, 0, 5, 0, 7, 0});
  const auto made = gradient_of({x}, [](Builder& b, const std::vector<Value>& in) {
    return ops::reduce(b, in[0], {1}, ReduceKind::product);
  });
  EXPECT_EQ(made, tensor<double>({3, 3}, {12, 8, 6, 0, 100, 0, 0, 0, 0}));
  // One zero in all: only its own cotangent is left.
  const HostTensor y = tensor<double>({2, 2}, {2, 0, 3, 4});
  EXPECT_EQ(gradient_of({y},
                        [](Builder& b, const std::vector<Value>& in) {
                          return ops::reduce_all(b, in[0], ReduceKind::product);
                        }),
            tensor<double>({2, 2}, {0, 24, 0, 0}));
}

TEST(ReduceGrad, ProductsOverWindowsWithZeros) {
  const auto made = gradient_of(
      {tensor<double>({4}, {2, 0, 3, 5})}, [](Builder& b, const std::vector<Value>& in) {
        return ops::reduce_window(b, in[0], {.window = {2}}, ReduceKind::product);
      });
  // 2*0 + 10 * 0*3 + 100 * 3*5
  EXPECT_EQ(made, tensor<double>({4}, {0, 32, 500, 300}));
  EXPECT_NE(refusal_of({tensor<double>({100}, Reals(100, 1))},
                       [](Builder& b, const std::vector<Value>& in) {
                         return ops::reduce_window(b, in[0], {.window = {65}}, ReduceKind::product);
                       })
                .find("product over 65 elements along dim 0 of f64[100] has no gradient"),
            std::string::npos);
}

// The region as JAX writes it: value and index are chosen by preds of their own.
GraphRef argmax_with_two_preds() {
  auto region = std::make_shared<Graph>();
  region->name = "argmax";
  Builder b(*region);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {}}),
              i = b.input(InputKind::data, "i", {DType::s32, {}}),
              y = b.input(InputKind::data, "y", {DType::f64, {}}),
              j = b.input(InputKind::data, "j", {DType::s32, {}});
  const Value value_wins = ops::logical_or(b, ops::compare(b, x, y, CompareDirection::gt),
                                           ops::compare(b, x, x, CompareDirection::ne));
  const Value is_first = ops::logical_and(b, ops::compare(b, x, y, CompareDirection::eq),
                                          ops::compare(b, i, j, CompareDirection::lt));
  b.output(ops::select(b, value_wins, x, y), "value");
  b.output(ops::select(b, ops::logical_or(b, is_first, value_wins), i, j), "index");
  return region;
}

TEST(ReduceGrad, FlowsToTheElementThatWins) {
  const HostTensor x = tensor<double>({2, 2, 3}, {1, 9, 3, 4, 2, 6, 7, 7, 7, 8, 8, 0});
  const auto by = [&](const GraphRef& region, Ints dims, double init) {
    return gradient_of({x}, [&](Builder& b, const std::vector<Value>& in) {
      const Value index = ops::iota(b, {DType::s32, {2, 2, 3}}, 2);
      return ops::reduce(
          b, {in[0], index},
          {ops::constant(b, init, {DType::f64, {}}), ops::constant(b, 99, {DType::s32, {}})}, dims,
          region)[0];
    });
  };
  const GraphRef own = ops::extreme_region(DType::f64, true), theirs = argmax_with_two_preds();
  // Of equals the first here, and there the value that is not larger: the last.
  EXPECT_EQ(by(own, {2}, -50),
            tensor<double>({2, 2, 3}, {0, 1, 0, 0, 0, 10, 100, 0, 0, 1000, 0, 0}));
  EXPECT_EQ(by(theirs, {2}, -50),
            tensor<double>({2, 2, 3}, {0, 1, 0, 0, 0, 10, 0, 0, 100, 0, 1000, 0}));
  EXPECT_EQ(by(own, {0, 2}, -50), tensor<double>({2, 2, 3}, {0, 1, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0}));
  // Where the initial value wins, nobody has it.
  EXPECT_EQ(by(own, {2}, 7.5), tensor<double>({2, 2, 3}, {0, 1, 0, 0, 0, 0, 0, 0, 0, 1000, 0, 0}));
}

// Several operands, each combined by a kind of its own.
TEST(ReduceGrad, RegionsOfKinds) {
  auto region = std::make_shared<Graph>();
  region->name = "product_and_sum";
  {
    Builder b(*region);
    std::vector<Value> in;
    for (const char* name : {"a", "b", "x", "y"})
      in.push_back(b.input(InputKind::data, name, {DType::f64, {}}));
    b.output(ops::multiply(b, in[0], in[2]), "product");
    b.output(ops::subtract(b, in[1], in[3]), "difference");
  }
  const auto output = [&](size_t which) {
    return [&, which](Builder& b, const std::vector<Value>& in) {
      const Value two = ops::constant(b, 2, {DType::f64, {}});
      return ops::reduce(b, {in[0], in[0]}, {two, two}, {0}, region)[which];
    };
  };
  const std::vector<HostTensor> x{tensor<double>({3}, {3, 5, 7})};
  EXPECT_EQ(gradient_of(x, output(0)), tensor<double>({3}, {70, 42, 30}));
  const std::string refusal = refusal_of(x, output(1));
  EXPECT_NE(refusal.find("output 1 of the region \"product_and_sum\" has no gradient"),
            std::string::npos)
      << refusal;
}

}  // namespace
}  // namespace tessera

// Programs with loops and branches, and random ones, for the tests of compilation and execution.
#pragma once

#include <functional>

#include "core/ops/control.h"
#include "tests/compile/test_steps.h"

namespace tessera::testing {

using RegionBody = std::function<std::vector<Value>(Builder&, const std::vector<Value>&)>;

inline GraphRef graph_of(const std::vector<TensorType>& inputs, const RegionBody& body,
                         const MeshPtr& mesh = nullptr, bool is_local = false) {
  auto graph = std::make_shared<Graph>();
  graph->mesh = mesh;
  graph->is_local = is_local;
  Builder b(*graph);
  std::vector<Value> values;
  for (size_t i = 0; i < inputs.size(); ++i)
    values.push_back(b.input(InputKind::data, cat("in", i), inputs[i]));
  const std::vector<Value> results = body(b, values);
  for (size_t i = 0; i < results.size(); ++i) b.output(results[i], cat("out", i));
  return graph;
}

using TurnBody = std::function<std::vector<Value>(Builder&, const std::vector<Value>&, Value turn)>;

// Carried values are `init` and, behind them, the turn (s32). Returns those of `init`.
inline std::vector<Value> counted_loop(Builder& b, int64_t turns, std::vector<Value> init,
                                       const TurnBody& body, bool known) {
  const TensorType counter{DType::s32, {}};
  std::vector<TensorType> types;
  for (Value value : init) types.push_back(b.type(value));
  types.push_back(counter);
  const size_t count = init.size();
  const GraphRef condition = graph_of(types, [&](Builder& in, const std::vector<Value>& values) {
    const Value limit = ops::constant(in, static_cast<double>(turns), counter);
    return std::vector<Value>{ops::compare(in, values[count], limit, CompareDirection::lt)};
  });
  const GraphRef turn = graph_of(types, [&](Builder& in, const std::vector<Value>& values) {
    std::vector<Value> next =
        body(in, std::vector<Value>(values.begin(), values.end() - 1), values[count]);
    next.push_back(ops::add(in, values[count], ops::constant(in, 1.0, counter)));
    return next;
  });
  init.push_back(ops::constant(b, 0.0, counter));
  std::vector<Value> results = ops::while_loop(b, std::move(init), condition, turn,
                                               known ? std::optional<int64_t>(turns) : std::nullopt);
  results.pop_back();
  return results;
}

inline std::vector<Value> counted_loop(Builder& b, int64_t turns, std::vector<Value> init,
                                       const RegionBody& body, bool known) {
  return counted_loop(
      b, turns, std::move(init),
      [&](Builder& in, const std::vector<Value>& values, Value) { return body(in, values); }, known);
}

// Products, elementwise ops and, up to `depth` levels of them, loops and branches on [4, 4]
// matrices, some handed through, some swapped.
class RandomControl {
 public:
  explicit RandomControl(uint64_t seed) : random_(seed) {}

  void grow(Builder& b, std::vector<Value>& values, int size, int depth) {
    for (int i = 0; i < size; ++i) {
      const Value x = any(values), y = any(values);
      switch (pick(depth > 0 ? 8 : 6)) {
        case 0:
          values.push_back(ops::tanh(b, ops::matmul(b, x, y)));
          break;
        case 1:
          values.push_back(ops::add(b, ops::scale(b, x, 0.5), ops::scale(b, y, 0.25)));
          break;
        case 2:
          values.push_back(ops::multiply(b, ops::tanh(b, x), y));
          break;
        case 3:
          values.push_back(ops::transpose(b, x, {1, 0}));
          break;
        case 4: {
          const Value both = ops::concatenate(b, {ops::tanh(b, x), ops::negate(b, y)}, 0);
          values.push_back(ops::slice_dim(b, both, 0, 4, 8));
          break;
        }
        case 5:
          values.push_back(ops::reshape(b, ops::negate(b, ops::reshape(b, x, {16})), {4, 4}));
          break;
        case 6:
          add_loop(b, values, depth - 1);
          break;
        case 7:
          add_branch(b, values, depth - 1);
          break;
      }
    }
  }

  size_t pick(size_t count) { return static_cast<size_t>(random_() % count); }
  Value any(const std::vector<Value>& values) {
    return values[values.size() - 1 - pick(std::min<size_t>(values.size(), 6))];
  }

 private:
  std::vector<Value> some(const std::vector<Value>& values) {
    std::vector<Value> chosen(1 + pick(4));
    for (Value& value : chosen) value = any(values);
    return chosen;
  }

  void add_loop(Builder& b, std::vector<Value>& values, int depth) {
    const std::vector<Value> init = some(values);
    const std::vector<Value> results = counted_loop(
        b, static_cast<int64_t>(pick(4)), init,
        [&](Builder& in, const std::vector<Value>& carried) { return turn(in, carried, depth); },
        pick(2) == 0);
    values.insert(values.end(), results.begin(), results.end());
  }

  // As many values as came in: new ones, old ones, in any order.
  std::vector<Value> turn(Builder& in, const std::vector<Value>& carried, int depth) {
    std::vector<Value> inside = carried;
    grow(in, inside, 1 + static_cast<int>(pick(4)), depth);
    std::vector<Value> next;
    for (Value kept : carried) next.push_back(pick(4) == 0 ? kept : any(inside));
    return next;
  }

  void add_branch(Builder& b, std::vector<Value>& values, int depth) {
    const TensorType counter{DType::s32, {}};
    const std::vector<Value> operands = some(values);
    const std::vector<TensorType> types(operands.size(), b.type(operands[0]));
    Graphs arms;
    for (size_t a = 0; a < 1 + pick(3); ++a)
      arms.push_back(graph_of(types, [&](Builder& in, const std::vector<Value>& carried) {
        return turn(in, carried, depth);
      }));
    const Value index = ops::constant(b, static_cast<double>(pick(4)) - 1, counter);
    const std::vector<Value> results = ops::case_of(b, index, operands, arms);
    values.insert(values.end(), results.begin(), results.end());
  }

  std::mt19937_64 random_;
};

inline Graph random_control_graph(uint64_t seed, int size) {
  RandomControl make(seed);
  Graph graph;
  graph.name = cat("control", seed);
  Builder b(graph);
  const TensorType type{DType::f64, {4, 4}};
  std::vector<Value> values;
  const int parameters = 2 + static_cast<int>(make.pick(3));
  for (int i = 0; i < parameters; ++i)
    values.push_back(b.input(InputKind::parameter, cat("p", i), type));
  make.grow(b, values, size, 2);
  for (int i = 0; i < parameters; ++i)
    if (make.pick(4) != 0) b.output(values[make.pick(values.size())], cat("p", i), i);
  for (int i = 0; i < 3; ++i) b.output(make.any(values), cat("out", i));
  return graph;
}

}  // namespace tessera::testing

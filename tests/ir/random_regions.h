// Random programs with loops, branches, calls and barriers in each other, for tests of whatever must
// hold for any of them. Values are f64 in [-1, 1] or near; loops count an s32 and end.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "core/ir/builder.h"
#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"

namespace tessera::testing {

struct RegionOptions {
  int steps = 6;            // instructions or regions per graph, about
  int depth = 2;            // of regions in regions
  bool trip_counts = true;  // stated by the loops
  MeshPtr mesh = nullptr;
};

class RandomRegions {
 public:
  RandomRegions(uint64_t seed, RegionOptions options) : rng_(seed), options_(std::move(options)) {}

  // Inputs in.x [4,6], in.w [6,6], in.b [6]; outputs of the same types and a scalar "loss" that uses
  // all.
  Graph program() {
    Graph graph = region("program", {kX, kW, kB}, {kX, kW, kB}, options_.depth);
    Builder b(graph);
    for (size_t i = 0; i < 3; ++i) {
      const std::string name = cat("in.", "xwb"[i]);
      graph.info(graph.inputs[i].value).name = name;
      graph.at(graph.inputs[i].value).attributes.set(Attr::name, name);
    }
    Value loss = ops::constant(b, 0.0, {DType::f64, {}});
    for (const GraphOutput& output : std::vector(graph.outputs))
      loss = ops::add(b, loss, ops::reduce_all(b, ops::sine(b, output.value)));
    b.output(loss, "loss");
    return graph;
  }

  static std::vector<HostTensor> inputs(const Graph& graph, uint64_t seed) {
    std::mt19937_64 rng(seed);
    std::uniform_real_distribution<double> unit(-1, 1);
    std::vector<HostTensor> tensors;
    for (const GraphInput& input : graph.inputs) {
      tensors.emplace_back(graph.type(input.value));
      for (int64_t i = 0; i < tensors.back().elements(); ++i) tensors.back().set_real(i, unit(rng));
    }
    return tensors;
  }

 private:
  inline static const TensorType kX{DType::f64, {4, 6}}, kW{DType::f64, {6, 6}},
      kB{DType::f64, {6}}, kCount{DType::s32, {}};

  size_t below(size_t n) { return static_cast<size_t>(rng_() % n); }
  bool chance(int percent) { return static_cast<int>(below(100)) < percent; }

  Graph region(std::string name, const std::vector<TensorType>& inputs,
               const std::vector<TensorType>& outputs, int depth) {
    Graph graph;
    graph.name = std::move(name);
    graph.mesh = options_.mesh;
    Builder b(graph);
    std::vector<Value> pool;
    for (size_t i = 0; i < inputs.size(); ++i)
      pool.push_back(b.input(InputKind::data, cat("x", i), inputs[i]));
    const size_t steps = 1 + below(static_cast<size_t>(options_.steps));
    for (size_t i = 0; i < steps; ++i) step(b, pool, depth);
    for (size_t i = 0; i < outputs.size(); ++i)
      b.output(some(b, pool, outputs[i], chance(70)), cat("y", i));
    return graph;
  }

  // A value of the type: a recent one, or any.
  Value some(Builder& b, const std::vector<Value>& pool, const TensorType& type, bool recent) {
    std::vector<Value> fitting;
    for (Value value : pool)
      if (b.type(value) == type) fitting.push_back(value);
    if (fitting.empty()) return ops::constant(b, 0.25, type);
    return recent ? fitting.back() : fitting[below(fitting.size())];
  }
  Value some(Builder& b, const std::vector<Value>& pool, const TensorType& type) {
    return some(b, pool, type, chance(50));
  }

  const TensorType& any_type() {
    static const std::vector<const TensorType*> kTypes{&kX, &kX, &kW, &kB};
    return *kTypes[below(kTypes.size())];
  }

  void step(Builder& b, std::vector<Value>& pool, int depth) {
    if (depth > 0 && chance(45)) return control(b, pool, depth - 1);
    const TensorType& type = any_type();
    const Value x = some(b, pool, type);
    switch (below(7)) {
      case 0: pool.push_back(ops::tanh(b, x)); break;
      case 1: pool.push_back(ops::tanh(b, ops::add(b, x, some(b, pool, type)))); break;
      case 2: pool.push_back(ops::multiply(b, x, some(b, pool, type))); break;
      case 3: pool.push_back(ops::sine(b, x)); break;
      case 4:
        pool.push_back(ops::tanh(b, ops::matmul(b, some(b, pool, kX), some(b, pool, kW))));
        break;
      case 5:
        pool.push_back(ops::multiply(
            b, some(b, pool, kX), ops::broadcast_last(b, some(b, pool, kB), kX.shape)));
        break;
      default:
        pool.push_back(ops::tanh(b, ops::reduce(b, some(b, pool, kX), {0})));
    }
  }

  void control(Builder& b, std::vector<Value>& pool, int depth) {
    std::vector<TensorType> in, out;
    for (size_t i = 0; i < 1 + below(3); ++i) in.push_back(any_type());
    for (size_t i = 0; i < 1 + below(2); ++i) out.push_back(any_type());
    std::vector<Value> operands;
    for (const TensorType& type : in) operands.push_back(some(b, pool, type));
    std::vector<Value> made;
    switch (below(4)) {
      case 0: made = ops::call(b, share(region("f", in, out, depth)), operands); break;
      case 1: made = branch(b, pool, operands, in, out, depth); break;
      case 2: made = ops::optimization_barrier(b, operands); break;
      default: made = loop(b, operands, in, depth);
    }
    for (Value value : made)
      if (is_float(b.dtype(value))) pool.push_back(value);
  }

  std::vector<Value> branch(Builder& b, const std::vector<Value>& pool,
                            const std::vector<Value>& operands, const std::vector<TensorType>& in,
                            const std::vector<TensorType>& out, int depth) {
    Graphs branches;
    for (size_t i = 0; i < 1 + below(3); ++i)
      branches.push_back(share(region(cat("branch", i), in, out, depth)));
    if (chance(30))
      return ops::case_of(b, ops::constant(b, static_cast<double>(below(3)), kCount), operands,
                          branches);
    const Value sum = ops::reduce_all(b, some(b, pool, kB));
    const Value index = ops::convert(
        b, ops::compare(b, sum, ops::zeros_like(b, sum), CompareDirection::gt), DType::s32);
    return ops::case_of(b, index, operands, branches);
  }

  std::vector<Value> loop(Builder& b, std::vector<Value> operands, std::vector<TensorType> in,
                          int depth) {
    in.insert(in.begin(), kCount);
    operands.insert(operands.begin(), ops::constant(b, 1.0, kCount));
    const auto turns = static_cast<int64_t>(1 + below(3));
    Graph body = region("body", in, {in.begin() + 1, in.end()}, depth);
    Builder inner(body);
    for (size_t i = 0; i < body.outputs.size(); ++i) {
      Value& output = body.outputs[i].value;
      if (chance(30)) output = body.inputs[i + 1].value;  // never changes
      else output = ops::tanh(inner, output);
    }
    const Value next = ops::add_scalar(inner, body.inputs[0].value, 2);
    body.outputs.insert(body.outputs.begin(), {next, "count", -1, {}});
    Graph condition;
    condition.name = "condition";
    condition.mesh = options_.mesh;
    Builder c(condition);
    for (size_t i = 0; i < in.size(); ++i) c.input(InputKind::data, cat("x", i), in[i]);
    const Value count = condition.inputs[0].value;
    c.output(ops::compare(c, count, ops::constant_like(c, count, static_cast<double>(2 * turns)),
                          CompareDirection::le),
             "goes_on");
    return ops::while_loop(b, std::move(operands), share(std::move(condition)),
                           share(std::move(body)),
                           options_.trip_counts ? std::optional(turns) : std::nullopt);
  }

  static GraphRef share(Graph graph) { return std::make_shared<const Graph>(std::move(graph)); }

  std::mt19937_64 rng_;
  RegionOptions options_;
};

}  // namespace tessera::testing

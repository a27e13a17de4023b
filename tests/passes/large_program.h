// A program as large as what comes out of other frameworks: a long straight part, calls of shared
// functions, loops over layers with stacked weights, and calls in their bodies.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"

namespace tessera::testing {

struct LargeProgramOptions {
  int instructions = 20000;  // about; those of regions count for each use
  int calls = 200;           // of a tenth as many functions
  int loops = 4;
  int64_t turns = 6;
};

class LargeProgram {
 public:
  explicit LargeProgram(LargeProgramOptions options) : options_(options) {}

  // x [8,16], weights [turns,16,16] per loop -> y [8,16] and a stack [turns,8,16] per loop.
  Graph make() {
    // A third each: functions, bodies, the rest.
    const int functions = std::max(1, options_.calls / 10);
    for (int f = 0; f < functions; ++f)
      functions_.push_back(share(function(f, options_.instructions / 3 / options_.calls)));
    Graph graph;
    graph.name = "large";
    Builder b(graph);
    Value x = b.input(InputKind::data, "x", kRows);
    std::vector<Value> weights;
    for (int l = 0; l < options_.loops; ++l)
      weights.push_back(b.input(InputKind::parameter, cat("w", l), stack(kSquare)));
    const int parts = std::max(1, options_.loops);
    for (int part = 0; part < parts; ++part) {
      ScopeGuard scope(b, cat("part", part));
      x = line(b, x, options_.instructions / 3 / parts, options_.calls / 2 / parts);
      if (part >= options_.loops) continue;
      const std::vector<Value> made = loop(b, x, weights[static_cast<size_t>(part)]);
      x = made[0];
      b.output(made[1], cat("stack", part));
    }
    b.output(x, "y");
    return graph;
  }

 private:
  inline static const TensorType kRows{DType::f32, {8, 16}}, kSquare{DType::f32, {16, 16}},
      kCount{DType::s32, {}};

  static GraphRef share(Graph graph) { return std::make_shared<const Graph>(std::move(graph)); }
  TensorType stack(const TensorType& type) const {
    return {type.dtype, {options_.turns, type.shape[0], type.shape[1]}};
  }

  // Instructions in a row, some of which the simplifying passes take away.
  static Value plain(Builder& b, Value x, Value first, int i) {
    switch (i % 6) {
      case 0: return ops::tanh(b, x);
      case 1: return ops::add(b, x, ops::constant(b, 0.25 * (i % 7), b.type(x)));
      case 2: return ops::multiply(b, x, first);
      case 3: return ops::transpose(b, ops::transpose(b, x, {1, 0}), {1, 0});
      case 4: return ops::add(b, ops::sine(b, first), x);  // the same sine every time
      default: return ops::reshape(b, ops::reshape(b, x, {128}), {8, 16});
    }
  }

  static Graph function(int number, int size) {
    Graph graph;
    graph.name = cat("function", number);
    Builder b(graph);
    const Value first = b.input(InputKind::data, "x", kRows);
    Value x = ops::scale(b, first, 1.0 / (number + 1));
    while (static_cast<int>(graph.instructions.size()) < size)
      x = plain(b, x, first, static_cast<int>(graph.instructions.size()));
    b.output(x, "y");
    return graph;
  }

  Value line(Builder& b, Value x, int size, int calls) {
    const Value first = x;
    const auto begin = static_cast<int>(b.graph().instructions.size());
    int called = 0;
    for (int i = 0; static_cast<int>(b.graph().instructions.size()) - begin < size; ++i) {
      x = plain(b, x, first, i);
      const int done = static_cast<int>(b.graph().instructions.size()) - begin;
      if (called < calls && done * calls >= called * size) {
        const GraphRef& callee = functions_[next_function_++ % functions_.size()];
        x = ops::call(b, callee, {x})[0];
        ++called;
      }
    }
    return x;
  }

  // x <- f(x w[turn]); every x into a stack. The count is for find_trip_counts to find.
  std::vector<Value> loop(Builder& b, Value x, Value w) {
    const std::vector<TensorType> types{kCount, kRows, stack(kSquare), stack(kRows)};
    Graph condition, body;
    condition.name = "condition";
    body.name = "body";
    Builder cb(condition), bb(body);
    std::vector<Value> in;
    for (const TensorType& type : types) {
      cb.input(InputKind::data, cat("in", in.size()), type);
      in.push_back(bb.input(InputKind::data, cat("in", in.size()), type));
    }
    const Value count = condition.inputs[0].value;
    cb.output(ops::compare(cb, count, ops::constant(cb, static_cast<double>(options_.turns), kCount),
                           CompareDirection::lt),
              "goes_on");
    const Value own = ops::reshape(bb, ops::dynamic_slice_dim(bb, in[2], 0, in[0], 1), kSquare.shape);
    const Value product = ops::tanh(bb, ops::matmul(bb, in[1], own));
    const int loops = std::max(1, options_.loops);
    const Value next =
        line(bb, product, options_.instructions / 3 / loops, options_.calls / 2 / loops);
    const Value slot = ops::reshape(bb, next, {1, kRows.shape[0], kRows.shape[1]});
    bb.output(ops::add_scalar(bb, in[0], 1), "count");
    bb.output(next, "x");
    bb.output(in[2], "w");
    bb.output(ops::dynamic_update_slice_dim(bb, in[3], slot, 0, in[0]), "stack");
    const Value zeros = ops::broadcast_in_dim(b, ops::constant(b, 0, {DType::f32, {}}), stack(kRows).shape, {});
    const std::vector<Value> made = ops::while_loop(b, {ops::constant(b, 0, kCount), x, w, zeros},
                                                    share(std::move(condition)), share(std::move(body)));
    return {made[1], made[3]};
  }

  LargeProgramOptions options_;
  std::vector<GraphRef> functions_;
  size_t next_function_ = 0;
};

inline Graph large_program(const LargeProgramOptions& options) { return LargeProgram(options).make(); }

}  // namespace tessera::testing

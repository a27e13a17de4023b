// Programs of gradients, for the tests of autodiff and of what comes after it.
#pragma once

#include <vector>

#include "core/autodiff/autodiff.h"
#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera::testing {

// The graph with the gradients of its output "loss" with respect to all inputs as its outputs, behind
// the loss itself where it is asked for.
inline Graph gradient_graph(const Graph& forward, RematPolicy policy, bool with_loss = false) {
  Graph graph = forward;
  Builder b(graph);
  const Value loss = graph.outputs[static_cast<size_t>(graph.find_output("loss"))].value;
  std::vector<Value> wrt;
  for (const GraphInput& input : graph.inputs) wrt.push_back(input.value);
  const std::vector<Value> made = gradients(b, loss, wrt, {policy});
  graph.outputs.clear();
  if (with_loss) b.output(loss, "loss");
  for (size_t i = 0; i < wrt.size(); ++i)
    b.output(made[i].valid() ? made[i] : ops::zeros_like(b, wrt[i]), cat("d", i));
  return graph;
}

// Inside a manual computation over `axes`: three turns of x <- m + (m of the device before), where
// m = tanh(x w).
inline Value shifting_loop(Builder& b, Value x, Value w, const AxisList& axes) {
  const TensorType k{DType::s32, {}};
  Graph body, condition;
  body.mesh = condition.mesh = b.graph().mesh;
  Builder bb(body), cb(condition);
  std::vector<Value> v;
  for (const TensorType& type : {k, b.type(x), b.type(w)}) {
    v.push_back(bb.input(InputKind::data, cat("x", v.size()), type));
    cb.input(InputKind::data, cat("x", v.size()), type);
  }
  bb.output(ops::add_scalar(bb, v[0], 1), "k");
  const Value mixed = ops::tanh(bb, ops::matmul(bb, v[1], v[2]));
  bb.output(ops::add(bb, mixed, ops::shift(bb, mixed, axes, 1, true)), "x");
  bb.output(v[2], "w");
  const Value count = condition.inputs[0].value;
  cb.output(ops::compare(cb, count, ops::constant_like(cb, count, 3), CompareDirection::lt), "c");
  return ops::while_loop(b, {ops::constant(b, 0, k), x, w},
                         std::make_shared<const Graph>(std::move(condition)),
                         std::make_shared<const Graph>(std::move(body)), 3)[1];
}

}  // namespace tessera::testing

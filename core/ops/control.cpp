#include "core/ops/control.h"

#include <algorithm>

#include "core/ir/interpreter.h"
#include "core/ir/regions.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"
#include "core/ir/manual_interpreter.h"

namespace tessera::ops {
namespace {

const Graph& graph_of(const OpCall& call, Attr key) { return *call.attributes.get<GraphRef>(key); }

std::string value_name(const Graph& graph, Value value) {
  const std::string& name = graph.info(value).name;
  return name.empty() ? "" : cat(" (\"", name, "\")");
}

// `what` is the word for a value that crosses the boundary: "operand", "carried value"; `first` the
// number of the first of them.
void check_inputs(std::string_view op, std::string_view region, std::string_view what,
                  const Graph& graph, std::span<const TensorType> given, size_t first = 0) {
  require(graph.inputs.size() == given.size(), op, ": ", given.size(), " ", what, "s ",
          types_text(given), ", but the ", region, " \"", graph.name, "\" takes ",
          graph.inputs.size(), " ", types_text(input_types(graph)));
  for (size_t i = 0; i < given.size(); ++i) {
    const Value input = graph.inputs[i].value;
    require(graph.type(input) == given[i], op, ": ", what, " ", first + i, value_name(graph, input),
            " is ", given[i], ", but the ", region, " \"", graph.name, "\" takes ", graph.type(input));
  }
}

std::vector<HostTensor> run(const Graph& graph, std::span<const HostTensor* const> operands) {
  std::vector<HostTensor> inputs;
  for (const HostTensor* operand : operands) inputs.push_back(*operand);
  return interpret(graph, inputs);
}

double region_flops(const Graph& graph) {
  double total = 0;
  for (const Instruction& instruction : graph.instructions)
    total += with_call(graph, instruction, [&](const OpCall& call) {
      return flop_count(*instruction.op, call, Graph::result_types(instruction));
    });
  return total;
}

// A factor of its own for each dim: how operands and results belong together is found by following
// the values through the region.
FactorRule own_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  for (const TensorType& operand : call.operands)
    rule.operands.push_back(dims_of(add_factors(rule, operand.shape)));
  for (const TensorType& result : results)
    rule.results.push_back(dims_of(add_factors(rule, result.shape)));
  return rule;
}

// Operand i and result i are the same value.
FactorRule carried_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  for (const TensorType& operand : call.operands)
    rule.operands.push_back(dims_of(add_factors(rule, operand.shape)));
  rule.results = rule.operands;
  return rule;
}

// ---- call ---------------------------------------------------------------------------------------

std::vector<TensorType> infer_call(const OpCall& call) {
  const Graph& callee = graph_of(call, Attr::callee);
  check_inputs("call", "callee", "operand", callee, call.operands);
  return output_types(callee);
}

void eval_call(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  std::ranges::move(run(graph_of(call, Attr::callee), x), y.begin());
}

double flops_call(const OpCall& call, std::span<const TensorType>) {
  return region_flops(graph_of(call, Attr::callee));
}

// ---- while --------------------------------------------------------------------------------------

std::vector<TensorType> infer_while(const OpCall& call) {
  const Graph &condition = graph_of(call, Attr::condition), &body = graph_of(call, Attr::body);
  check_inputs("while", "body", "carried value", body, call.operands);
  check_inputs("while", "condition", "carried value", condition, call.operands);
  const std::vector<TensorType> verdict = output_types(condition);
  require(verdict == std::vector<TensorType>{{DType::pred, {}}}, "while: the condition \"",
          condition.name, "\" gives ", types_text(verdict), ", not (pred[])");
  require(body.outputs.size() == call.operands.size(), "while: ", call.operands.size(),
          " carried values ", types_text(call.operands), ", but the body \"", body.name, "\" gives ",
          body.outputs.size(), " ", types_text(output_types(body)));
  for (size_t i = 0; i < body.outputs.size(); ++i)
    require(body.type(body.outputs[i].value) == call.operands[i], "while: carried value ", i,
            value_name(body, body.inputs[i].value), " is ", call.operands[i], ", but the body \"",
            body.name, "\" gives ", body.type(body.outputs[i].value));
  const int64_t turns = call.attributes.get_or<int64_t>(Attr::trip_count, 0);
  require(turns >= 0, "while: trip_count ", turns, " is negative");
  return {call.operands.begin(), call.operands.end()};
}

void eval_while(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const Graph &condition = graph_of(call, Attr::condition), &body = graph_of(call, Attr::body);
  std::vector<HostTensor> carried;
  for (const HostTensor* operand : x) carried.push_back(*operand);
  const int64_t known = call.attributes.get_or<int64_t>(Attr::trip_count, -1);
  int64_t turns = 0;
  for (; interpret(condition, carried)[0].get_int(0) != 0; ++turns) {
    require(known < 0 || turns < known, "while: the loop with body \"", body.name,
            "\" goes on after its trip_count of ", known, " turns");
    carried = interpret(body, carried);
  }
  require(known < 0 || turns == known, "while: the loop with body \"", body.name, "\" ends after ",
          turns, " turns, its trip_count is ", known);
  std::ranges::move(carried, y.begin());
}

double flops_while(const OpCall& call, std::span<const TensorType>) {
  return static_cast<double>(call.attributes.get_or<int64_t>(Attr::trip_count, 1)) *
         (region_flops(graph_of(call, Attr::body)) + region_flops(graph_of(call, Attr::condition)));
}

int alias_while(const OpCall&, int result) { return result; }

// ---- case ---------------------------------------------------------------------------------------

const Graphs& branches_of(const OpCall& call) { return call.attributes.get<Graphs>(Attr::branches); }

std::vector<TensorType> infer_case(const OpCall& call) {
  const Graphs& branches = branches_of(call);
  require(!branches.empty(), "case: no branches");
  require(!call.operands.empty() && call.operands[0] == TensorType{DType::s32, {}},
          "case: operand 0 must be the index s32[], got ", types_text(call.operands));
  const std::vector<TensorType> results = output_types(*branches[0]);
  for (size_t i = 0; i < branches.size(); ++i) {
    check_inputs("case", cat("branch ", i), "operand", *branches[i], call.operands.subspan(1),
                 1);
    const std::vector<TensorType> own = output_types(*branches[i]);
    require(own.size() == results.size(), "case: branch ", i, " gives ", types_text(own),
            ", branch 0 gives ", types_text(results));
    for (size_t r = 0; r < own.size(); ++r)
      require(own[r] == results[r], "case: result ", r, " of branch ", i, " is ", own[r],
              ", that of branch 0 is ", results[r]);
  }
  return results;
}

void eval_case(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const Graphs& branches = branches_of(call);
  const auto count = static_cast<int64_t>(branches.size());
  const int64_t index = x[0]->get_int(0);
  const int64_t taken = index < 0 || index >= count ? count - 1 : index;
  std::ranges::move(run(*branches[static_cast<size_t>(taken)], x.subspan(1)), y.begin());
}

double flops_case(const OpCall& call, std::span<const TensorType>) {
  double most = 0;
  for (const GraphRef& branch : branches_of(call)) most = std::max(most, region_flops(*branch));
  return most;
}

// ---- manual_computation -------------------------------------------------------------------------

void check_shardings(const OpCall& call, Attr key, size_t count, std::string_view what) {
  const auto& shardings = call.attributes.get<Shardings>(key);
  require(shardings.size() == count, "manual_computation: ", shardings.size(), " ", name_of(key),
          " for ", count, " ", what, "s");
}

// The type of `local`, a value of the callee, outside.
TensorType outer_type(const TensorType& local, const Sharding& sharding, const AxisList& manual) {
  require(sharding.rank() == local.rank(), "manual_computation: sharding ", sharding, " of rank ",
          sharding.rank(), " for ", local);
  TensorType type = local;
  const Sharding part = manual_part(sharding, manual);
  for (int d = 0; d < type.rank(); ++d)
    type.shape[d] *= size_of(part.dims[static_cast<size_t>(d)].axes);
  return type;
}

std::vector<TensorType> infer_manual(const OpCall& call) {
  const Graph& callee = graph_of(call, Attr::callee);
  const auto& manual = call.attributes.get<AxisList>(Attr::axes);
  check_shardings(call, Attr::in_shardings, call.operands.size(), "operand");
  check_shardings(call, Attr::out_shardings, callee.outputs.size(), "result");
  const auto& in = call.attributes.get<Shardings>(Attr::in_shardings);
  std::vector<TensorType> inner;
  for (size_t i = 0; i < call.operands.size(); ++i)
    inner.push_back(manual_type(call.operands[i], in[i], manual));
  check_inputs("manual_computation", "callee", "operand", callee, inner);
  std::vector<TensorType> results;
  const auto& out = call.attributes.get<Shardings>(Attr::out_shardings);
  for (size_t r = 0; r < out.size(); ++r)
    results.push_back(outer_type(callee.type(callee.outputs[r].value), out[r], manual));
  return results;
}

void eval_manual(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  std::vector<HostTensor> inputs;
  for (const HostTensor* operand : x) inputs.push_back(*operand);
  std::ranges::move(interpret_manual(call.attributes, inputs), y.begin());
}

double flops_manual(const OpCall& call, std::span<const TensorType>) {
  return region_flops(graph_of(call, Attr::callee)) *
         static_cast<double>(size_of(call.attributes.get<AxisList>(Attr::axes)));
}

// ---- optimization_barrier -----------------------------------------------------------------------

std::vector<TensorType> infer_barrier(const OpCall& call) {
  require(!call.operands.empty(), "optimization_barrier: no operands");
  return {call.operands.begin(), call.operands.end()};
}

void eval_barrier(const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  for (size_t i = 0; i < x.size(); ++i) y[i] = *x[i];
}

// The cotangents that there are pass one barrier together.
std::vector<Value> grad_barrier(GradContext& c) {
  std::vector<int> present;
  std::vector<Value> cotangents;
  for (int i = 0; i < c.operand_count(); ++i) {
    if (!c.has_cotangent(i) || !c.needs_gradient(i)) continue;
    present.push_back(i);
    cotangents.push_back(c.cotangent(i));
  }
  std::vector<Value> result(static_cast<size_t>(c.operand_count()));
  if (present.empty()) return result;
  const std::vector<Value> passed = optimization_barrier(c.builder(), std::move(cotangents));
  for (size_t i = 0; i < present.size(); ++i) result[static_cast<size_t>(present[i])] = passed[i];
  return result;
}

std::vector<LinearSet> linear_barrier(const OpCall& call) {
  std::vector<LinearSet> sets;
  for (int i = 0; i < static_cast<int>(call.operands.size()); ++i)
    for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max, ReduceKind::min})
      sets.push_back({{i}, kind, {i}});
  return sets;
}

int alias_barrier(const OpCall&, int result) { return result; }

std::vector<Value> results_of(Builder& b, Value first) {
  std::vector<Value> results;
  for (size_t r = 0; r < b.graph().at(first).results.size(); ++r)
    results.push_back({first.instruction, static_cast<int>(r)});
  return results;
}

// ---- Test inputs --------------------------------------------------------------------------------

using Body = std::vector<Value> (*)(Builder&, const std::vector<Value>&);

GraphRef region(std::string name, const std::vector<TensorType>& inputs, Body body,
                MeshPtr mesh = nullptr) {
  Graph graph;
  graph.name = std::move(name);
  graph.mesh = std::move(mesh);
  Builder b(graph);
  std::vector<Value> values;
  for (size_t i = 0; i < inputs.size(); ++i)
    values.push_back(b.input(InputKind::data, cat("x", i), inputs[i]));
  const std::vector<Value> results = body(b, values);
  for (size_t i = 0; i < results.size(); ++i) b.output(results[i], cat("y", i));
  return std::make_shared<const Graph>(std::move(graph));
}

std::vector<OpSample> call_samples() {
  const TensorType x{DType::f64, {4, 6}};
  const GraphRef callee = region("f", {x, x}, [](Builder& b, const std::vector<Value>& v) {
    return std::vector{tanh(b, multiply(b, v[0], v[1])), add(b, v[0], v[1])};
  });
  return {{{x, x}, {{Attr::callee, callee}}, {}, false}};
}

// Three turns of x = tanh(x w), y = y + x.
std::vector<OpSample> while_samples() {
  const TensorType x{DType::f64, {4, 6}}, w{DType::f64, {6, 6}}, i{DType::s32, {}};
  const GraphRef body = region("body", {i, x, w, x}, [](Builder& b, const std::vector<Value>& v) {
    const Value next = tanh(b, matmul(b, v[1], v[2]));
    return std::vector{add_scalar(b, v[0], 1), next, v[2], add(b, v[3], next)};
  });
  const GraphRef condition =
      region("condition", {i, x, w, x}, [](Builder& b, const std::vector<Value>& v) {
        return std::vector{compare(b, v[0], constant_like(b, v[0], 3), CompareDirection::lt)};
      });
  return {{{i, x, w, x}, {{Attr::condition, condition}, {Attr::body, body}}, {{0, 1}}, false}};
}

std::vector<OpSample> case_samples() {
  const TensorType x{DType::f64, {4, 6}}, w{DType::f64, {6}};
  const GraphRef first = region("sine", {x, w}, [](Builder& b, const std::vector<Value>& v) {
    return std::vector{sine(b, v[0])};
  });
  const GraphRef second = region("scale", {x, w}, [](Builder& b, const std::vector<Value>& v) {
    return std::vector{multiply(b, v[0], broadcast_last(b, v[1], b.shape(v[0])))};
  });
  return {{{{DType::s32, {}}, x, w}, {{Attr::branches, Graphs{first, second}}}, {{-1, 3}}, false}};
}

std::vector<OpSample> manual_samples() {
  const auto mesh = std::make_shared<const Mesh>(std::vector<MeshAxis>{{"a", 2}, {"b", 2}});
  const TensorType x{DType::f64, {4, 6}}, shard{DType::f64, {2, 6}};
  const GraphRef callee = region(
      "shard", {shard, x},
      [](Builder& b, const std::vector<Value>& v) {
        return std::vector{tanh(b, v[0]), multiply(b, v[1], v[1])};
      },
      mesh);
  Sharding rows(mesh, 2), whole(mesh, 2);
  rows.dims[0].axes = {mesh->axis(0)};
  return {{{x, x},
           {{Attr::callee, callee},
            {Attr::axes, AxisList{mesh->axis(0)}},
            {Attr::in_shardings, Shardings{rows, whole}},
            {Attr::out_shardings, Shardings{rows, whole}}},
           {},
           false}};
}

std::vector<OpSample> barrier_samples() {
  return {{{{DType::f64, {4, 6}}, {DType::f64, {3}}}, {}}};
}

}  // namespace

const OpDef kCall{.name = "call",
                  .attributes = {Attr::callee},
                  .infer = infer_call,
                  .eval = eval_call,
                  .factors = own_factors,
                  .flops = flops_call,
                  .samples = call_samples};
const OpDef kWhile{.name = "while",
                   .attributes = {Attr::condition, Attr::body},
                   .optional_attributes = {Attr::trip_count},
                   .infer = infer_while,
                   .eval = eval_while,
                   .factors = carried_factors,
                   .flops = flops_while,
                   .samples = while_samples,
                   .alias = alias_while};
const OpDef kCase{.name = "case",
                  .attributes = {Attr::branches},
                  .infer = infer_case,
                  .eval = eval_case,
                  .factors = own_factors,
                  .flops = flops_case,
                  .samples = case_samples};
const OpDef kManualComputation{
    .name = "manual_computation",
    .attributes = {Attr::callee, Attr::axes, Attr::in_shardings, Attr::out_shardings},
    .infer = infer_manual,
    .eval = eval_manual,
    .factors = own_factors,
    .flops = flops_manual,
    .samples = manual_samples};
const OpDef kOptimizationBarrier{.name = "optimization_barrier",
                                 .infer = infer_barrier,
                                 .eval = eval_barrier,
                                 .grad = grad_barrier,
                                 .factors = carried_factors,
                                 .linear = linear_barrier,
                                 .flops = no_flops,
                                 .samples = barrier_samples,
                                 .alias = alias_barrier};

std::vector<Value> call(Builder& b, GraphRef callee, std::vector<Value> operands) {
  return results_of(b, b.emit(kCall, std::move(operands), {{Attr::callee, std::move(callee)}}));
}

std::vector<Value> while_loop(Builder& b, std::vector<Value> init, GraphRef condition, GraphRef body,
                              std::optional<int64_t> trip_count) {
  Attributes attributes{{Attr::condition, std::move(condition)}, {Attr::body, std::move(body)}};
  if (trip_count) attributes.set(Attr::trip_count, *trip_count);
  return results_of(b, b.emit(kWhile, std::move(init), std::move(attributes)));
}

std::vector<Value> case_of(Builder& b, Value index, std::vector<Value> operands, Graphs branches) {
  operands.insert(operands.begin(), index);
  return results_of(b,
                    b.emit(kCase, std::move(operands), {{Attr::branches, std::move(branches)}}));
}

std::vector<Value> if_else(Builder& b, Value condition, std::vector<Value> operands,
                           GraphRef on_true, GraphRef on_false) {
  return case_of(b, convert(b, condition, DType::s32), std::move(operands), {on_false, on_true});
}

std::vector<Value> manual_computation(Builder& b, GraphRef callee, std::vector<Value> operands,
                                      AxisList axes, Shardings in_shardings,
                                      Shardings out_shardings) {
  return results_of(b, b.emit(kManualComputation, std::move(operands),
                              {{Attr::callee, std::move(callee)},
                               {Attr::axes, std::move(axes)},
                               {Attr::in_shardings, std::move(in_shardings)},
                               {Attr::out_shardings, std::move(out_shardings)}}));
}

std::vector<Value> optimization_barrier(Builder& b, std::vector<Value> operands) {
  return results_of(b, b.emit(kOptimizationBarrier, std::move(operands)));
}

Sharding free_part(const Sharding& sharding, const AxisList& manual) {
  Sharding part = sharding;
  for (DimSharding& dim : part.dims) dim.axes = canonical(without(dim.axes, manual));
  part.partial = without(part.partial, manual);
  part.replicated = without(part.replicated, manual);
  return part;
}

Sharding manual_part(const Sharding& sharding, const AxisList& manual) {
  const Sharding free = free_part(sharding, manual);
  Sharding part = sharding.closed();
  for (size_t d = 0; d < part.dims.size(); ++d)
    part.dims[d].axes = canonical(without(part.dims[d].axes, free.dims[d].axes));
  part.partial = without(part.partial, free.partial);
  return part;
}

TensorType manual_type(const TensorType& type, const Sharding& sharding, const AxisList& manual) {
  require(sharding.rank() == type.rank(), "manual_computation: sharding ", sharding, " of rank ",
          sharding.rank(), " for ", type);
  const Sharding part = manual_part(sharding, manual);
  for (int d = 0; d < type.rank(); ++d) {
    const AxisList& axes = part.dims[static_cast<size_t>(d)].axes;
    require(is_prefix(axes, sharding.dims[static_cast<size_t>(d)].axes),
            "manual_computation: sharding ", sharding, " of ", type, ": in dim ", d,
            " a free axis stands before a manual one; manual axes come first");
    require(type.shape[d] % size_of(axes) == 0, "manual_computation: dim ", d, " of ", type,
            " does not divide by ", size_of(axes), ", the size of its manual axes in ", sharding);
  }
  return {type.dtype, part.local_shape(type.shape)};
}

}  // namespace tessera::ops

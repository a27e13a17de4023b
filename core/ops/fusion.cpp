#include "core/ops/fusion.h"

#include <map>

#include "core/ir/interpreter.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

const Graph& body_of(const OpCall& call) { return *call.attributes.get<GraphRef>(Attr::body); }

std::vector<TensorType> infer(const OpCall& call) {
  const Graph& body = body_of(call);
  require(call.operands.size() == body.inputs.size(), "fusion: ", call.operands.size(),
          " operands ", types_text(call.operands), " for a body of ", body.inputs.size(),
          " inputs");
  for (size_t i = 0; i < call.operands.size(); ++i)
    require(call.operands[i] == body.type(body.inputs[i].value), "fusion: operand ", i, " is ",
            call.operands[i], ", the body takes ", body.type(body.inputs[i].value));
  std::vector<TensorType> results;
  for (const GraphOutput& output : body.outputs) results.push_back(body.type(output.value));
  return results;
}

void eval(const OpCall& call, std::span<const HostTensor* const> operands,
          std::span<HostTensor> results) {
  std::vector<HostTensor> inputs;
  for (const HostTensor* operand : operands) inputs.push_back(*operand);
  std::vector<HostTensor> outputs = interpret(body_of(call), inputs);
  std::move(outputs.begin(), outputs.end(), results.begin());
}

// ---- Which dims belong together -----------------------------------------------------------------

// The dims of all values of a body in classes: two dims are in one class when a factor of some
// instruction stands on both. Every class of size above 1 is one factor of the fusion.
class DimClasses {
 public:
  explicit DimClasses(const Graph& body) : body_(body) {
    for (const Instruction& instruction : body.instructions) {
      first_dim_.push_back({});
      for (const ResultInfo& result : instruction.results) {
        first_dim_.back().push_back(static_cast<int>(parent_.size()));
        for (int64_t size : result.type.shape) {
          parent_.push_back(static_cast<int>(parent_.size()));
          size_.push_back(size);
        }
      }
      must_replicate_.resize(parent_.size(), false);
      join_dims(instruction);
    }
  }

  int class_of(Value value, int dim) {
    return root(first_dim_[value.instruction][value.result] + dim);
  }
  int64_t size(int id) const { return size_[id]; }
  bool must_replicate(int id) const { return must_replicate_[id]; }

 private:
  int root(int id) {
    while (parent_[id] != id) id = parent_[id] = parent_[parent_[id]];
    return id;
  }

  void join_dims(const Instruction& instruction) {
    const FactorRule rule = factor_rule(body_, instruction);
    const int self = static_cast<int>(first_dim_.size()) - 1;
    std::vector<int> representative(rule.factors.size(), -1);
    auto visit = [&](const TensorFactors& dims, Value value) {
      for (size_t d = 0; d < dims.size(); ++d)
        for (int factor : dims[d])
          join(representative[factor], value, static_cast<int>(d), rule.factors[factor],
               dims[d].size());
    };
    for (size_t i = 0; i < rule.operands.size(); ++i)
      visit(rule.operands[i], instruction.operands[i]);
    for (size_t i = 0; i < rule.results.size(); ++i)
      visit(rule.results[i], {self, static_cast<int>(i)});
  }

  void join(int& representative, Value value, int dim, const Factor& factor,
            size_t factors_of_dim) {
    const int id = class_of(value, dim);
    if (factor.kind != FactorKind::pass_through || factor.positional || factors_of_dim > 1)
      must_replicate_[id] = true;
    if (representative < 0) {
      representative = id;
      return;
    }
    const int other = root(representative);
    if (must_replicate_[id]) must_replicate_[other] = true;
    parent_[id] = other;
  }

  const Graph& body_;
  std::vector<std::vector<int>> first_dim_;  // per instruction and result, its first entry below
  std::vector<int> parent_;
  std::vector<int64_t> size_;
  std::vector<bool> must_replicate_;
};

FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  const Graph& body = body_of(call);
  DimClasses classes(body);
  FactorRule rule;
  std::map<int, int> factor_of;
  auto factors_of = [&](Value value) {
    std::vector<int> dims;
    for (int d = 0; d < body.type(value).rank(); ++d) {
      const int id = classes.class_of(value, d);
      if (!factor_of.count(id))
        factor_of[id] = add_factor(
            rule, classes.size(id),
            classes.must_replicate(id) ? FactorKind::need_replication : FactorKind::pass_through);
      dims.push_back(factor_of[id]);
    }
    return dims_of(dims);
  };
  for (const GraphInput& input : body.inputs) rule.operands.push_back(factors_of(input.value));
  for (const GraphOutput& output : body.outputs) rule.results.push_back(factors_of(output.value));
  return rule;
}

// The body with local shapes: the local size of a class shows on an operand or a result.
Attributes localize(const OpCall& global, std::span<const TensorType> local_operands,
                    std::span<const TensorType> local_results) {
  const Graph& body = body_of(global);
  DimClasses classes(body);
  std::map<int, int64_t> local_size;
  auto learn = [&](Value value, const TensorType& type) {
    for (int d = 0; d < type.rank(); ++d) local_size[classes.class_of(value, d)] = type.shape[d];
  };
  for (size_t i = 0; i < local_operands.size(); ++i) learn(body.inputs[i].value, local_operands[i]);
  for (size_t i = 0; i < local_results.size(); ++i) learn(body.outputs[i].value, local_results[i]);

  Graph local = body;
  for (size_t i = 0; i < local.instructions.size(); ++i) {
    Instruction& instruction = local.instructions[i];
    for (size_t r = 0; r < instruction.results.size(); ++r) {
      const Value value{static_cast<int>(i), static_cast<int>(r)};
      Shape& shape = instruction.results[r].type.shape;
      for (int d = 0; d < shape.rank(); ++d)
        if (const auto found = local_size.find(classes.class_of(value, d));
            found != local_size.end())
          shape[d] = found->second;
    }
    if (!instruction.op->localize) continue;
    with_call(body, body.instructions[i], [&](const OpCall& call) {
      instruction.attributes = instruction.op->localize(call, local.operand_types(instruction),
                                                        Graph::result_types(instruction));
    });
  }
  Attributes attributes = global.attributes;
  attributes.set(Attr::body, std::make_shared<const Graph>(std::move(local)));
  return attributes;
}

double flops(const OpCall& call, std::span<const TensorType>) {
  const Graph& body = body_of(call);
  double total = 0;
  for (const Instruction& instruction : body.instructions)
    total += with_call(body, instruction, [&](const OpCall& inner) {
      return flop_count(*instruction.op, inner, Graph::result_types(instruction));
    });
  return total;
}

// tanh(x + bias) * 2 and, as a second result, its truth as f32.
std::vector<OpSample> samples() {
  const TensorType x{DType::f64, {4, 6}}, bias{DType::f64, {6}};
  Graph body;
  Builder b(body);
  const Value a = b.input(InputKind::data, "a", x), c = b.input(InputKind::data, "c", bias);
  const Value y = scale(b, tanh(b, add(b, a, broadcast_last(b, c, x.shape))), 2);
  b.output(y, "y");
  b.output(convert(b, compare(b, y, zeros_like(b, y), CompareDirection::gt), DType::f32),
           "is_positive");
  return {{{x, bias}, {{Attr::body, std::make_shared<const Graph>(std::move(body))}}, {}, false}};
}

}  // namespace

bool is_fusible(const OpDef& op) {
  return op.elementwise || &op == &kBroadcastInDim || &op == &kConstant;
}

const OpDef kFusion{.name = "fusion",
                    .attributes = {Attr::body},
                    .infer = infer,
                    .eval = eval,
                    .factors = factors,
                    .localize = localize,
                    .flops = flops,
                    .samples = samples};

std::vector<Value> fusion(Builder& b, GraphRef body, std::vector<Value> operands) {
  const size_t count = body->outputs.size();
  const Value first = b.emit(kFusion, std::move(operands), {{Attr::body, std::move(body)}});
  std::vector<Value> results;
  for (size_t i = 0; i < count; ++i) results.push_back({first.instruction, static_cast<int>(i)});
  return results;
}

}  // namespace tessera::ops

// A fusion's body as what one position of its results needs, for backends to turn into their own code.
//
// Every value of the body is a function of the position in the outputs' shape (the walk). A value
// of a smaller shape, broadcast later, is read through strides: per dim of the walk, how far its
// row-major index moves. Broadcasts and reshapes then cost nothing: they only change the strides
// through which their operand is seen.
//
//   bias f32[768] -> broadcast_in_dim dimensions=[1] -> f32[256,768]      walk [256, 768]
//   the broadcast is seen through [768, 1], so the bias is seen through [0, 1]
//
// Header only: plugins compile it themselves.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/strings.h"
#include "core/ir/graph.h"
#include "core/ops/structure.h"

namespace tessera {

struct FusionWalk {
  using Strides = std::vector<int64_t>;

  struct Step {
    enum class Kind : uint8_t { input, constant, operation };
    Kind kind = Kind::operation;
    DType dtype = DType::f32;
    int input = -1;       // which input of the body
    Strides strides;      // of an input: in elements, per dim of the walk
    HostTensor constant;  // one element
    const Instruction* operation = nullptr;  // of the body, which must outlive the walk
    std::vector<int> operands;               // earlier steps
  };

  std::vector<int64_t> dims;  // of the walk, row-major; at least one
  int64_t elements = 0;
  std::vector<Step> steps;
  std::vector<int> outputs;  // steps
  std::string refusal;       // why there is no walk; "" where there is one
};

namespace detail {

// The coarsest dims that cut the elements wherever one of the shapes does; nullopt where two shapes
// cut across each other, as [4, 6] and [6, 4].
inline std::optional<std::vector<int64_t>> common_dims(const std::vector<Shape>& shapes) {
  std::vector<int64_t> cuts = {1};  // products of inner dims
  for (const Shape& shape : shapes) {
    int64_t product = 1;
    for (int d = shape.rank(); d-- > 0;) cuts.push_back(product *= shape[d]);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<int64_t> dims;
  for (size_t i = cuts.size(); i-- > 1;) {
    if (cuts[i] % cuts[i - 1] != 0) return std::nullopt;
    dims.push_back(cuts[i] / cuts[i - 1]);
  }
  if (dims.empty()) dims.push_back(1);
  return dims;
}

class FusionWalker {
 public:
  explicit FusionWalker(const Graph& body) : body_(body) {}

  FusionWalk walk() {
    if (!choose_dims() || !visit_outputs()) walk_.refusal = std::move(refusal_);
    return std::move(walk_);
  }

 private:
  using Strides = FusionWalk::Strides;
  using Step = FusionWalk::Step;

  bool refuse(std::string reason) {
    if (refusal_.empty()) refusal_ = std::move(reason);
    return false;
  }

  bool choose_dims() {
    if (body_.outputs.empty()) return refuse("the body has no outputs");
    walk_.elements = body_.type(body_.outputs[0].value).elements();
    if (walk_.elements == 0) return refuse("the results are empty");
    std::vector<Shape> shapes;
    for (const GraphOutput& output : body_.outputs) {
      const TensorType& type = body_.type(output.value);
      if (type.elements() != walk_.elements)
        return refuse(cat("results of ", walk_.elements, " and ", type.elements(), " elements"));
      shapes.push_back(type.shape);
    }
    // Broadcasts need to know where their dims lie in the walk.
    for (const Instruction& instruction : body_.instructions) {
      if (!instruction.is(ops::kBroadcastInDim)) continue;
      const Shape& shape = instruction.results[0].type.shape;
      if (shape.elements() == walk_.elements) shapes.push_back(shape);
    }
    const auto dims = common_dims(shapes);
    if (!dims) return refuse("shapes of the body cut across each other");
    walk_.dims = *dims;
    return true;
  }

  bool visit_outputs() {
    Strides dense(walk_.dims.size());
    int64_t product = 1;
    for (size_t d = dense.size(); d-- > 0; product *= walk_.dims[d]) dense[d] = product;
    for (const GraphOutput& output : body_.outputs) {
      const int step = visit(output.value, dense);
      if (step < 0) return false;
      walk_.outputs.push_back(step);
    }
    return true;
  }

  // The step of `value` seen through `strides`, or -1.
  int visit(Value value, const Strides& strides) {
    const auto key = std::pair{value, strides};
    if (const auto found = visited_.find(key); found != visited_.end()) return found->second;
    const int step = visit_new(value, strides);
    visited_[key] = step;
    return step;
  }

  int visit_new(Value value, const Strides& strides) {
    const Instruction& instruction = body_.at(value);
    if (instruction.is(ops::kReshape)) return visit(instruction.operands[0], strides);
    if (instruction.is(ops::kBroadcastInDim)) return visit_broadcast(instruction, strides);
    Step step;
    step.dtype = body_.type(value).dtype;
    if (instruction.is(ops::kParameter)) {
      step.kind = Step::Kind::input;
      step.strides = strides;
      for (size_t i = 0; i < body_.inputs.size(); ++i)
        if (body_.inputs[i].value == value) step.input = static_cast<int>(i);
      if (step.input < 0) return refuse("a parameter of the body is no input"), -1;
    } else if (instruction.is(ops::kConstant)) {
      step.kind = Step::Kind::constant;
      if (!set_constant(step, instruction)) return -1;
    } else {
      step.operation = &instruction;
      for (Value operand : instruction.operands) {
        step.operands.push_back(visit(operand, strides));
        if (step.operands.back() < 0) return -1;
      }
    }
    walk_.steps.push_back(std::move(step));
    return static_cast<int>(walk_.steps.size()) - 1;
  }

  bool set_constant(Step& step, const Instruction& instruction) {
    if (!instruction.attributes.has(Attr::value)) {
      step.constant = HostTensor::filled({step.dtype, {}}, instruction.attributes.number(Attr::scalar));
      return true;
    }
    step.constant = *instruction.attributes.get<ConstTensor>(Attr::value);
    return step.constant.elements() == 1 || refuse(cat("a constant of ", step.constant.type()));
  }

  int visit_broadcast(const Instruction& instruction, const Strides& strides) {
    const Shape& wide = instruction.results[0].type.shape;
    const Shape& narrow = body_.type(instruction.operands[0]).shape;
    const Ints& dimensions = instruction.attributes.ints(Attr::dimensions);
    const std::vector<int64_t> wide_strides = wide.strides(), narrow_strides = narrow.strides();
    std::vector<int64_t> step(static_cast<size_t>(wide.rank()), 0);  // of the operand, per wide dim
    for (int d = 0; d < narrow.rank(); ++d)
      if (narrow[d] != 1)
        step[static_cast<size_t>(dimensions[static_cast<size_t>(d)])] = narrow_strides[static_cast<size_t>(d)];
    const std::vector<int64_t>& dims = walk_.dims;
    Strides seen(strides.size(), 0);
    for (size_t w = 0; w < strides.size(); ++w) {
      if (strides[w] == 0 || dims[w] == 1) continue;
      // The wide dim within which this dim of the walk moves.
      int d = 0;
      while (d < wide.rank() && (wide[d] == 1 || wide_strides[static_cast<size_t>(d)] > strides[w])) ++d;
      const auto at = static_cast<size_t>(d);
      if (d == wide.rank() || strides[w] % wide_strides[at] != 0 ||
          strides[w] * dims[w] > wide_strides[at] * wide[d])
        return refuse(cat("a broadcast to ", wide, " cuts across the walk")), -1;
      seen[w] = strides[w] / wide_strides[at] * step[at];
    }
    return visit(instruction.operands[0], seen);
  }

  const Graph& body_;
  FusionWalk walk_;
  std::map<std::pair<Value, Strides>, int> visited_;
  std::string refusal_;
};

}  // namespace detail

inline FusionWalk walk_fusion(const Graph& body) { return detail::FusionWalker(body).walk(); }

// One elementwise instruction alone, all of whose operands and results lie densely.
inline FusionWalk walk_elementwise(const Instruction& instruction, std::span<const TensorType> operands,
                                   std::span<const TensorType> results) {
  FusionWalk walk;
  walk.elements = results[0].elements();
  walk.dims = {walk.elements};
  FusionWalk::Step operation;
  operation.dtype = results[0].dtype;
  operation.operation = &instruction;
  for (size_t i = 0; i < operands.size(); ++i) {
    FusionWalk::Step input;
    input.kind = FusionWalk::Step::Kind::input;
    input.dtype = operands[i].dtype;
    input.input = static_cast<int>(i);
    input.strides = {1};
    operation.operands.push_back(static_cast<int>(i));
    walk.steps.push_back(std::move(input));
  }
  walk.outputs = {static_cast<int>(operands.size())};
  walk.steps.push_back(std::move(operation));
  return walk;
}

}  // namespace tessera

#include "launch/plan/memory_by_kind.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "core/autodiff/autodiff.h"
#include "core/ops/elementwise.h"
#include "core/ops/optimizer.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

// Where values lie: the first buffers of an Executable are the values of its graph, in order.
class Placement {
 public:
  explicit Placement(const Executable& executable) : executable_(executable) {
    int next = 0;
    for (const Instruction& instruction : executable.graph.instructions) {
      first_.push_back(next);
      next += static_cast<int>(instruction.results.size());
    }
  }

  const BufferPlan& buffer(Value value) const { return at(number(value)); }
  // The buffer whose memory the value shares, and where in it.
  std::pair<int, int64_t> root(Value value) const {
    int buffer = number(value);
    int64_t offset = 0;
    for (; at(buffer).alias_of >= 0; buffer = at(buffer).alias_of) offset += at(buffer).alias_offset;
    return {buffer, offset};
  }
  const BufferPlan& at(int buffer) const { return executable_.buffers[static_cast<size_t>(buffer)]; }

 private:
  int number(Value value) const { return first_[static_cast<size_t>(value.instruction)] + value.result; }

  const Executable& executable_;
  std::vector<int> first_;  // buffer of result 0, by instruction
};

bool is_planned(const BufferPlan& buffer) {
  return buffer.arena == Arena::symmetric || buffer.arena == Arena::scratch;
}

// Ops that hand a gradient on without making a new one.
bool passes_on(const Instruction& instruction) {
  const OpDef& op = *instruction.op;
  return op.communicates || &op == &ops::kAllSlice || &op == &ops::kConvert || &op == &ops::kReshape ||
         &op == &ops::kTranspose || &op == &ops::kConcatenate || &op == &ops::kSlice || &op == &ops::kAdd;
}

// The values between the backward pass and the optimizer (or the accumulators).
std::set<Value> gradient_values(const Graph& graph) {
  std::vector<Value> work;
  for (const Instruction& instruction : graph.instructions)
    if (instruction.is(ops::kAdamW) || instruction.is(ops::kMultiAdamW))
      for (size_t tensor = 0; 3 * tensor < instruction.results.size(); ++tensor)
        work.push_back(instruction.operands[ops::operand_of(tensor, 3)]);
  for (const GraphOutput& output : graph.outputs)
    if (output.alias_input >= 0 &&
        graph.inputs[static_cast<size_t>(output.alias_input)].kind == InputKind::accumulator)
      work.push_back(output.value);
  std::set<Value> found;
  while (!work.empty()) {
    const Value value = work.back();
    work.pop_back();
    if (!found.insert(value).second || !passes_on(graph.at(value))) continue;
    for (Value operand : graph.at(value).operands) work.push_back(operand);
  }
  return found;
}

// Live bytes of gradients at the first step at which most is live.
int64_t gradients_at_peak(const Executable& executable) {
  const Placement placement(executable);
  std::set<int> gradients;
  for (Value value : gradient_values(executable.graph)) gradients.insert(placement.root(value).first);
  const size_t steps = executable.steps.size();
  std::vector<int64_t> all(steps + 1, 0), of_gradients(steps + 1, 0);  // changes per step
  for (size_t b = 0; b < executable.buffers.size(); ++b) {
    const BufferPlan& buffer = executable.buffers[b];
    if (!is_planned(buffer) || buffer.alias_of >= 0 || buffer.first_step < 0) continue;
    auto note = [&](std::vector<int64_t>& changes) {
      // What is read after the last step (an output) lives to the end.
      changes[std::min(static_cast<size_t>(buffer.first_step), steps)] += buffer.bytes;
      changes[std::min(static_cast<size_t>(buffer.last_step) + 1, steps)] -= buffer.bytes;
    };
    note(all);
    if (gradients.count(static_cast<int>(b)) > 0) note(of_gradients);
  }
  int64_t live = 0, live_gradients = 0, peak = 0, at_peak = 0;
  for (size_t s = 0; s < steps; ++s) {
    live += all[s];
    live_gradients += of_gradients[s];
    if (live > peak) peak = live, at_peak = live_gradients;
  }
  return at_peak;
}

bool is_backward(const Instruction& instruction) {
  return instruction.recompute || instruction.scope.ends_with("backward");
}

}  // namespace

std::vector<std::pair<std::string, int64_t>> memory_by_kind(const Executable& executable) {
  int64_t parameters = 0, optimizer = 0, accumulators = 0;
  for (const GraphInput& input : executable.graph.inputs) {
    const int64_t bytes = executable.graph.type(input.value).bytes();
    if (input.kind == InputKind::parameter) parameters += bytes;
    if (input.kind == InputKind::optimizer) optimizer += bytes;
    if (input.kind == InputKind::accumulator) accumulators += bytes;
  }
  const MemoryReport& memory = executable.memory;
  const int64_t gradients = gradients_at_peak(executable);
  return {{"parameters", parameters},
          {"gradients", accumulators + gradients},
          {"optimizer", optimizer},
          {"activations", memory.symmetric_bytes + memory.scratch_bytes - gradients},
          // Batch, scalars and outputs of no input; and what alignment adds.
          {"data", memory.persistent_bytes - parameters - optimizer - accumulators},
          {"constants", memory.constant_bytes}};
}

std::vector<LayerActivations> saved_activations(const Executable& executable) {
  const Graph& graph = executable.graph;
  const Placement placement(executable);
  std::map<int64_t, std::set<std::tuple<int, int64_t, int64_t>>> kept;  // block -> (root, offset, bytes)
  for (const Instruction& user : graph.instructions) {
    if (!is_backward(user)) continue;
    for (Value operand : user.operands) {
      const Instruction& made = graph.at(operand);
      const std::string block = block_of_scope(made.scope);
      if (block.empty() || is_backward(made)) continue;
      const auto [root, offset] = placement.root(operand);
      if (is_planned(placement.at(root)))
        kept[std::stoll(block.substr(6))].insert({root, offset, placement.buffer(operand).bytes});
    }
  }
  std::vector<LayerActivations> layers;
  for (const auto& [block, regions] : kept) {
    layers.push_back({cat("block.", block), 0});
    for (const auto& [root, offset, bytes] : regions) layers.back().bytes += bytes;
  }
  return layers;
}

}  // namespace tessera

#include "launch/profile/step_text.h"

#include <nlohmann/json.hpp>

#include "core/compile/cost_model.h"
#include "core/mesh/mesh.h"
#include "core/runtime/timeline.h"
#include "launch/plan/text_table.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;

std::string members(const Json& object) {
  const std::string text = object.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.substr(1, text.size() - 2);
}

std::string types_text(const Graph& graph, const Instruction& instruction, bool results) {
  std::vector<TensorType> types;
  if (results)
    types = Graph::result_types(instruction);
  else
    for (const Value& operand : instruction.operands) types.push_back(graph.type(operand));
  return join(types);
}

void describe_collective(StepText& text, Json& args, const Executable& executable, const CollectiveStart& start) {
  const Graph& graph = executable.graph_of(start.region);
  const Instruction& instruction = executable.instruction_of(start.region, start.instruction);
  const AxisList& axes = executable.communicators[static_cast<size_t>(start.communicator)];
  text.axes = print_axes(*executable.graph.mesh, axes);
  text.where = text.axes;
  text.bytes = wire_bytes(graph, instruction);
  const std::string& tensor = executable.buffers[static_cast<size_t>(start.output)].tensor;
  args["collective"] = name_of(start.kind);
  args["axes"] = text.axes;
  args["ranks"] = size_of(axes);
  args["tensor"] = tensor;
  args["operand"] = types_text(graph, instruction, false);
  args["result"] = types_text(graph, instruction, true);
  args["wire_bytes"] = static_cast<int64_t>(text.bytes);
}

}  // namespace

std::string_view category(StepText::Kind kind) {
  switch (kind) {
    case StepText::Kind::kernel: return "kernel";
    case StepText::Kind::start: return "start";
    case StepText::Kind::wait: return "wait";
    case StepText::Kind::copy: return "copy";
    case StepText::Kind::rank_data: return "rank_data";
    case StepText::Kind::control: return "control";
  }
  return "";
}

StepText describe_for_profile(const Executable& executable, int step) {
  const Step& it = executable.steps[static_cast<size_t>(step)];
  StepText text{.title = step_title(executable, step)};
  Json args = Json::object();
  if (const auto* copy = std::get_if<CopyStep>(&it)) {
    text.kind = StepText::Kind::copy;
    text.op = "copy";
    text.bytes = 2 * static_cast<double>(executable.buffers[static_cast<size_t>(copy->to)].bytes);
    args["bytes"] = static_cast<int64_t>(text.bytes);
    text.args = members(args);
    return text;
  }
  const auto [region, index] = instruction_of_step(executable, step);
  const Graph& graph = executable.graph_of(region);
  const Instruction& instruction = executable.instruction_of(region, index);
  const std::string op(instruction.op->name);
  text.op = op;
  text.where = without_numbers(instruction.scope);
  args["op"] = op;
  args["scope"] = instruction.scope;
  if (instruction.recompute) args["recompute"] = true;
  if (const auto* kernel = std::get_if<KernelStep>(&it)) {
    const KernelWork work = kernel_work(graph, instruction);
    text.flops = work.flops;
    text.bytes = static_cast<double>(work.bytes);
    args["kernel"] = kernel->kernel->name;
    args["operands"] = types_text(graph, instruction, false);
    args["results"] = types_text(graph, instruction, true);
    args["flops"] = work.flops;
    args["bytes"] = work.bytes;
  } else if (const auto* start = std::get_if<CollectiveStart>(&it)) {
    text.kind = StepText::Kind::start;
    text.collective = text.title.substr(std::string("start ").size());
    text.op = "start " + op;
    text.wait_op = "wait " + op;
    describe_collective(text, args, executable, *start);
  } else if (const auto* done = std::get_if<CollectiveDone>(&it)) {
    text.kind = StepText::Kind::wait;
    text.start_step = done->start_step;
    text.collective = text.title.substr(std::string("wait ").size());
    text.op = text.wait_op = "wait " + op;
    describe_collective(text, args, executable,
                        std::get<CollectiveStart>(executable.steps[static_cast<size_t>(done->start_step)]));
  } else if (std::holds_alternative<RankDataStep>(it)) {
    text.kind = StepText::Kind::rank_data;
    args["results"] = types_text(graph, instruction, true);
  } else {
    text.kind = StepText::Kind::control;
    text.is_test = std::holds_alternative<LoopTest>(it);
    if (text.is_test) text.op = "test of " + op;
  }
  text.args = members(args);
  return text;
}

const StepText& StepTexts::of(const Executable& executable, int step) {
  std::vector<StepText>& texts = known_[&executable];
  if (texts.empty())
    for (size_t s = 0; s < executable.steps.size(); ++s)
      texts.push_back(describe_for_profile(executable, static_cast<int>(s)));
  return texts[static_cast<size_t>(step)];
}

}  // namespace tessera

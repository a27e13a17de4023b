// The printer; text_parser.cpp reads what it writes.
#include "core/ir/text.h"

#include "core/base/error.h"

namespace tessera {
namespace {

class Printer {
 public:
  Printer(const Graph& graph, const PrintOptions& options, std::string indent)
      : graph_(graph), options_(options), indent_(std::move(indent)) {
    for (size_t i = 0; i < graph.inputs.size(); ++i) {
      const auto instruction = static_cast<size_t>(graph.inputs[i].value.instruction);
      if (input_of_.size() <= instruction) input_of_.resize(instruction + 1, -1);
      input_of_[instruction] = static_cast<int>(i);
    }
  }

  std::string graph() {
    std::string text = cat("graph \"", graph_.name, "\"");
    if (graph_.mesh) text += cat(" mesh ", *graph_.mesh);
    if (graph_.masks_padding) text += " masked";
    if (graph_.is_local) text += " local";
    text += " {\n";
    for (size_t i = 0; i < graph_.instructions.size(); ++i)
      text += indent_ + "  " + instruction(static_cast<int>(i)) + "\n";
    if (!graph_.outputs.empty()) {
      text += indent_ + "  return ";
      for (size_t i = 0; i < graph_.outputs.size(); ++i) {
        if (i > 0) text += ",\n" + indent_ + "         ";
        text += output(graph_.outputs[i]);
      }
      text += "\n";
    }
    return text + indent_ + "}";
  }

  std::string instruction(int index) {
    const Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
    std::string text = cat("%", index, " = ", instruction.op->name);
    if (!instruction.operands.empty()) {
      std::vector<std::string> operands;
      for (Value operand : instruction.operands) operands.push_back(value(operand));
      text += cat("(", join(operands), ")");
    }
    if (!instruction.attributes.entries().empty()) {
      std::vector<std::string> entries;
      for (const auto& [key, held] : instruction.attributes.entries())
        entries.push_back(attribute(key, held, mesh_of_attributes(instruction)));
      text += cat(" {", join(entries), "}");
    }
    text += " : ";
    for (size_t r = 0; r < instruction.results.size(); ++r)
      text += (r > 0 ? ", " : "") + result(instruction.results[r]);
    if (options_.scopes && !instruction.scope.empty())
      text += cat(" scope \"", instruction.scope, "\"");
    if (instruction.recompute) text += " recompute";
    if (options_.shardings && !instruction.factor_axes.empty()) text += factors(instruction);
    if (static_cast<size_t>(index) < input_of_.size()) {
      const int input = input_of_[static_cast<size_t>(index)];
      if (input >= 0)
        text += cat(" input ", input, " ", name_of(graph_.inputs[static_cast<size_t>(input)].kind));
    }
    return text;
  }

 private:
  std::string value(Value value) const {
    // A further result is marked; result 0 never needs it.
    return value.result == 0 ? cat("%", value.instruction)
                             : cat("%", value.instruction, ":", value.result);
  }

  // Axes of a manual computation are of its own mesh.
  const Mesh* mesh_of_attributes(const Instruction& instruction) const {
    const auto* callee = instruction.attributes.find(Attr::callee);
    const Mesh* own = callee ? std::get<GraphRef>(*callee)->mesh.get() : nullptr;
    return own ? own : graph_.mesh.get();
  }

  std::string attribute(Attr key, const AttrValue& held, const Mesh* mesh) const {
    if (const auto* body = std::get_if<GraphRef>(&held))
      return cat(name_of(key), "=", region(**body));
    if (const auto* graphs = std::get_if<Graphs>(&held)) {
      std::vector<std::string> texts;
      for (const GraphRef& graph : *graphs) texts.push_back(region(*graph));
      return cat(name_of(key), "=[", join(texts), "]");
    }
    return print_attribute(key, held, mesh);
  }

  std::string region(const Graph& graph) const {
    return Printer(graph, options_, indent_ + "    ").graph();
  }

  std::string result(const ResultInfo& info) const {
    std::string text = cat(info.type);
    if (info.padded_shape) text += cat(" padded ", *info.padded_shape);
    if (info.logical_shape) text += cat(" logical ", *info.logical_shape);
    if (options_.shardings && info.sharding) text += sharding(*info.sharding);
    if (options_.logical_axes && !info.logical_axes.empty())
      text += cat(" axes(\"", join(info.logical_axes, "\", \""), "\")");
    if (!info.name.empty()) text += cat(" named \"", info.name, "\"");
    for (const ShardingGroup& group : info.groups)
      if (options_.shardings)
        text += cat(group.kind == ShardingGroup::Kind::as ? " shard_as " : " shard_like ", group.id);
    return text;
  }

  std::string sharding(const Sharding& sharding) const {
    return " " + print_sharding(sharding, graph_.mesh.get());
  }

  std::string factors(const Instruction& instruction) const {
    TESSERA_CHECK(graph_.mesh != nullptr, "factor axes without a mesh");
    std::string text = " factors(";
    for (size_t f = 0; f < instruction.factor_axes.size(); ++f)
      text += cat(f > 0 ? ", {" : "{", print_axes(*graph_.mesh, instruction.factor_axes[f]), "}");
    return text + ")";
  }

  std::string output(const GraphOutput& output) const {
    std::string text = cat(value(output.value), " as \"", output.name, "\"");
    if (output.alias_input >= 0) text += cat(" over input ", output.alias_input);
    if (options_.shardings && output.sharding) text += sharding(*output.sharding);
    return text;
  }

  const Graph& graph_;
  const PrintOptions& options_;
  std::string indent_;
  std::vector<int> input_of_;  // instruction -> input number, or -1
};

}  // namespace

std::string print_graph(const Graph& graph, const PrintOptions& options) {
  return Printer(graph, options, "").graph() + "\n";
}

std::string print_instruction(const Graph& graph, int index, const PrintOptions& options) {
  return Printer(graph, options, "").instruction(index);
}

}  // namespace tessera

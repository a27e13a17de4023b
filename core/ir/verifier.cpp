#include "core/ir/verifier.h"

#include <algorithm>

#include "core/ir/regions.h"

namespace tessera {
namespace {

class Verifier {
 public:
  Verifier(const Graph& graph, GraphStage stage) : graph_(graph), stage_(stage) {}

  void run() {
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      index_ = static_cast<int>(i);
      check_instruction(graph_.instructions[i]);
    }
    check_boundary();
  }

 private:
  template <typename... Parts>
  void require(bool condition, const Parts&... parts) const {
    if (condition) return;
    const Instruction* instruction =
        index_ >= 0 ? &graph_.instructions[static_cast<size_t>(index_)] : nullptr;
    throw InternalError(cat("graph \"", graph_.name, "\": ",
                            instruction ? cat("%", index_, " ", instruction->op->name,
                                              instruction->scope.empty() ? "" : cat(" in ", instruction->scope), ": ")
                                        : "",
                            parts..., ". This is a bug in Tessera; please report it."));
  }

  void check_instruction(const Instruction& instruction) {
    require(instruction.op != nullptr, "no op");
    for (Value operand : instruction.operands) {
      require(operand.instruction >= 0 && operand.instruction < index_,
              "operand %", operand.instruction, " is not defined before its use");
      require(operand.result >= 0 && operand.result < static_cast<int>(graph_.at(operand).results.size()),
              "operand %", operand.instruction, " has no result ", operand.result);
    }
    check_attributes(instruction);
    check_types(instruction);
    for (const Region& region : regions_of(instruction)) check_region(instruction, region);
    for (const ResultInfo& result : instruction.results) check_result(result);
  }

  // A region stands on its own: its operands are its inputs, so it is verified as a graph. The
  // regions of control flow have their parent's mesh (a manual computation may be over another one
  // until the partitioner has made it one over its own); those that already state local shapes, or a
  // sharding for every value, are held to it.
  void check_region(const Instruction& instruction, const Region& region) {
    require(region.graph != nullptr, region.name, ": no graph");
    const Graph& inner = *region.graph;
    if (has_control_flow(instruction) && graph_.mesh) {
      const bool may_differ =
          stage_ == GraphStage::built && instruction.attributes.has(Attr::in_shardings);
      require(inner.mesh != nullptr && (may_differ || *inner.mesh == *graph_.mesh), region.name, " \"", inner.name,
              "\" has another mesh than the graph around it");
      require(graph_.is_local || !inner.is_local, region.name, " \"", inner.name,
              "\" is local in a graph that is not");
    }
    try {
      verify(inner, inner.is_local           ? GraphStage::local
                    : has_shardings(inner) ? GraphStage::sharded
                                             : GraphStage::built);
    } catch (const InternalError& error) {
      throw InternalError(cat("graph \"", graph_.name, "\": %", index_, " ", instruction.op->name,
                              instruction.scope.empty() ? "" : cat(" in ", instruction.scope), ": ",
                              region.name, ": ", error.what()));
    }
  }

  static bool has_shardings(const Graph& graph) {
    for (const Instruction& instruction : graph.instructions)
      for (const ResultInfo& result : instruction.results)
        if (!result.sharding) return false;
    return true;
  }

  void check_attributes(const Instruction& instruction) {
    const OpDef& op = *instruction.op;
    for (Attr key : op.attributes)
      require(instruction.attributes.has(key), "missing attribute ", name_of(key));
    auto known = [&](Attr key) {
      return std::count(op.attributes.begin(), op.attributes.end(), key) +
                 std::count(op.optional_attributes.begin(), op.optional_attributes.end(), key) > 0;
    };
    for (const auto& [key, value] : instruction.attributes.entries())
      require(known(key), "does not take attribute ", name_of(key));
  }

  void check_types(const Instruction& instruction) {
    const std::vector<TensorType> types = graph_.operand_types(instruction);
    std::vector<TensorType> inferred;
    try {
      inferred = infer_types(*instruction.op, {types, instruction.attributes});
    } catch (const UserError& error) {
      require(false, "infer refuses: ", error.what());
    }
    require(inferred.size() == instruction.results.size(), "has ", instruction.results.size(),
            " results, infer says ", inferred.size());
    for (size_t r = 0; r < inferred.size(); ++r)
      require(inferred[r] == instruction.results[r].type, "result ", r, " has type ",
              instruction.results[r].type, ", infer says ", inferred[r]);
  }

  void check_result(const ResultInfo& result) {
    if (!result.logical_axes.empty())
      require(static_cast<int>(result.logical_axes.size()) == result.type.rank(), "has ",
              result.logical_axes.size(), " logical axes for ", result.type);
    if (stage_ == GraphStage::sharded) require(result.sharding.has_value(), "a result has no sharding");
    if (!result.sharding) return;
    require(result.sharding->rank() == result.type.rank(), "sharding ", *result.sharding, " for ",
            result.type);
    require(result.sharding->mesh != nullptr, "sharding without a mesh");
    result.sharding->verify();
  }

  void check_boundary() {
    index_ = -1;
    require(graph_.is_local == (stage_ == GraphStage::local), "is_local is ", graph_.is_local);
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      const Instruction& parameter = graph_.at(graph_.inputs[i].value);
      require(parameter.attributes.has(Attr::index) &&
                  parameter.attributes.integer(Attr::index) == static_cast<int64_t>(i),
              "input ", i, " is not parameter ", i);
    }
    for (const GraphOutput& output : graph_.outputs) {
      require(output.value.instruction >= 0 &&
                  output.value.instruction < static_cast<int>(graph_.instructions.size()),
              "output \"", output.name, "\" is no value");
      if (output.alias_input < 0) continue;
      require(output.alias_input < static_cast<int>(graph_.inputs.size()), "output \"", output.name,
              "\" overwrites input ", output.alias_input, " of ", graph_.inputs.size());
      const Value input = graph_.inputs[static_cast<size_t>(output.alias_input)].value;
      require(graph_.type(input) == graph_.type(output.value), "output \"", output.name, "\" of type ",
              graph_.type(output.value), " overwrites an input of type ", graph_.type(input));
    }
  }

  const Graph& graph_;
  GraphStage stage_;
  int index_ = -1;
};

}  // namespace

void verify(const Graph& graph, GraphStage stage) { Verifier(graph, stage).run(); }

}  // namespace tessera

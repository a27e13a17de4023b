// Every op x every factor that may be sharded x 2, 4 and 8 virtual devices equals the interpreter,
// before and after localize.
#include <gtest/gtest.h>

#include <random>

#include "core/base/error.h"
#include "core/ir/builder.h"
#include "core/ir/interpreter.h"
#include "core/ir/text.h"
#include "core/ops/op_list.h"
#include "core/runtime/sharded_interpreter.h"
#include "partitioner/check_shardings.h"
#include "partitioner/insert_reshards.h"
#include "partitioner/localize.h"
#include "partitioner/op_layout.h"
#include "partitioner/reshards_to_collectives.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

Graph graph_of(const OpDef& op, const OpSample& sample, const MeshPtr& mesh) {
  Graph graph;
  graph.mesh = mesh;
  Builder b(graph);
  std::vector<Value> operands;
  for (size_t o = 0; o < sample.operands.size(); ++o)
    operands.push_back(b.input(InputKind::data, cat("x", o), sample.operands[o]));
  const Value value = b.emit(op, operands, sample.attributes);
  for (size_t r = 0; r < graph.at(value).results.size(); ++r)
    b.output({value.instruction, static_cast<int>(r)}, cat("y", r));
  for (Instruction& instruction : graph.instructions)
    for (ResultInfo& result : instruction.results)
      result.sharding = Sharding(mesh, result.type.rank(), true);
  return graph;
}

std::vector<HostTensor> inputs_of(const OpSample& sample, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<HostTensor> inputs;
  for (size_t o = 0; o < sample.operands.size(); ++o) {
    HostTensor tensor(sample.operands[o]);
    const auto [low, high] = o < sample.ranges.size() ? sample.ranges[o] : std::pair(-1.0, 1.0);
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      if (is_float(tensor.dtype()) || tensor.dtype() == DType::c64)
        tensor.set_real(i, std::uniform_real_distribution<double>(low, high)(random));
      else
        tensor.set_int(i,
                       static_cast<int64_t>(low) +
                           static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1)));
    }
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

double tolerance_of(const OpSample& sample, const std::vector<HostTensor>& outputs) {
  double tolerance = 1e-12;
  auto widen = [&](DType dtype) {
    if (dtype == DType::f32 || dtype == DType::c64) tolerance = std::max(tolerance, 2e-6);
    if (is_float(dtype) && size_of(dtype) < 4)
      tolerance = std::max(tolerance, size_of(dtype) == 2 ? 2e-2 : 0.3);
  };
  for (const TensorType& type : sample.operands) widen(type.dtype);
  for (const HostTensor& output : outputs) widen(output.dtype());
  return tolerance;
}

// The choices with one factor sharded, and with two.
std::vector<FactorAxes> choices_of(const OpRules& rules, const Mesh& mesh) {
  std::vector<FactorAxes> choices = {FactorAxes(rules.factors.factors.size())};
  for (int a = 0; a < mesh.rank(); ++a) {
    const std::vector<FactorAxes> so_far = choices;
    for (const FactorAxes& choice : so_far)
      for (size_t f = 0; f < choice.size(); ++f) {
        FactorAxes more = choice;
        more[f] = concat(more[f], {mesh.axis(a)});
        if (is_legal(rules, more)) choices.push_back(more);
      }
  }
  return choices;
}

// Whether the partition machinery can express it: everything divides.
bool divides(const Graph& graph, const OpRules& rules, const FactorAxes& axes) {
  const Instruction& instruction = graph.instructions.back();
  for (size_t o = 0; o < instruction.operands.size(); ++o)
    if (unproject(graph.mesh, rules.factors.operands[o], axes)
            .indivisible_dim(graph.type(instruction.operands[o]).shape) >= 0)
      return false;
  return true;
}

TEST(OpShardings, EveryOpEveryFactorEqualsTheInterpreter) {
  int checked = 0;
  for (const OpDef* op : all_ops()) {
    if (op->communicates || op->has_state || op->device_dependent || !op->samples) continue;
    if (op->name == "reshard" || op->name == "all_slice" || op->name == "replicated_to_partial")
      continue;
    // How control flow lies is fixed by its regions: regions_test.
    if (op->name == "call" || op->name == "while" || op->name == "case" ||
        op->name == "manual_computation")
      continue;
    for (const OpSample& sample : op->samples())
      for (const char* mesh_text : {"a=2", "a=2,b=2", "a=4", "a=4,b=2"}) {
        const MeshPtr mesh = mesh_of(mesh_text);
        Graph graph = graph_of(*op, sample, mesh);
        const OpRules rules = op_rules(graph, graph.instructions.back());
        const std::vector<HostTensor> inputs = inputs_of(sample, 3);
        const std::vector<HostTensor> expected = interpret(graph, inputs);
        for (const FactorAxes& axes : choices_of(rules, *mesh)) {
          if (!divides(graph, rules, axes)) continue;
          graph.instructions.back().factor_axes = axes;
          std::string text;
          try {
            const Graph explicit_graph = insert_reshards(graph);
            check_shardings(explicit_graph);
            text = print_graph(explicit_graph);
            ReshardPlanner planner(mesh, machine_model("cpu-shm"));
            const Graph local = localize(reshards_to_collectives(explicit_graph, planner));
            text += print_graph(local);
            for (const Graph* stage : {&explicit_graph, &local}) {
              const std::vector<HostTensor> outputs = interpret_sharded(*stage, inputs);
              for (size_t o = 0; o < outputs.size(); ++o)
                EXPECT_LE(error_between(expected[o], outputs[o]), tolerance_of(sample, expected))
                    << op->name << " output " << o << " on " << mesh_text << "\n"
                    << text;
            }
          } catch (const std::exception& error) {
            ADD_FAILURE() << op->name << " on " << mesh_text << ": " << error.what() << "\n"
                          << text;
          }
          ++checked;
          if (::testing::Test::HasFailure()) return;
        }
      }
  }
  EXPECT_GT(checked, 1000);
}

}  // namespace
}  // namespace tessera::testing

// Control flow: computations become regions whose inputs and outputs are the leaves of tuples.
#include "core/ops/control.h"

#include "core/base/error.h"
#include "core/ir/regions.h"
#include "core/ops/elementwise.h"
#include "partitioner/hlo/import_context.h"

namespace tessera::hlo {
namespace {

std::string types_text(const std::vector<TensorType>& types) { return cat("(", join(types), ")"); }

void check_takes(ImportContext& c, std::string_view role, const GraphRef& region,
                 std::span<const Value> given) {
  std::vector<TensorType> types;
  for (Value value : given) types.push_back(c.builder().type(value));
  if (types != input_types(*region))
    c.fail(cat("the ", role, " ", region->name, " takes ", types_text(input_types(*region)),
               ", but is given ", types_text(types)));
}

void check_gives(ImportContext& c, std::string_view role, const GraphRef& region,
                 const std::vector<TensorType>& wanted) {
  if (output_types(*region) != wanted)
    c.fail(cat("the ", role, " ", region->name, " gives ", types_text(output_types(*region)),
               ", but must give ", types_text(wanted)));
}

void import_call(ImportContext& c) {
  const GraphRef callee = c.region(c.name_of("to_apply"));
  const std::vector<Value> operands = c.all_operands();
  check_takes(c, "computation", callee, operands);
  c.set(ops::call(c.builder(), callee, operands));
}

void import_while(ImportContext& c) {
  if (c.operand_count() != 1) c.fail(cat("while takes one operand, not ", c.operand_count()));
  const GraphRef condition = c.region(c.name_of("condition")), body = c.region(c.name_of("body"));
  const std::vector<Value> carried = c.all_operands();
  if (carried.empty()) c.fail("the loop carries nothing: it never turns, or never ends");
  check_takes(c, "body", body, carried);
  check_takes(c, "condition", condition, carried);
  check_gives(c, "body", body, input_types(*body));
  check_gives(c, "condition", condition, {{DType::pred, {}}});
  c.set(ops::while_loop(c.builder(), carried, condition, body));
}

// Takes the operands of all branches, of which `own` uses those from `first` on.
GraphRef widened(const GraphRef& own, const std::vector<TensorType>& all, size_t first,
                 const MeshPtr& mesh) {
  Graph graph;
  graph.name = own->name;
  graph.mesh = mesh;
  Builder b(graph);
  std::vector<Value> inputs;
  for (size_t i = 0; i < all.size(); ++i) {
    const bool is_own = i >= first && i < first + own->inputs.size();
    std::string name = is_own ? own->info(own->inputs[i - first].value).name : cat("other.", i);
    inputs.push_back(b.input(InputKind::data, std::move(name), all[i]));
    if (is_own) {  // what the parameter states of its lying
      const ResultInfo& stated = own->info(own->inputs[i - first].value);
      graph.info(inputs.back()).sharding = stated.sharding;
      graph.info(inputs.back()).groups = stated.groups;
    }
  }
  const std::vector<Value> outputs =
      splice(b, *own, std::span(inputs).subspan(first, own->inputs.size()));
  for (size_t o = 0; o < outputs.size(); ++o) b.output(outputs[o], own->outputs[o].name);
  return std::make_shared<const Graph>(std::move(graph));
}

// The names of the branches by index; of a predicate: false, true.
std::vector<std::string> branch_names(ImportContext& c, bool is_predicate) {
  if (const auto* branches = c.instruction().get<Names>("branch_computations")) {
    if (!is_predicate) return branches->list;
    if (branches->list.size() != 2)
      c.fail(cat("a predicate chooses between 2 branches, not ", branches->list.size()));
    return {branches->list[1], branches->list[0]};
  }
  if (!is_predicate) c.fail("a conditional over an index needs branch_computations");
  return {c.name_of("false_computation"), c.name_of("true_computation")};
}

// conditional(index, x0, x1, ...): branch i gets operand i + 1; conditional(pred, on_true,
// on_false).
void import_conditional(ImportContext& c) {
  Builder& b = c.builder();
  const Value chosen = c.operand(0);
  const TensorType& type = b.type(chosen);
  const bool is_predicate = type.dtype == DType::pred;
  if (type.rank() != 0 || (!is_predicate && type.dtype != DType::s32))
    c.fail(cat("a conditional is over pred[] or s32[], not ", type));
  const std::vector<std::string> names = branch_names(c, is_predicate);
  const int count = static_cast<int>(names.size());
  if (count == 0 || c.operand_count() != count + 1)
    c.fail(cat(count, " branches need ", count + 1, " operands, not ", c.operand_count()));
  std::vector<Value> operands;
  std::vector<TensorType> types;
  std::vector<GraphRef> own;
  std::vector<size_t> first;
  for (int i = 0; i < count; ++i) {
    own.push_back(c.region(names[static_cast<size_t>(i)]));
    first.push_back(operands.size());
    const std::span<const Value> leaves = c.leaves(is_predicate ? 2 - i : i + 1);
    check_takes(c, cat("branch ", i), own.back(), leaves);
    check_gives(c, cat("branch ", i), own.back(), output_types(*own[0]));
    operands.insert(operands.end(), leaves.begin(), leaves.end());
  }
  for (Value operand : operands) types.push_back(b.type(operand));
  Graphs branches;
  for (size_t i = 0; i < own.size(); ++i)
    branches.push_back(widened(own[i], types, first[i], c.mesh()));
  const Value index = is_predicate ? ops::convert(b, chosen, DType::s32) : chosen;
  c.set(ops::case_of(b, index, std::move(operands), std::move(branches)));
}

void import_barrier(ImportContext& c) {
  const std::vector<Value> values = c.all_operands();
  c.set(values.empty() ? values : ops::optimization_barrier(c.builder(), values));
}

constexpr OpcodeEntry kControlOpcodes[] = {
    {"call", import_call},
    {"while", import_while},
    {"conditional", import_conditional},
    {"opt-barrier", import_barrier},
};

}  // namespace

std::span<const OpcodeEntry> control_opcodes() { return kControlOpcodes; }

}  // namespace tessera::hlo

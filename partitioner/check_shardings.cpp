#include "partitioner/check_shardings.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ops/control.h"
#include "core/ops/padding.h"
#include "core/ops/sharding.h"
#include "partitioner/op_layout.h"
#include "partitioner/regions.h"

namespace tessera {
namespace {

class Checker {
 public:
  // `manual`: the axes that an enclosing manual computation has taken over.
  Checker(const Graph& graph, AxisList manual) : graph_(graph), manual_(std::move(manual)) {}

  void run() {
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      index_ = static_cast<int>(i);
      const Instruction& instruction = graph_.instructions[i];
      for (const ResultInfo& result : instruction.results)
        require(result.sharding && (!result.padded_shape ||
                                    result.sharding->indivisible_dim(*result.padded_shape) < 0),
                "a result has no sharding, or its padded size does not divide");
      if (instruction.is(ops::kParameter) || instruction.is(ops::kReshard)) continue;
      for (const Region& region : control_regions(instruction)) {
        AxisList manual = manual_;
        if (instruction.is(ops::kManualComputation))
          manual = concat(manual,
                          without(instruction.attributes.get<AxisList>(Attr::axes), manual));
        Checker(*region.graph, std::move(manual)).run();
      }
      if (instruction.op->communicates || instruction.is(ops::kAllSlice) ||
          instruction.is(ops::kReplicatedToPartial))
        check_collective(instruction);
      else
        check_op(instruction);
    }
    for (const GraphOutput& output : graph_.outputs)
      require(output.sharding && output.sharding->same_layout(graph_.sharding(output.value)),
              "output \"", output.name, "\" lies ", graph_.sharding(output.value), ", demanded ",
              output.sharding.value_or(Sharding()));
  }

 private:
  template <typename... Parts>
  void require(bool condition, const Parts&... parts) const {
    if (condition) return;
    const Instruction& instruction = graph_.instructions[static_cast<size_t>(index_)];
    std::vector<std::string> operands, results;
    for (Value operand : instruction.operands) operands.push_back(cat(graph_.sharding(operand)));
    for (const ResultInfo& result : instruction.results) results.push_back(cat(*result.sharding));
    TESSERA_CHECK(false, "%", index_, " ", instruction.op->name, " (", join(operands), ") -> (",
                  join(results), "): ", parts...);
  }

  void check_op(const Instruction& instruction) const {
    if (instruction.is(ops::kResizePadding))  // of dims of size 1 too, which have no factor
      return require(graph_.sharding(instruction.operands[0])
                         .same_layout(*instruction.results[0].sharding),
                     "resizes to another lying");
    const OpRules rules = op_rules(graph_, instruction);
    const FactorAxes none(rules.factors.factors.size());
    require(is_legal(rules, instruction.factor_axes.empty() ? none : instruction.factor_axes),
            "illegal factor axes");
    const OpLayout layout = op_layout(graph_, instruction, rules);
    for (size_t o = 0; o < layout.operands.size(); ++o)
      require(layout.operands[o].same_layout(graph_.sharding(instruction.operands[o])), "operand ",
              o, " must lie ", layout.operands[o]);
    for (size_t r = 0; r < layout.results.size(); ++r)
      require(layout.results[r].same_layout(*instruction.results[r].sharding), "result ", r,
              " lies ", layout.results[r]);
  }

  // Redoes the move on the operand's sharding.
  void check_collective(const Instruction& instruction) const {
    if (instruction.operands.empty()) return;  // axis_index
    // The program's own, within a manual computation: an op on local shapes like any other.
    if (!manual_.empty() && instruction.attributes.has(Attr::axes) &&
        overlaps(manual_, instruction.attributes.get<AxisList>(Attr::axes)))
      return check_op(instruction);
    TESSERA_CHECK(instruction.operands.size() == instruction.results.size(), instruction.op->name);
    for (size_t o = 0; o < instruction.operands.size(); ++o)
      check_move(instruction, graph_.sharding(instruction.operands[o]).closed(),
                 instruction.results[o].sharding->closed());
  }

  void check_move(const Instruction& instruction, Sharding now, const Sharding& after) const {
    const AxisList axes = instruction.attributes.get<AxisList>(Attr::axes);
    auto dim = [&](Attr key) -> AxisList& {
      return now.dims[static_cast<size_t>(instruction.attributes.integer(key))].axes;
    };
    auto remove_suffix = [&](AxisList& list) {
      AxisList whole = list, suffix = axes;
      split_to_common(whole, suffix);
      require(suffix.size() <= whole.size() &&
                  std::equal(suffix.rbegin(), suffix.rend(), whole.rbegin()),
              "no such minor suffix");
      list = canonical(
          AxisList(whole.begin(), whole.end() - static_cast<std::ptrdiff_t>(suffix.size())));
    };
    auto add_suffix = [&](AxisList& list) {
      require(!overlaps(now.used_axes(), axes), "axes already in use");
      list = concat(list, axes);
    };
    auto resolve = [&] {
      require(without(axes, now.partial).empty(), "not partial over these axes");
      require(instruction.attributes.get<ReduceKind>(Attr::reduce_kind) == now.partial_kind,
              "another combiner");
      now.partial = without(now.partial, axes);
    };
    const OpDef& op = *instruction.op;
    if (&op == &ops::kAllGather) {
      remove_suffix(dim(Attr::dimension));
    } else if (&op == &ops::kAllSlice) {
      add_suffix(dim(Attr::dimension));
    } else if (&op == &ops::kAllToAll) {
      remove_suffix(dim(Attr::concat_dimension));
      add_suffix(dim(Attr::split_dimension));
    } else if (&op == &ops::kAllReduce) {
      resolve();
    } else if (&op == &ops::kReduceScatter) {
      resolve();
      add_suffix(dim(Attr::dimension));
    } else if (&op == &ops::kReplicatedToPartial) {
      require(!overlaps(now.used_axes(), axes), "axes already in use");
      now.partial_kind = instruction.attributes.get<ReduceKind>(Attr::reduce_kind);
      now.partial = concat(now.partial, axes);
    } else if (&op == &ops::kCollectivePermute) {
      const AxisList target = instruction.attributes.get<AxisList>(Attr::target_axes);
      require(without(axes, target).empty() && without(target, axes).empty(), "not a relabelling");
      require(!overlaps(now.partial, axes), "permutes partial axes");
      for (size_t d = 0; d < now.dims.size(); ++d)
        require(size_of(now.dims[d].axes) == size_of(after.dims[d].axes),
                "changes the local shape");
      return;
    }
    require(now.same_layout(after), "the result must lie ", now);
  }

  const Graph& graph_;
  const AxisList manual_;
  int index_ = 0;
};

}  // namespace

void check_shardings(const Graph& graph) { Checker(graph, {}).run(); }

}  // namespace tessera

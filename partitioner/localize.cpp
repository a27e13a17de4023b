#include "partitioner/localize.h"

#include <map>

#include "core/base/error.h"
#include "core/ir/local_call.h"
#include "core/ir/rewriter.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

class Localizer {
 public:
  explicit Localizer(const Graph& source) : source_(source), rewriter_(source) {}

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) localize_one(static_cast<int>(i));
    Graph local = rewriter_.finish();
    local.is_local = true;
    return local;
  }

 private:
  void localize_one(int index) {
    Instruction instruction = source_.instructions[static_cast<size_t>(index)];
    TESSERA_CHECK(!instruction.is(ops::kReshard), "%", index, " is still a reshard");
    LocalCall local = local_call(source_, instruction);
    for (Value& operand : instruction.operands) operand = rewriter_.mapped(operand);
    for (const StartOperand& start : local.starts)
      instruction.operands.push_back(start_value(start));
    instruction.attributes = std::move(local.attributes);
    const std::vector<TensorType> operand_types = rewriter_.result().operand_types(instruction);
    std::vector<TensorType> inferred;
    try {
      inferred = infer_types(*instruction.op, {operand_types, instruction.attributes});
    } catch (const UserError& error) {
      TESSERA_CHECK(false, "%", index, " ", instruction.op->name,
                    " refuses its local operands: ", error.what());
    }
    for (size_t r = 0; r < instruction.results.size(); ++r) {
      TESSERA_CHECK(inferred[r] == local.results[r], "%", index, " ", instruction.op->name,
                    " result ", r, " is locally ", inferred[r], " by infer, but ", local.results[r],
                    " by its sharding ", *instruction.results[r].sharding);
      instruction.results[r].type = inferred[r];
    }
    const Value made = rewriter_.append(std::move(instruction));
    for (size_t r = 0; r < inferred.size(); ++r)
      rewriter_.replace({index, static_cast<int>(r)}, {made.instruction, static_cast<int>(r)});
  }

  // axis_index(axes) * local_size, made once per pair.
  Value start_value(const StartOperand& start) {
    Builder& builder = rewriter_.builder();
    const auto key = std::pair(start.axes, start.local_size);
    if (const auto known = starts_.find(key); known != starts_.end()) return known->second;
    const TensorType scalar{DType::s64, {}};
    Value value;
    if (start.axes.empty()) {
      value = replicated(ops::constant(builder, 0, scalar));
    } else {
      const Value coordinate = replicated(ops::axis_index(builder, start.axes));
      const Value size =
          replicated(ops::constant(builder, static_cast<double>(start.local_size), scalar));
      value = replicated(ops::multiply(builder, coordinate, size));
    }
    return starts_.emplace(key, value).first->second;
  }

  // Start operands differ between devices on purpose; their sharding only says that they are
  // scalars.
  Value replicated(Value value) {
    rewriter_.result().info(value).sharding = Sharding(source_.mesh, 0);
    return value;
  }

  const Graph& source_;
  GraphRewriter rewriter_;
  std::map<std::pair<AxisList, int64_t>, Value> starts_;
};

}  // namespace

Graph localize(const Graph& graph) { return Localizer(graph).run(); }

}  // namespace tessera

#include "core/runtime/sharded_interpreter.h"

#include <map>

#include "core/base/error.h"
#include "core/ir/local_call.h"
#include "core/ir/parameter.h"
#include "core/ops/sharding.h"
#include "core/runtime/device_exchange.h"
#include "core/runtime/pad_regions.h"

namespace tessera {
namespace {

class ShardedInterpreter {
 public:
  ShardedInterpreter(const Graph& graph, const ShardedOptions& options)
      : graph_(graph), options_(options), mesh_(*graph.mesh), values_(graph.instructions.size()) {
    if (!graph.is_local) padding_ = analyse_padding(graph);
  }

  std::vector<HostTensor> run(std::span<const HostTensor> inputs) {
    if (inputs.size() != graph_.inputs.size())
      throw_user_error("graph \"", graph_.name, "\" takes ", graph_.inputs.size(), " inputs, got ",
                       inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Value value = graph_.inputs[i].value;
      Shards shards = shard_stored(inputs[i], value, options_.seed + i);
      if (graph_.inputs[i].kind != InputKind::data) fill(shards, value, 0);
      values_[static_cast<size_t>(value.instruction)] = {std::move(shards)};
    }
    std::vector<int> last_use = last_uses();
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      index_ = static_cast<int>(i);
      const Instruction& instruction = graph_.instructions[i];
      if (!instruction.is(ops::kParameter)) values_[i] = execute(instruction);
      for (size_t r = 0; r < instruction.results.size(); ++r) {
        settle(static_cast<int>(r));
        check(static_cast<int>(r));
      }
      for (Value operand : instruction.operands)
        if (last_use[static_cast<size_t>(operand.instruction)] == index_)
          values_[static_cast<size_t>(operand.instruction)].clear();
    }
    std::vector<HostTensor> outputs;
    for (const GraphOutput& output : graph_.outputs)
      outputs.push_back(assembled(output.value));
    return outputs;
  }

 private:
  std::vector<int> last_uses() const {
    std::vector<int> last_use(graph_.instructions.size(), -1);
    for (size_t i = 0; i < graph_.instructions.size(); ++i)
      for (Value operand : graph_.instructions[i].operands)
        last_use[static_cast<size_t>(operand.instruction)] = static_cast<int>(i);
    for (const GraphOutput& output : graph_.outputs)
      last_use[static_cast<size_t>(output.value.instruction)] =
          static_cast<int>(graph_.instructions.size());
    return last_use;
  }

  const Shards& shards_of(Value value) const {
    return values_[static_cast<size_t>(value.instruction)][static_cast<size_t>(value.result)];
  }

  Shape logical_shape(Value value) const {
    const ResultInfo& info = graph_.info(value);
    if (!graph_.is_local) return info.type.shape;
    if (info.logical_shape) return *info.logical_shape;
    Shape shape = info.type.shape;
    for (int d = 0; d < shape.rank(); ++d)
      shape[d] *= size_of(info.sharding->dims[static_cast<size_t>(d)].axes);
    return shape;
  }
  // All devices' shards together, padding included.
  Shape stored_shape(Value value) const {
    const ResultInfo& info = graph_.info(value);
    if (!graph_.is_local) return info.stored_shape();
    Shape shape = info.type.shape;
    for (int d = 0; d < shape.rank(); ++d)
      shape[d] *= size_of(info.sharding->dims[static_cast<size_t>(d)].axes);
    return shape;
  }
  Shards shard_stored(const HostTensor& logical, Value value, uint64_t seed) const {
    return shard_over(logical, graph_.sharding(value), seed, all_devices(mesh_),
                      stored_shape(value));
  }
  HostTensor assembled(Value value) const {
    return cut_to(assemble(shards_of(value), graph_.sharding(value)), logical_shape(value));
  }
  bool is_padded(Value value) const { return stored_shape(value) != logical_shape(value); }

  // A number in the padding of all dims, or of one.
  void fill(Shards& shards, Value value, double number, int dim = -1) const {
    const Shape logical = logical_shape(value);
    for (size_t device = 0; device < shards.size(); ++device)
      fill_padding(shards[device], graph_.sharding(value), logical, static_cast<int64_t>(device),
                   number, dim);
  }

  // Checks the claims on a result's padding and plants garbage in the rest.
  void settle(int result) {
    const Value value{index_, result};
    if (graph_.is_local || !is_padded(value)) return;
    const auto i = static_cast<size_t>(index_), r = static_cast<size_t>(result);
    if (graph_.at(value).is(ops::kParameter)) return;
    try {
      for (size_t device = 0; device < values_[i][r].size(); ++device)
        settle_padding(values_[i][r][device], graph_.sharding(value), logical_shape(value),
                       static_cast<int64_t>(device), padding_[i][r]);
    } catch (const InternalError& error) {
      throw InternalError(cat("after %", index_, " ", graph_.at(value).op->name, ": ", error.what()));
    }
  }

  // Operands whose padding does not hold what the op needs, with it; only before there are masks.
  std::map<int, Shards> masked_operands(const Instruction& instruction) const {
    std::map<int, Shards> masked;
    if (graph_.is_local) return masked;
    const std::vector<PadContents> contents = operand_contents(graph_, padding_, instruction);
    for (const PadNeed& need : open_needs(graph_, instruction, contents)) {
      TESSERA_CHECK(!graph_.masks_padding, "%", index_, " ", instruction.op->name, " needs ",
                    need.content, " in the padding of dim ", need.dim, " of operand ", need.operand,
                    ", and no mask provides it");
      const Value operand = instruction.operands[static_cast<size_t>(need.operand)];
      Shards& shards = masked.try_emplace(need.operand, shards_of(operand)).first->second;
      fill(shards, operand, *number_of(need.content, graph_.type(operand).dtype), need.dim);
    }
    return masked;
  }

  // Result by result, what every device holds.
  std::vector<Shards> execute(const Instruction& instruction) {
    if (instruction.is(ops::kReshard)) {
      const Value operand = instruction.operands[0];
      return {shard_stored(assembled(operand), {index_, 0},
                           options_.seed + static_cast<uint64_t>(index_))};
    }
    if (is_exchange(*instruction.op)) {
      const Shards none(static_cast<size_t>(mesh_.devices()));
      return {exchange(*instruction.op, instruction.attributes, mesh_,
                       instruction.operands.empty() ? none : shards_of(instruction.operands[0]),
                       all_devices(mesh_))};
    }
    if (graph_.is_local) return local_op(instruction, stated_call(instruction));
    if (needs_partition(*instruction.op, factor_rule(graph_, instruction), instruction.factor_axes))
      return logical_op(instruction);
    return local_op(instruction, local_call(graph_, instruction));
  }

  // An op whose exchanges are not made before localize: on the assembled tensors.
  std::vector<Shards> logical_op(const Instruction& instruction) const {
    std::vector<HostTensor> wholes;
    for (Value operand : instruction.operands)
      wholes.push_back(assembled(operand));
    std::vector<const HostTensor*> operands;
    for (const HostTensor& whole : wholes) operands.push_back(&whole);
    const std::vector<TensorType> types = Graph::result_types(instruction);
    std::vector<HostTensor> outs(types.begin(), types.end());
    with_call(graph_, instruction,
              [&](const OpCall& call) { instruction.op->eval(call, operands, outs); });
    std::vector<Shards> results;
    for (size_t r = 0; r < outs.size(); ++r)
      results.push_back(shard_stored(outs[r], {index_, static_cast<int>(r)},
                                     options_.seed + static_cast<uint64_t>(index_)));
    return results;
  }

  // After localize the graph states everything itself.
  LocalCall stated_call(const Instruction& instruction) const {
    LocalCall call;
    call.operands = graph_.operand_types(instruction);
    call.results = Graph::result_types(instruction);
    call.attributes = instruction.attributes;
    return call;
  }

  std::vector<Shards> local_op(const Instruction& instruction, const LocalCall& call) const {
    std::vector<TensorType> types = call.operands;
    types.resize(types.size() + call.starts.size(), {DType::s64, {}});
    const OpCall op_call{types, call.attributes};
    const std::vector<TensorType> inferred = infer_types(*instruction.op, op_call);
    TESSERA_CHECK(inferred == call.results, "%", index_, " ", instruction.op->name,
                  ": local result types differ from those of the sharding");
    std::vector<Shards> results(instruction.results.size());
    const std::map<int, Shards> masked = masked_operands(instruction);
    for (int64_t device = 0; device < mesh_.devices(); ++device) {
      std::vector<HostTensor> starts;
      for (const StartOperand& start : call.starts) {
        const int64_t first =
            start.axes.empty() ? 0 : mesh_.coordinate(device, start.axes) * start.local_size;
        starts.push_back(HostTensor::of<int64_t>({}, std::span(&first, 1)));
      }
      std::vector<const HostTensor*> operands;
      for (size_t o = 0; o < instruction.operands.size(); ++o) {
        const auto found = masked.find(static_cast<int>(o));
        const Shards& shards =
            found == masked.end() ? shards_of(instruction.operands[o]) : found->second;
        operands.push_back(&shards[static_cast<size_t>(device)]);
        TESSERA_CHECK(operands.back()->type() == call.operands[o], "%", index_, " ",
                      instruction.op->name, " operand ", o, " is ", operands.back()->type(),
                      ", expected ", call.operands[o]);
      }
      for (const HostTensor& start : starts) operands.push_back(&start);
      std::vector<HostTensor> outs(inferred.begin(), inferred.end());
      instruction.op->eval(op_call, operands, outs);
      for (size_t r = 0; r < outs.size(); ++r) results[r].push_back(std::move(outs[r]));
    }
    return results;
  }

  void check(int result) {
    const Instruction& instruction = graph_.instructions[static_cast<size_t>(index_)];
    const Value value{index_, result};
    // Halos and starts are one device's own.
    if (graph_.is_local && !graph_.info(value).sharding) return;
    try {
      const HostTensor whole = assembled(value);
      if (!graph_.is_local)
        TESSERA_CHECK(whole.type() == graph_.type(value), "assembled to ", whole.type());
      if (options_.observe) options_.observe(value, whole);
    } catch (const InternalError& error) {
      throw InternalError(cat("after %", index_, " ", instruction.op->name, " ", instruction.scope,
                              ": ", error.what()));
    }
  }

  const Graph& graph_;
  const ShardedOptions& options_;
  const Mesh& mesh_;
  std::vector<std::vector<Shards>> values_;
  GraphPadding padding_;
  int index_ = 0;
};

}  // namespace

std::vector<HostTensor> interpret_sharded(const Graph& graph, std::span<const HostTensor> inputs,
                                          const ShardedOptions& options) {
  TESSERA_CHECK(graph.mesh != nullptr, "graph \"", graph.name, "\" has no mesh");
  return ShardedInterpreter(graph, options).run(inputs);
}

std::vector<HostTensor> shard(const HostTensor& global, const Sharding& sharding, uint64_t seed) {
  return shard_over(global, sharding, seed, all_devices(*sharding.mesh));
}

HostTensor assemble(std::span<const HostTensor> shards, const Sharding& sharding) {
  return assemble_from(shards, sharding, all_devices(*sharding.mesh));
}

}  // namespace tessera

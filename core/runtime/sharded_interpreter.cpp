#include "core/runtime/sharded_interpreter.h"

#include <map>
#include <random>

#include "core/base/error.h"
#include "core/ir/local_call.h"
#include "core/ir/parameter.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/runtime/ordered_reduce.h"

namespace tessera {
namespace {

using Shards = std::vector<HostTensor>;  // by device

HostTensor combine(std::span<const HostTensor* const> parts, ReduceKind kind) {
  HostTensor result(parts[0]->type());
  std::vector<const std::byte*> sources;
  for (const HostTensor* part : parts) sources.push_back(part->bytes().data());
  std::byte* destination = result.bytes().data();
  ordered_reduce(sources, std::span(&destination, 1), result.elements(), result.dtype(), kind);
  return result;
}

// Tensors that combine to `whole`, the first of which makes up for the random others.
std::vector<HostTensor> split_partial(const HostTensor& whole, int64_t count, ReduceKind kind,
                                      uint64_t seed) {
  std::vector<HostTensor> parts(static_cast<size_t>(count), HostTensor(whole.type()));
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> unit(-1, 1);
  for (int64_t i = 0; i < whole.elements(); ++i) {
    if (!is_float(whole.dtype())) {
      // Integers: random addends for sum, everything on part 0 and ties elsewhere for max and min.
      int64_t rest = whole.get_int(i);
      for (size_t p = 1; p < parts.size(); ++p) {
        const int64_t addend =
            kind == ReduceKind::sum ? static_cast<int64_t>(random() % 17) - 8 : whole.get_int(i);
        parts[p].set_int(i, addend);
        if (kind == ReduceKind::sum) rest -= addend;
      }
      parts[0].set_int(i, rest);
      continue;
    }
    double rest = whole.get_real(i);
    const size_t owner = kind == ReduceKind::sum ? 0 : static_cast<size_t>(random() % parts.size());
    for (size_t p = 0; p < parts.size(); ++p) {
      if (p == owner) continue;
      const double noise = unit(random);
      const double value = kind == ReduceKind::sum   ? noise
                           : kind == ReduceKind::max ? whole.get_real(i) - std::abs(noise)
                                                     : whole.get_real(i) + std::abs(noise);
      parts[p].set_real(i, value);
      if (kind == ReduceKind::sum) rest -= parts[p].get_real(i);
    }
    parts[owner].set_real(i, rest);
  }
  return parts;
}

Shape global_shape(const Shape& local, const Sharding& sharding) {
  Shape global = local;
  for (int d = 0; d < global.rank(); ++d)
    global[d] *= size_of(sharding.dims[static_cast<size_t>(d)].axes);
  return global;
}

HostTensor block_of(const HostTensor& whole, int dim, int64_t blocks, int64_t block) {
  std::vector<int64_t> start(static_cast<size_t>(whole.shape().rank()), 0);
  Shape shape = whole.shape();
  shape[dim] /= blocks;
  start[static_cast<size_t>(dim)] = block * shape[dim];
  return whole.slice(start, shape);
}

HostTensor side_by_side(std::span<const HostTensor> parts, int dim) {
  TensorType type = parts[0].type();
  const int64_t step = type.shape[dim];
  type.shape[dim] *= static_cast<int64_t>(parts.size());
  HostTensor whole(type);
  std::vector<int64_t> start(static_cast<size_t>(type.rank()), 0);
  for (const HostTensor& part : parts) {
    whole.put(start, part);
    start[static_cast<size_t>(dim)] += step;
  }
  return whole;
}

class ShardedInterpreter {
 public:
  ShardedInterpreter(const Graph& graph, const ShardedOptions& options)
      : graph_(graph), options_(options), mesh_(*graph.mesh), values_(graph.instructions.size()) {}

  std::vector<HostTensor> run(std::span<const HostTensor> inputs) {
    if (inputs.size() != graph_.inputs.size())
      throw_user_error("graph \"", graph_.name, "\" takes ", graph_.inputs.size(), " inputs, got ",
                       inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Value value = graph_.inputs[i].value;
      values_[static_cast<size_t>(value.instruction)] = {
          shard(inputs[i], graph_.sharding(value), options_.seed + i)};
    }
    std::vector<int> last_use = last_uses();
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      index_ = static_cast<int>(i);
      const Instruction& instruction = graph_.instructions[i];
      if (!instruction.is(ops::kParameter)) values_[i] = execute(instruction);
      for (size_t r = 0; r < instruction.results.size(); ++r) check(static_cast<int>(r));
      for (Value operand : instruction.operands)
        if (last_use[static_cast<size_t>(operand.instruction)] == index_)
          values_[static_cast<size_t>(operand.instruction)].clear();
    }
    std::vector<HostTensor> outputs;
    for (const GraphOutput& output : graph_.outputs)
      outputs.push_back(assemble(shards_of(output.value), graph_.sharding(output.value)));
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

  // Result by result, what every device holds.
  std::vector<Shards> execute(const Instruction& instruction) {
    if (instruction.is(ops::kAxisIndex)) return {axis_index(instruction)};
    if (instruction.is(ops::kReshard)) {
      const Value operand = instruction.operands[0];
      const HostTensor whole = assemble(shards_of(operand), graph_.sharding(operand));
      return {shard(whole, *instruction.results[0].sharding,
                    options_.seed + static_cast<uint64_t>(index_))};
    }
    if (instruction.is(ops::kShift)) return {shifted(instruction, shards_of(instruction.operands[0]))};
    if (instruction.op->communicates || instruction.is(ops::kAllSlice) ||
        instruction.is(ops::kReplicatedToPartial)) {
      std::vector<Shards> results;
      for (Value operand : instruction.operands)
        results.push_back(collective(instruction, shards_of(operand)));
      return results;
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
      wholes.push_back(assemble(shards_of(operand), graph_.sharding(operand)));
    std::vector<const HostTensor*> operands;
    for (const HostTensor& whole : wholes) operands.push_back(&whole);
    const std::vector<TensorType> types = Graph::result_types(instruction);
    std::vector<HostTensor> outs(types.begin(), types.end());
    with_call(graph_, instruction,
              [&](const OpCall& call) { instruction.op->eval(call, operands, outs); });
    std::vector<Shards> results;
    for (size_t r = 0; r < outs.size(); ++r)
      results.push_back(shard(outs[r], *instruction.results[r].sharding,
                              options_.seed + static_cast<uint64_t>(index_)));
    return results;
  }

  Shards shifted(const Instruction& instruction, const Shards& in) const {
    const AxisList axes = instruction.attributes.get<AxisList>(Attr::axes);
    const int64_t n = size_of(axes);
    Shards out;
    for (int64_t device = 0; device < mesh_.devices(); ++device) {
      int64_t sender =
          mesh_.coordinate(device, axes) - instruction.attributes.integer(Attr::shift);
      if (instruction.attributes.flag(Attr::wrap)) sender = (sender + n) % n;
      const HostTensor& own = in[static_cast<size_t>(device)];
      out.push_back(sender < 0 || sender >= n
                        ? HostTensor::filled(own.type(), 0)
                        : in[static_cast<size_t>(
                              mesh_.group(device, axes)[static_cast<size_t>(sender)])]);
    }
    return out;
  }

  Shards axis_index(const Instruction& instruction) const {
    Shards shards;
    for (int64_t device = 0; device < mesh_.devices(); ++device) {
      const int64_t coordinate =
          mesh_.coordinate(device, instruction.attributes.get<AxisList>(Attr::axes));
      shards.push_back(HostTensor::of<int64_t>({}, std::span(&coordinate, 1)));
    }
    return shards;
  }

  Shards collective(const Instruction& instruction, const Shards& in) const {
    const Attributes& attributes = instruction.attributes;
    const AxisList axes = attributes.get<AxisList>(Attr::axes);
    const int64_t n = size_of(axes);
    auto dim = [&](Attr key) { return static_cast<int>(attributes.integer(key)); };
    Shards out;
    for (int64_t device = 0; device < mesh_.devices(); ++device) {
      const HostTensor& own = in[static_cast<size_t>(device)];
      const int64_t coordinate = mesh_.coordinate(device, axes);
      std::vector<const HostTensor*> group;
      for (int64_t member : mesh_.group(device, axes))
        group.push_back(&in[static_cast<size_t>(member)]);
      if (instruction.is(ops::kAllReduce)) {
        out.push_back(combine(group, attributes.get<ReduceKind>(Attr::reduce_kind)));
      } else if (instruction.is(ops::kReduceScatter)) {
        const HostTensor whole = combine(group, attributes.get<ReduceKind>(Attr::reduce_kind));
        out.push_back(block_of(whole, dim(Attr::dimension), n, coordinate));
      } else if (instruction.is(ops::kAllGather)) {
        Shards parts;
        for (const HostTensor* member : group) parts.push_back(*member);
        out.push_back(side_by_side(parts, dim(Attr::dimension)));
      } else if (instruction.is(ops::kAllSlice)) {
        out.push_back(block_of(own, dim(Attr::dimension), n, coordinate));
      } else if (instruction.is(ops::kAllToAll)) {
        Shards parts;
        for (const HostTensor* member : group)
          parts.push_back(block_of(*member, dim(Attr::split_dimension), n, coordinate));
        out.push_back(side_by_side(parts, dim(Attr::concat_dimension)));
      } else if (instruction.is(ops::kCollectivePermute)) {
        const int64_t sender =
            mesh_.coordinate(device, attributes.get<AxisList>(Attr::target_axes));
        out.push_back(*group[static_cast<size_t>(sender)]);
      } else if (instruction.is(ops::kReplicatedToPartial)) {
        const ReduceKind kind = attributes.get<ReduceKind>(Attr::reduce_kind);
        out.push_back(coordinate == 0
                          ? own
                          : HostTensor::filled(own.type(), ops::identity_of(kind, own.dtype())));
      } else {
        TESSERA_CHECK(false, "the sharded interpreter does not know the collective ",
                      instruction.op->name);
      }
    }
    return out;
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
    for (int64_t device = 0; device < mesh_.devices(); ++device) {
      std::vector<HostTensor> starts;
      for (const StartOperand& start : call.starts) {
        const int64_t first =
            start.axes.empty() ? 0 : mesh_.coordinate(device, start.axes) * start.local_size;
        starts.push_back(HostTensor::of<int64_t>({}, std::span(&first, 1)));
      }
      std::vector<const HostTensor*> operands;
      for (size_t o = 0; o < instruction.operands.size(); ++o) {
        operands.push_back(&shards_of(instruction.operands[o])[static_cast<size_t>(device)]);
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
      const HostTensor whole = assemble(shards_of(value), graph_.sharding(value));
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
  int index_ = 0;
};

}  // namespace

std::vector<HostTensor> interpret_sharded(const Graph& graph, std::span<const HostTensor> inputs,
                                          const ShardedOptions& options) {
  TESSERA_CHECK(graph.mesh != nullptr, "graph \"", graph.name, "\" has no mesh");
  return ShardedInterpreter(graph, options).run(inputs);
}

std::vector<HostTensor> shard(const HostTensor& global, const Sharding& sharding, uint64_t seed) {
  const Mesh& mesh = *sharding.mesh;
  const std::vector<HostTensor> parts =
      sharding.is_partial()
          ? split_partial(global, size_of(sharding.partial), sharding.partial_kind, seed)
          : std::vector<HostTensor>{global};
  const Shape local = sharding.local_shape(global.shape());
  Shards shards;
  for (int64_t device = 0; device < mesh.devices(); ++device) {
    const int64_t part = sharding.is_partial() ? mesh.coordinate(device, sharding.partial) : 0;
    shards.push_back(parts[static_cast<size_t>(part)].slice(
        sharding.shard_start(global.shape(), device), local));
  }
  return shards;
}

HostTensor assemble(std::span<const HostTensor> shards, const Sharding& sharding) {
  const Mesh& mesh = *sharding.mesh;
  TESSERA_CHECK(static_cast<int64_t>(shards.size()) == mesh.devices());
  const TensorType type{shards[0].dtype(), global_shape(shards[0].shape(), sharding)};
  std::vector<HostTensor> parts(static_cast<size_t>(size_of(sharding.partial)), HostTensor(type));
  std::map<std::pair<std::vector<int64_t>, int64_t>, int64_t> first_holder;
  for (int64_t device = 0; device < mesh.devices(); ++device) {
    const HostTensor& own = shards[static_cast<size_t>(device)];
    TESSERA_CHECK(own.type() == shards[0].type(), "device ", device, " holds ", own.type(),
                  ", device 0 ", shards[0].type());
    const std::vector<int64_t> start = sharding.shard_start(type.shape, device);
    const int64_t part = sharding.is_partial() ? mesh.coordinate(device, sharding.partial) : 0;
    const auto [holder, is_new] = first_holder.try_emplace({start, part}, device);
    if (is_new)
      parts[static_cast<size_t>(part)].put(start, own);
    else
      TESSERA_CHECK(own == shards[static_cast<size_t>(holder->second)], "devices ", holder->second,
                    " and ", device, " should hold the same shard of ", type, " ", sharding,
                    ", but differ");
  }
  if (parts.size() == 1) return std::move(parts[0]);
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& part : parts) pointers.push_back(&part);
  return combine(pointers, sharding.partial_kind);
}

}  // namespace tessera

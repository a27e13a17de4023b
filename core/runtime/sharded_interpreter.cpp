#include "core/runtime/sharded_interpreter.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/ir/local_call.h"
#include "core/ir/parameter.h"
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "core/runtime/device_control.h"
#include "core/runtime/device_exchange.h"
#include "core/runtime/pad_regions.h"

namespace tessera {
namespace {

// Who runs a graph: all devices, or in a region those that took this way; and the axes that are
// manual there. Devices at one coordinate of the manual axes share the logical values.
struct Frame {
  Devices devices;
  AxisList manual;
};

std::vector<Devices> groups_of(const Mesh& mesh, const Frame& frame) {
  std::map<int64_t, Devices> groups;
  for (int64_t device : frame.devices)
    groups[mesh.coordinate(device, frame.manual)].push_back(device);
  std::vector<Devices> result;
  for (auto& [coordinate, devices] : groups) result.push_back(std::move(devices));
  return result;
}

class ShardedInterpreter {
 public:
  ShardedInterpreter(const Graph& graph, const ShardedOptions& options, Frame frame)
      : graph_(graph),
        options_(options),
        mesh_(*graph.mesh),
        frame_(std::move(frame)),
        groups_(groups_of(mesh_, frame_)),
        values_(graph.instructions.size()) {
    if (!graph.is_local) padding_ = analyse_padding(graph);
  }

  std::vector<HostTensor> run(std::span<const HostTensor> inputs) {
    if (inputs.size() != graph_.inputs.size())
      throw_user_error("graph \"", graph_.name, "\" takes ", graph_.inputs.size(), " inputs, got ",
                       inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Value value = graph_.inputs[i].value;
      Shards shards = shard_stored(inputs.subspan(i, 1), value, options_.seed + i);
      if (graph_.inputs[i].kind != InputKind::data) fill(shards, value, 0);
      values_[static_cast<size_t>(value.instruction)] = {std::move(shards)};
    }
    run_instructions();
    std::vector<HostTensor> outputs;
    for (const GraphOutput& output : graph_.outputs)
      outputs.push_back(assembled(output.value));
    return outputs;
  }

  // The same from and to what every device holds: for regions.
  std::vector<Shards> run_on_shards(const std::vector<Shards>& inputs) {
    for (size_t i = 0; i < inputs.size(); ++i)
      values_[static_cast<size_t>(graph_.inputs[i].value.instruction)] = {inputs[i]};
    run_instructions();
    std::vector<Shards> outputs;
    for (const GraphOutput& output : graph_.outputs) outputs.push_back(shards_of(output.value));
    return outputs;
  }

 private:
  void run_instructions() {
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
  }

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
  // The logical values by group, cut over the devices of each.
  Shards shard_stored(std::span<const HostTensor> logical, Value value, uint64_t seed) const {
    Shards shards(static_cast<size_t>(mesh_.devices()));
    for (size_t g = 0; g < groups_.size(); ++g) {
      Shards own =
          shard_over(logical[g], graph_.sharding(value), seed, groups_[g], stored_shape(value));
      for (int64_t device : groups_[g])
        shards[static_cast<size_t>(device)] = std::move(own[static_cast<size_t>(device)]);
    }
    return shards;
  }
  HostTensor assembled(Value value, size_t group = 0) const {
    return cut_to(assemble_from(shards_of(value), graph_.sharding(value), groups_[group]),
                  logical_shape(value));
  }
  std::vector<HostTensor> assembled_by_group(Value value) const {
    std::vector<HostTensor> wholes;
    for (size_t g = 0; g < groups_.size(); ++g) wholes.push_back(assembled(value, g));
    return wholes;
  }
  bool is_padded(Value value) const { return stored_shape(value) != logical_shape(value); }

  // A number in the padding of all dims, or of one.
  void fill(Shards& shards, Value value, double number, int dim = -1) const {
    const Shape logical = logical_shape(value);
    for (int64_t device : frame_.devices)
      fill_padding(shards[static_cast<size_t>(device)], graph_.sharding(value), logical, device,
                   number, dim);
  }

  // Checks the claims on a result's padding and plants garbage in the rest.
  void settle(int result) {
    const Value value{index_, result};
    if (graph_.is_local || !is_padded(value)) return;
    const auto i = static_cast<size_t>(index_), r = static_cast<size_t>(result);
    if (graph_.at(value).is(ops::kParameter)) return;
    try {
      for (int64_t device : frame_.devices)
        settle_padding(values_[i][r][static_cast<size_t>(device)], graph_.sharding(value),
                       logical_shape(value), device, padding_[i][r]);
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
      return {shard_stored(assembled_by_group(operand), {index_, 0},
                           options_.seed + static_cast<uint64_t>(index_))};
    }
    if (is_exchange(*instruction.op)) {
      const Shards none(static_cast<size_t>(mesh_.devices()));
      return {exchange(*instruction.op, instruction.attributes, mesh_,
                       instruction.operands.empty() ? none : shards_of(instruction.operands[0]),
                       frame_.devices)};
    }
    if (has_control_flow(instruction)) {
      if (is_partitioned(instruction)) return control_op(instruction);
      if (!graph_.is_local) return logical_op(instruction);
    }
    if (graph_.is_local) return local_op(instruction, stated_call(instruction));
    if (needs_partition(*instruction.op, factor_rule(graph_, instruction), instruction.factor_axes))
      return logical_op(instruction);
    return local_op(instruction, local_call(graph_, instruction));
  }

  // Whether the regions say how their values lie. Until propagation goes into them, control flow is
  // computed on whole tensors.
  bool is_partitioned(const Instruction& instruction) const {
    for (const Region& region : control_regions(instruction)) {
      if (region.graph->is_local) continue;
      if (graph_.is_local) return false;
      for (const Instruction& inner : region.graph->instructions)
        for (const ResultInfo& result : inner.results)
          if (!result.sharding) return false;
    }
    return true;
  }

  // Regions run on what the devices hold.
  std::vector<Shards> control_op(const Instruction& instruction) {
    const Attributes& attributes = instruction.attributes;
    std::vector<Shards> operands;
    for (Value operand : instruction.operands) operands.push_back(shards_of(operand));
    if (instruction.is(ops::kWhile))
      return run_loop(control(), attributes, std::move(operands), frame_.devices);
    if (instruction.is(ops::kCase))
      return run_branch(control(), attributes, std::move(operands), frame_.devices);
    Frame frame = frame_;
    if (instruction.is(ops::kManualComputation)) {
      const auto& axes = attributes.get<AxisList>(Attr::axes);
      frame.manual.insert(frame.manual.end(), axes.begin(), axes.end());
      // What a device holds is the same inside and outside: manual axes are major to free ones.
      check_boundary(instruction, axes);
    }
    return run_region(*attributes.get<GraphRef>(Attr::callee), operands, frame);
  }

  void check_boundary(const Instruction& instruction, const AxisList& manual) const {
    const Graph& callee = *instruction.attributes.get<GraphRef>(Attr::callee);
    const auto& in = instruction.attributes.get<Shardings>(Attr::in_shardings);
    for (size_t i = 0; i < instruction.operands.size(); ++i) {
      const Sharding &outer = graph_.sharding(instruction.operands[i]),
                     &inner = callee.sharding(callee.inputs[i].value);
      TESSERA_CHECK(outer.same_layout(in[i]) &&
                        ops::free_part(outer, manual).same_layout(inner.closed()),
                    "%", index_, " manual_computation: operand ", i, " lies as ", outer,
                    ", is taken as ", in[i], " and inside as ", inner);
    }
  }

  std::vector<Shards> run_region(const Graph& region, const std::vector<Shards>& inputs,
                                 const Frame& frame) const {
    try {
      const ShardedOptions options{options_.seed + static_cast<uint64_t>(index_), nullptr};
      return ShardedInterpreter(region, options, frame).run_on_shards(inputs);
    } catch (const InternalError& error) {
      throw InternalError(cat("in a region of %", index_, " ",
                              graph_.instructions[static_cast<size_t>(index_)].op->name, ": ",
                              error.what()));
    }
  }

  // The devices that hold `way`. Devices that share a logical value must agree.
  Devices on_way(const Shards& ways, const Devices& among,
                 const std::function<bool(int64_t)>& is_way) const {
    Devices taken;
    for (int64_t device : among)
      if (is_way(ways[static_cast<size_t>(device)].get_int(0))) taken.push_back(device);
    if (graph_.is_local) return taken;  // collectives inside find who is missing
    for (const Devices& group : groups_) {
      int64_t here = 0;
      for (int64_t device : group) here += std::binary_search(taken.begin(), taken.end(), device);
      TESSERA_CHECK(here == 0 || here == static_cast<int64_t>(group.size()), "%", index_, " ",
                    graph_.instructions[static_cast<size_t>(index_)].op->name,
                    ": devices do not agree on the way to take: ", here, " of ", group.size(),
                    " go it");
    }
    return taken;
  }

  DeviceControl control() const {
    return {[this](const Graph& region, const std::vector<Shards>& inputs, const Devices& devices) {
              return run_region(region, inputs, {devices, frame_.manual});
            },
            [this](const Shards& ways, const Devices& among,
                   const std::function<bool(int64_t)>& is_way) { return on_way(ways, among, is_way); }};
  }

  // An op whose exchanges are not made before localize: on the assembled tensors.
  std::vector<Shards> logical_op(const Instruction& instruction) const {
    const size_t count = instruction.results.size();
    std::vector<std::vector<HostTensor>> outs(count);  // by result and group
    for (size_t g = 0; g < groups_.size(); ++g) {
      std::vector<HostTensor> wholes;
      for (Value operand : instruction.operands) wholes.push_back(assembled(operand, g));
      std::vector<const HostTensor*> operands;
      for (const HostTensor& whole : wholes) operands.push_back(&whole);
      const std::vector<TensorType> types = Graph::result_types(instruction);
      std::vector<HostTensor> own(types.begin(), types.end());
      with_call(graph_, instruction,
                [&](const OpCall& call) { instruction.op->eval(call, operands, own); });
      for (size_t r = 0; r < count; ++r) outs[r].push_back(std::move(own[r]));
    }
    std::vector<Shards> results;
    for (size_t r = 0; r < count; ++r)
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
    std::vector<Shards> results(instruction.results.size(),
                                Shards(static_cast<size_t>(mesh_.devices())));
    const std::map<int, Shards> masked = masked_operands(instruction);
    for (int64_t device : frame_.devices) {
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
      for (size_t r = 0; r < outs.size(); ++r)
        results[r][static_cast<size_t>(device)] = std::move(outs[r]);
    }
    return results;
  }

  // Where some devices took another way, a local value may have no whole.
  bool is_checked(Value value) const {
    if (!graph_.is_local) return true;
    return graph_.info(value).sharding &&
           static_cast<int64_t>(frame_.devices.size()) == mesh_.devices();
  }

  void check(int result) {
    const Instruction& instruction = graph_.instructions[static_cast<size_t>(index_)];
    const Value value{index_, result};
    // Halos and starts are one device's own.
    if (!is_checked(value)) return;
    try {
      for (size_t g = 0; g < groups_.size(); ++g) {
        const HostTensor whole = assembled(value, g);
        if (!graph_.is_local)
          TESSERA_CHECK(whole.type() == graph_.type(value), "assembled to ", whole.type());
        if (options_.observe) options_.observe(value, whole);
      }
    } catch (const InternalError& error) {
      throw InternalError(cat("after %", index_, " ", instruction.op->name, " ", instruction.scope,
                              ": ", error.what()));
    }
  }

  const Graph& graph_;
  const ShardedOptions& options_;
  const Mesh& mesh_;
  Frame frame_;
  std::vector<Devices> groups_;  // who shares logical values
  std::vector<std::vector<Shards>> values_;
  GraphPadding padding_;
  int index_ = 0;
};

}  // namespace

std::vector<HostTensor> interpret_sharded(const Graph& graph, std::span<const HostTensor> inputs,
                                          const ShardedOptions& options) {
  TESSERA_CHECK(graph.mesh != nullptr, "graph \"", graph.name, "\" has no mesh");
  return ShardedInterpreter(graph, options, {all_devices(*graph.mesh), {}}).run(inputs);
}

std::vector<HostTensor> shard(const HostTensor& global, const Sharding& sharding, uint64_t seed) {
  return shard_over(global, sharding, seed, all_devices(*sharding.mesh));
}

HostTensor assemble(std::span<const HostTensor> shards, const Sharding& sharding) {
  return assemble_from(shards, sharding, all_devices(*sharding.mesh));
}

}  // namespace tessera

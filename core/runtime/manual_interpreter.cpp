#include "core/ir/manual_interpreter.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/runtime/device_control.h"
#include "core/runtime/device_exchange.h"

namespace tessera {
namespace {

// Who runs a graph, and the axes that are manual there.
struct Place {
  Devices devices;
  AxisList manual;
  Place on(Devices others) const { return {std::move(others), manual}; }
};

// Runs graphs on all devices of a place in step. A value is one tensor per device: logical along the
// free axes, local along the manual ones.
class DeviceRun {
 public:
  explicit DeviceRun(const Mesh& mesh) : mesh_(mesh) {}

  std::vector<Shards> run(const Graph& graph, std::vector<Shards> inputs,
                          const Place& place) const {
    std::vector<std::vector<Shards>> values(graph.instructions.size());
    for (size_t i = 0; i < graph.inputs.size(); ++i)
      values[static_cast<size_t>(graph.inputs[i].value.instruction)] = {std::move(inputs[i])};
    for (size_t i = 0; i < graph.instructions.size(); ++i) {
      const Instruction& instruction = graph.instructions[i];
      if (instruction.is(ops::kParameter)) continue;
      std::vector<const Shards*> operands;
      for (Value operand : instruction.operands)
        operands.push_back(&values[static_cast<size_t>(operand.instruction)]
                                  [static_cast<size_t>(operand.result)]);
      values[i] = execute(graph, instruction, operands, place);
    }
    std::vector<Shards> outputs;
    for (const GraphOutput& output : graph.outputs)
      outputs.push_back(values[static_cast<size_t>(output.value.instruction)]
                              [static_cast<size_t>(output.value.result)]);
    return outputs;
  }

  // In: each device's own whole; out: the same again.
  std::vector<Shards> manual(const Attributes& attributes, const std::vector<const Shards*>& operands,
                             const Place& place) const {
    const auto& axes = attributes.get<AxisList>(Attr::axes);
    const auto& in = attributes.get<Shardings>(Attr::in_shardings);
    const auto& out = attributes.get<Shardings>(Attr::out_shardings);
    std::vector<Shards> inputs;
    for (size_t i = 0; i < operands.size(); ++i) {
      const Sharding part = ops::manual_part(in[i], axes);
      inputs.emplace_back(static_cast<size_t>(mesh_.devices()));
      for (int64_t device : place.devices)
        at(inputs[i], device) =
            std::move(at(shard_over(at(*operands[i], device), part, i, {device}), device));
    }
    Place inside = place;
    inside.manual.insert(inside.manual.end(), axes.begin(), axes.end());
    std::vector<Shards> results =
        run(*attributes.get<GraphRef>(Attr::callee), std::move(inputs), inside);
    for (size_t r = 0; r < results.size(); ++r) {
      const Sharding part = ops::manual_part(out[r], axes);
      Shards wholes(results[r].size());
      for (int64_t device : place.devices) {
        Devices group = mesh_.group(device, axes);
        std::ranges::sort(group);
        at(wholes, device) = assembled(results[r], part, group, r);
      }
      results[r] = std::move(wholes);
    }
    return results;
  }

 private:
  // Replicas that differ are the program's mistake: it says that they do not.
  HostTensor assembled(const Shards& result, const Sharding& part, const Devices& group,
                       size_t number) const {
    try {
      return assemble_from(result, part, group);
    } catch (const InternalError& error) {
      std::string_view reason = error.what();  // "internal error at FILE:LINE: ... (failed: ...)"
      reason = reason.substr(0, reason.rfind(" (failed"));
      if (const size_t at = reason.rfind("devices "); at != std::string_view::npos)
        reason = reason.substr(at);
      throw_user_error("manual_computation: result ", number, " lies ", part,
                       ", so that it is the same along all other manual axes, but ", reason,
                       "; reduce or gather it, or let it lie along them");
    }
  }

  static HostTensor& at(Shards& shards, int64_t device) { return shards[static_cast<size_t>(device)]; }
  static HostTensor& at(Shards&& shards, int64_t device) { return shards[static_cast<size_t>(device)]; }
  static const HostTensor& at(const Shards& shards, int64_t device) {
    return shards[static_cast<size_t>(device)];
  }

  std::vector<Shards> execute(const Graph& graph, const Instruction& instruction,
                              const std::vector<const Shards*>& operands,
                              const Place& place) const {
    const Attributes& attributes = instruction.attributes;
    if (instruction.is(ops::kManualComputation)) return manual(attributes, operands, place);
    if (is_exchange(*instruction.op) &&
        overlaps(attributes.get<AxisList>(Attr::axes), place.manual))
      return {exchange(*instruction.op, attributes, mesh_,
                       operands.empty() ? Shards(static_cast<size_t>(mesh_.devices())) : *operands[0],
                       place.devices)};
    std::vector<Shards> copies;
    for (const Shards* operand : operands) copies.push_back(*operand);
    if (instruction.is(ops::kCall))
      return run(*attributes.get<GraphRef>(Attr::callee), std::move(copies), place);
    if (instruction.is(ops::kWhile))
      return run_loop(control(place), attributes, std::move(copies), place.devices);
    if (instruction.is(ops::kCase))
      return run_branch(control(place), attributes, std::move(copies), place.devices);
    return plain(graph, instruction, operands, place);
  }

  std::vector<Shards> plain(const Graph& graph, const Instruction& instruction,
                            const std::vector<const Shards*>& operands,
                            const Place& place) const {
    TESSERA_CHECK(instruction.op->eval != nullptr, "op ", instruction.op->name, " has no eval");
    std::vector<Shards> results(instruction.results.size(),
                                Shards(static_cast<size_t>(mesh_.devices())));
    for (int64_t device : place.devices) {
      std::vector<const HostTensor*> own;
      for (const Shards* operand : operands) own.push_back(&at(*operand, device));
      std::vector<HostTensor> made;
      for (const ResultInfo& result : instruction.results) made.emplace_back(result.type);
      with_call(graph, instruction,
                [&](const OpCall& call) { instruction.op->eval(call, own, made); });
      for (size_t r = 0; r < made.size(); ++r) at(results[r], device) = std::move(made[r]);
    }
    return results;
  }

  DeviceControl control(const Place& place) const {
    return {[this, &place](const Graph& region, const std::vector<Shards>& inputs,
                           const Devices& devices) { return run(region, inputs, place.on(devices)); },
            [](const Shards& ways, const Devices& among, const std::function<bool(int64_t)>& is_way) {
              Devices taken;
              for (int64_t device : among)
                if (is_way(at(ways, device).get_int(0))) taken.push_back(device);
              return taken;
            }};
  }

  const Mesh& mesh_;
};

// The axes that are manual in the computation or in one inside it.
AxisList manual_axes(const Attributes& attributes) {
  AxisList axes = attributes.get<AxisList>(Attr::axes);
  for_each_region(*attributes.get<GraphRef>(Attr::callee), [&](const Graph& graph) {
    for (const Instruction& instruction : graph.instructions)
      if (instruction.is(ops::kManualComputation))
        for (AxisRef ref : instruction.attributes.get<AxisList>(Attr::axes)) axes.push_back(ref);
  });
  return axes;
}

}  // namespace

std::vector<HostTensor> interpret_manual(const Attributes& attributes,
                                         std::span<const HostTensor> inputs) {
  const MeshPtr mesh = attributes.get<GraphRef>(Attr::callee)->mesh;
  TESSERA_CHECK(mesh != nullptr, "the callee of a manual_computation has no mesh");
  // One device for each coordinate of the manual axes is enough.
  AxisList free;
  for (int axis = 0; axis < mesh->rank(); ++axis) free.push_back(mesh->axis(axis));
  free = without(free, manual_axes(attributes));
  Devices devices;
  for (int64_t device : all_devices(*mesh))
    if (mesh->coordinate(device, free) == 0) devices.push_back(device);
  std::vector<Shards> wholes;
  for (const HostTensor& input : inputs)
    wholes.emplace_back(static_cast<size_t>(mesh->devices()), input);
  std::vector<const Shards*> operands;
  for (const Shards& whole : wholes) operands.push_back(&whole);
  std::vector<HostTensor> results;
  for (Shards& result : DeviceRun(*mesh).manual(attributes, operands, {devices, {}}))
    results.push_back(std::move(result[static_cast<size_t>(devices[0])]));
  return results;
}

}  // namespace tessera

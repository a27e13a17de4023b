#include "partitioner/hlo/import_annotations.h"

#include <algorithm>
#include <functional>

#include "partitioner/hlo/stated_sharding.h"

namespace tessera::hlo {
namespace {

bool is_of_entry(const ImportContext& context) {
  const std::vector<HloInstruction>& all = context.module().entry_computation().instructions;
  const HloInstruction* instruction = &context.instruction();
  return !all.empty() && !std::less<>()(instruction, &all.front()) &&
         !std::less<>()(&all.back(), instruction);
}

// What the caller gives without saying how it lies, propagation may lay as it likes.
void open_inputs(ImportContext& context, const std::vector<Value>& leaves) {
  Graph& graph = context.builder().graph();
  for (Value leaf : leaves) {
    ResultInfo& info = graph.info(leaf);
    if (!info.sharding) info.sharding = Sharding(context.mesh(), info.type.rank(), true);
  }
}

void add_groups(ResultInfo& info, const std::vector<ShardingGroup>& groups) {
  for (const ShardingGroup& group : groups)
    if (std::find(info.groups.begin(), info.groups.end(), group) == info.groups.end())
      info.groups.push_back(group);
}

}  // namespace

void annotate_values(ImportContext& context, std::vector<Value>& leaves) {
  const HloInstruction& instruction = context.instruction();
  const bool is_parameter = instruction.opcode == "parameter";
  const std::vector<StatedSharding> stated = stated_shardings(context.module(), instruction);
  Builder& b = context.builder();
  for (size_t i = 0; i < stated.size() && i < leaves.size(); ++i) {
    StatedLying lying = lying_of(stated[i], b.type(leaves[i]), context.mesh());
    for (std::string& note : lying.notes) context.note(std::move(note));
    if (!lying.sharding && lying.groups.empty()) continue;
    // The result lies so; what it is made of stays free, and so do its other users.
    if (!is_parameter) leaves[i] = same_value(b, leaves[i]);
    ResultInfo& info = b.graph().info(leaves[i]);
    add_groups(info, lying.groups);
    if (!lying.sharding) continue;
    info.sharding = std::move(lying.sharding);
    // A name makes the annotation a demand.
    if (!is_parameter)
      info.name = leaves.size() == 1 ? instruction.name : cat(instruction.name, ".", i);
  }
  if (is_parameter && is_of_entry(context)) open_inputs(context, leaves);
}

}  // namespace tessera::hlo

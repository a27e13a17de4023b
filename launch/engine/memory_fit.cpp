#include "launch/engine/memory_fit.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/runtime/buffer_store.h"
#include "launch/checkpoint/agreement.h"
#include "launch/plan/memory_by_kind.h"

namespace tessera {
namespace {

using Kinds = std::vector<std::pair<std::string, int64_t>>;

constexpr size_t kBuffersNamed = 5;

// Inputs are shared by name, and the memory of a run by all graphs, which run one after another.
int64_t needed_bytes(const std::vector<const Executable*>& executables) {
  std::map<std::string, int64_t> persistent;
  int64_t constants = 0, scratch = 0, symmetric = 0;
  for (const Executable* executable : executables) {
    for (size_t i = 0; i < executable->input_buffers.size(); ++i)
      persistent[input_name(executable->graph, static_cast<int>(i))] =
          executable->buffers[static_cast<size_t>(executable->input_buffers[i])].bytes;
    const MemoryReport& memory = executable->memory;
    constants += memory.constant_bytes;
    scratch = std::max(scratch, memory.scratch_bytes);
    symmetric = std::max(symmetric, memory.symmetric_bytes);
  }
  int64_t bytes = constants + scratch + symmetric;
  for (const auto& [name, size] : persistent) bytes += size;
  return bytes;
}

std::string largest_buffers(const Executable& executable) {
  std::vector<const BufferPlan*> buffers;
  for (const BufferPlan& buffer : executable.buffers)
    if (buffer.alias_of < 0 && buffer.bytes > 0) buffers.push_back(&buffer);
  const size_t count = std::min(kBuffersNamed, buffers.size());
  std::partial_sort(buffers.begin(), buffers.begin() + static_cast<std::ptrdiff_t>(count), buffers.end(),
                    [](const BufferPlan* a, const BufferPlan* b) { return a->bytes > b->bytes; });
  std::vector<std::string> lines;
  for (size_t i = 0; i < count; ++i) {
    const BufferPlan& buffer = *buffers[i];
    std::ostringstream line;
    line << "    " << human_bytes(static_cast<double>(buffer.bytes)) << "  " << buffer.type << "  "
         << (buffer.tensor.empty() ? "(unnamed)" : buffer.tensor);
    if (buffer.first_step >= 0) line << ", live in steps " << buffer.first_step << " to " << buffer.last_step;
    lines.push_back(std::move(line).str());
  }
  return join(lines, "\n");
}

std::string advice(const JobConfig& config, const Kinds& kinds) {
  int64_t state = 0, activations = 0;
  for (const auto& [kind, bytes] : kinds)
    if (kind == "parameters" || kind == "optimizer" || kind == "gradients")
      state += bytes;
    else if (kind == "activations")
      activations += bytes;
  std::vector<std::string> ways;
  if (activations > state / 4) {
    if (config.train.remat != config::RematPolicy::full) ways.push_back("train.remat = full (activations are computed again)");
    if (config.train.microbatch > 1)
      ways.push_back(cat("a smaller train.microbatch (now ", config.train.microbatch, ")"));
    ways.push_back("--sharding tensor_sequence (activations are cut over a mesh axis)");
  }
  if (state > activations / 4)
    ways.push_back("--sharding fsdp, or zero1 (parameters, gradients and optimizer state, or the last alone, are cut "
                   "over the data axis)");
  return join(ways, "; ");
}

// What one rank tells the others.
struct Claim {
  std::string name, uuid;
  int64_t needed = 0, free = 0;
};
std::string print(const Claim& claim) {
  return cat(claim.name, '\t', claim.uuid, '\t', claim.needed, '\t', claim.free);
}
Claim parse_claim(const std::string& text) {
  const std::vector<std::string> fields = split(text, '\t');
  return {fields.at(0), fields.at(1), std::stoll(fields.at(2)), std::stoll(fields.at(3))};
}

// Of the ranks that share one device: what is wrong; "" where they fit.
std::string shortage(const std::vector<Claim>& ranks) {
  int64_t needed = 0, free = ranks[0].free;
  for (const Claim& claim : ranks) needed += claim.needed, free = std::min(free, claim.free);
  if (needed <= free) return "";
  return cat("out of memory on ", ranks[0].name, ": ", human_bytes(static_cast<double>(needed)), " are needed",
             ranks.size() > 1 ? cat(" by ", ranks.size(), " ranks together") : std::string(), ", ",
             human_bytes(static_cast<double>(free)), " are free");
}

}  // namespace

void check_memory_fits(const CompiledJob& job, RankDevice& device) {
  const std::optional<DeviceMemory> memory = device.memory();
  if (!memory) return;
  const std::vector<const Executable*> executables = executables_of(job);
  const Claim mine{memory->name, memory->uuid, needed_bytes(executables), memory->free_bytes};
  std::map<std::string, std::vector<Claim>> sharing;  // by device
  for (const std::string& text : device.world().all_gather_text(print(mine))) {
    const Claim claim = parse_claim(text);
    sharing[claim.uuid].push_back(claim);
  }
  std::string short_of;
  for (const auto& [uuid, ranks] : sharing)
    if (short_of.empty()) short_of = shortage(ranks);
  if (short_of.empty()) return;
  const Kinds kinds = memory_by_kind(*job.step.executable);
  std::vector<std::string> parts;
  for (const auto& [kind, bytes] : kinds)
    if (bytes > 0) parts.push_back(cat(kind, " ", human_bytes(static_cast<double>(bytes))));
  throw_failure(Failure::user,
                cat(short_of, ".\n  A rank's training step: ", join(parts, ", "),
                    "\n  The largest buffers:\n", largest_buffers(*job.step.executable), "\n  What needs less: ",
                    advice(job.config, kinds), ". `tessera plan` shows what takes how much on any mesh."));
}

}  // namespace tessera

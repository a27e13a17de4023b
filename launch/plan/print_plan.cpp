#include "launch/plan/print_plan.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "core/base/strings.h"
#include "launch/plan/text_table.h"

namespace tessera {
namespace {

std::string bytes_text(int64_t bytes) { return human_bytes(static_cast<double>(bytes)); }

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
  return text;
}

std::string plural(int64_t count, const std::string& word) {
  return cat(grouped_digits(count), " ", word, count == 1 ? "" : "s");
}

std::string head_text(const PlanReport& report) {
  std::string text = cat("Plan of ", report.job, ", graph \"", report.graph.graph, "\"\n  mesh ", report.mesh, ", ",
                         plural(report.devices, "device"), "; machine profile ", report.profile, ", ",
                         plural(report.devices_per_host, "device"), " a host\n");
  for (const AxisPlan& axis : report.axes)
    text += cat("  axis ", axis.name, ": ", axis.size, axis.size == 1       ? ", shards nothing"
                                                       : axis.crosses_hosts ? ", crosses hosts"
                                                                            : ", inside a host",
                axis.is_tensor_parallel ? ", tensor parallel" : "", "\n");
  text += cat("  ", human_count(static_cast<double>(report.parameters)), " parameters (",
              grouped_digits(report.parameters), "), ", human_count(report.flops_per_token), " FLOPs per token, ",
              grouped_digits(report.tokens_per_step), " tokens a ", report.graph.graph == "step" ? "step" : "run", "\n");
  if (report.accumulate)
    text += cat("  a training step runs \"accumulate\" ", grouped_digits(report.accumulate->runs),
                " times and \"step\" once\n");
  return text;
}

// ---- Shardings --------------------------------------------------------------------------------

// What a tensor is besides the parameter whose name it bears.
std::pair<std::string, std::string> split_role(const std::string& name) {
  static const std::pair<const char*, const char*> kRoles[] = {
      {"adamw.m/", "m"}, {"adamw.v/", "v"}, {"accumulator/", "accumulator"}};
  for (const auto& [prefix, role] : kRoles)
    if (name.starts_with(prefix)) return {name.substr(std::string(prefix).size()), role};
  return {name, ""};
}

// The first link of each dim's chain of causes; --explain gives the chain.
std::string first_causes(const std::string& reason) {
  std::string text;
  for (const std::string& line : split(reason, '\n')) {
    if (line.starts_with(" ")) continue;
    text += cat(text.empty() ? "" : "\n", line.ends_with(";") ? line.substr(0, line.size() - 1) : line);
  }
  return without_numbers(text);
}

// Tensors that differ by layer only, or are the optimizer's copies of them.
struct TensorGroup {
  std::string name, type, sharding, reason;
  std::string role;                // of the first tensor: "" of a parameter
  std::vector<std::string> roles;  // that lie as it does, its own included where it has one
  int64_t count = 0;  // of layers
};

std::vector<TensorGroup> group_tensors(const std::vector<ShardingReason>& shardings) {
  std::vector<TensorGroup> groups;
  std::map<std::string, size_t> known, of_parameter;
  for (const ShardingReason& entry : shardings) {
    const auto [name, type] = split_tensor(entry.tensor);
    const auto [own, role] = split_role(name);
    const std::string pattern = without_numbers(own), reason = first_causes(entry.reason);
    const std::string lying = cat(pattern, "\n", type, "\n", entry.sharding);
    const std::string key = cat(lying, "\n", reason, "\n", role);
    if (const auto found = known.find(key); found != known.end()) {
      TensorGroup& group = groups[found->second];
      if (role == group.role) ++group.count;
      continue;
    }
    // A moment or accumulator that lies as its parameter does joins it.
    if (const auto parameter = of_parameter.find(lying); !role.empty() && parameter != of_parameter.end()) {
      groups[parameter->second].roles.push_back(role);
      known.emplace(key, parameter->second);
      continue;
    }
    known.emplace(key, groups.size());
    of_parameter.emplace(lying, groups.size());
    groups.push_back({pattern, type, entry.sharding, reason, role, {}, 1});
    if (!role.empty()) groups.back().roles = {role};
  }
  return groups;
}

std::string shardings_text(const PlanReport& report) {
  TextTable table({"tensor", "type", "lies", "x", "also"}, {false, false, false, true});
  for (const TensorGroup& group : group_tensors(report.shardings)) {
    table.add({group.name, group.type, group.sharding, cat(group.count), join(group.roles)});
    for (const std::string& line : split(group.reason, '\n')) table.add_note(cat("      ", line));
  }
  return cat("\nShardings (global shapes; x: layers alike; also: optimizer state and accumulators that lie so)\n",
             table.print());
}

// ---- Communication ----------------------------------------------------------------------------

std::string collectives_text(const GraphPlan& graph) {
  TextTable table({"op", "axes", "count", "bytes", "a layer", "sent", "time", "exposed", ""},
                  {false, false, true, true, true, true, true, true});
  for (const CollectivePlan& entry : graph.collectives)
    table.add({entry.op, entry.axes, grouped_digits(entry.count), bytes_text(entry.bytes),
               entry.layer_count == 0 ? "-" : cat(entry.layer_count, " x ", bytes_text(entry.layer_bytes / entry.layer_count)),
               human_bytes(entry.wire_bytes), human_seconds(entry.seconds), human_seconds(entry.exposed_seconds),
               entry.crosses_hosts ? "crosses hosts" : ""});
  std::string text = cat("\nCollectives of \"", graph.graph, "\" (of one device, in one run; bytes: of the operands)\n",
                         table.empty() ? "  none\n" : table.print());
  if (graph.most_exposed.empty()) return text;
  TextTable worst({"op", "axes", "tensor", "in", "time", "exposed"}, {false, false, false, false, true, true});
  for (const ExposedCollective& entry : graph.most_exposed)
    worst.add({entry.op, entry.axes, entry.type, entry.scope, human_seconds(entry.seconds),
               human_seconds(entry.exposed_seconds)});
  return text + "Most exposed\n" + worst.print();
}

std::string times_text(const PlanReport& report) {
  std::string text = cat("\nPredicted times (a model, not a promise)\n  ",
                         report.graph.graph == "step" ? "training step " : "run ",
                         human_seconds(report.predicted_step_seconds), ", of which exposed communication ",
                         human_seconds(report.exposed_seconds));
  if (report.predicted_step_seconds > 0)
    text += cat("; ", human_count(static_cast<double>(report.tokens_per_step) / report.predicted_step_seconds),
                " tokens/s, ", percent(report.mfu), " of the profile's FLOPs");
  text += "\n";
  auto line = [&](const GraphPlan& graph) {
    text += cat("  \"", graph.graph, "\" ", human_seconds(graph.seconds), " = ", human_seconds(graph.compute_seconds),
                " of kernels + ", human_seconds(graph.exposed_seconds), " exposed; ", plural(graph.steps, "step"),
                " of the executor\n");
  };
  if (report.accumulate) line(*report.accumulate);
  line(report.graph);
  return text;
}

// ---- Memory -----------------------------------------------------------------------------------

std::string memory_text(const PlanReport& report) {
  TextTable table({"kind", "bytes"}, {false, true});
  int64_t total = 0;
  for (const auto& [kind, bytes] : report.memory_per_device) {
    table.add({kind, bytes_text(bytes)});
    total += bytes;
  }
  table.add({"total", bytes_text(total)});
  std::string text = cat("\nMemory per device\n", table.print());
  // Runs of layers that keep the same.
  const auto& layers = report.saved_activations;
  for (size_t i = 0; i < layers.size();) {
    size_t end = i;
    while (end < layers.size() && layers[end].bytes == layers[i].bytes) ++end;
    text += cat(i == 0 ? "Activations kept for the backward pass\n" : "", "  ", layers[i].block,
                end - i > 1 ? cat(" to ", layers[end - 1].block) : "", ": ", bytes_text(layers[i].bytes),
                end - i > 1 ? " each" : "", "\n");
    i = end;
  }
  return text;
}

// ---- What to look at --------------------------------------------------------------------------

std::string conflicts_text(const PlanReport& report) {
  if (report.conflicts.empty()) return "";
  struct Group {
    int64_t count = 0, bytes = 0;
  };
  std::vector<std::string> order;
  std::map<std::string, Group> groups;
  for (const Conflict& conflict : report.conflicts) {
    const std::string text = without_numbers(conflict.text);
    Group& group = groups[text];
    if (group.count++ == 0) order.push_back(text);
    group.bytes = std::max(group.bytes, conflict.bytes);
  }
  constexpr size_t kShown = 8;
  std::string text = cat("\nConflicts of propagation: ", plural(static_cast<int64_t>(report.conflicts.size()), "op"),
                         " whose tensors disagree, largest first (what they cost stands under Collectives)\n");
  for (size_t i = 0; i < std::min(kShown, order.size()); ++i)
    text += cat("  ", groups[order[i]].count, " x ", bytes_text(groups[order[i]].bytes), ": ", order[i], "\n");
  if (order.size() > kShown) text += cat("  and ", order.size() - kShown, " other kinds (all with --json)\n");
  return text;
}

std::string fallbacks_text(const PlanReport& report) {
  if (report.fallbacks.empty()) return "";
  std::string text = "\nOn the reference interpreter (slow)\n";
  for (const FallbackPlan& fallback : report.fallbacks)
    text += cat("  ", fallback.op, " x ", fallback.count, fallback.reason.empty() ? "" : cat(": ", fallback.reason), "\n");
  return text;
}

std::string padding_text(const PlanReport& report) {
  if (report.padded.empty()) return "";
  constexpr size_t kShown = 8;
  int64_t wasted = 0;
  for (const PaddedTensor& tensor : report.padded) wasted += tensor.wasted_bytes;
  std::string text = cat("\nPadding of dims that their axes do not divide: ", bytes_text(wasted), " a device in ",
                         plural(static_cast<int64_t>(report.padded.size()), "tensor"), "\n");
  for (size_t i = 0; i < std::min(kShown, report.padded.size()); ++i)
    text += cat("  ", bytes_text(report.padded[i].wasted_bytes), " (",
                static_cast<int64_t>(100 * report.padded[i].waste + 0.5), " %): ", report.padded[i].tensor, "\n");
  if (report.padded.size() > kShown) text += cat("  and ", report.padded.size() - kShown, " others\n");
  return text;
}

std::string warnings_text(const PlanReport& report) {
  constexpr size_t kShown = 12;
  std::vector<std::string> order;
  std::map<std::string, int64_t> counts;
  for (const std::string& warning : report.warnings)
    if (counts[without_numbers(warning)]++ == 0) order.push_back(without_numbers(warning));
  if (order.empty()) return "";
  std::string text = "\nWarnings\n";
  for (size_t i = 0; i < std::min(kShown, order.size()); ++i)
    text += cat("  ", order[i], counts[order[i]] > 1 ? cat("  (x ", counts[order[i]], ")") : "", "\n");
  if (order.size() > kShown) text += cat("  and ", order.size() - kShown, " others (all with --json)\n");
  return text;
}

}  // namespace

std::string print_plan(const PlanReport& report) {
  return cat(head_text(report), shardings_text(report), collectives_text(report.graph),
             report.accumulate ? collectives_text(*report.accumulate) : "", times_text(report), memory_text(report),
             padding_text(report), conflicts_text(report), fallbacks_text(report), warnings_text(report), "\npartition ",
             human_seconds(report.partition_seconds), ", whole plan ", human_seconds(report.plan_seconds), "\n");
}

}  // namespace tessera

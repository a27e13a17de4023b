#include "launch/plan/plan_json.h"

#include <nlohmann/json.hpp>

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;

Json collectives_json(const GraphPlan& graph) {
  Json list = Json::array();
  for (const CollectivePlan& entry : graph.collectives)
    list.push_back({{"op", entry.op}, {"axes", entry.axes}, {"count", entry.count}, {"bytes", entry.bytes},
                    {"wire_bytes", entry.wire_bytes}, {"seconds", entry.seconds},
                    {"exposed_seconds", entry.exposed_seconds}, {"crosses_hosts", entry.crosses_hosts},
                    {"layer_count", entry.layer_count}, {"layer_bytes", entry.layer_bytes}});
  return list;
}

Json exposed_json(const PlanReport& report) {
  Json list = Json::array();
  auto add = [&](const GraphPlan& graph) {
    for (const CollectivePlan& entry : graph.collectives)
      list.push_back({{"graph", graph.graph}, {"op", entry.op}, {"axes", entry.axes},
                      {"seconds", entry.seconds * static_cast<double>(graph.runs)},
                      {"exposed_seconds", entry.exposed_seconds * static_cast<double>(graph.runs)}});
  };
  add(report.graph);
  if (report.accumulate) add(*report.accumulate);
  return {{"seconds", report.exposed_seconds}, {"collectives", list}};
}

Json shardings_json(const PlanReport& report) {
  Json list = Json::array();
  for (const ShardingReason& entry : report.shardings) {
    const auto [name, type] = split_tensor(entry.tensor);
    list.push_back({{"tensor", name}, {"type", type}, {"sharding", entry.sharding}, {"reason", entry.reason}});
  }
  return list;
}

template <typename Items, typename Make>
Json json_list(const Items& items, const Make& make) {
  Json list = Json::array();
  for (const auto& item : items) list.push_back(make(item));
  return list;
}

Json crossing_json(const PlanReport& report) {
  Json list = Json::array();
  for (const AxisPlan& axis : report.axes)
    if (axis.crosses_hosts) list.push_back(axis.name);
  return list;
}

}  // namespace

std::string plan_json(const PlanReport& report) {
  Json memory = Json::object();
  for (const auto& [kind, bytes] : report.memory_per_device) memory[kind] = bytes;
  Json saved = Json::object();
  for (const LayerActivations& layer : report.saved_activations) saved[layer.block] = layer.bytes;
  Json json = {
      {"job", report.job},
      {"graph", report.graph.graph},
      {"mesh", report.mesh},
      {"devices", report.devices},
      {"profile", report.profile},
      {"devices_per_host", report.devices_per_host},
      {"parameters", report.parameters},
      {"flops_per_token", report.flops_per_token},
      {"tokens_per_step", report.tokens_per_step},
      {"predicted_step_seconds", report.predicted_step_seconds},
      {"predicted_mfu", report.mfu},
      {"exposed_communication", exposed_json(report)},
      {"crossing_axes", crossing_json(report)},
      {"memory_per_device", memory},
      {"saved_activations_per_layer", saved},
      {"collectives", collectives_json(report.graph)},
      {"shardings", shardings_json(report)},
      {"conflicts", json_list(report.conflicts,
                              [](const Conflict& conflict) {
                                return Json{{"bytes", conflict.bytes}, {"text", conflict.text}};
                              })},
      {"reference_kernels", json_list(report.fallbacks,
                                      [](const FallbackPlan& fallback) {
                                        return Json{{"op", fallback.op}, {"count", fallback.count},
                                                    {"reason", fallback.reason}};
                                      })},
      {"warnings", report.warnings},
      {"partition_seconds", report.partition_seconds},
      {"plan_seconds", report.plan_seconds}};
  if (report.accumulate)
    json["accumulate"] = {{"runs", report.accumulate->runs},
                          {"seconds", report.accumulate->seconds},
                          {"collectives", collectives_json(*report.accumulate)}};
  return json.dump(2);
}

}  // namespace tessera

#include <iostream>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/runtime/flight_record.h"
#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/checkpoint_reader.h"
#include "launch/checkpoint/inspect.h"
#include "launch/verbs/verbs.h"

namespace tessera {
namespace {

nlohmann::json to_json(const CheckpointReport& report) {
  nlohmann::json tensors = nlohmann::json::array();
  for (const TensorReport& entry : report.tensors) {
    nlohmann::json tensor = {{"name", entry.tensor.name},
                             {"role", entry.tensor.role},
                             {"dtype", std::string(name_of(entry.tensor.type.dtype))},
                             {"shape", std::vector<int64_t>(entry.tensor.type.shape.begin(), entry.tensor.type.shape.end())},
                             {"slices", entry.slices}};
    if (entry.norm) tensor["norm"] = *entry.norm;
    tensors.push_back(std::move(tensor));
  }
  nlohmann::json mesh = nlohmann::json::object();
  for (const auto& [name, size] : report.info.mesh) mesh[name] = size;
  return {{"path", report.path}, {"step", report.info.step}, {"tokens", report.info.tokens},
          {"bytes", report.bytes}, {"parameters", report.parameters}, {"commit", report.info.commit},
          {"libraries", report.info.libraries}, {"mesh", mesh}, {"tensors", tensors}};
}

// What the ranks of a job that hung or died did last, and who held the others up.
int inspect_flight(const InspectArguments& arguments) {
  const std::vector<FlightRecord> records = read_flight_records(arguments.path);
  const FlightVerdict verdict = compare_flight_records(records);
  if (arguments.json != "-") {
    for (const FlightRecord& record : records) {
      std::cout << "rank " << record.rank << " of " << record.ranks << " (" << record.host << "): " << record.reason;
      if (!record.entries.empty()) std::cout << "\n  last: " << describe(record, record.entries.back());
      std::cout << "\n";
    }
    std::cout << verdict.text << std::endl;
  }
  if (arguments.json.empty()) return 0;
  nlohmann::json ranks = nlohmann::json::array();
  for (const FlightRecord& record : records) {
    nlohmann::json rank = {{"rank", record.rank}, {"host", record.host}, {"reason", record.reason}};
    if (!record.entries.empty()) rank["last"] = describe(record, record.entries.back());
    ranks.push_back(std::move(rank));
  }
  write_report(arguments.json, nlohmann::json{{"path", arguments.path}, {"culprit", verdict.culprit},
                                              {"verdict", verdict.text}, {"ranks", ranks}}.dump(2));
  return 0;
}

}  // namespace

// Every checkpoint of a run is looked at from the newest on; the first whole one is listed.
int run_inspect(const InspectArguments& arguments) {
  if (holds_flight_records(arguments.path)) return inspect_flight(arguments);
  for (const CheckpointEntry& entry : find_checkpoints(arguments.path)) {
    try {
      CheckpointReader reader(entry.path);
      const CheckpointReport report = inspect_checkpoint(reader, /*norms=*/true);
      if (arguments.json != "-") std::cout << describe(report) << std::endl;
      if (!arguments.json.empty()) write_report(arguments.json, to_json(report).dump(2));
      return 0;
    } catch (const CorruptCheckpoint& error) {
      log_warning(error.what());
    }
  }
  throw_user_error("no checkpoint in ", arguments.path, " is whole; each one's damage is named above");
}

}  // namespace tessera

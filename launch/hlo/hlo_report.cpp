#include "launch/hlo/hlo_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/error.h"
#include "launch/plan/text_table.h"

namespace tessera {
namespace {

using Json = nlohmann::json;

constexpr size_t kShownPairs = 3;

Json collectives_json(const PartitionReport& report) {
  Json list = Json::array();
  for (const CollectiveSummary& each : report.collectives)
    list.push_back({{"op", each.op}, {"axes", each.axes}, {"count", each.count}, {"bytes", each.bytes}});
  return list;
}

std::string collectives_table(const PartitionReport& report) {
  if (report.collectives.empty()) return "no collectives\n";
  TextTable table({"collective", "axes", "count", "bytes a device"}, {false, false, true, true});
  for (const CollectiveSummary& each : report.collectives)
    table.add({each.op, each.axes, grouped_digits(each.count), grouped_digits(each.bytes)});
  return table.print();
}

std::string plural(int64_t count, const std::string& word) { return cat(count, " ", word, count == 1 ? "" : "s"); }

Json program_json(const PreparedProgram& prepared) {
  const HloProgram& program = prepared.program;
  const PartitionReport& partition = program.compiled.partition;
  Json notes = Json::array();
  for (const std::string& note : program.imported.notes) notes.push_back(note);
  for (const std::string& warning : partition.warnings) notes.push_back(warning);
  return {{"devices", program.devices()},
          {"ranks", prepared.processes},
          {"mesh", cat(*program.imported.mesh)},
          {"instructions", program.instructions},
          {"parse_seconds", program.parse_seconds},
          {"partition_seconds", partition.seconds},
          {"compile_seconds", program.compile_seconds},
          {"copies", program.compiled.executable->copies},
          {"memory_bytes", program.compiled.executable->memory.peak_bytes()},
          {"collectives", collectives_json(partition)},
          {"notes", notes},
          {"reference_kernels", program.compiled.slow_ops}};
}

Json outputs_json(const HloProgram& program, const std::string& folder) {
  Json list = Json::array();
  for (size_t o = 0; o < program.imported.outputs.size(); ++o) {
    const hlo::BoundaryLeaf& leaf = program.imported.outputs[o];
    list.push_back({{"name", leaf.name}, {"type", cat(leaf.type)}});
    if (!folder.empty()) list.back()["file"] = output_file(folder, o);
  }
  return list;
}

Json comparison_json(const HloProgram& program, const Comparison& comparison) {
  // JSON has no infinity.
  const double error = comparison.max_relative_error;
  Json json = {{"equal", comparison.equal()}, {"max_rel_err", std::isfinite(error) ? Json(error) : Json("inf")}};
  if (comparison.not_finite > 0) json["not_finite"] = comparison.not_finite;
  if (comparison.first)
    json["first_difference"] = {{"output", program.imported.outputs[comparison.first->output].name},
                                {"index", comparison.first->index},
                                {"expected", comparison.first->expected},
                                {"actual", comparison.first->actual}};
  return json;
}

}  // namespace

StepTimes step_times(std::vector<double> seconds) {
  if (seconds.size() > 1) seconds.erase(seconds.begin());
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2]};
}

std::string describe_program(const PreparedProgram& prepared) {
  const HloProgram& program = prepared.program;
  std::string text = cat(program.imported.graph.name, ": ", plural(program.instructions, "instruction"), " on ",
                         plural(program.devices(), "device"), " ", *program.imported.mesh,
                         program.devices() == 1       ? ""
                         : prepared.processes > 1 ? ", one a process"
                                                  : ", threads of one process",
                         "; parsed in ", human_seconds(program.parse_seconds), ", compiled in ",
                         human_seconds(program.compile_seconds), "\n", collectives_table(program.compiled.partition));
  for (const std::string& note : program.imported.notes) text += cat("note: ", note, "\n");
  if (prepared.inputs.files() < prepared.inputs.size())
    text += cat(prepared.inputs.size() - prepared.inputs.files(), " of ", plural(static_cast<int64_t>(prepared.inputs.size()), "input"),
                " are random\n");
  return text;
}

std::string describe_carry(const HloProgram& program) {
  const hlo::Imported& imported = program.imported;
  std::vector<std::string> shown;
  for (size_t i = 0; i < std::min(kShownPairs, program.carried.size()); ++i)
    shown.push_back(cat(imported.outputs[static_cast<size_t>(program.carried[i].first)].name, " -> ",
                        imported.inputs[static_cast<size_t>(program.carried[i].second)].name));
  return cat(program.carried.size(), " of ", plural(static_cast<int64_t>(imported.outputs.size()), "output"),
             " feed inputs of the next step: ", join(shown), program.carried.size() > kShownPairs ? ", ..." : "", "\n");
}

std::string print_scalar(double value) {
  std::ostringstream text;
  text.precision(7);
  text << value;
  return std::move(text).str();
}

std::string print_scalar(const HostTensor& scalar) {
  if (scalar.dtype() == DType::c64) return cat(scalar.get_complex(0));
  return is_float(scalar.dtype()) ? print_scalar(scalar.get_real(0)) : cat(scalar.get_int(0));
}

std::string describe_difference(const HloProgram& program, const OutputDifference& difference) {
  const hlo::BoundaryLeaf& leaf = program.imported.outputs[difference.output];
  return cat(leaf.name, " ", leaf.type, " [", join(difference.index, ","), "] is ", difference.actual, ", expected ",
             difference.expected);
}

std::string output_file(const std::string& folder, size_t number) { return cat(folder, "/output.", number, ".npy"); }

std::string run_json(const PreparedProgram& prepared, const RunRecord& record, const std::string& folder) {
  const StepTimes times = step_times(record.seconds);
  Json json = program_json(prepared);
  json["steps"] = record.seconds.size();
  json["step_seconds"] = {{"best", times.best}, {"median", times.median}};
  json["carried"] = prepared.program.carried;
  json["scalars"] = record.scalars;
  json["outputs"] = outputs_json(prepared.program, folder);
  return json.dump(2);
}

std::string check_json(const PreparedProgram& prepared, const Comparison& comparison, double tolerance) {
  Json json = program_json(prepared);
  json.update(comparison_json(prepared.program, comparison));
  json["tolerance"] = tolerance;
  return json.dump(2);
}

}  // namespace tessera

#include "launch/profile/profile_summary.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/base/strings.h"
#include "launch/plan/text_table.h"

namespace tessera {
namespace {

constexpr size_t kPrintedRows = 10;

std::string fixed(double value, int digits) {
  char text[40];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string percent(double part, double whole) { return fixed(whole > 0 ? 100 * part / whole : 0, 1) + " %"; }

// "-" where there is nothing to say.
std::string giga(double rate) {
  if (rate <= 0) return "-";
  char text[40];
  std::snprintf(text, sizeof text, rate < 1e11 ? "%.3g" : "%.0f", rate / 1e9);
  return text;
}

}  // namespace

double ProfileRow::bytes_per_second() const {
  const double time = communicates ? in_flight_seconds : seconds;
  return time > 0 ? bytes / time : 0;
}

ProfileRow& ProfileSum::row(const std::string& op, const std::string& where) {
  ProfileRow& row = rows_[{op, where}];
  row.op = op;
  row.where = where;
  return row;
}

void ProfileSum::add(const StepText& text, double seconds) {
  ProfileRow& sum = row(text.op, text.where);
  ++sum.runs;
  sum.seconds += seconds;
  sum.communicates = text.communicates();
  if (text.kind == StepText::Kind::start) return;  // its bytes are counted where they arrive
  sum.flops += text.flops;
  sum.bytes += text.bytes;
}

void ProfileSum::add_flight(const StepText& text, double begin, double end) {
  double& until = flown_until_[{text.wait_op, text.where}];
  row(text.wait_op, text.where).in_flight_seconds += std::max(0.0, end - std::max(begin, until));
  until = std::max(until, end);
}

void ProfileSum::add_progress(double seconds) {
  ProfileRow& sum = row("progress of collectives", "");
  ++sum.runs;
  sum.seconds += seconds;
  sum.communicates = true;
}

double ProfileSum::exposed_seconds() const {
  double seconds = 0;
  for (const auto& [key, row] : rows_) seconds += row.communicates ? row.seconds : 0;
  return seconds;
}

double ProfileSum::kernel_seconds() const {
  double seconds = 0;
  for (const auto& [key, row] : rows_) seconds += row.communicates ? 0 : row.seconds;
  return seconds;
}

std::vector<ProfileRow> ProfileSum::rows() const {
  std::vector<ProfileRow> rows;
  for (const auto& [key, row] : rows_) rows.push_back(row);
  std::stable_sort(rows.begin(), rows.end(),
                   [](const ProfileRow& a, const ProfileRow& b) { return a.seconds > b.seconds; });
  return rows;
}

std::string print_profile(const ProfileReport& report) {
  const auto steps = static_cast<double>(report.steps());
  const double whole = report.step_seconds;
  const double rest = std::max(0.0, whole - report.kernel_seconds - report.exposed_seconds);
  std::string text = cat("profile of ", report.steps() == 1 ? "step " : "steps ", report.first,
                         report.steps() == 1 ? "" : cat(" to ", report.last), " on rank 0, ", human_seconds(whole / steps),
                         " each: ", percent(report.kernel_seconds, whole), " kernels, ",
                         percent(report.exposed_seconds, whole), " exposed communication, ", percent(rest, whole),
                         " host and gaps");
  if (report.ranks > 1)
    text += cat("\nexposed communication among the ", report.ranks, " ranks: ", percent(report.least_exposed, 1), " to ",
                percent(report.most_exposed, 1), " of the step; their clocks agree to within ",
                human_seconds(report.clock_error));
  TextTable table({"op", "where", "runs/step", "time/step", "share", "GFLOP/s", "GB/s"},
                  {false, false, true, true, true, true, true});
  for (size_t i = 0; i < std::min(kPrintedRows, report.rows.size()); ++i) {
    const ProfileRow& row = report.rows[i];
    table.add({row.op, row.where, fixed(static_cast<double>(row.runs) / steps, row.runs % report.steps() ? 1 : 0),
               human_seconds(row.seconds / steps), percent(row.seconds, whole), giga(row.flops_per_second()),
               giga(row.bytes_per_second())});
  }
  return cat(text, "\n", table.print(), "trace: ", report.trace, " (open it at ui.perfetto.dev)");
}

std::string profile_json(const ProfileReport& report) {
  nlohmann::json json = {{"trace", report.trace}, {"first_step", report.first}, {"last_step", report.last},
                         {"ranks", report.ranks}, {"clock_error_seconds", report.clock_error},
                         {"step_seconds", report.step_seconds}, {"kernel_seconds", report.kernel_seconds},
                         {"exposed_communication_seconds", report.exposed_seconds},
                         {"least_exposed_share", report.least_exposed}, {"most_exposed_share", report.most_exposed},
                         {"ops", nlohmann::json::array()}};
  for (const ProfileRow& row : report.rows) {
    json["ops"].push_back({{"op", row.op}, {"where", row.where}, {"runs", row.runs}, {"seconds", row.seconds},
                           {"share", report.step_seconds > 0 ? row.seconds / report.step_seconds : 0},
                           {"flops_per_second", row.flops_per_second()}, {"bytes_per_second", row.bytes_per_second()}});
    if (row.in_flight_seconds > 0) json["ops"].back()["in_flight_seconds"] = row.in_flight_seconds;
  }
  return json.dump();
}

}  // namespace tessera

#include "launch/profile/profiler.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "launch/checkpoint/agreement.h"
#include "launch/checkpoint/output_folder.h"
#include "launch/plan/text_table.h"

namespace tessera {
namespace {

// What steps are profiled where none are named: the first two make what is made only once.
constexpr int64_t kSkipped = 2, kProfiled = 3;

std::string folder_of(const ProfileOptions& options) {
  const std::string folder = std::filesystem::path(options.merged_file()).parent_path().string();
  return folder.empty() ? "." : folder;
}

void make_folder(const ProfileOptions& options) {
  std::error_code error;
  std::filesystem::create_directories(folder_of(options), error);
  if (error)
    throw_user_error("--profile ", options.path, ": the folder ", folder_of(options), " cannot be made: ",
                     error.message());
}

std::string exact_text(double value) {
  std::ostringstream text;
  text.precision(17);
  text << value;
  return text.str();
}

}  // namespace

Profiler::Profiler(const ProfileOptions& options, World& world, Backend& backend)
    : options_(options), world_(world), backend_(backend) {
  const Outcome made = run_on_first(&world_, [&] {
    make_folder(options_);
    return std::string();
  });
  if (made.failed()) throw_failure(made.failure, made.error);
  const std::vector<Outcome> opened = run_on_all(&world_, [&] {
    trace_ = std::make_unique<RankTrace>(options_.rank_file(world_.rank()), world_.rank(),
                                         cat("rank ", world_.rank(), " on ", world_.host_name()), backend_.device_name());
    return std::string();
  });
  if (const std::optional<Outcome> failure = common_failure(opened)) throw_failure(failure->failure, failure->error);
  check_shared_folder(folder_of(options_), world_);
}

void Profiler::begin_run(int64_t done, int64_t total) {
  if (done >= total) return;  // there is nothing to do
  first_ = options_.first > 0 ? options_.first : std::min(done + kSkipped + 1, total);
  last_ = options_.first > 0 ? options_.last : std::min(first_ + kProfiled - 1, total);
  if (first_ > total || last_ <= done)
    throw_config_error("--profile-steps ", first_, ":", last_, ": this run has steps ", done + 1, " to ", total);
  first_ = std::max(first_, done + 1);
  last_ = std::min(last_, total);
}

void Profiler::before_step(int64_t step, Session& session) {
  if (is_on_) collect();
  if (step < first_ || step > last_) {
    if (is_on_) end(session);
    return;
  }
  if (!is_on_) begin(session);
  current_ = step;
  world_.barrier();
  backend_.begin_times();
}

void Profiler::begin(Session& session) {
  const ClockOffset offset = measure_clock_offset(world_);
  clock_error_ = largest_clock_error(world_, offset);
  const double zero = std::stod(world_.broadcast_text(exact_text(steady_seconds()), 0));
  trace_->set_zero(zero + offset.seconds);
  session.set_timeline(&timeline_);
  is_on_ = true;
  news_ = cat("profiling steps ", first_, " to ", last_,
              backend_.can_capture() ? ", which run kernel by kernel: recordings (CUDA graphs) cannot be timed inside"
                                     : "",
              world_.size() > 1 ? cat("; the ranks' clocks agree to within ", human_seconds(clock_error_)) : "");
}

void Profiler::collect() {
  backend_.synchronize();
  trace_->add(timeline_, backend_, current_);
  timeline_.clear();
}

void Profiler::end(Session& session) {
  session.set_timeline(nullptr);
  is_on_ = false;
  const std::vector<Outcome> closed = run_on_all(&world_, [&] {
    trace_->close();
    return std::string();
  });
  if (const std::optional<Outcome> failure = common_failure(closed)) throw_failure(failure->failure, failure->error);
  report_ = summarize();
  const Outcome merged = run_on_first(&world_, [&] {
    std::vector<std::string> parts;
    for (int rank = 0; rank < world_.size(); ++rank) parts.push_back(options_.rank_file(rank));
    merge_traces(parts, options_.merged_file());
    return std::string();
  });
  if (merged.failed()) throw_failure(merged.failure, merged.error);
  news_ = print_profile(*report_);
}

void Profiler::end_run(Session& session) {
  if (!is_on_) return;
  collect();
  end(session);
}

ProfileReport Profiler::summarize() {
  const ProfileSum& sum = trace_->sum();
  ProfileReport report{.trace = options_.merged_file(), .first = first_, .last = current_,
                       .step_seconds = sum.step_seconds(), .kernel_seconds = sum.kernel_seconds(),
                       .exposed_seconds = sum.exposed_seconds(), .clock_error = clock_error_, .ranks = world_.size(),
                       .rows = sum.rows()};
  const double share = report.step_seconds > 0 ? report.exposed_seconds / report.step_seconds : 0;
  report.least_exposed = report.most_exposed = share;
  for (const std::string& text : world_.all_gather_text(exact_text(share))) {
    report.least_exposed = std::min(report.least_exposed, std::stod(text));
    report.most_exposed = std::max(report.most_exposed, std::stod(text));
  }
  return report;
}

std::string Profiler::news() { return std::exchange(news_, ""); }

}  // namespace tessera

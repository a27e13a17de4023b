#include "launch/trainer/run_log.h"

#include <cmath>
#include <cstdio>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/config/load.h"
#include "launch/trainer/trainer.h"

namespace tessera {
namespace {

ProgressMode progress_mode(config::ProgressMode mode) {
  switch (mode) {
    case config::ProgressMode::automatic: return ProgressMode::automatic;
    case config::ProgressMode::live: return ProgressMode::live;
    case config::ProgressMode::plain: return ProgressMode::plain;
  }
  return ProgressMode::automatic;
}

LogLevel log_level(config::LogLevelName level) {
  switch (level) {
    case config::LogLevelName::debug: return LogLevel::debug;
    case config::LogLevelName::info: return LogLevel::info;
    case config::LogLevelName::warning: return LogLevel::warning;
    case config::LogLevelName::error: return LogLevel::error;
  }
  return LogLevel::info;
}

void open_log_file(const JobConfig& config, const World& world) {
  const std::string folder = config.output_dir + "/logs";
  std::error_code error;
  std::filesystem::create_directories(folder, error);  // init_logging reports what went wrong
  char name[32];
  std::snprintf(name, sizeof name, "/rank_%05d.log", world.rank());
  init_logging({.file = folder + name, .file_level = log_level(config.metrics.log_level),
                .console_level = LogLevel::warning, .rank = world.rank()});
}

}  // namespace

RunLog::RunLog(const JobConfig& config, double flops_per_token, double peak_flops, World& world)
    : config_(config), flops_per_token_(flops_per_token), peak_flops_(peak_flops), speaks_(world.rank() == 0) {
  // Ranks as threads share one process and so one log: rank 0's.
  if (speaks_ || !world.shares_process()) open_log_file(config, world);
}

void RunLog::resume_at(int64_t step) {
  if (!speaks_) return;
  metrics_ = std::make_unique<MetricsLog>(config_.output_dir + "/metrics.jsonl", step);
  if (config_.metrics.tensorboard) {
    events_ = std::make_unique<EventFile>(config_.output_dir + "/tensorboard", step);
    events_->append_text("config", "```\n" + effective_text(config_) + "\n```");
  }
  progress_ = std::make_unique<Progress>(ProgressConfig{.mode = progress_mode(config_.metrics.progress),
                                                        .first_step = step,
                                                        .total_steps = config_.train.steps,
                                                        .interval = config_.metrics.print_interval});
}

void RunLog::message(const std::string& text) {
  if (!speaks_) return;
  log_info(text);
  if (progress_) progress_->message(text);
  else std::printf("%s\n", text.c_str());
}

void RunLog::warning(const std::string& text) {
  if (speaks_) log_warning("warning: ", text);
}

void RunLog::step(const StepFacts& facts) {
  if (!speaks_) return;
  write_pending();
  const double speed = static_cast<double>(facts.tokens) / facts.seconds;
  pending_ = StepMetrics{.step = facts.step, .loss = facts.loss, .grad_norm = facts.grad_norm,
                         .lr = facts.learning_rate, .tokens_per_second = speed};
  if (peak_flops_ > 0) pending_->mfu = speed * flops_per_token_ / peak_flops_;
  const bool evaluates = config_.eval.interval > 0 && facts.step % config_.eval.interval == 0;
  const bool last = facts.step == config_.train.steps;
  if (!evaluates && !last) progress_->step(*pending_);
}

void RunLog::evaluation(int64_t step, double loss) {
  if (!speaks_) return;
  if (!pending_ || pending_->step != step) pending_ = StepMetrics{.step = step};
  pending_->eval_loss = loss;
  progress_->step(*pending_);
}

void RunLog::write_pending() {
  if (!pending_) return;
  const bool due = pending_->step % config_.metrics.interval == 0 || pending_->eval_loss ||
                   pending_->step == config_.train.steps;
  if (due) {
    metrics_->append(*pending_);
    if (events_) events_->append(*pending_);
  }
  pending_.reset();
}

void RunLog::checkpoint(const std::string& path, int64_t bytes, double seconds) {
  if (!speaks_) return;
  message(cat("saved ", path, " (", human_bytes(static_cast<double>(bytes)), " in ",
              print_double(std::round(seconds * 100) / 100), " s)"));
}

void RunLog::finish(const TrainSummary& summary) {
  if (!speaks_) return;
  write_pending();
  progress_->finish();
  std::string text = summary.losses.empty()
                         ? cat("nothing to do: ", summary.steps, " of ", config_.train.steps,
                               " steps are done; raise train.steps to go on")
                         : cat(summary.stopped_on_request ? "stopped on request" : "done", " at step ",
                               summary.steps, ": loss ", print_double(std::round(summary.losses.back() * 1e4) / 1e4),
                               ", ", human_count(summary.tokens_per_second), " tokens/s");
  if (summary.eval_loss)
    text += cat(", held-out loss ", print_double(std::round(*summary.eval_loss * 1e4) / 1e4), " nats per token");
  message(text);
  flush_log();
}

}  // namespace tessera

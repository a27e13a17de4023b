#include "launch/trainer/trainer.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/steady_clock.h"
#include "launch/checkpoint/agreement.h"
#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/checkpoint/output_folder.h"
#include "launch/checkpoint/restore.h"
#include "launch/config/load.h"
#include "launch/data/batches.h"
#include "launch/data/corpus_entropy.h"
#include "launch/engine/job_data.h"
#include "launch/engine/memory_fit.h"
#include "launch/engine/session.h"
#include "launch/profile/profiler.h"
#include "launch/trainer/evaluation.h"
#include "launch/trainer/kernel_choices.h"
#include "launch/trainer/learning_rate.h"
#include "launch/trainer/provenance.h"
#include "launch/trainer/run_log.h"
#include "launch/trainer/stop_request.h"

namespace tessera {
namespace {

class Trainer {
 public:
  Trainer(const std::shared_ptr<const CompiledJob>& job, RankDevice& device, const ProfileOptions& profile)
      : job_(*job),
        config_(job->config),
        device_(device),
        world_(device.world()),
        output_(open_output(config_, world_)),
        profiler_(profile.wanted() ? std::make_unique<Profiler>(profile, world_, device.backend()) : nullptr),
        data_(open_job_data(config_, world_)),
        batches_(*data_.training, static_cast<uint64_t>(config_.data.seed), config_.data.shuffle),
        peak_flops_(device.peak_probe(config_.train.compute_dtype).measure(world_)),  // before memory is taken
        session_(job, device.backend(), world_),
        writer_(config_.output_dir, config_.checkpoint.keep, &world_),
        log_(config_, models::train_flops_per_token(job_.step_config.model, config_.train.sequence_length),
             peak_flops_, world_) {}

  TrainSummary run() {
    device_.share_kernel_choices();
    resume_or_initialise();
    announce();
    if (profiler_) profiler_->begin_run(step_, config_.train.steps);
    while (step_ < config_.train.steps) {
      if (profiler_) before_profiled_step();
      train_step();
      if (is_due(config_.train.replica_check_interval)) check_replicas();
      const bool is_last = step_ == config_.train.steps;
      if (is_due(config_.eval.interval) || (is_last && config_.eval.at_end)) evaluate();
      if (is_due(config_.checkpoint.interval)) save();
      if (stop_requested()) return finish(/*on_request=*/true);
    }
    return finish(/*on_request=*/false);
  }

 private:
  // The lock, held by rank 0 as long as the trainer lives.
  static std::optional<OutputLock> open_output(const JobConfig& config, World& world) {
    std::optional<OutputLock> lock;
    const Outcome outcome = run_on_first(&world, [&] {
      prepare_output_folder(config.output_dir);
      lock.emplace(config.output_dir);
      return std::string();
    });
    if (outcome.failed()) throw_failure(outcome.failure, outcome.error);
    check_shared_folder(config.output_dir, world);
    return lock;
  }

  bool is_due(int64_t interval) const { return interval > 0 && step_ % interval == 0; }

  void resume_or_initialise() {
    session_.initialise();
    if (config_.checkpoint.resume == config::ResumeMode::never) {
      refuse_old_checkpoints();
      log_.start_over();
      return;
    }
    const std::vector<TensorSpec> model = session_.state().specs();
    const std::vector<TensorTarget> targets = session_.state().targets();
    const auto restored = restore_checkpoint(
        {.candidates = list_checkpoints(config_.output_dir), .model = model, .targets = targets,
         .accept = [&](const CheckpointInfo& info) { accept_resume(info); }},
        &world_);
    if (!restored) {
      if (config_.checkpoint.resume == config::ResumeMode::must)
        throw_user_error("--resume must: there is no checkpoint in ", config_.output_dir,
                         "; start without it, or name the output_dir of the run");
      log_.start_over();
      return;
    }
    step_ = restored->info.step;
    position_ = batches_.carry_over(restored->info.data, restored->info.epoch_size);
    tokens_ = restored->info.tokens;
    summary_.checkpoint = restored->path;
    saved_step_ = step_;
    log_.resume_at(step_);
    log_.say("resumed at step ", step_, " from ", restored->path);
  }

  // A run from step 0 would replace them one by one.
  void refuse_old_checkpoints() {
    const Outcome outcome = run_on_first(&world_, [&] {
      const std::vector<CheckpointEntry> old = list_checkpoints(config_.output_dir);
      if (!old.empty())
        throw_user_error("--resume never: ", config_.output_dir, " holds ", old.size(),
                         " checkpoints, the last of step ", old.front().step,
                         "; give another folder (--set output_dir='\"DIR\"'), or remove them first");
      return std::string();
    });
    if (outcome.failed()) throw_failure(outcome.failure, outcome.error);
  }

  // Refuses a resume that would not be the same run; says what else changed.
  void accept_resume(const CheckpointInfo& info) {
    const std::vector<ConfigChange> changes = diff_configs(info.config_text, config_);
    bool refused = false;
    for (const ConfigChange& change : changes) refused |= change.kind == ChangeClass::refused;
    if (refused)
      throw_config_error("the run in ", config_.output_dir,
                         " cannot be resumed with another model, tokenizer, data seed or type of stored tensors:\n",
                         describe_changes(changes), "\nchoose another output_dir, or --resume never");
    if (!changes.empty()) log_.say("changed since the checkpoint:\n", describe_changes(changes));
    if (info.corpus_fingerprint != 0 && info.corpus_fingerprint != data_.training->corpus().fingerprint())
      log_.warn("the training text is not the one of the checkpoint; the order of its sequences starts anew "
                "from the same position");
  }

  void announce() {
    for (const std::string& warning : job_.warnings) log_.warn(warning);
    log_.say(describe_job());
    if (!device_.description().empty()) log_.say(device_.description());
    if (!data_.heldout || world_.rank() != 0) return;
    const EntropyReport entropies = corpus_entropies(*data_.training, *data_.heldout);
    log_.say(describe(entropies));
  }

  std::string describe_job() const {
    const int64_t parameters = models::parameter_count(job_.parameters);
    return cat("model: ", human_count(static_cast<double>(parameters)), " parameters, ",
               config_.model.layers, " layers; mesh ", *job_.mesh, "; batch ", config_.train.global_batch,
               " x ", config_.train.sequence_length, " tokens\ndata: ", data_.training->sequences(),
               " training sequences", data_.heldout ? cat(", ", data_.heldout->sequences(), " held out") : "",
               "\noutput: ", config_.output_dir);
  }

  // Null while nothing is profiled.
  Timeline* timeline() { return profiler_ ? profiler_->timeline() : nullptr; }

  void before_profiled_step() {
    profiler_->before_step(step_ + 1, session_);
    tell_profile();
  }

  void tell_profile() {
    if (const std::string news = profiler_->news(); !news.empty()) log_.say(news);
  }

  // ---- One step ----

  void train_step() {
    const HostSpanScope span(timeline(), kTrainStep, step_ + 1);
    const double start = steady_seconds();
    const double rate = learning_rate(config_.schedule, step_);
    const ReadRows read = training_rows();
    const StepResult result = session_.train_step(step_, rate, read);
    if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) stop_on_bad_value(result, read);
    position_ = batches_.advance(position_, config_.train.global_batch);
    tokens_ += step_tokens();
    ++step_;
    const double seconds = steady_seconds() - start;
    summary_.losses.push_back(result.loss);
    step_seconds_.push_back(seconds);
    log_.step({.step = step_, .loss = result.loss, .grad_norm = result.grad_norm, .learning_rate = rate,
               .seconds = seconds, .tokens = step_tokens()});
  }

  int64_t step_tokens() const { return config_.train.global_batch * config_.train.sequence_length; }

  // Rows of the global batch that starts at the current position, microbatch by microbatch.
  ReadRows training_rows() const {
    const int64_t per_micro = config_.train.global_batch / config_.train.accumulate;
    return [this, per_micro](int64_t micro, int64_t row, int64_t rows, TokenBatch& batch) {
      batches_.read(position_, micro * per_micro + row, rows, batch);
    };
  }

  [[noreturn]] void stop_on_bad_value(const StepResult& result, const ReadRows& read) {
    const std::string mine = session_.find_bad_tensor(read);
    std::string first;
    const std::vector<std::string> all = world_.all_gather_text(mine);
    for (size_t rank = 0; rank < all.size() && first.empty(); ++rank)
      if (!all[rank].empty()) first = cat("; the first value that is not finite: ", all[rank], " on rank ", rank);
    throw_user_error("step ", step_ + 1, ": the loss is ", result.loss, " and the gradient norm ",
                     result.grad_norm, first, ". The parameters were left as they were",
                     summary_.checkpoint.empty() ? "" : cat("; the last checkpoint is ", summary_.checkpoint),
                     ". Try a lower schedule.learning_rate, a longer schedule.warmup_steps or train.clip_norm");
  }

  // Replicas are computed alike on every rank, so a difference is a fault of the machine or of ours.
  void check_replicas() {
    const HostSpanScope span(timeline(), "check replicas", step_);
    const std::string differing = session_.state().differing_replica(world_);
    if (differing.empty()) return;
    throw_user_error("step ", step_, ": ranks that hold the same values hold different bytes: ", differing,
                     ". A device may be faulty, or ranks run different binaries or libraries",
                     summary_.checkpoint.empty() ? "" : cat("; the last checkpoint is ", summary_.checkpoint));
  }

  void evaluate() {
    if (!data_.heldout) return;
    const HostSpanScope span(timeline(), "evaluate", step_);
    summary_.eval_loss = evaluate_dataset(session_, *data_.heldout);
    log_.evaluation(step_, *summary_.eval_loss);
  }

  // ---- Saving and stopping ----

  void save() {
    if (saved_step_ == step_) return;
    const HostSpanScope span(timeline(), "save checkpoint", step_);
    log_.flush();
    const std::vector<TensorSlice> slices = session_.state().owned_slices();
    CheckpointInfo info = provenance(job_);
    if (const std::string choices = device_.kernel_choices(); !choices.empty())
      info.determinism[kKernelChoices] = choices;
    info.step = step_;
    info.data = position_;
    info.epoch_size = data_.training->sequences();
    info.corpus_fingerprint = data_.training->corpus().fingerprint();
    info.tokens = tokens_;
    if (!summary_.losses.empty()) info.loss = summary_.losses.back();
    const SaveReport report = writer_.save(info, slices);
    summary_.checkpoint = report.path;
    saved_step_ = step_;
    log_.checkpoint(report.path, report.bytes, report.seconds);
  }

  // True on all ranks at the same step when any of them was asked to stop.
  bool stop_requested() {
    const HostSpanScope span(timeline(), "agree whether to stop", step_);
    const auto reason = static_cast<StopReason>(
        world_.all_reduce_max(static_cast<int64_t>(requested_stop())));
    if (reason == StopReason::none) return false;
    if (reason == StopReason::terminate && world_.size() > 1)
      log_.say("asked to end; mpirun kills its ranks after 2 seconds, so the last saved step is ",
               saved_step_ < 0 ? "none yet" : cat(saved_step_), ". Send SIGUSR1 to mpirun instead to save and stop");
    return true;
  }

  TrainSummary finish(bool on_request) {
    save();
    if (profiler_) {
      profiler_->end_run(session_);
      tell_profile();
      summary_.profile = profiler_->report();
    }
    summary_.first_step = step_ - static_cast<int64_t>(summary_.losses.size());
    summary_.steps = step_;
    summary_.stopped_on_request = on_request && step_ < config_.train.steps;
    for (double seconds : step_seconds_) summary_.seconds += seconds;
    if (!step_seconds_.empty()) {
      std::nth_element(step_seconds_.begin(), step_seconds_.begin() + step_seconds_.size() / 2, step_seconds_.end());
      summary_.tokens_per_second = static_cast<double>(step_tokens()) / step_seconds_[step_seconds_.size() / 2];
    }
    log_.finish(summary_);
    return summary_;
  }

  const CompiledJob& job_;
  const JobConfig& config_;
  RankDevice& device_;
  World& world_;
  std::optional<OutputLock> output_;
  std::unique_ptr<Profiler> profiler_;  // null: none was asked for
  TextData data_;
  TrainingBatches batches_;
  double peak_flops_;
  Session session_;
  CheckpointWriter writer_;
  RunLog log_;
  int64_t step_ = 0;  // done
  DataPosition position_;
  int64_t tokens_ = 0;
  int64_t saved_step_ = -1;
  std::vector<double> step_seconds_;
  TrainSummary summary_;
};

}  // namespace

TrainSummary train(const std::shared_ptr<const CompiledJob>& job, RankDevice& device, const ProfileOptions& profile) {
  check_memory_fits(*job, device);
  device.adopt_kernel_choices(saved_kernel_choices(job->config, device.world()));  // before kernels are prepared
  return Trainer(job, device, profile).run();
}

}  // namespace tessera

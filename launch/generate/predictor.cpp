#include "launch/generate/predictor.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/runtime/thread_world.h"
#include "launch/checkpoint/restore.h"
#include "launch/config/load.h"
#include "launch/engine/step_config.h"
#include "models/training_step.h"

namespace tessera {

Predictor::Predictor(CheckpointReader& checkpoint, const std::vector<std::string>& sets)
    : world_(create_single_world()) {
  std::vector<std::string> all = {"train.global_batch=1", "train.microbatch=1", "train.accumulate=1"};
  all.insert(all.end(), sets.begin(), sets.end());
  job_ = load_job_text(checkpoint.info().config_text, checkpoint.path(),
                       {.mesh = "1", .sets = all,
                        .device_count = 1, .purpose = LoadPurpose::use});
  device_ = std::make_unique<RankDevice>(job_.device, job_.train.threads, *world_);
  device_->check_products(job_.train);
  Backend& backend = device_->backend();
  graph_ = compile_graph(job_, "predict", backend.kernels());
  const Executable* executables[] = {graph_.executable.get()};
  state_ = std::make_unique<StateStore>(
      backend, *world_,
      models::parameter_specs(model_config(job_), job_.train.compute_dtype, job_.train.parameter_dtype), executables);
  executor_ = std::make_unique<Executor>(*graph_.executable, backend, world_.get(), 0, state_->buffers());
  const std::vector<TensorSpec> specs = state_->specs();
  check_same_model(checkpoint, specs);
  for (const TensorTarget& target : state_->targets()) checkpoint.read(target);
}

Predictor::~Predictor() = default;

std::span<const float> Predictor::next_logits(std::span<const int32_t> tokens) {
  TESSERA_CHECK(!tokens.empty(), "a prediction needs a token before it");
  const int64_t length = context();
  const int64_t used = std::min<int64_t>(length, static_cast<int64_t>(tokens.size()));
  // What follows the last token is masked by causality.
  const TensorView input = executor_->input(graph_.executable->graph.find_input(models::names::kTokens));
  std::vector<int32_t> padded(static_cast<size_t>(length), 0);
  std::copy(tokens.end() - used, tokens.end(), padded.begin());
  device_->backend().copy_to_device(input.data, padded.data(), input.type.bytes());
  executor_->run();
  const TensorView output = executor_->output(models::names::kLogits);
  const int64_t columns = output.type.shape[2];
  logits_.resize(static_cast<size_t>(job_.model.vocab));
  HostTensor row({output.type.dtype, {job_.model.vocab}});
  const int64_t row_bytes = columns * size_of(output.type.dtype);
  device_->backend().copy_to_host(row.bytes().data(), output.as<std::byte>() + (used - 1) * row_bytes, row.type().bytes());
  for (size_t i = 0; i < logits_.size(); ++i)
    logits_[i] = static_cast<float>(row.get_real(static_cast<int64_t>(i)));
  return logits_;
}

}  // namespace tessera

#include "launch/generate/predictor.h"

#include <algorithm>
#include <complex>

#include "core/base/error.h"
#include "core/runtime/thread_world.h"
#include "core/types/dispatch.h"
#include "launch/checkpoint/restore.h"
#include "launch/config/load.h"
#include "launch/engine/step_config.h"
#include "models/training_step.h"

namespace tessera {

Predictor::Predictor(CheckpointReader& checkpoint, Backend& backend) : world_(create_single_world()) {
  job_ = load_job_text(checkpoint.info().config_text, checkpoint.path(),
                       {.mesh = "1", .sets = {"train.global_batch=1", "train.microbatch=1", "train.accumulate=1"},
                        .device_count = 1, .purpose = LoadPurpose::use});
  graph_ = compile_graph(job_, "predict", backend.kernels());
  const Executable* executables[] = {graph_.executable.get()};
  state_ = std::make_unique<StateStore>(
      backend, *world_, models::parameter_specs(model_config(job_), job_.train.compute_dtype), executables);
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
  std::fill_n(input.as<int32_t>(), length, 0);
  std::copy(tokens.end() - used, tokens.end(), input.as<int32_t>());
  executor_->run();
  const TensorView output = executor_->output(models::names::kLogits);
  const int64_t columns = output.type.shape[2];
  logits_.resize(static_cast<size_t>(job_.model.vocab));
  dispatch_dtype(output.type.dtype, [&]<typename T>() {
    if constexpr (!std::is_same_v<T, std::complex<float>>) {
      const T* row = output.as<T>() + (used - 1) * columns;
      for (size_t i = 0; i < logits_.size(); ++i) logits_[i] = static_cast<float>(row[i]);
    }
  });
  return logits_;
}

}  // namespace tessera

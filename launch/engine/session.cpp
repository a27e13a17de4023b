#include "launch/engine/session.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/error.h"
#include "core/types/dispatch.h"

namespace tessera {
namespace {

namespace names = models::names;

TensorView input_named(Executor& executor, const char* name) {
  const int index = executor.executable().graph.find_input(name);
  TESSERA_CHECK(index >= 0, "graph ", executor.executable().graph.name, " has no input \"", name, "\"");
  return executor.input(index);
}

void write_scalar(Backend& backend, Executor& executor, const char* name, double value) {
  const TensorView view = input_named(executor, name);
  const HostTensor tensor = HostTensor::filled(view.type, value);
  backend.copy_to_device(view.data, tensor.bytes().data(), view.type.bytes());
}

// Inputs that only graphs with random draws have.
void write_counter(Backend& backend, Executor& executor, const char* name, int64_t value) {
  if (executor.executable().graph.find_input(name) >= 0) write_scalar(backend, executor, name, static_cast<double>(value));
}

double read_scalar(Backend& backend, Executor& executor, const char* name) {
  const TensorView view = executor.output(name);
  HostTensor tensor(view.type);
  backend.copy_to_host(tensor.bytes().data(), view.data, view.type.bytes());
  return tensor.get_real(0);
}

// The columns of this rank of some rows, converted to the input's type; zeros beyond the last.
template <typename T>
HostTensor cut_columns(const TensorType& type, const std::vector<T>& rows, int64_t length, int64_t first) {
  HostTensor tensor(type);
  for (int64_t r = 0; r < type.shape[0]; ++r)
    for (int64_t c = 0; c < std::min(type.shape[1], length - first); ++c)
      tensor.set_real(r * type.shape[1] + c, static_cast<double>(rows[r * length + first + c]));
  return tensor;
}

}  // namespace

Session::Session(std::shared_ptr<const CompiledJob> job, Backend& backend, World& world,
                 const ExecutorOptions& options)
    : job_(std::move(job)), backend_(backend), world_(world),
      state_(backend, world, job_->parameters, executables_of(*job_)) {
  auto make = [&](const CompiledGraph& graph) {
    return std::make_unique<Executor>(*graph.executable, backend_, &world_, world_.rank(), state_.buffers(), options);
  };
  step_ = make(job_->step);
  if (job_->accumulate) accumulate_ = make(*job_->accumulate);
  evaluate_ = make(job_->evaluate);
}

void Session::initialise() {
  state_.initialise_parameters(job_->config.train.seed);
  state_.zero_moments();
}

void Session::feed(Executor& executor, const ReadRows& read, int64_t micro) {
  const HostSpanScope span(timeline_, "feed", micro);
  const Graph& graph = executor.executable().graph;
  const Shape global{job_->step_config.batch, job_->step_config.length};
  for (const char* name : {names::kTokens, names::kTargets, names::kWeights}) {
    const TensorView view = input_named(executor, name);
    const Sharding& sharding = graph.sharding(graph.inputs[graph.find_input(name)].value);
    const std::vector<int64_t> start = sharding.shard_start(global, world_.rank());
    // All three lie alike nearly always; then the rows are read once.
    if (name == names::kTokens || start[0] != batch_start_ || view.type.shape[0] != batch_.rows) {
      const HostSpanScope reading(timeline_, "read data", micro);
      read(micro, start[0], view.type.shape[0], batch_);
      batch_start_ = start[0];
    }
    const int64_t length = job_->step_config.length;
    const HostTensor tensor =
        name == names::kTokens    ? cut_columns(view.type, batch_.tokens, length, start[1])
        : name == names::kTargets ? cut_columns(view.type, batch_.targets, length, start[1])
                                  : cut_columns(view.type, batch_.weights, length, start[1]);
    backend_.copy_to_device(view.data, tensor.bytes().data(), view.type.bytes());
  }
}

StepResult Session::train_step(int64_t step, double rate, const ReadRows& read) {
  const auto& adam = job_->config.optimizer;
  const double time = static_cast<double>(step + 1);
  const int64_t last = job_->config.train.accumulate - 1;
  const auto feed_part = [&](Executor& executor, int64_t micro) {
    feed(executor, read, micro);
    write_counter(backend_, executor, names::kStep, step);
    write_counter(backend_, executor, names::kFirstRow, micro * job_->step_config.batch);
  };
  last_step_ = step;
  if (accumulate_) state_.zero_accumulators();
  for (int64_t micro = 0; micro < last; ++micro) {
    feed_part(*accumulate_, micro);
    const HostSpanScope span(timeline_, "submit microbatch", micro);
    accumulate_->run();
  }
  feed_part(*step_, last);
  write_scalar(backend_, *step_, names::kLearningRate, rate);
  write_scalar(backend_, *step_, names::kBiasCorrection1, 1 - std::pow(adam.beta1, time));
  write_scalar(backend_, *step_, names::kBiasCorrection2, 1 - std::pow(adam.beta2, time));
  {
    const HostSpanScope span(timeline_, "submit step");
    step_->run();
  }
  const HostSpanScope span(timeline_, "read loss");
  return {.loss = read_scalar(backend_, *step_, names::kLoss),
          .grad_norm = read_scalar(backend_, *step_, names::kGradNorm)};
}

EvaluationSums Session::evaluate(const ReadRows& read) {
  feed(*evaluate_, read, 0);
  evaluate_->run();
  return {.loss = read_scalar(backend_, *evaluate_, names::kLossSum),
          .weight = read_scalar(backend_, *evaluate_, names::kWeightSum)};
}

std::map<std::string, double> Session::profile() const {
  std::map<std::string, double> total = step_->profile();
  if (accumulate_)
    for (const auto& [name, seconds] : accumulate_->profile()) total[name] += seconds;
  return total;
}

void Session::set_timeline(Timeline* timeline) {
  timeline_ = timeline;
  for (Executor* executor : {step_.get(), accumulate_.get(), evaluate_.get()})
    if (executor) executor->set_timeline(timeline);
}

std::string Session::find_bad_tensor(const ReadRows& read) {
  std::string found;
  auto watch = [&](Executor& executor) {
    executor.set_observer([&](const Graph& graph, Value value, const TensorView& view) {
      if (!found.empty() || !is_float(view.type.dtype)) return;
      HostTensor tensor(view.type);
      backend_.copy_to_host(tensor.bytes().data(), view.data, view.type.bytes());
      for (int64_t i = 0; i < tensor.elements(); ++i)
        if (!std::isfinite(tensor.get_real(i))) {
          found = cat(describe(graph, value), " ", view.type, " of graph ", graph.name, " is ", tensor.get_real(i));
          return;
        }
    });
  };
  if (accumulate_) watch(*accumulate_);
  watch(*step_);
  train_step(last_step_, /*rate=*/0, read);
  if (accumulate_) accumulate_->set_observer({});
  step_->set_observer({});
  return found;
}

}  // namespace tessera

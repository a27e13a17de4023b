#include "models/training_step.h"

#include "core/ops/elementwise.h"
#include "core/ops/loss.h"
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "core/ops/structure.h"

namespace tessera::models {

namespace names {
std::string first_moment(const std::string& parameter) { return "adamw.m/" + parameter; }
std::string second_moment(const std::string& parameter) { return "adamw.v/" + parameter; }
std::string accumulator(const std::string& what) { return "accumulator/" + what; }
}  // namespace names

namespace {

// The sums of one microbatch.
struct LossSums {
  Value objective;  // what is differentiated: loss plus z-loss, summed over tokens
  Value loss;       // cross-entropy in nats, summed over tokens
  Value weight;     // number of tokens that count
};

// Builds the graphs of a step; one object per graph.
class StepBuilder {
 public:
  StepBuilder(const StepConfig& config, std::string name)
      : config_(config), builder_(graph_), scope_(builder_, config.compute, config.parameters) {
    graph_.name = std::move(name);
    scope_.set_fp8(config.fp8);
  }

  Graph step(bool with_accumulators) {
    start_dropout(with_accumulators);
    const LossSums sums = forward();
    const std::vector<Value> gradients = backward(sums.objective);
    Totals totals{gradients, sums.loss, sums.weight};
    if (with_accumulators) totals = add_accumulators(totals, /*keep=*/false);
    update(totals);
    return std::move(graph_);
  }

  Graph accumulate() {
    start_dropout(/*in_microbatches=*/true);
    const LossSums sums = forward();
    add_accumulators({backward(sums.objective), sums.loss, sums.weight}, /*keep=*/true);
    return std::move(graph_);
  }

  Graph evaluate() {
    const LossSums sums = forward();
    builder_.output(sums.loss, names::kLossSum);
    builder_.output(sums.weight, names::kWeightSum);
    return std::move(graph_);
  }

  Graph predict() {
    builder_.output(logits(), names::kLogits);
    return std::move(graph_);
  }

 private:
  struct Totals {
    std::vector<Value> gradients;  // in the order of the parameters, sums over tokens
    Value loss, weight;
  };

  Value batch_input(const char* name, DType dtype) {
    return builder_.input(InputKind::data, name, {dtype, {config_.batch, config_.length}},
                          {"batch", "length"});
  }

  Value counter_input(const char* name) {
    return builder_.input(InputKind::scalar, name, {DType::s64, {}});
  }
  Value step_number() {
    if (!step_number_.valid()) step_number_ = counter_input(names::kStep);
    return step_number_;
  }

  void start_dropout(bool in_microbatches) {
    if (config_.model.dropout <= 0) return;
    const Value row = in_microbatches ? counter_input(names::kFirstRow)
                                      : ops::constant(builder_, 0.0, {DType::s64, {}});
    dropout_ = Dropout(config_.model.dropout, config_.seed, step_number(), row);
  }

  Value logits() {
    return decoder_logits(scope_, config_.model, batch_input(names::kTokens, DType::s32), dropout_);
  }

  LossSums forward() {
    const Value predicted = logits();
    const ScopeGuard guard(builder_, "loss");
    const Value targets = batch_input(names::kTargets, DType::s32);
    const auto entropy = ops::softmax_cross_entropy(builder_, predicted, targets, config_.model.vocab);
    const Value weights = batch_input(names::kWeights, builder_.dtype(entropy.loss));
    const Value loss = ops::reduce_all(builder_, ops::multiply(builder_, entropy.loss, weights));
    Value objective = loss;
    if (config_.z_loss > 0) {
      const Value squared = ops::multiply(builder_, entropy.lse, entropy.lse);
      const Value penalty = ops::reduce_all(builder_, ops::multiply(builder_, squared, weights));
      objective = ops::add(builder_, loss, ops::scale(builder_, penalty, config_.z_loss));
    }
    return {objective, loss, ops::reduce_all(builder_, weights)};
  }

  std::vector<Value> backward(Value objective) {
    std::vector<Value> parameters;
    for (const ParameterSpec& spec : scope_.specs()) parameters.push_back(scope_.value(spec.name));
    std::vector<Value> found = gradients(builder_, objective, parameters, {.remat = config_.remat});
    for (size_t i = 0; i < found.size(); ++i) {
      if (!found[i].valid()) found[i] = ops::zeros_like(builder_, parameters[i]);
      builder_.annotate(found[i], std::vector(scope_.specs()[i].logical_axes));
    }
    return found;
  }

  // totals + accumulators; with `keep` the sums are outputs that overwrite the accumulators.
  Totals add_accumulators(Totals totals, bool keep) {
    const ScopeGuard guard(builder_, "accumulate");
    auto add = [&](Value value, const std::string& what, std::vector<std::string> axes) {
      const std::string name = names::accumulator(what);
      const Value old = builder_.input(InputKind::accumulator, name, builder_.type(value), axes);
      const Value sum = builder_.annotate(ops::add(builder_, old, value), axes);
      if (keep) builder_.output(sum, name, static_cast<int>(graph_.inputs.size()) - 1);
      return sum;
    };
    for (size_t i = 0; i < totals.gradients.size(); ++i)
      totals.gradients[i] = add(totals.gradients[i], scope_.specs()[i].name, scope_.specs()[i].logical_axes);
    totals.loss = add(totals.loss, names::kLossSum, {});
    totals.weight = add(totals.weight, names::kWeightSum, {});
    return totals;
  }

  // The norm of the mean gradient, and the factor that turns a summed gradient into the clipped mean.
  struct GradientScale {
    Value norm, factor;
  };
  GradientScale gradient_scale(const Totals& totals) {
    const ScopeGuard guard(builder_, "clip");
    Value squares;
    for (Value gradient : totals.gradients) {
      const Value square = ops::sum_of_squares(builder_, gradient);
      squares = squares.valid() ? ops::add(builder_, squares, square) : square;
    }
    const Value one = ops::constant_like(builder_, squares, 1.0);
    const Value mean_factor = ops::divide(builder_, one, totals.weight);
    const Value norm = ops::multiply(builder_, ops::sqrt(builder_, squares), mean_factor);
    // NaN where the norm is not finite, else 0: adamw leaves everything as it was on such a factor.
    const Value poison = ops::subtract(builder_, norm, norm);
    Value factor = ops::add(builder_, mean_factor, poison);
    if (config_.clip_norm > 0) {
      // min(1, clip / norm); the maximum keeps a zero norm from dividing.
      const Value limit = ops::constant_like(builder_, norm, config_.clip_norm);
      factor = ops::multiply(builder_, factor, ops::divide(builder_, limit, ops::maximum(builder_, norm, limit)));
    }
    return {norm, factor};
  }

  void update(const Totals& totals) {
    const ScopeGuard guard(builder_, "update");
    const GradientScale scale = gradient_scale(totals);
    const TensorType scalar{scope_.wide_dtype(), {}};
    const Value rate = builder_.input(InputKind::scalar, names::kLearningRate, scalar);
    const Value correction1 = builder_.input(InputKind::scalar, names::kBiasCorrection1, scalar);
    const Value correction2 = builder_.input(InputKind::scalar, names::kBiasCorrection2, scalar);
    const DType moments = config_.moments.value_or(scope_.wide_dtype());
    const size_t parameters = scope_.specs().size();
    for (size_t i = 0; i < parameters; ++i) {
      const ParameterSpec spec = scope_.specs()[i];
      auto moment = [&](const std::string& name) {
        return builder_.input(InputKind::optimizer, name, {moments, spec.type.shape}, spec.logical_axes);
      };
      const Value m = moment(names::first_moment(spec.name));
      const Value v = moment(names::second_moment(spec.name));
      const bool decays = config_.optimizer.decays ? config_.optimizer.decays(spec) : spec.type.rank() >= 2;
      const bool is_narrow = moments == DType::bf16 || spec.type.dtype == DType::bf16;
      std::optional<ops::StochasticRounding> rounding;
      if (is_narrow && config_.stochastic_rounding)
        rounding = {config_.seed, kRoundingSites + 3 * static_cast<int64_t>(i)};
      const auto result = ops::adamw(
          builder_,
          {.param = scope_.input(spec.name), .m = m, .v = v, .grad = totals.gradients[i],
           .learning_rate = rate, .grad_scale = scale.factor, .bias_correction1 = correction1,
           .bias_correction2 = correction2, .step = rounding ? step_number() : Value{}},
          {.beta1 = config_.optimizer.beta1, .beta2 = config_.optimizer.beta2,
           .epsilon = config_.optimizer.epsilon,
           .weight_decay = decays ? config_.optimizer.weight_decay : 0, .rounding = rounding});
      overwrite(result.param, spec.name);
      overwrite(result.m, names::first_moment(spec.name));
      overwrite(result.v, names::second_moment(spec.name));
    }
    builder_.output(ops::divide(builder_, totals.loss, totals.weight), names::kLoss);
    builder_.output(scale.norm, names::kGradNorm);
  }

  void overwrite(Value value, const std::string& input) {
    builder_.output(value, input, graph_.find_input(input));
  }

  const StepConfig& config_;
  Graph graph_;
  Builder builder_;
  ParameterScope scope_;
  Dropout dropout_;
  Value step_number_;
};

}  // namespace

Graph build_step(const StepConfig& config, bool with_accumulators) {
  return StepBuilder(config, "step").step(with_accumulators);
}
Graph build_accumulate(const StepConfig& config) { return StepBuilder(config, "accumulate").accumulate(); }
Graph build_evaluate(const StepConfig& config) { return StepBuilder(config, "evaluate").evaluate(); }
Graph build_predict(const StepConfig& config) { return StepBuilder(config, "predict").predict(); }

}  // namespace tessera::models

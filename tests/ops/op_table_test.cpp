// What must hold for every op of the table: it has all its slots, its samples run in every dtype
// that it accepts, its gradient agrees with finite differences, and its errors name it.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "core/autodiff/autodiff.h"
#include "core/ir/interpreter.h"
#include "core/ops/elementwise.h"
#include "core/ops/fusion.h"
#include "core/ops/loss.h"
#include "core/ops/op_list.h"
#include "core/ops/residual_norm.h"
#include "core/ops/structure.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::evaluate;
using testing::random_operands;

// Ops without a gradient, and why.
const std::map<std::string_view, std::string_view> kNoGradient = {
    {"parameter", "an input"},
    {"constant", "no operands"},
    {"iota", "no operands"},
    {"random_uniform", "no operands"},
    {"axis_index", "no operands"},
    {"is_finite", "pred result"},
    {"compare", "pred result"},
    {"not", "pred or integers"},
    {"and", "pred or integers"},
    {"or", "pred or integers"},
    {"xor", "pred or integers"},
    {"shift_left", "integers"},
    {"shift_right_arithmetic", "integers"},
    {"shift_right_logical", "integers"},
    {"popcnt", "integers"},
    {"count_leading_zeros", "integers"},
    {"bitcast_convert", "bits"},
    {"rng_bit_generator", "integers"},
    {"expert_order", "integers"},
    {"custom_call", "known to the embedding program alone"},
    {"gelu_grad", "a gradient"},
    {"layer_norm_grad", "a gradient"},
    {"rms_norm_grad", "a gradient"},
    {"attention_grad", "a gradient"},
    {"embedding_grad", "a gradient"},
    {"logits_sum_grad", "a gradient"},
    {"top_k_routing_grad", "a gradient"},
    {"convolution_kernel_grad", "a gradient"},
    {"select_and_scatter", "the gradient of pooling"},
    {"adamw", "the update comes after the gradient"},
    {"multi_adamw", "made after autodiff"},
    {"multi_sum_of_squares", "made after autodiff"},
    {"all_gather", "made by the partitioner, after autodiff"},
    {"all_slice", "made by the partitioner, after autodiff"},
    {"all_to_all", "made by the partitioner, after autodiff"},
    {"collective_permute", "made by the partitioner, after autodiff"},
    {"all_reduce", "made by the partitioner, after autodiff"},
    {"reduce_scatter", "made by the partitioner, after autodiff"},
    {"replicated_to_partial", "made by the partitioner, after autodiff"},
    {"shift", "in manual computations, core/autodiff/region_gradient.h"},
    {"fusion", "made after autodiff"},
    {"dot_general_add", "made after autodiff"},
    {"dot_general_bias", "made after autodiff"},
    {"dot_general_bias_gelu", "made after autodiff"},
    {"dot_general_gelu_grad", "made after autodiff"},
    {"dot_general_bias_grad", "made after autodiff"},
    {"scaled_dot_general", "made after autodiff"},
    {"scaled_dot_general_gelu", "made after autodiff"},
    {"scaled_dot_general_add", "made after autodiff"},
    {"dot_general_fp8_grad_left", "a gradient"},
    {"dot_general_fp8_grad_right", "a gradient"},
    {"max_abs", "scales are constants to who differentiates"},
    {"cross_entropy_with_grad", "made after autodiff"},
    {"add_layer_norm", "made after autodiff"},
    {"add_rms_norm", "made after autodiff"},
    {"layer_norm_grad_add", "a gradient"},
    {"rms_norm_grad_add", "a gradient"},
    {"call", "core/autodiff/regions.h"},
    {"while", "core/autodiff/regions.h"},
    {"case", "core/autodiff/regions.h"},
    {"manual_computation", "core/autodiff/regions.h"},
};

// Results that are residuals of the gradient and take no cotangent of their own.
bool is_residual(const OpDef& op, size_t result) {
  return result > 0 && (op.name == "layer_norm" || op.name == "rms_norm" || op.name == "attention");
}

// The loss does not depend on the number subtracted from the logits (see core/ops/loss.h).
bool is_stopped(const OpDef& op, size_t operand) {
  return op.name == "logits_max" || (op.name == "logits_sum" && operand == 1);
}

TEST(OpTable, EveryOpHasItsSlots) {
  std::set<std::string_view> names;
  for (const OpDef* op : all_ops()) {
    EXPECT_TRUE(names.insert(op->name).second) << op->name << " stands twice";
    EXPECT_EQ(find_op(op->name), op);
    EXPECT_TRUE(op->infer && op->eval && op->samples) << op->name;
    EXPECT_EQ(op->grad == nullptr, kNoGradient.count(op->name) == 1)
        << op->name << ": a gradient or a reason, not both";
    if (!op->samples) continue;
    EXPECT_FALSE(op->samples().empty()) << op->name;
    for (const OpSample& sample : op->samples()) {
      const auto results = infer_types(*op, {sample.operands, sample.attributes});
      EXPECT_FALSE(results.empty()) << op->name;
      EXPECT_GE(flop_count(*op, {sample.operands, sample.attributes}, results), 0) << op->name;
      for (Attr key : op->attributes)
        EXPECT_TRUE(sample.attributes.has(key)) << op->name << " " << name_of(key);
    }
  }
  for (const auto& [name, reason] : kNoGradient) EXPECT_TRUE(find_op(name)) << name;
  EXPECT_EQ(find_op("no_such_op"), nullptr);
}

TEST(OpTable, SamplesEvaluateToNumbers) {
  std::mt19937_64 rng(1);
  for (const OpDef* op : all_ops()) {
    if (op == &ops::kParameter) continue;
    for (const OpSample& sample : op->samples()) {
      const auto operands = random_operands(sample, rng);
      const auto results = evaluate(*op, sample.attributes, operands);
      const auto again = evaluate(*op, sample.attributes, operands);
      for (size_t r = 0; r < results.size(); ++r) {
        EXPECT_EQ(results[r], again[r]) << op->name << " is not a function of its operands";
        for (int64_t i = 0; i < results[r].elements(); ++i)
          EXPECT_TRUE(std::isfinite(std::abs(results[r].get_complex(i))))
              << op->name << " " << results[r].type();
      }
    }
  }
}

// Floats are computed in double and rounded once: a result in a narrow type is the rounded result
// of the same numbers in f64.
TEST(OpTable, NarrowFloatsRoundOnce) {
  std::mt19937_64 rng(2);
  int compared = 0;
  for (const OpDef* op : all_ops()) {
    if (op == &ops::kParameter || op == &ops::kFusion) continue;
    // Sums are rounded before they are normalised.
    if (op == &ops::kAddLayerNorm || op == &ops::kAddRmsNorm) continue;
    for (const OpSample& sample : op->samples()) {
      const bool has_f64 = std::any_of(sample.operands.begin(), sample.operands.end(),
                                       [](const TensorType& t) { return t.dtype == DType::f64; });
      for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f8e5m2}) {
        if (!has_f64) continue;
        std::vector<HostTensor> narrow, wide;
        for (const HostTensor& operand : random_operands(sample, rng)) {
          narrow.push_back(operand.dtype() == DType::f64 ? operand.cast(dtype) : operand);
          wide.push_back(operand.dtype() == DType::f64 ? narrow.back().cast(DType::f64) : operand);
        }
        std::vector<HostTensor> results;
        try {
          results = evaluate(*op, sample.attributes, narrow);
        } catch (const UserError&) {
          continue;  // statistics and optimizer state are never narrow
        }
        const auto expected = evaluate(*op, sample.attributes, wide);
        for (size_t r = 0; r < results.size(); ++r)
          EXPECT_EQ(max_relative_error(results[r], expected[r].cast(results[r].dtype())), 0)
              << op->name << " in " << dtype << ", result " << r;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 150);
}

// ---- Gradients ----------------------------------------------------------------------------------

// A graph whose output is the sum over all results of weights times the result.
struct WeightedOp {
  Graph graph;
  std::vector<Value> inputs;
  Value loss;

  WeightedOp(const OpDef& op, const OpSample& sample, uint64_t seed) {
    std::mt19937_64 rng(seed);
    Builder b(graph);
    for (size_t i = 0; i < sample.operands.size(); ++i)
      inputs.push_back(b.input(InputKind::data, cat("x", i), sample.operands[i]));
    const Value first = b.emit(op, inputs, sample.attributes);
    loss = ops::constant(b, 0.0, {DType::f64, {}});
    for (size_t r = 0; r < graph.at(first).results.size(); ++r) {
      const Value result{first.instruction, static_cast<int>(r)};
      if (is_residual(op, r) || !is_float(b.dtype(result))) continue;
      const Value weights =
          ops::constant(b, testing::random_tensor({DType::f64, b.shape(result)}, -1, 1, rng));
      loss = ops::add(
          b, loss,
          ops::reduce_all(b, ops::multiply(b, ops::convert(b, result, DType::f64), weights)));
    }
  }
};

double loss_of(const Graph& graph, const std::vector<HostTensor>& operands) {
  return interpret(graph, operands)[0].get_real(0);
}

HostTensor finite_differences(const Graph& graph, std::vector<HostTensor> operands,
                              size_t operand) {
  constexpr double kStep = 1e-5;
  HostTensor gradient(operands[operand].type());
  for (int64_t i = 0; i < gradient.elements(); ++i) {
    const double x = operands[operand].get_real(i);
    operands[operand].set_real(i, x + kStep);
    const double above = loss_of(graph, operands);
    operands[operand].set_real(i, x - kStep);
    const double below = loss_of(graph, operands);
    operands[operand].set_real(i, x);
    gradient.set_real(i, (above - below) / (2 * kStep));
  }
  return gradient;
}

void check_gradients(const OpDef& op, const OpSample& sample, std::mt19937_64& rng) {
  WeightedOp forward(op, sample, 5), backward(op, sample, 5);
  Builder(forward.graph).output(forward.loss, "loss");
  Builder b(backward.graph);
  std::vector<size_t> floats;
  std::vector<Value> wrt;
  for (size_t i = 0; i < sample.operands.size(); ++i) {
    if (sample.operands[i].dtype != DType::f64 || is_stopped(op, i)) continue;
    floats.push_back(i);
    wrt.push_back(backward.inputs[i]);
  }
  const std::vector<Value> gradient_values = gradients(b, backward.loss, wrt);
  for (size_t k = 0; k < wrt.size(); ++k)
    b.output(gradient_values[k].valid() ? gradient_values[k] : ops::zeros_like(b, wrt[k]),
             cat("d", floats[k]));
  const std::vector<HostTensor> operands = random_operands(sample, rng);
  const std::vector<HostTensor> actual = interpret(backward.graph, operands);
  for (size_t k = 0; k < wrt.size(); ++k)
    EXPECT_LT(
        max_relative_error(actual[k], finite_differences(forward.graph, operands, floats[k]), 1.0),
        1e-7)
        << op.name << "(" << join(sample.operands) << ") with respect to operand " << floats[k];
}

TEST(OpTable, GradientsAgreeWithFiniteDifferences) {
  std::mt19937_64 rng(3);
  int checked = 0;
  for (const OpDef* op : all_ops()) {
    for (const OpSample& sample : op->samples()) {
      if (!op->grad || !sample.differentiable) continue;
      check_gradients(*op, sample, rng);
      ++checked;
    }
  }
  EXPECT_GT(checked, 50);
}

// Max, sum and target logit together: where the stopped cotangents must cancel.
TEST(OpTable, CrossEntropyGradientAgreesWithFiniteDifferences) {
  const TensorType logits{DType::f64, {4, 8}}, targets{DType::s32, {4}};
  auto build = [&](Graph& graph, Value& x) {
    Builder b(graph);
    x = b.input(InputKind::data, "logits", logits);
    const auto entropy =
        ops::softmax_cross_entropy(b, x, b.input(InputKind::data, "targets", targets), 6);
    const Value z_loss = ops::scale(b, ops::multiply(b, entropy.lse, entropy.lse), 0.1);
    return ops::reduce_all(b, ops::add(b, entropy.loss, z_loss));
  };
  Graph forward, backward;
  Value x;
  const Value forward_loss = build(forward, x);
  Builder(forward).output(forward_loss, "loss");
  const Value loss = build(backward, x);
  Builder b(backward);
  b.output(gradients(b, loss, std::vector<Value>{x})[0], "d");
  std::mt19937_64 rng(4);
  const std::vector<HostTensor> inputs{testing::random_tensor(logits, -3, 3, rng),
                                       testing::random_tensor(targets, 0, 5, rng)};
  EXPECT_LT(max_relative_error(interpret(backward, inputs)[0],
                               finite_differences(forward, inputs, 0), 1.0),
            1e-7);
}

// ---- Errors -------------------------------------------------------------------------------------

// Wrong types give a UserError that names the op, or are right after all; nothing else happens.
void expect_named_error(const OpDef& op, const std::vector<TensorType>& operands,
                        const Attributes& attributes) {
  try {
    infer_types(op, {operands, attributes});
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find(op.name), std::string::npos)
        << op.name << " is not named in: " << error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << op.name << "(" << join(operands) << "): " << error.what();
  }
}

TEST(OpTable, WrongOperandsAreUserErrorsThatNameTheOp) {
  for (const OpDef* op : all_ops()) {
    for (const OpSample& sample : op->samples()) {
      for (size_t i = 0; i < sample.operands.size(); ++i) {
        std::vector<TensorType> operands = sample.operands;
        operands.erase(operands.begin() + static_cast<int64_t>(i));
        expect_named_error(*op, operands, sample.attributes);
        for (DType dtype : all_dtypes()) {
          operands = sample.operands;
          operands[i].dtype = dtype;
          expect_named_error(*op, operands, sample.attributes);
        }
        for (const Shape& shape :
             {Shape{}, Shape{3}, Shape{4, 7}, Shape{4, 6, 1}, Shape{0, 6}, Shape{2, 3, 5, 7}}) {
          operands = sample.operands;
          operands[i].shape = shape;
          expect_named_error(*op, operands, sample.attributes);
        }
      }
      if (op->has_state) continue;  // a parameter is made by Builder::input alone
      if (op->name == "optimization_barrier") continue;  // takes whatever comes
      std::vector<TensorType> more = sample.operands;
      more.insert(more.end(), 9, {DType::pred, {3}});
      EXPECT_THROW(infer_types(*op, {more, sample.attributes}), UserError) << op->name;
    }
  }
}

TEST(OpTable, ErrorsShowBothShapes) {
  auto message_of = [](const OpDef& op, std::vector<TensorType> operands,
                       Attributes attributes) -> std::string {
    try {
      infer_types(op, {operands, attributes});
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message_of(ops::kAdd, {{DType::f32, {2, 3}}, {DType::f32, {2, 4}}}, {}),
            "add: operands must have one type, got f32[2,3] and f32[2,4]");
  EXPECT_EQ(message_of(*find_op("dot_general"), {{DType::f32, {2, 3}}, {DType::f32, {4, 5}}},
                       {{Attr::lhs_contracting, Ints{1}},
                        {Attr::rhs_contracting, Ints{0}},
                        {Attr::lhs_batch, Ints{}},
                        {Attr::rhs_batch, Ints{}}}),
            "dot_general: contracting dim 1 of f32[2,3] and dim 0 of f32[4,5] differ in size");
  EXPECT_EQ(message_of(ops::kReshape, {{DType::f32, {2, 3}}}, {{Attr::shape, Ints{4}}}),
            "reshape: f32[2,3] has 6 elements, [4] has 4");
  const TensorType q{DType::f32, {1, 4, 6, 2}}, k{DType::f32, {1, 4, 4, 2}};
  EXPECT_EQ(
      message_of(*find_op("attention"), {q, k, k}, {{Attr::causal, true}, {Attr::scale, 1.0}}),
      "attention: 6 query heads of f32[1,4,6,2] are not a multiple of the 4 key heads of "
      "f32[1,4,4,2]");
  const Attributes plain{{Attr::causal, false}, {Attr::scale, 1.0}},
      windowed{{Attr::causal, false}, {Attr::scale, 1.0}, {Attr::window, int64_t{3}}},
      negative{{Attr::causal, true}, {Attr::scale, 1.0}, {Attr::window, int64_t{-3}}},
      origin{{Attr::causal, true}, {Attr::scale, 1.0}, {Attr::bias_origin, int64_t{3}}};
  const TensorType x{DType::f32, {2, 4, 6, 2}}, segments{DType::s32, {2, 4}};
  const OpDef& attention = *find_op("attention");
  EXPECT_EQ(message_of(attention, {x, x, x}, windowed), "attention: window 3 needs causal");
  EXPECT_EQ(message_of(attention, {x, x, x}, negative), "attention: window -3 is negative");
  EXPECT_EQ(message_of(attention, {x, x, x}, origin),
            "attention: bias_origin needs a distance_bias operand");
  EXPECT_EQ(message_of(attention, {x, x, x, {DType::f32, {5, 9}}}, plain),
            "attention: distance_bias must be f32[6,n] with n > 0, not f32[5,9]");
  EXPECT_EQ(message_of(attention, {x, x, x, segments, {DType::s32, {2, 5}}}, plain),
            "attention: segments must be s32[2,4] and s32[2,4], not s32[2,4] and s32[2,5]");
}

}  // namespace
}  // namespace tessera

// A training step as graphs: written once, as if for one device.
//
// Losses and gradients are sums over tokens, divided once by the step's global weight. With
// gradient accumulation over A > 1 microbatches, `accumulate` runs A - 1 times and adds into
// persistent f32 accumulators, then `step` runs the last microbatch, adds, and updates; the
// accumulators stay unreduced in between over the data axes that their parameter does not use, so
// gradients of replicated parameters cross the wire once a step.
//
//     accumulate: parameters, batch, accumulators       -> accumulators (in place)
//     step:       parameters, moments, batch, [accumulators], scalars
//                                                       -> parameters, moments (in place), loss, norm
//     evaluate:   parameters, batch                     -> loss sum, weight sum
//     predict:    parameters, tokens                    -> logits
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/autodiff/autodiff.h"
#include "models/decoder.h"

namespace tessera::models {

struct AdamWConfig {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  // Which parameters decay; unset: those of two dims or more.
  std::function<bool(const ParameterSpec&)> decays;
};

struct StepConfig {
  ModelConfig model;
  DType compute = DType::f32;     // f32, bf16 or f64
  bool fp8 = false;               // products of the blocks' linear layers in fp8; under f32 or bf16
  // What parameters and moments are stored in; unset: f32, or f64 under f64. The latter or bf16.
  std::optional<DType> parameters, moments;
  bool stochastic_rounding = true;  // of what is stored in bf16; else to nearest
  int64_t seed = 0;                 // of that, and of dropout
  RematPolicy remat = RematPolicy::none;
  AdamWConfig optimizer;
  double z_loss = 0;              // weight of mean (log Z)^2, Z the softmax's denominator
  double clip_norm = 0;           // global norm; 0: no clipping
  int64_t batch = 0;              // sequences in one microbatch, over all data shards
  int64_t length = 0;             // tokens in a sequence
};

// Names of inputs and outputs; parameters bear their own names.
namespace names {
inline constexpr const char* kTokens = "tokens";          // s32 [batch, length]
inline constexpr const char* kTargets = "targets";        // s32 [batch, length]
inline constexpr const char* kWeights = "weights";        // f32 [batch, length]; 0 for padding
inline constexpr const char* kLearningRate = "learning_rate";  // scalars, f32 (f64 under f64)
inline constexpr const char* kBiasCorrection1 = "bias_correction1";  // 1 - beta1^t
inline constexpr const char* kBiasCorrection2 = "bias_correction2";
inline constexpr const char* kStep = "step";  // s64 scalar, from 0; where the step draws random bits
inline constexpr const char* kFirstRow = "first_row";  // s64 scalar: of the microbatch in the batch
inline constexpr const char* kLoss = "loss";              // mean over the step's weight
inline constexpr const char* kGradNorm = "grad_norm";     // of the mean gradient, before clipping
inline constexpr const char* kLossSum = "loss_sum";
inline constexpr const char* kWeightSum = "weight_sum";
inline constexpr const char* kLogits = "logits";
std::string first_moment(const std::string& parameter);   // "adamw.m/" + name
std::string second_moment(const std::string& parameter);  // "adamw.v/" + name
std::string accumulator(const std::string& what);         // "accumulator/" + name
}  // namespace names

Graph build_step(const StepConfig& config, bool with_accumulators);
Graph build_accumulate(const StepConfig& config);
Graph build_evaluate(const StepConfig& config);
Graph build_predict(const StepConfig& config);

}  // namespace tessera::models

// Control flow. Each op holds its regions as graphs that are closed over their inputs: whatever a
// region uses from outside is an operand, and every value a loop carries is named in the operands,
// in the inputs and outputs of the body, and in the results, at the same position.
//
// Names and meaning follow the StableHLO specification (`while`, `case`, `optimization_barrier`,
// func `call`) and, for manual_computation, Shardy's.
#pragma once

#include <optional>
#include <vector>

#include "core/ir/builder.h"

namespace tessera::ops {

// call{callee}(xs...) -> the outputs of the callee.
extern const OpDef kCall;
std::vector<Value> call(Builder& b, GraphRef callee, std::vector<Value> operands);

// while{condition, body, trip_count?}(init...): condition: carried -> pred[]; body: carried ->
// carried. Runs the body while the condition holds. `trip_count`, where known, is the exact number
// of turns: evaluation throws UserError where the loop turns more or less often.
extern const OpDef kWhile;
std::vector<Value> while_loop(Builder& b, std::vector<Value> init, GraphRef condition, GraphRef body,
                              std::optional<int64_t> trip_count = {});

// case{branches}(index, xs...): s32[] index; one that is out of range takes the last branch.
extern const OpDef kCase;
std::vector<Value> case_of(Builder& b, Value index, std::vector<Value> operands, Graphs branches);
// The branch for true where `condition` (pred[]) holds.
std::vector<Value> if_else(Builder& b, Value condition, std::vector<Value> operands,
                           GraphRef on_true, GraphRef on_false);

// manual_computation{callee, axes, in_shardings, out_shardings}(xs...): the callee is what one
// coordinate of the manual `axes` computes. Its inputs and outputs have the operands' and results'
// shapes cut by those axes of the shardings that are manual (major to the free ones); the free axes
// stay automatic inside. Collectives in the callee run over manual axes only; those that change
// shapes carry the attribute `shape`, as their shapes are local along these axes. A result whose out_sharding names
// no manual axis must be equal on all coordinates of that axis. An axis under `partial` in an
// out_sharding: the results of the coordinates are addends.
extern const OpDef kManualComputation;
std::vector<Value> manual_computation(Builder& b, GraphRef callee, std::vector<Value> operands,
                                      AxisList axes, Shardings in_shardings,
                                      Shardings out_shardings);
// `sharding` with only its manual axes, and with only the others.
Sharding manual_part(const Sharding& sharding, const AxisList& manual);
Sharding free_part(const Sharding& sharding, const AxisList& manual);
// What one coordinate of the manual axes holds. Throws UserError where a dim does not divide.
TensorType manual_type(const TensorType& type, const Sharding& sharding, const AxisList& manual);

// optimization_barrier(xs...) -> xs: no pass moves, merges or folds across it.
extern const OpDef kOptimizationBarrier;
std::vector<Value> optimization_barrier(Builder& b, std::vector<Value> operands);

}  // namespace tessera::ops

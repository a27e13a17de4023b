// Gradients of instructions with regions: call, case, counted loops, manual computations.
//
// Before the backward pass the forward instruction is extended in place by the residuals of its
// region, as further results (what stands before them keeps its number). When the backward pass
// comes by, the gradient is emitted: a call of the backward region, a case with the same index, the
// loop turned round, or a manual computation.
//
//     while: carries (k, x, w), T turns. Forward: each turn writes its residuals into stacks [T, ...]
//     at k. Backward: k runs from T - 1 to 0; carries the cotangents, reads the stacks. A carried
//     value that the body returns unchanged (w) is never stacked, nor is what a turn slices from it, and
//     its cotangent adds up.
#pragma once

#include <memory>
#include <vector>

#include "core/autodiff/autodiff.h"

namespace tessera {

class RegionGradient {
 public:
  virtual ~RegionGradient() = default;
  // Cotangents of the operands, as OpDef::grad gives them.
  virtual std::vector<Value> emit(GradContext& context) = 0;
};

// For an instruction with regions, some operands of which (active) need gradients; null where there
// is nothing to do. Throws UserError that names a loop without a known trip count.
std::unique_ptr<RegionGradient> prepare_region_gradient(Builder& builder, int instruction,
                                                        const std::vector<bool>& active,
                                                        const AutodiffOptions& options);

// One per kind of instruction.
std::unique_ptr<RegionGradient> prepare_call_gradient(Instruction& call,
                                                      const std::vector<bool>& active,
                                                      const AutodiffOptions& options);
std::unique_ptr<RegionGradient> prepare_case_gradient(Instruction& instruction,
                                                      const std::vector<bool>& active,
                                                      const AutodiffOptions& options);
std::unique_ptr<RegionGradient> prepare_while_gradient(Instruction& loop,
                                                       const std::vector<bool>& active,
                                                       const AutodiffOptions& options);
std::unique_ptr<RegionGradient> prepare_manual_gradient(Instruction& manual,
                                                        const std::vector<bool>& active,
                                                        const AutodiffOptions& options);

// Cotangent of the operand of a collective on local shapes, inside a manual computation.
bool has_exchange_gradient(const Instruction& instruction);
std::vector<Value> exchange_gradient(const Instruction& instruction, GradContext& context);

// ---- For the kinds ------------------------------------------------------------------------------

// Numbers of the operands that are active, and of the outputs of `region` that depend on them.
std::vector<int> numbers_of(const std::vector<bool>& flags);
std::vector<int> active_outputs(const Graph& region, const std::vector<bool>& active_inputs);
// Appends a result for each output of `forward` beyond those there are.
void extend_results(Instruction& instruction, const std::vector<TensorType>& added);

}  // namespace tessera

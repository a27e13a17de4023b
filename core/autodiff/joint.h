// The gradient of a region, cut in two: what runs forward and gives its residuals, and what runs
// backward and takes them. Loops, branches and calls are differentiated with these two graphs.
//
//     region   (x, w) -> y = tanh(x w)
//     forward  (x, w) -> y, y            the residual: tanh needs its own result
//     backward (x, w, y, dy) -> dx, dw   x and w are inputs, which need not be given twice
#pragma once

#include <vector>

#include "core/autodiff/autodiff.h"

namespace tessera {

// Which values of a graph depend on the given inputs (by number) through floating-point values.
std::vector<bool> depends_on_inputs(const Graph& graph, const std::vector<bool>& inputs);

// Something that the backward graph takes from the forward one.
struct Residual {
  Value value;     // of the joint graph
  int input = -1;  // the region's input that it is, or -1
};

// A region with its backward part appended. Instructions before `forward_size` are the region's own
// (its control flow extended by residuals of its own); then come the inputs for cotangents.
struct Joint {
  Graph graph;  // inputs and outputs are still the region's, cotangents excluded
  int forward_size = 0;
  std::vector<Value> cotangents;  // parameters, one for each entry of `outputs`
  std::vector<Value> gradients;   // for each entry of `wrt`; invalid where there is none
};

// `outputs` and `wrt` are numbers of outputs and inputs of the region. Throws UserError as
// `gradients` does.
Joint differentiate(const Graph& region, const std::vector<int>& outputs,
                    const std::vector<int>& wrt, const AutodiffOptions& options);

struct SplitJoint {
  std::vector<Residual> residuals;
  // (residuals..., cotangents...) -> the valid gradients, in order.
  Graph backward;
};

// What is kept follows the policy: everything that the backward part reads (none), the results of
// contractions (dots), inputs only (full); the rest is computed again with the recompute tag.
// Constants are never residuals.
SplitJoint split_joint(const Joint& joint, RematPolicy policy);
// Of a region that runs many times, whose residuals are copied into stacks: only the inputs that
// `at_hand` says can be had without, and a slice of one is taken again instead of being stacked.
SplitJoint split_joint(const Joint& joint, RematPolicy policy, const std::vector<bool>& at_hand);

// The forward part with the residuals that are not inputs as further outputs.
Graph forward_of(const Joint& joint, const std::vector<Residual>& residuals);

}  // namespace tessera

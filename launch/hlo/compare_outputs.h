// Whether two runs of a program gave the same.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

// By the narrowest float that the program computes in, regions included: f64 1e-10, f32 1e-4, f16
// 1e-2, bf16 5e-2, f8 0.3.
double tolerance_of(const Graph& graph);

struct OutputDifference {
  size_t output = 0;
  std::vector<int64_t> index;
  std::string expected, actual;
};

struct Comparison {
  double max_relative_error = 0;
  std::optional<OutputDifference> first;  // beyond the tolerance
  int64_t not_finite = 0;                 // elements that are equal, but NaN or infinite

  bool equal() const { return !first.has_value(); }
};

// Elements of floats may differ by `tolerance` times the larger of the two and of a thousandth of the
// output's largest; NaN equals NaN, an infinity itself. Integers and preds must be equal.
void compare_output(size_t output, const HostTensor& expected, const HostTensor& actual, double tolerance,
                    Comparison& result);

}  // namespace tessera

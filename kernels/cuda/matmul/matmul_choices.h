// The algorithms that were chosen, as text that other ranks and later runs can read.
//
//     tessera matmul choices 1
//     library cuBLASLt 130100
//     device NVIDIA H200, compute capability 9.0, 132 multiprocessors
//     bf16,bf16 512x768x3072 nt batch 1 ... beta 0 = 0 00000000000000a1...
//
// The last lines are a problem (matmul_problem.h), "behind" where its epilogue is a kernel of ours, the bytes of
// workspace, and cuBLASLt's opaque words in hex.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "kernels/cuda/matmul/matmul_plan.h"

namespace tessera::cuda {

struct MatmulChoices {
  std::string library, device;  // what they hold for
  std::map<std::string, MatmulAlgorithm> of_problem;
};

std::string print_choices(const MatmulChoices& choices);
// Throws UserError, with the line, where the text is none of print_choices.
MatmulChoices parse_choices(std::string_view text);

}  // namespace tessera::cuda

// What the CPU kernels stand on, for --version, doctor and checkpoints.
#pragma once

#include <string>

namespace tessera::cpu {

std::string onednn_version();   // "2.6.3"
// The widest instructions that the kernels were compiled for: "avx512", "avx2" or "baseline".
std::string instruction_set();
// Empty where this machine can run them; otherwise which instructions it lacks.
std::string missing_instructions();

}  // namespace tessera::cpu

// Dropout in one pass: the mask is made where it is applied.
//
// Floor: memory, one read and one write. A block of Philox for eight elements costs some 12 vector
// operations of 16 lanes.
#pragma once

#include <cstdint>

#include "kernels/cpu/step_bits.h"

namespace tessera::cpu {

struct DropoutMask {
  StepDraw draw;
  uint32_t threshold = 0;  // of 2^16: what draws less is dropped
  double scale = 1;        // of what is kept
};

// T is float, double or bfloat16; y may be x.
template <typename T>
void dropout(int64_t n, const DropoutMask& mask, const ShardRuns& runs, const T* x, T* y);

}  // namespace tessera::cpu

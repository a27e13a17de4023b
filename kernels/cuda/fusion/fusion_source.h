// The CUDA C++ source of a fusion's kernel: a pure function of the fusion's walk.
//
// A thread computes `lanes` neighbouring elements of the walk: it reads all its operands, then computes, then writes,
// so that a result may lie over an operand that is read at the position of the write. Operands that lie as the
// results do are read in one or two accesses of 16 bytes; one element for all is read once; what is broadcast is
// read in runs (the largest power of two that divides the pack and the row), whose index follows from the position
// by constant divisors, which the compiler makes products. Equal bodies give equal text, whatever their number of
// rows: `elements` is an argument, and only the dims that enter an index stand in the text.
//
// Bound by memory: (bytes of the operands, each once, + bytes of the results) / bandwidth. A kernel of bf16 has time
// for some 36 instructions an element and 6 bytes on an H200 (4.8 TB/s, 132 x 128 lanes at 1.7 GHz) before it is
// bound by them instead.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/common/fusion_walk.h"

namespace tessera::cuda {

struct FusionSource {
  std::string name;  // of the kernel: what it computes and a hash of the text
  std::string text;  // without the prelude
  int lanes = 1;     // elements per thread
  std::string refusal;  // why there is none; "" where there is one

  static constexpr int kThreads = 256;  // of a block
};

// The kernel takes one argument: {u64 elements; void* pointers[inputs + outputs]}, first the body's inputs.
// `alignment` holds for all pointers (a power of two, in bytes; more than 16 does not matter); `label` begins the
// kernel's name.
FusionSource fusion_source(const FusionWalk& walk, int inputs, int alignment, const std::string& label);

// Why no kernel can be made from the walk; "" where one can.
std::string fusion_refusal(const FusionWalk& walk, int inputs);

// What must stand before kernels: one text for all.
const std::string& fusion_prelude();

// 64 bits by FNV-1a, as 16 hexadecimal digits.
std::string text_hash(std::string_view text);

}  // namespace tessera::cuda

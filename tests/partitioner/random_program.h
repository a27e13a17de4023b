// Random programs with random annotations, decoded from a tape of numbers, so that a shrunk tape is
// a smaller program.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ir/graph.h"

namespace tessera::testing {

struct RandomOptions {
  int64_t devices = 0;        // of the mesh; 0: any of 2 to 8
  bool uneven = false;        // dims and shardings that do not divide
  bool sample_ops = true;     // every op of the op table, by its samples
  bool control = true;        // loops, branches, calls, manual computations
  bool other_meshes = false;  // shardings over other orders of the devices and other axes
};

struct RandomProgram {
  Graph graph;   // f64 values mostly; some are named and carry a sharding, inputs and outputs
                 // partial too
  MeshPtr mesh;
  std::vector<HostTensor> inputs;
};

// Numbers past the end of the tape read as 0.
RandomProgram random_program(const std::vector<uint32_t>& tape, const RandomOptions& options = {});

// A tape of 20 to 170 numbers.
std::vector<uint32_t> random_tape(uint64_t seed);

}  // namespace tessera::testing

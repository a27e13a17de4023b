// Makes a failing random program small.
#pragma once

#include "tests/partitioner/random_program_check.h"

namespace tessera::testing {

// The failing tape made shorter and smaller for as long as it fails, within `attempts`.
std::vector<uint32_t> shrink_tape(std::vector<uint32_t> tape, uint64_t seed,
                                  const RandomOptions& options, int attempts = 400,
                                  const ProgramCheck& check = check_program);

}  // namespace tessera::testing

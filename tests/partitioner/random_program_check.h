// Whether a random program is partitioned into what it was.
#pragma once

#include <functional>
#include <string>

#include "tests/partitioner/random_program.h"

namespace tessera::testing {

// "" or what differs, as check_every_pass says it.
std::string check_program(const RandomProgram& program, uint64_t seed);
// The same on a machine without latency, where the few bytes of such programs decide.
std::string check_by_bytes(const RandomProgram& program, uint64_t seed);

// Partitioned, compiled and run with real messages, one thread per device; "" or what differs from
// the interpreter.
std::string run_program(const RandomProgram& program);

using ProgramCheck = std::function<std::string(const RandomProgram&, uint64_t seed)>;

}  // namespace tessera::testing

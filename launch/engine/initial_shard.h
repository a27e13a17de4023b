// Initial values of one rank's shard of a parameter, drawn by all of its threads.
//
// models::initial_values draws some 30 million normal numbers a second; GPT-2's 124 million would
// hold up the first step by seconds. An element's value depends on its global index alone, so the
// rows can be dealt to any number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "core/types/host_tensor.h"
#include "models/parameters.h"

namespace tessera {

// models::initial_values(spec, seed, start, shape), bitwise, with cpu::threads() threads; zeros where
// the shard reaches beyond the parameter.
HostTensor initial_shard(const models::ParameterSpec& spec, int64_t seed,
                         const std::vector<int64_t>& start, const Shape& shape);

}  // namespace tessera

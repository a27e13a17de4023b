// Finding the checkpoint that a verb works on.
#pragma once

#include <string>

#include "launch/checkpoint/checkpoint_reader.h"

namespace tessera {

// The newest whole checkpoint of the run in `path`, or the one of `step` (>= 0). Damaged ones are
// passed over with a warning. Throws UserError where none is left, naming the steps there are.
CheckpointReader open_run(const std::string& path, int64_t step = -1);

}  // namespace tessera

// Replays an executable's steps on its planned addresses, without computing anything, and proves
// that every step reads what was meant for it.
#pragma once

#include "core/compile/executable.h"

namespace tessera {

// Each byte of each arena carries the number of the buffer last written there. A step's operand
// must carry its own number (or that of a buffer which holds the same data: the source of a view, a
// member of a concatenate) over its whole extent. Between the start and the done of a collective
// nothing may write its operands or touch its result. A loop is replayed for two turns; of a branch
// each arm from the same state, and what any arm wrote counts as lost behind it. Throws InternalError
// naming step, tensor and culprit.
void check_plan(const Executable& executable);

}  // namespace tessera

// What this machine's matrix products reach: the yardstick of MFU on a CPU.
#pragma once

#include "core/runtime/communicator.h"

namespace tessera {

// FLOP/s of all ranks together, each with its own threads at the same time: the best of a few f32
// products of 768 x 768 x 768. Collective. Takes some hundredths of a second.
double measured_peak(World& world);

}  // namespace tessera

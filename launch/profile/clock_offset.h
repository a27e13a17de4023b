// How far apart the clocks of ranks are, so that their traces can stand on one axis.
#pragma once

#include "core/runtime/communicator.h"

namespace tessera {

struct ClockOffset {
  double seconds = 0;  // this rank's steady clock minus rank 0's
  double error = 0;    // the offset is right to within this
};

// Collective. Nobody leaves a barrier before everybody has entered it, so each barrier bounds the offset of rank r
// on both sides:
//
//     enter_r - leave_0  <=  offset  <=  leave_r - enter_0
//
// The tightest bounds of many barriers leave an interval about as long as the fastest barrier; its middle is taken,
// and half of its length is the error, which is a bound and no estimate. Clocks of hosts drift apart afterwards, by
// some microseconds a second.
ClockOffset measure_clock_offset(World& world);

// The largest of all ranks.
double largest_clock_error(World& world, const ClockOffset& offset);

}  // namespace tessera

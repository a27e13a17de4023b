// A collective at the end of a loop's body need not be over when the turn is: the next turn waits for
// it where it first needs to.
//
//     turn:  y = dynamic_slice(w, k)        turn:  y = dynamic_slice(w, k)
//            z = x y                   ->          wait for x of the turn before
//            x = all_reduce(z)                     z = x y
//            wait for x                            start x = all_reduce(z)
//                                       behind the loop: wait for x
//
// It may stay in flight if its result is a carried value in its place, which nothing reads any more in
// this turn nor the loop's condition. What it reads then keeps its memory through the whole loop.
#pragma once

#include "core/compile/scheduler.h"

namespace tessera {

// Takes the waits at the end of a body's schedule that can be left out into `left`, and shortens the
// report by what the next turn hides. Returns the seconds that the last turn still waits for them.
double leave_in_flight(Schedule& body, const ControlSteps& loop);

}  // namespace tessera

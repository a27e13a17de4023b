// Time as it is measured everywhere here: differences of one clock that never goes back.
#pragma once

namespace tessera {

// Seconds of the host's steady clock, since a moment of its own.
double steady_seconds();

}  // namespace tessera

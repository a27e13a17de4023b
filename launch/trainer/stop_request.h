// Signals that ask a job to save and stop. Handlers only set a flag (Open MPI is not
// async-signal-safe); the trainer combines the flags of all ranks at each step boundary, so that all
// stop at the same step even when one rank alone got the signal.
#pragma once

namespace tessera {

enum class StopReason : int {
  none = 0,
  save_and_requeue = 1,  // SIGUSR1: save, exit 75
  terminate = 2,         // SIGTERM or SIGINT: save, exit 75
};

// Installs handlers for SIGUSR1, SIGTERM and SIGINT. A second SIGINT or SIGTERM ends the process at
// once (exit 128 + signal).
void install_stop_handlers();

// What this process has been asked so far.
StopReason requested_stop();

// For tests, and for ranks as threads: as if the signal had come.
void request_stop(StopReason reason);

}  // namespace tessera

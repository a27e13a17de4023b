// Signals that ask a job to save and stop. They only set a flag; the trainer combines the flags of all
// ranks at each step boundary, so that all stop at the same step even when one rank alone got the
// signal.
//
// No handler ever runs on a thread that computes: oneDNN's generated code keeps live data below the
// stack pointer, past the ABI's red zone, and the frame of a handler would overwrite it (seen as heap
// corruption in about one signalled run of twenty). So the signals are blocked in all threads, and one thread
// waits for them.
#pragma once

namespace tessera {

enum class StopReason : int {
  none = 0,
  save_and_requeue = 1,  // SIGUSR1: save, exit 75
  terminate = 2,         // SIGTERM or SIGINT: save, exit 75
};

// Blocks SIGUSR1, SIGTERM and SIGINT in the calling thread and all that it starts, and starts the
// thread that waits for them: call it before MPI and OpenMP start theirs. A second SIGINT or SIGTERM
// ends the process at once (exit 128 + signal). Calling it again does nothing.
void watch_stop_signals();

// What this process has been asked so far.
StopReason requested_stop();

// For tests, and for ranks as threads: as if the signal had come.
void request_stop(StopReason reason);

}  // namespace tessera

#include "launch/trainer/stop_request.h"

#include <csignal>
#include <unistd.h>

#include <algorithm>

namespace tessera {
namespace {

volatile std::sig_atomic_t requested = 0;

void on_signal(int signal) {
  const auto reason = signal == SIGUSR1 ? StopReason::save_and_requeue : StopReason::terminate;
  if (reason == StopReason::terminate && requested == static_cast<int>(StopReason::terminate))
    _exit(128 + signal);
  if (static_cast<int>(reason) > requested) requested = static_cast<int>(reason);
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGUSR1, SIGTERM, SIGINT}) sigaction(signal, &action, nullptr);
}

StopReason requested_stop() { return static_cast<StopReason>(static_cast<int>(requested)); }

void request_stop(StopReason reason) { requested = static_cast<int>(reason); }

}  // namespace tessera

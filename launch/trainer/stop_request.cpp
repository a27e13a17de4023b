#include "launch/trainer/stop_request.h"

#include <csignal>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>

namespace tessera {
namespace {

std::atomic<int> requested{0};

void note(int signal) {
  const auto reason = signal == SIGUSR1 ? StopReason::save_and_requeue : StopReason::terminate;
  if (reason == StopReason::terminate && requested == static_cast<int>(StopReason::terminate))
    _exit(128 + signal);
  if (static_cast<int>(reason) > requested) requested = static_cast<int>(reason);
}

}  // namespace

void watch_stop_signals() {
  static std::once_flag once;
  std::call_once(once, [] {
    sigset_t signals;
    sigemptyset(&signals);
    for (int signal : {SIGUSR1, SIGTERM, SIGINT}) sigaddset(&signals, signal);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::thread([signals] {
      for (int signal = 0; sigwait(&signals, &signal) == 0;) note(signal);
    }).detach();
  });
}

StopReason requested_stop() { return static_cast<StopReason>(requested.load()); }

void request_stop(StopReason reason) { requested = static_cast<int>(reason); }

}  // namespace tessera

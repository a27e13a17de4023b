// A network between ranks as threads that is as slow as one wishes: shows on one machine what
// overlapping communication gains, and which waits a program really has.
//
//     DelayedNetwork network({.latency_seconds = 1e-3, .bytes_per_second = 1e9});
//     run_thread_ranks(4, [&](World& world) {
//       const auto delayed = network.connect(world);
//       ... Executor(executable, backend, delayed.get(), ...)
//     });
//
// A rank's collectives leave one after the other over its one link: each occupies it for the latency
// and its wire bytes (those of ring algorithms), beginning when it is started and the link is free. A
// collective is over when that is so on every rank of the group. Who waits for it sleeps until then,
// so that ranks that share a core can compute meanwhile.
//
// With `polls` time is counted in polls of the communicator instead (the executor polls after every
// step), and no one sleeps: whether a wait comes too early is then the same in every run, on any
// machine.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/runtime/communicator.h"

namespace tessera {

struct NetworkModel {
  double latency_seconds = 0;
  double bytes_per_second = 1e12;  // that one rank sends
  int64_t polls = 0;               // > 0: each collective takes as many polls, and no time
};

// One wait of one rank, in the order of the waits.
struct WaitRecord {
  std::string tensor;
  std::string group;
  CollectiveKind kind = CollectiveKind::all_reduce;
  bool was_over = false;    // nothing to wait for: hidden behind compute
  double in_flight = 0;     // seconds (or polls) from start to the wait
  double waited = 0;        // seconds (or polls) that were missing
};

class DelayedWorld : public World {
 public:
  // What this rank waited for since the last clear(). Kept only after record(true).
  virtual void record(bool on) = 0;
  virtual const std::vector<WaitRecord>& waits() const = 0;
  virtual void clear() = 0;
};

class DelayedNetwork {
 public:
  explicit DelayedNetwork(NetworkModel model) : model_(model) {}

  // This rank's world through the network; `inner` and the network must outlive it. Small exchanges
  // of the control plane are not delayed.
  std::unique_ptr<DelayedWorld> connect(World& inner);

  struct Group;

 private:
  friend class DelayedWorldImpl;
  std::shared_ptr<Group> group(const std::string& key);

  const NetworkModel model_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Group>> groups_;
};

}  // namespace tessera

// Ranks as threads of one process: any mesh on one machine, without MPI (`--virtual-devices N`).
//
//     run_thread_ranks(8, [](World& world) {
//       auto data = world.create_group({{0, 1, 2, 3, 4, 5, 6, 7}}, "data");
//       ...
//     });
//
// Threads see one address space, so every operand lies in shared memory already. Collectives are
// those of SharedGroup, the same code that ranks of one host run between processes. Ranks may far
// outnumber cores: waits sleep.
#pragma once

#include <functional>
#include <memory>

#include "core/runtime/communicator.h"

namespace tessera {

struct ThreadRanksOptions {
  // A rank that waits longer for its peers throws; the message names the rank that lags. 0: never.
  double timeout_seconds = 600;
};

// Runs `body` once per rank, each on a thread of its own, and returns when all have returned. Where
// a rank throws, the waits of the others end; when all threads are done, the first exception is
// thrown again with "rank R: " before its message (UserError, ConfigError and InternalError keep
// their type, others become std::runtime_error). `ranks` is 1 to 1024.
void run_thread_ranks(int ranks, const std::function<void(World&)>& body,
                      const ThreadRanksOptions& options = {});

// A world of one rank in the calling thread, for a program that was not launched on several.
std::unique_ptr<World> create_single_world();

}  // namespace tessera

// Which ranks lie on which host, and which of those can share memory.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/comm/mpi_world.h"
#include "kernels/comm/process_memory.h"

namespace tessera {

struct Topology {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  // on this host
  std::string host_name;
  bool one_machine = true;     // all ranks, hosts of tests included, lie on one real machine
  std::vector<int> island_of;  // by world rank: its island, in order of the islands' first ranks.
                               // An island is a host, or one rank where memory cannot be shared
  int islands = 1;
  uint64_t job = 0;  // random, the same on all ranks

  std::vector<int> members_of(int island) const;
  int island() const { return island_of[static_cast<size_t>(rank)]; }
};

// Collective over `world`. Finds the hosts, then tries the ways of sharing memory that `options`
// allows; `memory` is null where this rank is alone on its island. Warns where ranks of one host
// can share none.
Topology discover_topology(MPI_Comm world, const MpiOptions& options,
                           std::unique_ptr<ProcessMemory>& memory);

}  // namespace tessera

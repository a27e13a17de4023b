#include "kernels/comm/mpi/topology.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <random>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/strings.h"
#include "kernels/comm/mpi/mpi_support.h"

namespace tessera {
namespace {

using NameField = std::array<char, 128>;

std::vector<std::string> gather_names(MPI_Comm comm, const std::string& mine, int size) {
  NameField field{};
  std::memcpy(field.data(), mine.data(), std::min(mine.size(), field.size() - 1));
  std::vector<NameField> fields(static_cast<size_t>(size));
  check_mpi(MPI_Allgather(field.data(), sizeof field, MPI_BYTE, fields.data(), sizeof field,
                          MPI_BYTE, comm),
            "MPI_Allgather");
  std::vector<std::string> names;
  for (const NameField& name : fields) names.emplace_back(name.data());
  return names;
}

std::string real_host_name() {
  char name[128] = "localhost";
  gethostname(name, sizeof name - 1);
  return name;
}

// The pretended host of a test; "" where there is none.
std::string pretended_host(const MpiOptions& options, int rank) {
  std::string text = options.host_override;
  if (text.empty())
    if (const char* variable = std::getenv("TESSERA_FAKE_HOST")) text = variable;
  const std::vector<std::string> list = split(text, ',');
  if (list.size() > 1) text = list[static_cast<size_t>(rank) % list.size()];
  return text;
}

// True on all ranks of `local` where each can write into memory that another made.
bool can_share(MPI_Comm local, const std::vector<int>& members, ProcessMemory& memory, int rank) {
  struct Probe {
    SharedAddress address;
    int64_t nonce;
  };
  Probe mine;
  mine.nonce = static_cast<int64_t>(getpid()) * 1000003 + rank;
  int good = 1;
  try {
    const StagingBuffer buffer = memory.create(4096);
    std::memcpy(buffer.data, &mine.nonce, sizeof mine.nonce);
    mine.address = buffer.address;
  } catch (const UserError& error) {
    log_debug(error.what());
    good = 0;
  }
  std::vector<Probe> probes(members.size());
  check_mpi(
      MPI_Allgather(&mine, sizeof mine, MPI_BYTE, probes.data(), sizeof mine, MPI_BYTE, local),
      "MPI_Allgather");
  for (size_t i = 0; i < members.size() && good; ++i) {
    const std::byte* data = memory.try_resolve(members[i], probes[i].address);
    good = data != nullptr && std::memcmp(data, &probes[i].nonce, sizeof(int64_t)) == 0;
  }
  int all_good = 0;
  check_mpi(MPI_Allreduce(&good, &all_good, 1, MPI_INT, MPI_MIN, local), "MPI_Allreduce");
  return all_good != 0;
}

std::unique_ptr<ProcessMemory> find_shared_memory(MPI_Comm local, const std::vector<int>& members,
                                                  const Topology& topology,
                                                  const MpiOptions& options) {
  const int pid = getpid();
  std::vector<int> pids(members.size());
  check_mpi(MPI_Allgather(&pid, 1, MPI_INT, pids.data(), 1, MPI_INT, local), "MPI_Allgather");
  for (const HostMemory kind : {HostMemory::memfd, HostMemory::shm_file}) {
    if (options.host_memory != HostMemory::automatic && options.host_memory != kind) continue;
    auto memory = std::make_unique<ProcessMemory>(kind, topology.job, topology.rank);
    for (size_t i = 0; i < members.size(); ++i) memory->add_peer(members[i], pids[i]);
    if (can_share(local, members, *memory, topology.rank)) return memory;
  }
  return nullptr;
}

}  // namespace

std::vector<int> Topology::members_of(int island) const {
  std::vector<int> members;
  for (int r = 0; r < size; ++r)
    if (island_of[static_cast<size_t>(r)] == island) members.push_back(r);
  return members;
}

Topology discover_topology(MPI_Comm world, const MpiOptions& options,
                           std::unique_ptr<ProcessMemory>& memory) {
  Topology topology;
  MPI_Comm_rank(world, &topology.rank);
  MPI_Comm_size(world, &topology.size);
  topology.job = (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  check_mpi(MPI_Bcast(&topology.job, sizeof topology.job, MPI_BYTE, 0, world), "MPI_Bcast");

  // The ranks that could share memory, less those that a test moves to another host.
  MPI_Comm shared = MPI_COMM_NULL, comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, topology.rank, MPI_INFO_NULL, &shared),
            "MPI_Comm_split_type");
  int machine_size = 0;
  MPI_Comm_size(shared, &machine_size);
  int one_machine = machine_size == topology.size, everywhere = 0;
  check_mpi(MPI_Allreduce(&one_machine, &everywhere, 1, MPI_INT, MPI_MIN, world), "MPI_Allreduce");
  topology.one_machine = everywhere != 0;
  const std::string pretended = pretended_host(options, topology.rank);
  const std::vector<std::string> names = gather_names(shared, pretended, machine_size);
  const auto color =
      static_cast<int>(std::find(names.begin(), names.end(), pretended) - names.begin());
  check_mpi(MPI_Comm_split(shared, color, topology.rank, &comm), "MPI_Comm_split");
  MPI_Comm_free(&shared);
  const OwnedComm local(comm);
  MPI_Comm_rank(comm, &topology.local_rank);
  MPI_Comm_size(comm, &topology.local_size);
  topology.host_name = pretended.empty() ? real_host_name() : pretended;

  std::vector<int> members(static_cast<size_t>(topology.local_size));
  check_mpi(MPI_Allgather(&topology.rank, 1, MPI_INT, members.data(), 1, MPI_INT, comm),
            "MPI_Allgather");
  if (topology.local_size > 1) memory = find_shared_memory(comm, members, topology, options);
  if (topology.local_size > 1 && !memory && topology.local_rank == 0)
    log_warning("host ", topology.host_name, ": its ", topology.local_size,
                " ranks cannot share memory",
                options.host_memory == HostMemory::none
                    ? " (as asked)"
                    : " (neither memfd through /proc nor files in /dev/shm)",
                "; all collectives go through MPI, several times slower. Counted once per host.");

  // Islands: the first rank on each, then numbers in order.
  const int first = memory ? members.front() : topology.rank;
  std::vector<int> firsts(static_cast<size_t>(topology.size));
  check_mpi(MPI_Allgather(&first, 1, MPI_INT, firsts.data(), 1, MPI_INT, world), "MPI_Allgather");
  std::vector<int> leaders(firsts);
  std::sort(leaders.begin(), leaders.end());
  leaders.erase(std::unique(leaders.begin(), leaders.end()), leaders.end());
  topology.islands = static_cast<int>(leaders.size());
  for (const int leader : firsts)
    topology.island_of.push_back(static_cast<int>(
        std::lower_bound(leaders.begin(), leaders.end(), leader) - leaders.begin()));
  return topology;
}

}  // namespace tessera

// Memory that the processes of a host share: segments that one rank makes and its peers map when
// they first meet an address in them.
//
// A segment is a memfd, which the peers open as /proc/PID/fd/N; it needs no name, dies with its
// processes, and is not limited by the size of /dev/shm (64 MB in default containers). Where that
// cannot be had it is a file in /dev/shm, allocated in full when it is made, so that lack of room
// is an error then and not a SIGBUS later.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/runtime/peer_memory.h"
#include "kernels/comm/mpi_world.h"

namespace tessera {

class ProcessMemory final : public PeerMemory {
 public:
  // `kind` is memfd or shm_file; `job` is the same on all ranks of the job and no other.
  ProcessMemory(HostMemory kind, uint64_t job, int world_rank);
  ~ProcessMemory() override;
  ProcessMemory(const ProcessMemory&) = delete;

  HostMemory kind() const { return kind_; }
  // Before the first resolve of one of its addresses.
  void add_peer(int world_rank, int pid);

  // A new zeroed segment of this rank, with room for all of it. UserError where there is none.
  StagingBuffer create(int64_t bytes);

  SharedAddress locate(const void* data, int64_t bytes) const override;
  std::byte* resolve(int world_rank, const SharedAddress& address) override;

  // Maps the peer's segment, or null where that is not possible (another user, another container).
  std::byte* try_resolve(int world_rank, const SharedAddress& address);

  // Takes the files' names away once every peer that needs them has mapped them. memfd: nothing.
  void unlink_files();

 protected:
  StagingBuffer allocate_staging(int64_t bytes) override { return create(bytes); }

 private:
  struct Segment {
    int fd = -1;
    int64_t id = -1;
    std::byte* base = nullptr;
    int64_t bytes = 0;
  };
  struct Peer {
    int pid = 0;
    std::vector<Segment> mapped;
  };
  std::string file_name(int world_rank, int64_t id) const;

  const HostMemory kind_;
  const uint64_t job_;
  const int world_rank_;
  int64_t next_id_ = 0;
  std::vector<Segment> own_;
  std::map<int, Peer> peers_;
};

}  // namespace tessera

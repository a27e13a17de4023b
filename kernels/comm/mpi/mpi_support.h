// MPI calls with their errors as exceptions, and waits that do not block inside MPI.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/runtime/progress_engine.h"

namespace tessera {

// Of one group; a further one first waits for the oldest.
inline constexpr int kCollectivesInFlight = 32;

// UserError with MPI's own words where `code` is not MPI_SUCCESS.
void check_mpi(int code, std::string_view what);

// Waits for `request` while all groups of this rank move on; an abort or a timeout ends it.
void await_request(ProgressEngine& engine, MPI_Request* request, const WaitSite& site);

// Messages of any length, in parts that fit MPI's int counts; appends the requests.
void send_bytes(const std::byte* data, int64_t bytes, int peer, int tag, MPI_Comm comm,
                std::vector<MPI_Request>& requests);
void receive_bytes(std::byte* data, int64_t bytes, int peer, int tag, MPI_Comm comm,
                   std::vector<MPI_Request>& requests);

// A communicator that is freed with its owner.
class OwnedComm {
 public:
  OwnedComm() = default;
  explicit OwnedComm(MPI_Comm comm) : comm_(comm) {}
  OwnedComm(OwnedComm&& other) noexcept : comm_(other.comm_) { other.comm_ = MPI_COMM_NULL; }
  OwnedComm& operator=(OwnedComm&& other) noexcept;
  ~OwnedComm() { reset(); }
  void reset();
  // Forgets the communicator without freeing it: freeing may wait for peers that are gone.
  void abandon() { comm_ = MPI_COMM_NULL; }
  MPI_Comm get() const { return comm_; }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
};

// The communicator of `members` (world ranks, in order). Collective over them alone.
OwnedComm create_comm(MPI_Comm world, const std::vector<int>& members, int tag);

}  // namespace tessera

// One ncclComm_t, which never blocks the host: every call is polled until NCCL has taken it.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/cuda/comm/nccl_library.h"

namespace tessera::cuda {

class NcclCommunicator;

struct NcclSetup {
  const NcclLibrary* nccl = nullptr;
  NcclCommunicator* parent = nullptr;  // that it is split off; null: it is made from `id`
  ncclUniqueId id = {};
  int color = 0;  // of a split: the same for the ranks of a group, another for other groups
  int rank = 0, size = 1;
  std::string name;             // of the group, for messages
  double timeout_seconds = 600;  // for each call to be taken; 0: for ever
  std::function<void()> verify;  // asked while polling; throws where the job has failed meanwhile
};

class NcclCommunicator {
 public:
  // On the current device. Collective over the group's ranks; a split over all of its parent's. Throws UserError
  // with NCCL's reason.
  explicit NcclCommunicator(NcclSetup setup);
  // Collective, unless aborted or during an exception. Graphs that hold its work must be gone: NCCL waits for them.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;

  // body(ncclComm_t) submits NCCL calls, as one group, and returns the first result that is neither success nor
  // in progress. Returns when NCCL has taken them, which needs no peer once the communicator has been used.
  void submit(const char* what, const std::function<ncclResult_t(ncclComm_t)>& body);

  // Takes part in a split of this communicator without being in any part of it.
  void join_no_split();

  // Lets NCCL read and write [memory, memory + bytes) in place, until this ends; the memory must be NCCL's
  // (NcclLibrary::allocate). All ranks of a call must agree in whether its buffers are registered: where one could
  // not, forget_memory() undoes it on the others.
  bool register_memory(void* memory, int64_t bytes);
  void forget_memory(void* memory);

  // An error that NCCL met by itself (a lost connection), or "". Any thread.
  std::string failure();
  // Ends all work of the communicator on the device, with wrong results; it cannot be used after. Any thread.
  void abort() noexcept;

 private:
  struct Registered {
    void* memory;
    void* handle;
  };

  void create(ncclConfig_t& config);
  ncclComm_t split(int color, int key, ncclConfig_t& config);
  ncclResult_t state();
  void await(const char* what);
  [[noreturn]] void fail(const char* what, ncclResult_t result);
  std::string reason(ncclResult_t result) const;

  const NcclSetup setup_;
  const NcclLibrary& nccl_;
  const int exceptions_;
  std::mutex mutex_;  // held around calls of NCCL, which return at once
  ncclComm_t comm_ = nullptr;
  std::vector<Registered> registered_;
};

}  // namespace tessera::cuda

// One ncclComm_t, which never blocks the host: every call is polled until NCCL has taken it.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>

#include "kernels/cuda/comm/nccl_library.h"

namespace tessera::cuda {

struct NcclSetup {
  const NcclLibrary* nccl = nullptr;
  ncclUniqueId id = {};
  int rank = 0, size = 1;
  std::string name;             // of the group, for messages
  double timeout_seconds = 600;  // for each call to be taken; 0: for ever
  std::function<void()> verify;  // asked while polling; throws where the job has failed meanwhile
};

class NcclCommunicator {
 public:
  // On the current device. Collective over the group's ranks. Throws UserError with NCCL's reason.
  explicit NcclCommunicator(NcclSetup setup);
  // Collective, unless aborted or during an exception. Graphs that hold its work must be gone: NCCL waits for them.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;

  // body(ncclComm_t) submits NCCL calls, as one group, and returns the first result that is neither success nor
  // in progress. Returns when NCCL has taken them, which needs no peer once the communicator has been used.
  void submit(const char* what, const std::function<ncclResult_t(ncclComm_t)>& body);

  // An error that NCCL met by itself (a lost connection), or "". Any thread.
  std::string failure();
  // Ends all work of the communicator on the device, with wrong results; it cannot be used after. Any thread.
  void abort() noexcept;

 private:
  ncclResult_t state();
  void await(const char* what);
  [[noreturn]] void fail(const char* what, ncclResult_t result);
  std::string reason(ncclResult_t result) const;

  const NcclSetup setup_;
  const NcclLibrary& nccl_;
  const int exceptions_;
  std::mutex mutex_;  // held around calls of NCCL, which return at once
  ncclComm_t comm_ = nullptr;
};

}  // namespace tessera::cuda

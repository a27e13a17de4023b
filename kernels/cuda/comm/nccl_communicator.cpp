#include "kernels/cuda/comm/nccl_communicator.h"

#include <chrono>
#include <exception>
#include <thread>

#include "core/base/error.h"
#include "core/base/log.h"
#include "kernels/cuda/backend/check.h"

namespace tessera::cuda {
namespace {

using Clock = std::chrono::steady_clock;

bool is_error(ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; }

}  // namespace

NcclCommunicator::NcclCommunicator(NcclSetup setup)
    : setup_(std::move(setup)), nccl_(*setup_.nccl), exceptions_(std::uncaught_exceptions()) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  try {
    create(config);
    await("creating a communicator");
  } catch (...) {
    abort();
    throw;
  }
}

void NcclCommunicator::create(ncclConfig_t& config) {
  if (setup_.parent) {
    comm_ = setup_.parent->split(setup_.color, setup_.rank, config);
    TESSERA_CHECK(comm_ != nullptr, "a split of NCCL's communicator for group '", setup_.name, "' gave none");
    return;
  }
  const ncclResult_t result = nccl_.init_rank_config(&comm_, setup_.size, setup_.id, setup_.rank, &config);
  if (is_error(result)) fail("creating a communicator", result);
}

ncclComm_t NcclCommunicator::split(int color, int key, ncclConfig_t& config) {
  ncclComm_t part = nullptr;
  ncclResult_t result = ncclSuccess;
  {
    const std::lock_guard lock(mutex_);
    if (comm_) result = nccl_.split(comm_, color, key, &part, &config);
  }
  if (is_error(result)) fail("splitting a communicator", result);
  // NCCL fills in `part` when the parent is ready again, and takes no other call of the parent before.
  await("splitting a communicator");
  return part;
}

void NcclCommunicator::join_no_split() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  split(NCCL_SPLIT_NOCOLOR, 0, config);
}

bool NcclCommunicator::register_memory(void* memory, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!comm_ || !nccl_.registers_memory()) return false;
  void* handle = nullptr;
  if (nccl_.register_memory(comm_, memory, static_cast<size_t>(bytes), &handle) != ncclSuccess) return false;
  registered_.push_back({memory, handle});
  return true;
}

void NcclCommunicator::forget_memory(void* memory) {
  const std::lock_guard lock(mutex_);
  std::erase_if(registered_, [&](const Registered& one) {
    if (one.memory != memory) return false;
    if (comm_) (void)nccl_.deregister_memory(comm_, one.handle);
    return true;
  });
}

NcclCommunicator::~NcclCommunicator() {
  if (!comm_) return;
  if (std::uncaught_exceptions() > exceptions_) {
    abort();
    return;
  }
  try {
    for (const Registered& one : registered_) (void)nccl_.deregister_memory(comm_, one.handle);
    const ncclResult_t result = nccl_.finalize(comm_);
    if (is_error(result)) fail("ending a communicator", result);
    await("ending a communicator");
    nccl_.destroy(comm_);
  } catch (const std::exception& error) {
    log_warning("warning: ", error.what());
    abort();
  }
}

ncclResult_t NcclCommunicator::state() {
  const std::lock_guard lock(mutex_);
  if (!comm_) return ncclSuccess;  // aborted: verify() says why
  ncclResult_t state = ncclSuccess;
  const ncclResult_t result = nccl_.get_async_error(comm_, &state);
  return is_error(result) ? result : state;
}

void NcclCommunicator::await(const char* what) {
  const Clock::time_point begin = Clock::now();
  for (int round = 0;; ++round) {
    const ncclResult_t now = state();
    if (is_error(now)) fail(what, now);
    setup_.verify();
    if (now == ncclSuccess) return;
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (setup_.timeout_seconds > 0 && seconds > setup_.timeout_seconds)
      throw_user_error("NCCL: ", what, " in group '", setup_.name, "' has taken ", static_cast<int64_t>(seconds),
                       " s: a rank of the group does not come to it, or they do not reach each other. NCCL_DEBUG=INFO "
                       "shows what NCCL tries; NCCL_SOCKET_IFNAME names the network interface");
    if (round < 200)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(round < 1000 ? 50 : 1000));
  }
}

void NcclCommunicator::submit(const char* what, const std::function<ncclResult_t(ncclComm_t)>& body) {
  ncclResult_t result = ncclSuccess;
  {
    const std::lock_guard lock(mutex_);
    if (comm_) {
      result = nccl_.group_start();
      if (!is_error(result)) result = body(comm_);
      const ncclResult_t ended = nccl_.group_end();
      if (!is_error(result)) result = ended;
    }
  }
  if (is_error(result)) fail(what, result);
  await(what);
}

std::string NcclCommunicator::reason(ncclResult_t result) const {
  const char* last = nccl_.last_error(comm_);
  return cat(nccl_.error_string(result), last && *last ? cat(" (", last, ")") : "");
}

void NcclCommunicator::fail(const char* what, ncclResult_t result) {
  throw_user_error("NCCL ", nccl_.version_text(), ": ", what, " in group '", setup_.name, "': ", reason(result),
                   ". NCCL_DEBUG=WARN shows more");
}

std::string NcclCommunicator::failure() {
  const ncclResult_t now = state();
  if (!is_error(now)) return "";
  const std::lock_guard lock(mutex_);
  return cat("NCCL ", nccl_.version_text(), " in group '", setup_.name, "': ", reason(now));
}

void NcclCommunicator::abort() noexcept {
  ncclComm_t comm = nullptr;
  try {
    const std::lock_guard lock(mutex_);
    std::swap(comm, comm_);
  } catch (...) {
    return;
  }
  // Not under the lock: it may wait until the rank's thread has dropped its graphs.
  if (comm) nccl_.abort(comm);
}

}  // namespace tessera::cuda

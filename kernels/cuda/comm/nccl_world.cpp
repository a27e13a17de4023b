#include "kernels/cuda/comm/nccl_world.h"

#include <cstring>

#include "core/base/error.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/comm/nccl_group.h"

namespace tessera::cuda {
namespace {

// From the group's first rank to the others.
ncclUniqueId broadcast_id(const NcclLibrary& nccl, Communicator& inner) {
  ncclUniqueId id = {};
  bool is_ok = true;
  if (inner.rank() == 0) is_ok = nccl.get_unique_id(&id) == ncclSuccess;
  if (!is_ok)
    throw_user_error("NCCL ", nccl.version_text(), " finds no network interface for group '", inner.name(),
                     "' (", nccl.last_error(nullptr), "): NCCL_SOCKET_IFNAME names one, NCCL_DEBUG=INFO shows more");
  CollectiveCall call;
  call.kind = CollectiveKind::broadcast;
  call.input = call.output = id.internal;
  call.dtype = DType::u8;
  call.shape = {NCCL_UNIQUE_ID_BYTES};
  call.tensor = "NCCL's unique id";
  inner.run(call);
  return id;
}

}  // namespace

NcclWorld::NcclWorld(World& inner, CudaBackend& backend, const NcclLibrary& nccl)
    : CudaWorld(inner, backend, cat("NCCL ", nccl.version_text())),
      nccl_(nccl),
      watch_(inner),
      // Numbers on the board from the top, the inner world's groups have those from below.
      next_number_(kMaxGroups - 1) {
  backend.verify_after_waits([this] { watch_.verify(); });
}

NcclWorld::~NcclWorld() { backend_.verify_after_waits({}); }

void NcclWorld::set_timeout(double seconds) {
  inner_.set_timeout(seconds);
  watch_.set_timeout(seconds);
}

std::unique_ptr<Communicator> NcclWorld::create_device_group(std::span<const int> ranks, std::string_view name,
                                                             std::unique_ptr<Communicator> inner) {
  const int number = next_number_--;
  GroupInfo info{std::string(name), {ranks.begin(), ranks.end()}};
  if (number < 0 || !inner_.progress()->group(number).members.empty())
    throw_config_error("group '", name, "' would be communicator ", kMaxGroups - number, " of this rank; at most ",
                       kMaxGroups, " are watched, those of the host included. Use a mesh with fewer axis combinations");
  inner_.progress()->add_group(number, info);
  check(cudaSetDevice(backend_.context().device), "cudaSetDevice");
  NcclSetup setup;
  setup.nccl = &nccl_;
  setup.id = broadcast_id(nccl_, *inner);
  setup.rank = inner->rank();
  setup.size = inner->size();
  setup.name = name;
  setup.timeout_seconds = watch_.timeout();
  setup.verify = [this] { watch_.verify(); };
  return std::make_unique<NcclGroup>(number, std::move(info), std::move(setup), backend_.context().device, &watch_);
}

}  // namespace tessera::cuda

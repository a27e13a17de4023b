#include "kernels/cuda/comm/nccl_world.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/comm/nccl_group.h"

namespace tessera::cuda {
namespace {

// From rank 0 to the others.
ncclUniqueId broadcast_id(const NcclLibrary& nccl, World& inner) {
  std::string text;
  if (inner.rank() == 0) {
    ncclUniqueId id = {};
    if (nccl.get_unique_id(&id) != ncclSuccess)
      throw_user_error("NCCL ", nccl.version_text(), " finds no network interface (", nccl.last_error(nullptr),
                       "): NCCL_SOCKET_IFNAME names one, NCCL_DEBUG=INFO shows more");
    text.assign(id.internal, sizeof id.internal);
  }
  text = inner.broadcast_text(text, 0);
  ncclUniqueId id = {};
  TESSERA_CHECK(text.size() == sizeof id.internal, "NCCL's unique id came with ", text.size(), " bytes");
  std::memcpy(id.internal, text.data(), text.size());
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

NcclWorld::~NcclWorld() {
  backend_.verify_after_waits({});
  release_arenas();
}

void NcclWorld::set_timeout(double seconds) {
  inner_.set_timeout(seconds);
  watch_.set_timeout(seconds);
}

NcclSetup NcclWorld::setup(std::string_view name) {
  NcclSetup setup;
  setup.nccl = &nccl_;
  setup.name = name;
  setup.timeout_seconds = watch_.timeout();
  setup.verify = [this] { watch_.verify(); };
  return setup;
}

NcclCommunicator& NcclWorld::all_ranks() {
  if (all_ranks_) return *all_ranks_;
  NcclSetup all = setup("all ranks");
  all.id = broadcast_id(nccl_, inner_);
  all.rank = inner_.rank();
  all.size = inner_.size();
  check(cudaSetDevice(backend_.context().device), "cudaSetDevice");
  all_ranks_ = std::make_unique<NcclCommunicator>(std::move(all));
  return *all_ranks_;
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
  NcclSetup part = setup(name);
  part.parent = &all_ranks();
  part.color = ranks.front();  // in no other group of this call
  part.rank = inner->rank();
  part.size = inner->size();
  auto group = std::make_unique<NcclGroup>(number, std::move(info), std::move(part), backend_.context().device, &watch_);
  const std::shared_ptr<NcclCommunicator>& communicator = group->communicator();
  if (!registrables_.empty()) {
    const bool is_registered = std::all_of(registrables_.begin(), registrables_.end(), [&](const Registrable& arena) {
      return communicator->register_memory(arena.memory, arena.bytes);
    });
    if (!all_agree(is_registered)) {
      for (const Registrable& arena : registrables_) communicator->forget_memory(arena.memory);
      tell_unregistered();
    }
  }
  communicators_.push_back(communicator);
  return group;
}

void NcclWorld::join_no_group() {
  check(cudaSetDevice(backend_.context().device), "cudaSetDevice");
  all_ranks().join_no_split();
  if (!registrables_.empty() && !all_agree(true)) tell_unregistered();
}

std::byte* NcclWorld::make_arena(int64_t bytes) {
  if (!nccl_.registers_memory()) return backend_.allocate(bytes);
  check(cudaSetDevice(backend_.context().device), "cudaSetDevice");
  void* memory = nullptr;
  const bool is_there = nccl_.allocate(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 1))) == ncclSuccess;
  if (all_agree(is_there)) {
    registrables_.push_back({static_cast<std::byte*>(memory), bytes});
    return registrables_.back().memory;
  }
  if (is_there) (void)nccl_.release(memory);
  (void)cudaGetLastError();  // the next call must not see it
  tell_unregistered();
  return backend_.allocate(bytes);  // which says so where there is no room for it
}

void NcclWorld::release_arena(std::byte* arena) noexcept {
  const bool is_nccls = std::any_of(registrables_.begin(), registrables_.end(),
                                    [&](const Registrable& one) { return one.memory == arena; });
  if (!is_nccls) return backend_.release(arena);
  (void)cudaSetDevice(backend_.context().device);
  (void)nccl_.release(arena);
}

void NcclWorld::added_arena(std::byte* arena, int64_t bytes) {
  if (registrables_.empty() || registrables_.back().memory != arena) return;
  std::erase_if(communicators_, [](const auto& one) { return one.expired(); });
  bool is_registered = true;
  for (const auto& one : communicators_)
    if (const auto communicator = one.lock()) is_registered &= communicator->register_memory(arena, bytes);
  if (all_agree(is_registered)) return;
  for (const auto& one : communicators_)
    if (const auto communicator = one.lock()) communicator->forget_memory(arena);
  tell_unregistered();
}

void NcclWorld::tell_unregistered() {
  if (!std::exchange(has_told_, true) && inner_.rank() == 0)
    log_warning("warning: NCCL ", nccl_.version_text(), " does not register the memory of collectives on every rank: "
                "they copy through NCCL's own buffers (NCCL_DEBUG=WARN shows why)");
}

}  // namespace tessera::cuda

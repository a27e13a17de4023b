#include "kernels/cuda/comm/cuda_world.h"

#include <map>

#include "core/base/error.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/comm/local_group.h"
#include "kernels/cuda/comm/nccl_library.h"
#include "kernels/cuda/comm/nccl_world.h"
#include "kernels/cuda/comm/staged_world.h"

namespace tessera::cuda {
namespace {

// What the ranks tell each other before they choose.
struct Answer {
  std::string gpu;  // the same for two ranks that use one GPU
  std::string shown;  // for messages
  std::string nccl;  // its version, or "" and then why there is none
  std::string why;
};

std::string print(const Answer& answer) {
  return cat(answer.gpu, "\n", answer.shown, "\n", answer.nccl, "\n", answer.why);
}

Answer parse(const std::string& text) {
  const std::vector<std::string> lines = split(text, '\n');
  TESSERA_CHECK(lines.size() >= 4, "an answer of ", lines.size(), " lines");
  return {lines[0], lines[1], lines[2], lines[3]};
}

std::string first_line(std::string text) {
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text;
}

Answer answer_of(World& inner, const DeviceInfo& device) {
  Answer answer;
  const bool has_uuid = device.uuid.find_first_not_of("0-") != std::string::npos;
  answer.gpu = has_uuid ? device.uuid : cat(inner.host_name(), " ", device.pci_bus);
  answer.shown = cat(device.name, " at ", device.pci_bus, " of host ", inner.host_name());
  std::string why;
  const NcclLibrary* nccl = find_nccl(&why);
  if (nccl) answer.nccl = nccl->version_text();
  answer.why = first_line(why);
  return answer;
}

// Why NCCL cannot be used, the same text on all ranks; "": it can.
struct Obstacle {
  std::string text;
  std::string advice;
};

Obstacle find_obstacle(const std::vector<Answer>& answers) {
  std::map<std::string, size_t> users;
  for (size_t rank = 0; rank < answers.size(); ++rank) {
    const auto [first, is_new] = users.emplace(answers[rank].gpu, rank);
    if (!is_new)
      return {cat("ranks ", first->second, " and ", rank, " use one GPU (", answers[rank].shown, ")"),
              "NCCL does not take two ranks on one GPU. Start one rank per GPU, or set device.transport = staged, "
              "which goes through host memory"};
  }
  for (size_t rank = 0; rank < answers.size(); ++rank)
    if (answers[rank].nccl.empty())
      return {cat("rank ", rank, " has no NCCL: ", answers[rank].why),
              "Install it (libnccl2), name the file in TESSERA_NCCL, or set device.transport = staged"};
  for (size_t rank = 1; rank < answers.size(); ++rank)
    if (answers[rank].nccl != answers[0].nccl)
      return {cat("rank 0 has NCCL ", answers[0].nccl, ", rank ", rank, " has ", answers[rank].nccl),
              "All ranks need the same version; TESSERA_NCCL names the file to use"};
  return {};
}

}  // namespace

std::unique_ptr<World> create_cuda_world(World& inner, CudaBackend& backend, Transport transport) {
  if (inner.size() == 1) return std::make_unique<CudaWorld>(inner, backend, "none (one rank)");
  if (transport == Transport::staged)
    return std::make_unique<StagedWorld>(inner, backend, "staged through pinned host memory (as asked for)");
  std::vector<Answer> answers;
  for (const std::string& text : inner.all_gather_text(print(answer_of(inner, backend.device()))))
    answers.push_back(parse(text));
  const Obstacle obstacle = find_obstacle(answers);
  if (obstacle.text.empty()) return std::make_unique<NcclWorld>(inner, backend, *find_nccl(nullptr));
  if (transport == Transport::nccl)
    throw_user_error("device.transport = nccl: ", obstacle.text, ". ", obstacle.advice);
  return std::make_unique<StagedWorld>(inner, backend,
                                       cat("staged through pinned host memory (", obstacle.text, ")"));
}

std::string transport_of(const World& world) {
  const auto* cuda = dynamic_cast<const CudaWorld*>(&world);
  TESSERA_CHECK(cuda != nullptr, "this world is not of CUDA");
  return cuda->transport();
}

std::string nccl_version() {
  std::string why;
  const NcclLibrary* nccl = find_nccl(&why);
  return nccl ? cat("NCCL ", nccl->version_text(), " (", nccl->path, ")") : cat("no NCCL: ", first_line(why));
}

CudaWorld::CudaWorld(World& inner, CudaBackend& backend, std::string transport)
    : inner_(inner), backend_(backend), transport_(std::move(transport)) {
  check(cudaSetDevice(backend.context().device), "cudaSetDevice");
}

CudaWorld::~CudaWorld() { release_arenas(); }

void CudaWorld::release_arenas() noexcept {
  for (std::byte* arena : arenas_) release_arena(arena);
  arenas_.clear();
}

std::byte* CudaWorld::allocate_symmetric(int64_t bytes) {
  before_exchange();
  std::byte* device = make_arena(bytes);
  arenas_.push_back(device);
  backend_.zero(device, bytes);
  added_arena(device, bytes);
  return device;
}

std::unique_ptr<Communicator> CudaWorld::create_group(std::span<const int> ranks, std::string_view name) {
  before_exchange();
  // Also for a group of one: the ranks count the groups they make.
  std::unique_ptr<Communicator> inner = inner_.create_group(ranks, name);
  if (ranks.size() == 1) {
    join_no_group();
    return std::make_unique<LocalGroup>(std::string(name));
  }
  return create_device_group(ranks, name, std::move(inner));
}

std::unique_ptr<Communicator> CudaWorld::create_device_group(std::span<const int> ranks, std::string_view name,
                                                             std::unique_ptr<Communicator>) {
  TESSERA_CHECK(false, "group '", name, "' of ", ranks.size(), " ranks in a world of one");
}

void CudaWorld::barrier() {
  before_exchange();
  inner_.barrier();
}

int64_t CudaWorld::all_reduce_max(int64_t value) {
  before_exchange();
  return inner_.all_reduce_max(value);
}

std::string CudaWorld::broadcast_text(const std::string& text, int root) {
  before_exchange();
  return inner_.broadcast_text(text, root);
}

std::vector<std::string> CudaWorld::all_gather_text(const std::string& text) {
  before_exchange();
  return inner_.all_gather_text(text);
}

}  // namespace tessera::cuda

// NCCL between ranks that are threads of one process, with a software GPU each. It is as strict as NCCL's
// documentation allows, and late:
//   - A collective ends only when the streams of all ranks have reached it; a send, when it was received.
//   - Calls are in progress for a random number of looks, and so is the making of a communicator until all ranks
//     have come; who uses one meanwhile is refused.
//   - Two ranks on one device are refused. So are buffers that are not memory of the communicator's device,
//     and streams of another. Ranks that differ in what they call, its count, type or reduction, or in the size of
//     a message, stop the program with a message.
//   - Sums are in no rank's order, and rounded at each step.
//   - A communicator does not end while a graph holds its work, or while memory is registered with it.
//   - A split ends when all ranks of the parent have come, and fills in the part only then.
//   - Only memory of ncclMemAlloc is registered; ranks agree in which buffers are, and in their offsets within.
// TESSERA_SOFT_NCCL_NO_REGISTER=RANK lets that rank's registrations fail.
// TESSERA_SOFT_NCCL_ERROR=RANK:NUMBER lets a rank's NUMBER-th operation in a communicator fail on the device.
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "tests/soft_gpu/nccl_reduce.h"
#include "tests/soft_gpu/random.h"
#include "tests/soft_gpu/simt.h"
#include "tests/soft_gpu/stream_work.h"

namespace soft_gpu {
namespace {

enum class Kind { all_reduce, all_gather, reduce_scatter, broadcast, send, receive };
constexpr const char* kKindNames[] = {"all_reduce", "all_gather", "reduce_scatter", "broadcast", "send", "receive"};

struct Call {
  Kind kind;
  const char* input;
  char* output;
  size_t count;
  ncclDataType_t type;
  ncclRedOp_t op;
  int peer;  // or root
  ncclComm_t comm;
  cudaStream_t stream;
  int64_t input_place = -1, output_place = -1;  // within registered memory; -1: not registered

  size_t bytes() const { return count * size_of(type); }
};

// A collective of all ranks, while it runs.
struct Meeting {
  std::vector<std::vector<char>> inputs;
  const Call* first = nullptr;
  int arrived = 0, left = 0;
};
struct Message {
  std::vector<char> bytes;
  std::atomic<bool> taken{false};
};

struct Clique;
// A split of a communicator, while ranks come to it.
struct Split {
  struct Ask {
    bool is_there = false;
    int color = 0, key = 0;
  };
  std::vector<Ask> asks;  // by rank of the parent
  int arrived = 0;
  std::map<int, std::shared_ptr<Clique>> parts;  // by color
};

// What the ranks of a communicator share.
struct Clique {
  std::mutex mutex;
  int size = 0;
  std::vector<int> devices;  // by rank, -1: has not come
  std::map<uint64_t, Meeting> meetings;
  std::map<uint64_t, Split> splits;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Message>>> mail;  // from, to

  int joined() const {
    return static_cast<int>(std::count_if(devices.begin(), devices.end(), [](int device) { return device >= 0; }));
  }
};

// A rank's side, which work in streams and graphs keeps alive.
struct Side {
  std::shared_ptr<Clique> clique;
  int rank = 0, device = 0;
  std::atomic<bool> aborted{false};
  std::atomic<int> error{ncclSuccess};
  std::atomic<int> looks{0};  // in progress for as many more
  std::atomic<int> eager{0};  // operations in streams
  std::atomic<uint64_t> begun{0}, operations{0};
  std::shared_ptr<int> graphs = std::make_shared<int>(0);  // each graph's work holds it
  bool finalizing = false;
  uint64_t splits = 0;             // begun
  ncclComm_t* part_of_split = nullptr;  // where the part goes of the split that is going on
  struct Range {
    const char* memory;
    size_t bytes;
  };
  std::vector<std::unique_ptr<Range>> registered;

  int64_t place_of(const void* data) const {
    const char* at = static_cast<const char*>(data);
    for (const auto& range : registered)
      if (at >= range->memory && at < range->memory + range->bytes) return at - range->memory;
    return -1;
  }
};

// Memory of ncclMemAlloc.
std::mutex allocations_mutex;
std::map<const void*, size_t> allocations;

std::mutex cliques_mutex;
std::map<std::string, std::shared_ptr<Clique>> cliques;
thread_local std::string last_error;
thread_local int group_depth = 0;
thread_local std::vector<Call> group_calls;

int some_looks() {
  static std::mutex mutex;
  static Random random(seed());
  const std::lock_guard lock(mutex);
  return static_cast<int>(random.below(4));
}

ncclResult_t refuse(ncclResult_t result, std::string why) {
  last_error = std::move(why);
  return result;
}

// Whether the test wants this operation of the rank to fail.
bool is_to_fail(Side& side) {
  const uint64_t number = ++side.operations;
  const char* wanted = std::getenv("TESSERA_SOFT_NCCL_ERROR");
  int rank = -1;
  unsigned long long operation = 0;
  return wanted && std::sscanf(wanted, "%d:%llu", &rank, &operation) == 2 && rank == side.rank && operation == number;
}

void check_same(const Call& mine, int rank, const Call& first) {
  // A root's buffers are the same only where all have both.
  if (mine.kind != Kind::broadcast && (mine.input_place != first.input_place || mine.output_place != first.output_place))
    fail("NCCL: rank %d calls %s on registered memory at %lld and %lld, another at %lld and %lld (-1: not registered)",
         rank, kKindNames[static_cast<int>(mine.kind)], static_cast<long long>(mine.input_place),
         static_cast<long long>(mine.output_place), static_cast<long long>(first.input_place),
         static_cast<long long>(first.output_place));
  if (mine.kind == first.kind && mine.count == first.count && mine.type == first.type && mine.op == first.op &&
      (mine.kind != Kind::broadcast || mine.peer == first.peer))
    return;
  fail("NCCL: rank %d calls %s of %zu elements where another calls %s of %zu (types %d and %d, reductions %d and %d, "
       "roots %d and %d)",
       rank, kKindNames[static_cast<int>(mine.kind)], mine.count, kKindNames[static_cast<int>(first.kind)], first.count,
       mine.type, first.type, mine.op, first.op, mine.peer, first.peer);
}

void leave(const Call& call, const Side& side, const Meeting& meeting) {
  const size_t size = meeting.inputs.size(), bytes = call.bytes();
  switch (call.kind) {
    case Kind::all_reduce:
      return reduce(call.output, meeting.inputs, 0, call.count, call.type, call.op);
    case Kind::reduce_scatter:
      return reduce(call.output, meeting.inputs, static_cast<size_t>(side.rank) * bytes, call.count, call.type,
                    call.op);
    case Kind::all_gather:
      for (size_t peer = 0; peer < size; ++peer)
        std::memcpy(call.output + peer * bytes, meeting.inputs[peer].data(), bytes);
      return;
    default:
      std::memcpy(call.output, meeting.inputs[static_cast<size_t>(call.peer)].data(), bytes);
  }
}

// One collective, tried until all have come; then it may begin anew.
class Collective {
 public:
  Collective(Call call, std::shared_ptr<Side> side) : call_(call), side_(std::move(side)) {}

  bool step() {
    if (side_->aborted) return end();
    Clique& clique = *side_->clique;
    const std::lock_guard lock(clique.mutex);
    if (number_ == 0) {
      number_ = ++side_->begun;
      if (is_to_fail(*side_)) side_->error = ncclSystemError;
      Meeting& meeting = clique.meetings[number_];
      if (!meeting.first) meeting.first = &call_;
      meeting.inputs.resize(static_cast<size_t>(clique.size));
      check_same(call_, side_->rank, *meeting.first);
      const size_t bytes = call_.bytes() * (call_.kind == Kind::reduce_scatter ? meeting.inputs.size() : 1);
      if (call_.kind != Kind::broadcast || call_.peer == side_->rank)
        meeting.inputs[static_cast<size_t>(side_->rank)].assign(call_.input, call_.input + bytes);
      ++meeting.arrived;
    }
    Meeting& meeting = clique.meetings[number_];
    if (meeting.arrived < clique.size || side_->error != ncclSuccess) return false;
    leave(call_, *side_, meeting);
    if (++meeting.left == clique.size) clique.meetings.erase(number_);
    return end();
  }

 private:
  bool end() {
    number_ = 0;
    return true;
  }
  const Call call_;
  const std::shared_ptr<Side> side_;
  uint64_t number_ = 0;
};

// The sends and receives of one group, which run at once.
class Exchange {
 public:
  Exchange(std::vector<Call> calls, std::shared_ptr<Side> side) : calls_(std::move(calls)), side_(std::move(side)) {
    for (const Call& to : calls_)
      for (const Call& from : calls_)
        if (to.output && from.input && to.output < from.input + from.bytes() && from.input < to.output + to.bytes())
          fail("NCCL: rank %d receives over what it sends", side_->rank);
  }

  bool step() {
    if (side_->aborted) return end();
    Clique& clique = *side_->clique;
    const std::lock_guard lock(clique.mutex);
    if (!begun_) {
      begun_ = true;
      if (is_to_fail(*side_)) side_->error = ncclSystemError;
      for (const Call& call : calls_) {
        if (call.kind != Kind::send) {
          open_.push_back(&call);
          continue;
        }
        auto message = std::make_shared<Message>();
        message->bytes.assign(call.input, call.input + call.bytes());
        clique.mail[{side_->rank, call.peer}].push_back(message);
        sent_.push_back(std::move(message));
      }
    }
    if (side_->error != ncclSuccess) return false;
    std::erase_if(open_, [&](const Call* call) {
      auto& box = clique.mail[{call->peer, side_->rank}];
      if (box.empty()) return false;
      Message& message = *box.front();
      if (message.bytes.size() != call->bytes())
        fail("NCCL: rank %d receives %zu bytes where rank %d sends %zu", side_->rank, call->bytes(), call->peer,
             message.bytes.size());
      std::memcpy(call->output, message.bytes.data(), message.bytes.size());
      message.taken = true;
      box.pop_front();
      return true;
    });
    const bool all_taken = std::all_of(sent_.begin(), sent_.end(), [](const auto& one) { return one->taken.load(); });
    if (!open_.empty() || !all_taken) return false;
    return end();
  }

 private:
  bool end() {
    begun_ = false;
    open_.clear();
    sent_.clear();
    return true;
  }
  const std::vector<Call> calls_;
  const std::shared_ptr<Side> side_;
  bool begun_ = false;
  std::vector<const Call*> open_;  // receives to come
  std::vector<std::shared_ptr<Message>> sent_;
};

}  // namespace
}  // namespace soft_gpu

using soft_gpu::Call;
using soft_gpu::Kind;

struct ncclComm {
  std::shared_ptr<soft_gpu::Side> side;
};

namespace soft_gpu {
namespace {

template <typename Operation>
void enqueue_operation(std::shared_ptr<Operation> operation, const Call& call) {
  Side& side = *call.comm->side;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(call.stream, &status);
  std::string name = std::string("NCCL ") + kKindNames[static_cast<int>(call.kind)];
  if (status != cudaStreamCaptureStatusNone) {
    enqueue_steps(call.stream, std::move(name), [operation, graph = side.graphs] { return operation->step(); });
    return;
  }
  ++side.eager;
  enqueue_steps(call.stream, std::move(name), [operation, keep = call.comm->side] {
    if (!operation->step()) return false;
    --keep->eager;
    return true;
  });
}

ncclResult_t submit_group() {
  std::vector<Call> calls;
  calls.swap(group_calls);
  std::map<ncclComm_t, std::vector<Call>> exchanges;
  std::vector<ncclComm_t> used;
  for (const Call& call : calls) {
    used.push_back(call.comm);
    if (call.kind == Kind::send || call.kind == Kind::receive)
      exchanges[call.comm].push_back(call);
    else
      enqueue_operation(std::make_shared<Collective>(call, call.comm->side), call);
  }
  for (const auto& [comm, group] : exchanges)
    enqueue_operation(std::make_shared<Exchange>(group, comm->side), group.front());
  for (ncclComm_t comm : used) comm->side->looks = some_looks();
  return calls.empty() ? ncclSuccess : ncclInProgress;
}

ncclResult_t submit(const Call& call, size_t input_bytes, size_t output_bytes) {
  Side& side = *call.comm->side;
  if (side.clique->joined() < side.clique->size || side.looks > 0 || side.part_of_split)
    return refuse(ncclInvalidUsage, "Attempt to use communicator before the previous operation returned ncclSuccess");
  if (device_of(call.stream) != side.device) return refuse(ncclInvalidArgument, "a stream of another device");
  for (const auto& [data, bytes] : {std::pair<const void*, size_t>(call.input, input_bytes),
                                    std::pair<const void*, size_t>(call.output, output_bytes)})
    if (bytes > 0 && !is_device_memory(data, bytes, side.device))
      return refuse(ncclInvalidArgument, "a buffer that is no memory of the communicator's device");
  group_calls.push_back(call);
  group_calls.back().input_place = side.place_of(call.input);
  group_calls.back().output_place = side.place_of(call.output);
  return group_depth > 0 ? ncclSuccess : submit_group();
}

// Whether all have come to the split that is going on; then the part is there. Under the clique's lock.
bool end_split(Side& side) {
  const auto found = side.clique->splits.find(side.splits);
  Split& split = found->second;
  if (split.arrived < side.clique->size) return false;
  const Split::Ask& mine = split.asks[static_cast<size_t>(side.rank)];
  ncclComm_t* const part = std::exchange(side.part_of_split, nullptr);
  *part = nullptr;
  if (mine.color == NCCL_SPLIT_NOCOLOR) return true;
  auto place = [&](const Split::Ask& ask, size_t rank) { return std::pair(ask.key, rank); };
  auto own = std::make_shared<Side>();
  int size = 0;
  for (size_t rank = 0; rank < split.asks.size(); ++rank) {
    if (split.asks[rank].color != mine.color) continue;
    ++size;
    own->rank += place(split.asks[rank], rank) < place(mine, static_cast<size_t>(side.rank));
  }
  auto& clique = split.parts[mine.color];
  if (!clique) clique = std::make_shared<Clique>();
  own->clique = clique;
  own->device = side.device;
  own->looks = some_looks();
  const std::lock_guard lock(clique->mutex);
  clique->size = size;
  clique->devices.resize(static_cast<size_t>(size), -1);
  clique->devices[static_cast<size_t>(own->rank)] = own->device;
  *part = new ncclComm{std::move(own)};
  return true;
}

}  // namespace
}  // namespace soft_gpu

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> next{1};
  std::memset(id->internal, 0, sizeof id->internal);
  std::snprintf(id->internal, sizeof id->internal, "soft %d", next++);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0) return soft_gpu::refuse(ncclInvalidArgument, "only communicators that do not block");
  auto side = std::make_shared<soft_gpu::Side>();
  {
    const std::lock_guard lock(soft_gpu::cliques_mutex);
    auto& clique = soft_gpu::cliques[id.internal];
    if (!clique) clique = std::make_shared<soft_gpu::Clique>();
    side->clique = clique;
  }
  side->rank = rank;
  cudaGetDevice(&side->device);
  const std::lock_guard lock(side->clique->mutex);
  side->clique->size = ranks;
  side->clique->devices.resize(static_cast<size_t>(ranks), -1);
  side->clique->devices[static_cast<size_t>(rank)] = side->device;
  side->looks = soft_gpu::some_looks();
  *comm = new ncclComm{std::move(side)};
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  soft_gpu::Side& side = *comm->side;
  const std::lock_guard lock(side.clique->mutex);
  std::vector<int> devices = side.clique->devices;
  std::sort(devices.begin(), devices.end());
  if (devices.front() >= 0 && std::adjacent_find(devices.begin(), devices.end()) != devices.end()) {
    soft_gpu::last_error = "Duplicate GPU detected";
    side.error = ncclInvalidUsage;
  }
  *error = static_cast<ncclResult_t>(side.error.load());
  if (*error != ncclSuccess) return ncclSuccess;
  if (side.part_of_split && !soft_gpu::end_split(side)) *error = ncclInProgress;
  const bool is_ending = side.finalizing && (side.eager > 0 || side.graphs.use_count() > 1);
  if (side.clique->joined() < side.clique->size || is_ending) *error = ncclInProgress;
  if (side.looks > 0) {
    --side.looks;
    *error = ncclInProgress;
  }
  return ncclSuccess;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t* config) {
  soft_gpu::Side& side = *comm->side;
  if (config->blocking != 0) return soft_gpu::refuse(ncclInvalidArgument, "only communicators that do not block");
  const std::lock_guard lock(side.clique->mutex);
  if (side.clique->joined() < side.clique->size || side.looks > 0 || side.part_of_split)
    return soft_gpu::refuse(ncclInvalidUsage, "Attempt to split before the previous operation returned ncclSuccess");
  if (color < NCCL_SPLIT_NOCOLOR) return soft_gpu::refuse(ncclInvalidArgument, "a negative color");
  *part = nullptr;
  side.part_of_split = part;
  soft_gpu::Split& split = side.clique->splits[++side.splits];
  split.asks.resize(static_cast<size_t>(side.clique->size));
  split.asks[static_cast<size_t>(side.rank)] = {true, color, key};
  ++split.arrived;
  side.looks = soft_gpu::some_looks();
  return ncclInProgress;
}

ncclResult_t ncclMemAlloc(void** memory, size_t bytes) {
  if (cudaMalloc(memory, bytes) != cudaSuccess) return soft_gpu::refuse(ncclUnhandledCudaError, "no memory");
  const std::lock_guard lock(soft_gpu::allocations_mutex);
  soft_gpu::allocations[*memory] = bytes;
  return ncclSuccess;
}

ncclResult_t ncclMemFree(void* memory) {
  {
    const std::lock_guard lock(soft_gpu::allocations_mutex);
    if (soft_gpu::allocations.erase(memory) == 0) soft_gpu::fail("NCCL: frees memory that is not of ncclMemAlloc");
  }
  return cudaFree(memory) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommRegister(ncclComm_t comm, void* memory, size_t bytes, void** handle) {
  soft_gpu::Side& side = *comm->side;
  const char* unable = std::getenv("TESSERA_SOFT_NCCL_NO_REGISTER");
  if (unable && std::atoi(unable) == side.rank) return soft_gpu::refuse(ncclSystemError, "no room to register");
  {
    const std::lock_guard lock(soft_gpu::allocations_mutex);
    const auto found = soft_gpu::allocations.find(memory);
    if (found == soft_gpu::allocations.end() || bytes > found->second)
      return soft_gpu::refuse(ncclInvalidArgument, "registers memory that is not of ncclMemAlloc");
  }
  side.registered.push_back(
      std::make_unique<soft_gpu::Side::Range>(soft_gpu::Side::Range{static_cast<const char*>(memory), bytes}));
  *handle = side.registered.back().get();
  return ncclSuccess;
}

ncclResult_t ncclCommDeregister(ncclComm_t comm, void* handle) {
  const size_t count = std::erase_if(comm->side->registered, [&](const auto& range) { return range.get() == handle; });
  return count == 1 ? ncclSuccess : soft_gpu::refuse(ncclInvalidArgument, "no such registration");
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  comm->side->finalizing = true;
  comm->side->looks = soft_gpu::some_looks();
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm->side->graphs.use_count() > 1) soft_gpu::fail("NCCL: a communicator ends while a graph holds its work");
  if (!comm->side->registered.empty()) soft_gpu::fail("NCCL: a communicator ends with memory registered");
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->side->aborted = true;
  delete comm;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  constexpr const char* kNames[] = {"no error",         "unhandled cuda error", "unhandled system error",
                                    "internal error",   "invalid argument",     "invalid usage",
                                    "remote process exited or there was a network error", "NCCL operation in progress"};
  return kNames[result];
}

const char* ncclGetLastError(ncclComm_t) { return soft_gpu::last_error.c_str(); }

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  const Call call{Kind::all_reduce, static_cast<const char*>(send), static_cast<char*>(receive), count, type, op, 0,
                  comm, stream};
  return soft_gpu::submit(call, call.bytes(), call.bytes());
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const Call call{Kind::all_gather, static_cast<const char*>(send), static_cast<char*>(receive), count, type,
                  ncclSum, 0, comm, stream};
  return soft_gpu::submit(call, call.bytes(), call.bytes() * static_cast<size_t>(comm->side->clique->size));
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  const Call call{Kind::reduce_scatter, static_cast<const char*>(send), static_cast<char*>(receive), count, type,
                  op, 0, comm, stream};
  return soft_gpu::submit(call, call.bytes() * static_cast<size_t>(comm->side->clique->size), call.bytes());
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  const Call call{Kind::broadcast, static_cast<const char*>(send), static_cast<char*>(receive), count, type, ncclSum,
                  root, comm, stream};
  return soft_gpu::submit(call, comm->side->rank == root ? call.bytes() : 0, call.bytes());
}

ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const Call call{Kind::send, static_cast<const char*>(send), nullptr, count, type, ncclSum, peer, comm, stream};
  return soft_gpu::submit(call, call.bytes(), 0);
}

ncclResult_t ncclRecv(void* receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const Call call{Kind::receive, nullptr, static_cast<char*>(receive), count, type, ncclSum, peer, comm, stream};
  return soft_gpu::submit(call, 0, call.bytes());
}

ncclResult_t ncclGroupStart() {
  ++soft_gpu::group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  return --soft_gpu::group_depth == 0 ? soft_gpu::submit_group() : ncclSuccess;
}

}  // extern "C"

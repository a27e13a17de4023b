#include "kernels/cuda/comm/nccl_group.h"

#include <algorithm>

#include "core/base/error.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/backend/context.h"
#include "kernels/cuda/comm/swap_blocks.h"

namespace tessera::cuda {

// What NCCL is asked for. Calls that only move data count in bytes, whatever the elements are.
struct NcclGroup::Form {
  ncclDataType_t type = ncclUint8;
  ncclRedOp_t op = ncclSum;
  size_t count = 0;  // elements of a piece
  int64_t piece_bytes = 0;
  int64_t rows = 1, run_bytes = 0;      // of the dims before the split or joined dim, and the rest of a piece
  int64_t out_rows = 1, out_run_bytes = 0;  // all_to_all: the same of concat_dim
};

namespace {

struct TypeAndOp {
  ncclDataType_t type;
  ncclRedOp_t op;
};

TypeAndOp reduction_of(const CollectiveCall& call) {
  ncclRedOp_t op = ncclSum;
  switch (call.reduce) {
    case ReduceKind::sum: op = ncclSum; break;
    case ReduceKind::product: op = ncclProd; break;
    case ReduceKind::max: op = ncclMax; break;
    case ReduceKind::min: op = ncclMin; break;
    case ReduceKind::logical_and: op = ncclMin; break;
    case ReduceKind::logical_or: op = ncclMax; break;
  }
  switch (call.dtype) {
    // false and true are 0 and 1: sum is `or`, product is `and`.
    case DType::pred: return {ncclUint8, op == ncclSum ? ncclMax : op == ncclProd ? ncclMin : op};
    case DType::f16: return {ncclFloat16, op};
    case DType::bf16: return {ncclBfloat16, op};
    case DType::f32: return {ncclFloat32, op};
    case DType::f64: return {ncclFloat64, op};
    default: break;
  }
  const bool is_bitwise = call.reduce == ReduceKind::logical_and || call.reduce == ReduceKind::logical_or;
  if (!is_bitwise) {
    switch (call.dtype) {
      case DType::s8: return {ncclInt8, op};
      case DType::u8: return {ncclUint8, op};
      case DType::s32: return {ncclInt32, op};
      case DType::u32: return {ncclUint32, op};
      case DType::s64: return {ncclInt64, op};
      case DType::u64: return {ncclUint64, op};
      default: break;
    }
  }
  throw_user_error("NCCL has no ", call.reduce, " of ", call.dtype, " (", call.kind, " of '", call.tensor,
                   "'): device.transport = staged has");
}

int64_t product_before(const Shape& shape, int dim) {
  int64_t rows = 1;
  for (int d = 0; d < dim; ++d) rows *= shape[d];
  return rows;
}

void copy(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
  if (to != from && bytes > 0)
    check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream),
          "a copy on the device");
}

}  // namespace

NcclGroup::NcclGroup(int number, GroupInfo info, NcclSetup setup, int device, NcclWatch* watch)
    : nccl_(*setup.nccl),
      rank_(setup.rank),
      size_(setup.size),
      device_(device),
      watch_(watch),
      track_(std::move(info)),
      communicator_(std::make_shared<NcclCommunicator>(std::move(setup))) {
  // Communication first where both have work: compute that waits for it is what holds a step up.
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest), "creating a stream");
  check(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming), "creating an event");
  watch_->add(number, &track_, communicator_);
}

NcclGroup::~NcclGroup() {
  (void)cudaSetDevice(device_);
  watch_->remove(&track_);
  communicator_.reset();  // ends the work that is in flight
  cudaStreamSynchronize(stream_);
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
  cudaEventDestroy(ready_);
  cudaStreamDestroy(stream_);
  for (std::byte* memory : scratches_) cudaFree(memory);
}

cudaEvent_t NcclGroup::take_event() {
  if (free_events_.empty()) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
    events_.push_back(event);
    return event;
  }
  cudaEvent_t event = free_events_.back();
  free_events_.pop_back();
  return event;
}

std::byte* NcclGroup::scratch(int64_t bytes, const CollectiveCall& call) {
  if (bytes <= scratch_bytes_) return scratches_.back();
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream_, &status), "cudaStreamIsCapturing");
  TESSERA_CHECK(status == cudaStreamCaptureStatusNone, call.kind, " of '", call.tensor, "' needs ", bytes,
                " bytes of scratch in a recording, ", scratch_bytes_, " were taken before");
  void* memory = nullptr;
  check(cudaMalloc(&memory, static_cast<size_t>(bytes)), "scratch memory of a collective");
  scratches_.push_back(static_cast<std::byte*>(memory));
  scratch_bytes_ = bytes;
  return scratches_.back();
}

Ticket NcclGroup::start(const CollectiveCall& call) {
  watch_->verify();
  check(cudaSetDevice(device_), "cudaSetDevice");
  geometry_.assign(call, size_);
  const cudaStream_t compute = context_of(call.stream).stream;
  check(cudaEventRecord(ready_, compute), "recording an event");
  check(cudaStreamWaitEvent(stream_, ready_), "waiting for an event");
  track_.begin(call, geometry_.input_bytes(), stream_);
  submit(call);
  track_.end(stream_);
  const cudaEvent_t done = take_event();
  check(cudaEventRecord(done, stream_), "recording an event");
  pending_.push_back({++last_, done, compute});
  return last_;
}

void NcclGroup::wait(Ticket ticket) {
  watch_->verify();
  const auto found = std::find_if(pending_.begin(), pending_.end(),
                                  [&](const Pending& pending) { return pending.ticket == ticket; });
  TESSERA_CHECK(found != pending_.end(), "group '", name(), "' has no ticket ", ticket);
  check(cudaStreamWaitEvent(found->compute, found->done), "waiting for an event");
  free_events_.push_back(found->done);
  pending_.erase(found);
}

void NcclGroup::submit(const CollectiveCall& call) {
  Form form;
  form.piece_bytes = geometry_.piece_bytes();
  if (geometry_.input.elements() == 0 && call.kind != CollectiveKind::permute) return;
  const int dim = call.kind == CollectiveKind::all_gather ? call.concat_dim : call.split_dim;
  const bool has_dim = geometry_.split_step > 0 || geometry_.concat_step > 0;
  if (has_dim) form.rows = product_before(geometry_.piece, dim);
  form.run_bytes = form.piece_bytes / form.rows;
  if (call.kind == CollectiveKind::all_to_all) form.out_rows = product_before(geometry_.piece, call.concat_dim);
  form.out_run_bytes = form.piece_bytes / form.out_rows;
  form.count = static_cast<size_t>(form.piece_bytes);
  switch (call.kind) {
    case CollectiveKind::all_reduce:
    case CollectiveKind::reduce_scatter: {
      const auto [type, op] = reduction_of(call);
      form.type = type;
      form.op = op;
      form.count = static_cast<size_t>(geometry_.piece.elements());
      return reduce(call, form);
    }
    case CollectiveKind::all_gather:
      return gather(call, form);
    case CollectiveKind::all_to_all:
      return exchange(call, form);
    case CollectiveKind::permute:
      return permute(call, form);
    case CollectiveKind::broadcast:
      return communicator_->submit("a broadcast", [&](ncclComm_t comm) {
        return nccl_.broadcast(call.input, call.output, form.count, form.type, call.root, comm, stream_);
      });
  }
}

void NcclGroup::reduce(const CollectiveCall& call, Form form) {
  if (call.kind == CollectiveKind::all_reduce)
    return communicator_->submit("an all_reduce", [&](ncclComm_t comm) {
      return nccl_.all_reduce(call.input, call.output, form.count, form.type, form.op, comm, stream_);
    });
  const void* input = call.input;
  if (form.rows > 1) {
    std::byte* packed = scratch(geometry_.input_bytes(), call);
    swap_blocks(packed, input, form.rows, size_, form.run_bytes, stream_);
    input = packed;
  }
  communicator_->submit("a reduce_scatter", [&](ncclComm_t comm) {
    return nccl_.reduce_scatter(input, call.output, form.count, form.type, form.op, comm, stream_);
  });
}

void NcclGroup::gather(const CollectiveCall& call, Form form) {
  void* const gathered = form.rows > 1 ? scratch(geometry_.output_bytes(), call) : call.output;
  communicator_->submit("an all_gather", [&](ncclComm_t comm) {
    return nccl_.all_gather(call.input, gathered, form.count, form.type, comm, stream_);
  });
  if (form.rows > 1) swap_blocks(call.output, gathered, size_, form.rows, form.run_bytes, stream_);
}

void NcclGroup::exchange(const CollectiveCall& call, Form form) {
  const int64_t bytes = geometry_.input_bytes();
  const bool packs = form.rows > 1, unpacks = form.out_rows > 1;
  std::byte* const memory = packs || unpacks ? scratch((packs ? bytes : 0) + (unpacks ? bytes : 0), call) : nullptr;
  const auto* outgoing = static_cast<const std::byte*>(call.input);
  auto* incoming = static_cast<std::byte*>(call.output);
  if (packs) {
    swap_blocks(memory, outgoing, form.rows, size_, form.run_bytes, stream_);
    outgoing = memory;
  }
  if (unpacks) incoming = memory + (packs ? bytes : 0);
  communicator_->submit("an all_to_all", [&](ncclComm_t comm) {
    ncclResult_t result = ncclSuccess;
    const auto note = [&](ncclResult_t one) {
      if (one != ncclSuccess && one != ncclInProgress) result = one;
    };
    for (int peer = 0; peer < size_; ++peer) {
      note(nccl_.send(outgoing + peer * form.piece_bytes, form.count, form.type, peer, comm, stream_));
      note(nccl_.receive(incoming + peer * form.piece_bytes, form.count, form.type, peer, comm, stream_));
    }
    return result;
  });
  if (unpacks) swap_blocks(call.output, incoming, size_, form.out_rows, form.out_run_bytes, stream_);
}

void NcclGroup::permute(const CollectiveCall& call, Form form) {
  const int64_t bytes = form.piece_bytes;
  if (call.receive_from < 0 && (call.send_to < 0 || call.input != call.output))
    check(cudaMemsetAsync(call.output, 0, static_cast<size_t>(bytes), stream_), "memset");
  if (call.send_to == rank_) return copy(call.output, call.input, bytes, stream_);
  if (bytes == 0 || (call.send_to < 0 && call.receive_from < 0)) return;
  const void* outgoing = call.input;
  if (call.send_to >= 0 && call.receive_from >= 0 && call.input == call.output) {
    std::byte* memory = scratch(bytes, call);
    copy(memory, call.input, bytes, stream_);
    outgoing = memory;
  }
  communicator_->submit("a permute", [&](ncclComm_t comm) {
    ncclResult_t sent = ncclSuccess, received = ncclSuccess;
    if (call.send_to >= 0) sent = nccl_.send(outgoing, form.count, form.type, call.send_to, comm, stream_);
    if (call.receive_from >= 0)
      received = nccl_.receive(call.output, form.count, form.type, call.receive_from, comm, stream_);
    return sent != ncclSuccess && sent != ncclInProgress ? sent : received;
  });
  if (call.receive_from < 0 && call.input == call.output)
    check(cudaMemsetAsync(call.output, 0, static_cast<size_t>(bytes), stream_), "memset");
}

}  // namespace tessera::cuda

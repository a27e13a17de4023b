#include "kernels/comm/mpi/hierarchical_group.h"

#include <cstring>

#include "core/base/error.h"
#include "core/runtime/ordered_reduce.h"

namespace tessera {
namespace {

// Below this the three latencies cost more than the bytes saved.
constexpr int64_t kWorthBytes = 32 * 1024;

}  // namespace

HierarchicalGroup::HierarchicalGroup(int number, GroupInfo info, int rank, Parts parts,
                                     PeerMemory* memory, ProgressEngine* engine)
    : number_(number),
      info_(std::move(info)),
      rank_(rank),
      size_(static_cast<int>(info_.members.size())),
      parts_(std::move(parts)),
      hosts_(static_cast<int>(parts_.order.size())),
      places_(static_cast<int>(parts_.order[0].size())),
      memory_(memory),
      engine_(engine),
      operations_(kCollectivesInFlight) {
  engine_->add_group(number_, info_);
  engine_->attach(this);
}

HierarchicalGroup::~HierarchicalGroup() { engine_->detach(this); }

bool HierarchicalGroup::worth_it(const CollectiveCall& call) const {
  return (call.kind == CollectiveKind::all_reduce || call.kind == CollectiveKind::reduce_scatter ||
          call.kind == CollectiveKind::all_gather) &&
         call.shape.elements() * size_of(call.dtype) >= kWorthBytes;
}

Ticket HierarchicalGroup::start(const CollectiveCall& call) {
  const uint64_t sequence = sequence_ + 1;
  if (sequence > kCollectivesInFlight) wait(static_cast<Ticket>(sequence - kCollectivesInFlight));
  Operation& operation = operations_[sequence % kCollectivesInFlight];
  operation.geometry.assign(call, size_);
  operation.call = call;
  if (worth_it(call)) {
    operation.stage = Stage::queued;
  } else {
    operation.stage = Stage::flat;
    operation.ticket = parts_.flat->start(call);
  }
  sequence_ = engine_->note_start(number_, static_cast<int>(call.kind), call.tensor);
  progress();
  return static_cast<Ticket>(sequence);
}

CollectiveCall HierarchicalGroup::part_call(const Operation& operation, CollectiveKind kind,
                                            const std::byte* input, std::byte* output,
                                            int64_t elements) const {
  CollectiveCall call;
  call.kind = kind;
  call.input = input;
  call.output = output;
  call.dtype = operation.sum_type;
  call.shape = {elements};
  call.reduce = operation.call.reduce;
  call.tensor = operation.call.tensor;
  return call;
}

// all_reduce: a multiple of the places, so that the host's ranks get equal parts.
int64_t HierarchicalGroup::padded_elements(const Operation& operation) const {
  const int64_t unit = int64_t{places_} * 16;
  return (operation.geometry.input.elements() + unit - 1) / unit * unit;
}

// all_reduce needs no copy of the operands where the parts come out even and the type is summed as
// it is.
bool HierarchicalGroup::direct(const Operation& operation) const {
  return operation.sum_type == operation.call.dtype &&
         operation.geometry.input.elements() % places_ == 0;
}

void HierarchicalGroup::begin(Operation& operation) {
  const bool sums =
      operation.call.reduce == ReduceKind::sum || operation.call.reduce == ReduceKind::product;
  operation.sum_type = operation.call.dtype;
  if (operation.call.kind != CollectiveKind::all_gather && sums)
    operation.sum_type = accumulator_of(operation.call.dtype);
  switch (operation.call.kind) {
    case CollectiveKind::all_reduce:
      begin_all_reduce(operation);
      break;
    case CollectiveKind::reduce_scatter:
      begin_reduce_scatter(operation);
      break;
    default:
      begin_all_gather(operation);
      break;
  }
  operation.stage = Stage::first;
}

void HierarchicalGroup::begin_all_reduce(Operation& operation) {
  const auto* input = static_cast<const std::byte*>(operation.call.input);
  const int64_t elements = operation.geometry.input.elements();
  const int64_t unit = size_of(operation.sum_type);
  const int64_t total = direct(operation) ? elements : padded_elements(operation);
  operation.part = memory_->acquire(total / places_ * unit);
  if (!direct(operation)) {
    operation.whole = memory_->acquire(total * unit);
    if (operation.sum_type == operation.call.dtype)
      std::memcpy(operation.whole.data, input, static_cast<size_t>(elements * unit));
    else
      widen_to_f32(reinterpret_cast<float*>(operation.whole.data), input, elements,
                   operation.call.dtype);
    std::memset(operation.whole.data + elements * unit, 0,
                static_cast<size_t>((total - elements) * unit));
    input = operation.whole.data;
  }
  operation.ticket = parts_.inner->start(
      part_call(operation, CollectiveKind::reduce_scatter, input, operation.part.data, total));
}

void HierarchicalGroup::begin_reduce_scatter(Operation& operation) {
  CollectiveGeometry& geometry = operation.geometry;
  const auto* input = static_cast<const std::byte*>(operation.call.input);
  const int64_t elements = geometry.piece.elements();
  const int64_t step = elements * size_of(operation.sum_type);
  const bool widens = operation.sum_type != operation.call.dtype;
  operation.whole = memory_->acquire(step * size_);
  operation.part = memory_->acquire(step * hosts_);
  if (widens) operation.narrow = memory_->acquire(geometry.piece_bytes());
  for (int place = 0; place < places_; ++place) {
    for (int host = 0; host < hosts_; ++host) {
      std::byte* to = operation.whole.data + step * (place * hosts_ + host);
      const int receiver = parts_.order[static_cast<size_t>(host)][static_cast<size_t>(place)];
      geometry.pack_piece(widens ? operation.narrow.data : to, input, receiver);
      if (widens)
        widen_to_f32(reinterpret_cast<float*>(to), operation.narrow.data, elements,
                     operation.call.dtype);
    }
  }
  operation.ticket =
      parts_.inner->start(part_call(operation, CollectiveKind::reduce_scatter, operation.whole.data,
                                    operation.part.data, elements * size_));
}

void HierarchicalGroup::begin_all_gather(Operation& operation) {
  const int64_t bytes = operation.geometry.piece_bytes();
  operation.part = memory_->acquire(bytes * hosts_);
  operation.whole = memory_->acquire(bytes * size_);
  operation.ticket = parts_.outer->start(part_call(
      operation, CollectiveKind::all_gather, static_cast<const std::byte*>(operation.call.input),
      operation.part.data, operation.geometry.piece.elements()));
}

void HierarchicalGroup::second(Operation& operation) {
  const int64_t piece = operation.geometry.piece.elements();
  std::byte* part = operation.part.data;
  switch (operation.call.kind) {
    case CollectiveKind::all_reduce: {
      const int64_t total =
          direct(operation) ? operation.geometry.input.elements() : padded_elements(operation);
      operation.ticket = parts_.outer->start(
          part_call(operation, CollectiveKind::all_reduce, part, part, total / places_));
      break;
    }
    case CollectiveKind::reduce_scatter:
      // The whole's memory is free again: the result lands at its beginning.
      operation.ticket = parts_.outer->start(part_call(operation, CollectiveKind::reduce_scatter,
                                                       part, operation.whole.data, piece * hosts_));
      break;
    default:
      operation.ticket = parts_.inner->start(part_call(operation, CollectiveKind::all_gather, part,
                                                       operation.whole.data, piece * hosts_));
      break;
  }
  operation.stage = Stage::second;
}

void HierarchicalGroup::third(Operation& operation) {
  if (operation.call.kind != CollectiveKind::all_reduce) {
    finish(operation);
    return;
  }
  const int64_t total =
      direct(operation) ? operation.geometry.input.elements() : padded_elements(operation);
  std::byte* target =
      direct(operation) ? static_cast<std::byte*>(operation.call.output) : operation.whole.data;
  operation.ticket = parts_.inner->start(part_call(operation, CollectiveKind::all_gather,
                                                   operation.part.data, target, total / places_));
  operation.stage = Stage::third;
}

void HierarchicalGroup::finish(Operation& operation) {
  CollectiveGeometry& geometry = operation.geometry;
  auto* output = static_cast<std::byte*>(operation.call.output);
  const std::byte* whole = operation.whole.data;
  if (geometry.kind == CollectiveKind::all_gather) {
    const int64_t bytes = geometry.piece_bytes();
    for (int place = 0; place < places_; ++place)
      for (int host = 0; host < hosts_; ++host)
        geometry.unpack_piece(output, whole + bytes * (place * hosts_ + host),
                              parts_.order[static_cast<size_t>(host)][static_cast<size_t>(place)]);
  } else if (geometry.kind == CollectiveKind::reduce_scatter || !direct(operation)) {
    const int64_t elements = geometry.output.elements();
    if (operation.sum_type == operation.call.dtype)
      std::memcpy(output, whole, static_cast<size_t>(geometry.output_bytes()));
    else
      round_from_f32(output, reinterpret_cast<const float*>(whole), elements, operation.call.dtype);
  }
  for (StagingBuffer* buffer : {&operation.whole, &operation.part, &operation.narrow}) {
    if (buffer->data == nullptr) continue;
    memory_->release(*buffer);
    *buffer = {};
  }
  operation.stage = Stage::done;
}

bool HierarchicalGroup::part_completed(const Operation& operation) const {
  const bool gather = operation.call.kind == CollectiveKind::all_gather;
  switch (operation.stage) {
    case Stage::flat:
      return parts_.flat->completed(operation.ticket);
    case Stage::first:
      return gather ? parts_.outer->completed(operation.ticket)
                    : parts_.inner->completed(operation.ticket);
    case Stage::second:
      return gather ? parts_.inner->completed(operation.ticket)
                    : parts_.outer->completed(operation.ticket);
    case Stage::third:
      return parts_.inner->completed(operation.ticket);
    default:
      return true;
  }
}

bool HierarchicalGroup::step(Operation& operation) {
  if (operation.stage == Stage::done || !part_completed(operation)) return false;
  switch (operation.stage) {
    case Stage::flat:
      operation.stage = Stage::done;
      break;
    case Stage::queued:
      begin(operation);
      break;
    case Stage::first:
      second(operation);
      break;
    case Stage::second:
      third(operation);
      break;
    case Stage::third:
      finish(operation);
      break;
    case Stage::done:
      break;
  }
  return true;
}

// Only the oldest of the staged operations moves, so that all ranks start the parts of the inner
// and outer groups in one order. Plain ones move by themselves.
bool HierarchicalGroup::progress() {
  if (progressing_) return false;  // starting a part may wait for a slot, which polls all groups
  progressing_ = true;
  bool moved = false, staged = false;
  for (uint64_t sequence = next_done_; sequence <= sequence_; ++sequence) {
    Operation& operation = operations_[sequence % kCollectivesInFlight];
    const bool plain = operation.stage == Stage::flat;
    if (!plain && operation.stage != Stage::done) {
      if (staged) continue;
      staged = true;
    }
    while (step(operation)) moved = true;
    if (!plain && operation.stage == Stage::done) staged = false;
  }
  for (; next_done_ <= sequence_ && operations_[next_done_ % kCollectivesInFlight].stage == Stage::done;
       ++next_done_)
    engine_->note_finished(number_, next_done_);
  progressing_ = false;
  return moved;
}

void HierarchicalGroup::wait(Ticket ticket) {
  const auto sequence = static_cast<uint64_t>(ticket);
  if (sequence < next_done_) return;
  const Operation& operation = operations_[sequence % kCollectivesInFlight];
  const WaitSite site{number_, static_cast<int>(operation.call.kind), sequence,
                      operation.call.tensor, true};
  engine_->wait_until(site, [&] { return sequence < next_done_; });
}

}  // namespace tessera

#include "core/runtime/shared_group.h"

#include <algorithm>
#include <cstring>

#include "core/runtime/ordered_reduce.h"

namespace tessera {

// What a rank tells its peers about its call. Plain words: the slot's counters order the accesses.
struct alignas(64) SharedGroup::Descriptor {
  uint64_t signature;
  SharedAddress input, output;
  int32_t kind, dtype;
  int64_t elements;
  int32_t send_to;
};

struct SharedGroup::Slot {
  alignas(64) std::atomic<uint32_t> arrived;
  alignas(64) std::atomic<uint32_t> finished;
};

struct SharedGroup::Operation {
  uint64_t sequence = 0;
  CollectiveGeometry geometry;
  const std::byte* input = nullptr;
  std::byte* output = nullptr;
  int send_to = -1, receive_from = -1, root = 0;
  std::string_view tensor;
  bool eager = false;
  std::byte* shared_output = nullptr;  // staged: copied to `output` at the end
  StagingBuffer staged_input, staged_output;
  int64_t bytes() const { return geometry.input_bytes(); }
};

namespace {

// Inputs of at most this many bytes travel in the slot. A rank reads all n of them, so the limit
// falls with n; it also bounds a group's control block to some hundred KiB.
int64_t eager_limit(int size) { return size <= 4 ? 2048 : size <= 16 ? 1024 : 256; }

constexpr int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

bool reached(const std::atomic<uint32_t>& counter, uint32_t target) {
  return static_cast<int32_t>(counter.load(std::memory_order_acquire) - target) >= 0;
}

}  // namespace

int64_t SharedGroup::control_bytes(int size) {
  const int64_t slot = static_cast<int64_t>(sizeof(Slot)) +
                       size * (static_cast<int64_t>(sizeof(Descriptor)) + eager_limit(size));
  return kCollectiveSlots * slot;
}

SharedGroup::SharedGroup(int number, GroupInfo info, int rank, std::byte* control,
                         PeerMemory* memory, ProgressEngine* engine)
    : number_(number),
      info_(std::move(info)),
      rank_(rank),
      size_(static_cast<int>(info_.members.size())),
      eager_bytes_(eager_limit(size_)),
      control_(control),
      memory_(memory),
      engine_(engine),
      operations_(kCollectiveSlots),
      inputs_(static_cast<size_t>(size_)),
      outputs_(static_cast<size_t>(size_)) {
  for (const int member : info_.members) locals_.push_back(engine_->board().local_of(member));
  engine_->add_group(number_, info_);
  engine_->attach(this);
}

SharedGroup::~SharedGroup() { engine_->detach(this); }

SharedGroup::Slot& SharedGroup::slot_of(uint64_t sequence) const {
  return reinterpret_cast<Slot*>(control_)[sequence % kCollectiveSlots];
}

SharedGroup::Descriptor& SharedGroup::descriptor_of(uint64_t sequence, int rank) const {
  auto* descriptors = reinterpret_cast<Descriptor*>(control_ + kCollectiveSlots * sizeof(Slot));
  return descriptors[static_cast<int64_t>(sequence % kCollectiveSlots) * size_ + rank];
}

std::byte* SharedGroup::eager_of(uint64_t sequence, int rank) const {
  std::byte* base = control_ + kCollectiveSlots *
                                   (sizeof(Slot) + static_cast<size_t>(size_) * sizeof(Descriptor));
  return base + (static_cast<int64_t>(sequence % kCollectiveSlots) * size_ + rank) * eager_bytes_;
}

uint32_t SharedGroup::target_of(uint64_t sequence) const {
  return static_cast<uint32_t>(((sequence - 1) / kCollectiveSlots + 1) *
                               static_cast<uint64_t>(size_));
}

Ticket SharedGroup::start(const CollectiveCall& call) {
  if (size_ == 1) {
    run_alone(call);
    return 0;  // always complete
  }
  TESSERA_CHECK(call.kind != CollectiveKind::broadcast || (call.root >= 0 && call.root < size_),
                "broadcast from root ", call.root, " in a group of ", size_);
  const uint64_t sequence = sequence_ + 1;
  await_slot(sequence, call);
  sequence_ = engine_->note_start(number_, static_cast<int>(call.kind), call.tensor);
  TESSERA_CHECK(sequence_ == sequence, "group '", info_.name, "' lost count: ", sequence_, " and ",
                sequence);
  Operation& operation = operations_[sequence % kCollectiveSlots];
  operation.sequence = sequence;
  publish(operation, call);
  Slot& slot = slot_of(sequence);
  if (slot.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == target_of(sequence)) ring_peers();
  return static_cast<Ticket>(sequence);
}

void SharedGroup::run_alone(const CollectiveCall& call) {
  CollectiveGeometry& geometry = operations_[0].geometry;
  geometry.assign(call, 1);
  auto* output = static_cast<std::byte*>(call.output);
  const auto* input = static_cast<const std::byte*>(call.input);
  if (call.kind == CollectiveKind::permute && call.receive_from < 0)
    std::memset(output, 0, static_cast<size_t>(geometry.output_bytes()));
  else if (output != input)
    std::memcpy(output, input, static_cast<size_t>(geometry.input_bytes()));
}

void SharedGroup::await_slot(uint64_t sequence, const CollectiveCall& call) {
  if (sequence <= kCollectiveSlots) return;
  const uint64_t before = sequence - kCollectiveSlots;
  const WaitSite site{number_, static_cast<int>(call.kind), before, "(the slot's last collective)"};
  engine_->wait_until(site, [&] {
    return next_done_ > before && reached(slot_of(before).finished, target_of(before));
  });
}

void SharedGroup::publish(Operation& operation, const CollectiveCall& call) {
  operation.geometry.assign(call, size_);
  operation.input = static_cast<const std::byte*>(call.input);
  operation.output = static_cast<std::byte*>(call.output);
  operation.send_to = call.send_to;
  operation.receive_from = call.receive_from;
  operation.root = call.root;
  operation.tensor = call.tensor;
  operation.shared_output = nullptr;
  operation.eager = operation.bytes() <= eager_bytes_;
  Descriptor& mine = descriptor_of(operation.sequence, rank_);
  mine.signature = operation.geometry.signature(call.root);
  mine.kind = static_cast<int32_t>(call.kind);
  mine.dtype = static_cast<int32_t>(call.dtype);
  mine.elements = call.shape.elements();
  mine.send_to = call.send_to;
  mine.input = mine.output = SharedAddress{};
  const bool sends = (call.kind != CollectiveKind::permute || call.send_to >= 0) &&
                     (call.kind != CollectiveKind::broadcast || call.root == rank_);
  if (!sends) return;
  if (operation.eager)
    std::memcpy(eager_of(operation.sequence, rank_), call.input,
                static_cast<size_t>(operation.bytes()));
  else
    stage_operands(operation, call, mine);
}

void SharedGroup::stage_operands(Operation& operation, const CollectiveCall& call,
                                 Descriptor& mine) {
  const int64_t bytes = operation.bytes();
  // A permute in place would overwrite its input before the receiver has read it.
  const bool fragile = call.kind == CollectiveKind::permute && call.input == call.output;
  if (!fragile) mine.input = memory_->locate(call.input, bytes);
  if (mine.input.segment < 0) {
    operation.staged_input = memory_->acquire(bytes);
    std::memcpy(operation.staged_input.data, call.input, static_cast<size_t>(bytes));
    mine.input = operation.staged_input.address;
  }
  if (call.kind != CollectiveKind::all_reduce) return;
  mine.output = memory_->locate(call.output, bytes);
  if (mine.output.segment >= 0) return;
  if (operation.staged_input.data != nullptr) {
    operation.shared_output = operation.staged_input.data;
    mine.output = operation.staged_input.address;
  } else {
    operation.staged_output = memory_->acquire(bytes);
    operation.shared_output = operation.staged_output.data;
    mine.output = operation.staged_output.address;
  }
}

void SharedGroup::check_peers(const Operation& operation) {
  const Descriptor& mine = descriptor_of(operation.sequence, rank_);
  for (int peer = 0; peer < size_; ++peer) {
    const Descriptor& theirs = descriptor_of(operation.sequence, peer);
    if (theirs.signature == mine.signature) continue;
    TESSERA_CHECK(false, "collective #", operation.sequence, " of group '", info_.name,
                  "' differs between ranks: rank ", engine_->world_rank(), " calls ",
                  operation.geometry.kind, " of '", operation.tensor, "' ",
                  operation.geometry.dtype, operation.geometry.input, ", rank ",
                  info_.members[static_cast<size_t>(peer)], " calls ",
                  static_cast<CollectiveKind>(theirs.kind), " on ", theirs.elements,
                  " elements of ", static_cast<DType>(theirs.dtype));
  }
  if (operation.geometry.kind != CollectiveKind::permute || operation.receive_from < 0) return;
  const int sends_to = descriptor_of(operation.sequence, operation.receive_from).send_to;
  TESSERA_CHECK(sends_to == rank_, "permute #", operation.sequence, " of group '", info_.name,
                "': group rank ", rank_, " receives from ", operation.receive_from,
                ", which sends to ", sends_to);
}

const std::byte* SharedGroup::input_of(const Operation& operation, int rank) {
  if (operation.eager) return eager_of(operation.sequence, rank);
  if (rank == rank_ && operation.staged_input.data == nullptr) return operation.input;
  return memory_->resolve(info_.members[static_cast<size_t>(rank)],
                          descriptor_of(operation.sequence, rank).input);
}

void SharedGroup::share_all_reduce(Operation& operation) {
  const int64_t elements = operation.geometry.input.elements();
  if (operation.eager) {
    ordered_reduce(inputs_, {&operation.output, 1}, elements, operation.geometry.dtype,
                   operation.geometry.reduce);
    return;
  }
  for (int peer = 0; peer < size_; ++peer) {
    const Descriptor& theirs = descriptor_of(operation.sequence, peer);
    outputs_[static_cast<size_t>(peer)] =
        memory_->resolve(info_.members[static_cast<size_t>(peer)], theirs.output);
  }
  // Chunks end on cache lines, so that no line is written by two ranks.
  constexpr int64_t kUnit = 64;
  const int64_t units = (elements + kUnit - 1) / kUnit;
  const int64_t begin = std::min(elements, units * rank_ / size_ * kUnit);
  const int64_t end = std::min(elements, units * (rank_ + 1) / size_ * kUnit);
  const int64_t offset = begin * operation.geometry.element_bytes;
  for (auto& input : inputs_) input += offset;
  for (auto& output : outputs_) output += offset;
  ordered_reduce(inputs_, outputs_, end - begin, operation.geometry.dtype,
                 operation.geometry.reduce);
}

void SharedGroup::do_share(Operation& operation) {
  CollectiveGeometry& geometry = operation.geometry;
  switch (geometry.kind) {
    case CollectiveKind::all_reduce:
    case CollectiveKind::reduce_scatter:
      for (int peer = 0; peer < size_; ++peer)
        inputs_[static_cast<size_t>(peer)] = input_of(operation, peer);
      if (geometry.kind == CollectiveKind::all_reduce)
        share_all_reduce(operation);
      else
        geometry.reduce_pieces(operation.output, inputs_, rank_);
      return;
    case CollectiveKind::all_gather:
    case CollectiveKind::all_to_all:
      // Each rank begins with another peer, so that they do not all read the same memory at once.
      for (int step = 0; step < size_; ++step) {
        const int peer = (rank_ + step) % size_;
        geometry.copy_piece(operation.output, input_of(operation, peer), peer, rank_);
      }
      return;
    case CollectiveKind::permute:
      if (operation.receive_from < 0)
        std::memset(operation.output, 0, static_cast<size_t>(geometry.output_bytes()));
      else
        geometry.copy_piece(operation.output, input_of(operation, operation.receive_from),
                            operation.receive_from, rank_);
      return;
    case CollectiveKind::broadcast:
      if (rank_ == operation.root && operation.input == operation.output) return;
      geometry.copy_piece(operation.output, input_of(operation, operation.root), operation.root,
                          rank_);
      return;
  }
}

void SharedGroup::finish_staging(Operation& operation) {
  if (operation.shared_output != nullptr)
    std::memcpy(operation.output, operation.shared_output, static_cast<size_t>(operation.bytes()));
  for (StagingBuffer* buffer : {&operation.staged_input, &operation.staged_output}) {
    if (buffer->data == nullptr) continue;
    memory_->release(*buffer);
    *buffer = {};
  }
}

void SharedGroup::ring_peers() {
  for (const int local : locals_)
    if (local != locals_[static_cast<size_t>(rank_)]) engine_->board().ring(local);
}

bool SharedGroup::progress() {
  bool moved = false;
  for (; next_share_ <= sequence_; ++next_share_) {
    Operation& operation = operations_[next_share_ % kCollectiveSlots];
    Slot& slot = slot_of(next_share_);
    const uint32_t target = target_of(next_share_);
    if (!reached(slot.arrived, target)) break;
    {
      const ProgressEngine::Share share(*engine_);
      if (!share.allowed()) break;
      check_peers(operation);
      do_share(operation);
    }
    engine_->note_finished(number_, next_share_);
    if (slot.finished.fetch_add(1, std::memory_order_acq_rel) + 1 == target) ring_peers();
    moved = true;
  }
  for (; next_done_ < next_share_; ++next_done_) {
    Operation& operation = operations_[next_done_ % kCollectiveSlots];
    if (!operation.eager && !reached(slot_of(next_done_).finished, target_of(next_done_))) break;
    finish_staging(operation);
    moved = true;
  }
  return moved;
}

void SharedGroup::poll() {
  if (next_done_ <= sequence_) progress();
}

void SharedGroup::wait(Ticket ticket) {
  if (completed(ticket)) return;
  TESSERA_CHECK(static_cast<uint64_t>(ticket) <= sequence_, "group '", info_.name,
                "' has no ticket ", ticket);
  const Operation& operation = operations_[static_cast<uint64_t>(ticket) % kCollectiveSlots];
  const WaitSite site{number_, static_cast<int>(operation.geometry.kind),
                      static_cast<uint64_t>(ticket), operation.tensor};
  engine_->wait_until(site, [&] { return completed(ticket); });
}

}  // namespace tessera

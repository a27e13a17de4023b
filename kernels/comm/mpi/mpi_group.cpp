#include "kernels/comm/mpi/mpi_group.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "core/runtime/ordered_reduce.h"

namespace tessera {
namespace {

constexpr int kTags = 8192;  // MPI promises tags up to 32767 only

int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

MpiGroup::MpiGroup(int number, GroupInfo info, int rank, OwnedComm comm, PeerMemory* memory,
                   ProgressEngine* engine)
    : number_(number),
      info_(std::move(info)),
      rank_(rank),
      size_(static_cast<int>(info_.members.size())),
      comm_(std::move(comm)),
      memory_(memory),
      engine_(engine),
      operations_(kCollectivesInFlight),
      sources_(static_cast<size_t>(size_)) {
  engine_->add_group(number_, info_);
  engine_->attach(this);
}

MpiGroup::~MpiGroup() {
  engine_->detach(this);
  if (engine_->board().abort_state() != AbortState::none) comm_.abandon();
}

int MpiGroup::tag_of(const Operation& operation, int phase) const {
  return static_cast<int>(operation.sequence % kTags) * 2 + phase;
}

// The messages of a phase lie in one buffer, one padded piece per peer.
std::byte* MpiGroup::outgoing(Operation& operation, int peer) {
  const int64_t step = padded(operation.geometry.piece_bytes());
  if (operation.outgoing.data == nullptr) operation.outgoing = memory_->acquire(step * size_);
  return operation.outgoing.data + step * peer;
}

std::byte* MpiGroup::incoming(Operation& operation, int peer) {
  const int64_t step = padded(operation.geometry.piece_bytes());
  if (operation.incoming.data == nullptr) operation.incoming = memory_->acquire(step * size_);
  return operation.incoming.data + step * peer;
}

// all_reduce: the elements that rank `peer` combines.
void MpiGroup::chunk_bounds(const Operation& operation, int peer, int64_t& begin,
                            int64_t& count) const {
  const int64_t elements = operation.geometry.input.elements();
  begin = elements * peer / size_;
  count = elements * (peer + 1) / size_ - begin;
}

Ticket MpiGroup::start(const CollectiveCall& call) {
  const uint64_t sequence = sequence_ + 1;
  if (sequence > kCollectivesInFlight) wait(static_cast<Ticket>(sequence - kCollectivesInFlight));
  sequence_ = engine_->note_start(number_, static_cast<int>(call.kind), call.tensor);
  Operation& operation = operations_[sequence % kCollectivesInFlight];
  operation.sequence = sequence;
  operation.geometry.assign(call, size_);
  operation.input = static_cast<const std::byte*>(call.input);
  operation.output = static_cast<std::byte*>(call.output);
  operation.send_to = call.send_to;
  operation.receive_from = call.receive_from;
  operation.root = call.root;
  operation.tensor = call.tensor;
  operation.phase = Phase::first;
  operation.requests.clear();
  post_first(operation);
  return static_cast<Ticket>(sequence);
}

void MpiGroup::post_first(Operation& operation) {
  switch (operation.geometry.kind) {
    case CollectiveKind::all_reduce:
      return post_reduce_chunks(operation);
    case CollectiveKind::permute:
      return post_permute(operation);
    case CollectiveKind::broadcast:
      return post_broadcast(operation);
    case CollectiveKind::reduce_scatter:
    case CollectiveKind::all_to_all:
    case CollectiveKind::all_gather:
      return post_pieces(operation);
  }
}

void MpiGroup::post_reduce_chunks(Operation& operation) {
  const int64_t unit = operation.geometry.element_bytes;
  int64_t begin, count;
  chunk_bounds(operation, rank_, begin, count);
  const int64_t step = padded(count * unit);
  operation.incoming = memory_->acquire(step * size_);
  for (int peer = 0; peer < size_; ++peer)
    if (peer != rank_)
      receive_bytes(operation.incoming.data + step * peer, count * unit, peer, tag_of(operation, 0),
                    comm_.get(), operation.requests);
  for (int step_to = 1; step_to < size_; ++step_to) {
    const int peer = (rank_ + step_to) % size_;
    chunk_bounds(operation, peer, begin, count);
    send_bytes(operation.input + begin * unit, count * unit, peer, tag_of(operation, 0),
               comm_.get(), operation.requests);
  }
}

void MpiGroup::post_pieces(Operation& operation) {
  CollectiveGeometry& geometry = operation.geometry;
  const int64_t bytes = geometry.piece_bytes();
  for (int peer = 0; peer < size_; ++peer)
    if (peer != rank_)
      receive_bytes(incoming(operation, peer), bytes, peer, tag_of(operation, 0), comm_.get(),
                    operation.requests);
  for (int step = 1; step < size_; ++step) {
    const int peer = (rank_ + step) % size_;
    const std::byte* message = operation.input;
    if (geometry.kind != CollectiveKind::all_gather) {
      geometry.pack_piece(outgoing(operation, peer), operation.input, peer);
      message = outgoing(operation, peer);
    }
    send_bytes(message, bytes, peer, tag_of(operation, 0), comm_.get(), operation.requests);
  }
}

void MpiGroup::post_permute(Operation& operation) {
  const int64_t bytes = operation.geometry.input_bytes();
  const bool in_place = operation.input == operation.output;
  const int from = operation.receive_from, to = operation.send_to;
  if (from >= 0 && from != rank_) {
    std::byte* target = operation.output;
    if (in_place) {
      operation.incoming = memory_->acquire(bytes);
      target = operation.incoming.data;
    }
    receive_bytes(target, bytes, from, tag_of(operation, 0), comm_.get(), operation.requests);
  }
  if (to >= 0 && to != rank_)
    send_bytes(operation.input, bytes, to, tag_of(operation, 0), comm_.get(), operation.requests);
}

void MpiGroup::post_broadcast(Operation& operation) {
  const int64_t bytes = operation.geometry.input_bytes();
  if (rank_ == operation.root && operation.input != operation.output)
    std::memcpy(operation.output, operation.input, static_cast<size_t>(bytes));
  constexpr int64_t kPart = int64_t{1} << 30;
  for (int64_t begin = 0; begin < bytes; begin += kPart) {
    operation.requests.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Ibcast(operation.output + begin, static_cast<int>(std::min(kPart, bytes - begin)),
                         MPI_BYTE, operation.root, comm_.get(), &operation.requests.back()),
              "MPI_Ibcast");
  }
}

void MpiGroup::advance(Operation& operation) {
  if (operation.phase == Phase::first) {
    operation.requests.clear();
    operation.phase = Phase::second;
    finish_first(operation);
  }
  if (operation.phase == Phase::second && operation.requests.empty()) finish(operation);
}

// All messages of the first phase have arrived and left.
void MpiGroup::finish_first(Operation& operation) {
  CollectiveGeometry& geometry = operation.geometry;
  switch (geometry.kind) {
    case CollectiveKind::all_reduce: {
      const int64_t unit = geometry.element_bytes;
      int64_t begin, count;
      chunk_bounds(operation, rank_, begin, count);
      for (int peer = 0; peer < size_; ++peer)
        sources_[static_cast<size_t>(peer)] =
            peer == rank_ ? operation.input + begin * unit
                          : operation.incoming.data + padded(count * unit) * peer;
      std::byte* mine = operation.output + begin * unit;
      ordered_reduce(sources_, {&mine, 1}, count, geometry.dtype, geometry.reduce);
      for (int step = 1; step < size_; ++step) {
        const int peer = (rank_ + step) % size_;
        send_bytes(mine, count * unit, peer, tag_of(operation, 1), comm_.get(), operation.requests);
        int64_t their_begin, their_count;
        chunk_bounds(operation, peer, their_begin, their_count);
        receive_bytes(operation.output + their_begin * unit, their_count * unit, peer,
                      tag_of(operation, 1), comm_.get(), operation.requests);
      }
      return;
    }
    case CollectiveKind::reduce_scatter: {
      geometry.pack_piece(incoming(operation, rank_), operation.input, rank_);
      for (int peer = 0; peer < size_; ++peer)
        sources_[static_cast<size_t>(peer)] = incoming(operation, peer);
      ordered_reduce(sources_, {&operation.output, 1}, geometry.piece.elements(), geometry.dtype,
                     geometry.reduce);
      return;
    }
    case CollectiveKind::all_gather:
    case CollectiveKind::all_to_all:
      geometry.copy_piece(operation.output, operation.input, rank_, rank_);
      for (int peer = 0; peer < size_; ++peer)
        if (peer != rank_) geometry.unpack_piece(operation.output, incoming(operation, peer), peer);
      return;
    case CollectiveKind::permute: {
      const auto bytes = static_cast<size_t>(geometry.input_bytes());
      if (operation.receive_from < 0)
        std::memset(operation.output, 0, bytes);
      else if (operation.receive_from == rank_ && operation.input != operation.output)
        std::memcpy(operation.output, operation.input, bytes);
      else if (operation.incoming.data != nullptr)
        std::memcpy(operation.output, operation.incoming.data, bytes);
      return;
    }
    case CollectiveKind::broadcast:
      return;
  }
}

void MpiGroup::finish(Operation& operation) {
  for (StagingBuffer* buffer : {&operation.outgoing, &operation.incoming}) {
    if (buffer->data == nullptr) continue;
    memory_->release(*buffer);
    *buffer = {};
  }
  operation.phase = Phase::done;
}

bool MpiGroup::progress() {
  bool moved = false;
  for (uint64_t sequence = next_done_; sequence <= sequence_; ++sequence) {
    Operation& operation = operations_[sequence % kCollectivesInFlight];
    while (operation.phase != Phase::done) {
      int arrived = 0;
      check_mpi(MPI_Testall(static_cast<int>(operation.requests.size()), operation.requests.data(),
                            &arrived, MPI_STATUSES_IGNORE),
                "MPI_Testall");
      if (!arrived) break;
      if (operation.phase == Phase::second) operation.requests.clear();
      advance(operation);
      moved = true;
    }
  }
  for (; next_done_ <= sequence_ && operations_[next_done_ % kCollectivesInFlight].phase == Phase::done;
       ++next_done_)
    engine_->note_finished(number_, next_done_);
  return moved;
}

void MpiGroup::wait(Ticket ticket) {
  if (completed(ticket)) return;
  TESSERA_CHECK(static_cast<uint64_t>(ticket) <= sequence_, "group '", info_.name,
                "' has no ticket ", ticket);
  const Operation& operation = operations_[static_cast<uint64_t>(ticket) % kCollectivesInFlight];
  const WaitSite site{number_, static_cast<int>(operation.geometry.kind),
                      static_cast<uint64_t>(ticket), operation.tensor, true};
  engine_->wait_until(site, [&] { return completed(ticket); });
}

}  // namespace tessera

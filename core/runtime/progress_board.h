// What each rank of a host is doing, in memory that all of them (and their watchdogs) can read.
//
// Every rank writes only its own words and nobody waits to write, so a rank that is stopped, dead
// or lost in a kernel is described by what it wrote last: the collective it started, the one it
// waits for, and how far it is in each group. The board lies in shared memory between processes and
// on the heap between threads; it holds no pointers.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tessera {

inline constexpr int kMaxGroups = 512;

// Text of at most kWords * 8 - 1 bytes that one rank writes while others may read. A read that
// races with a write can give a mixture of both, never undefined behaviour.
template <int kWords>
class SharedText {
 public:
  void store(std::string_view text) {
    for (int word = 0; word < kWords; ++word) {
      uint64_t bits = 0;
      for (int byte = 0; byte < 8; ++byte) {
        const size_t at = static_cast<size_t>(word * 8 + byte);
        if (at < text.size() && at + 1 < kWords * 8)
          bits |= uint64_t{static_cast<unsigned char>(text[at])} << (8 * byte);
      }
      words_[static_cast<size_t>(word)].store(bits, std::memory_order_relaxed);
      if (static_cast<size_t>(word * 8 + 8) > text.size()) break;  // the terminating zero is in
    }
  }
  std::string load() const {
    std::string text;
    for (const auto& word : words_) {
      const uint64_t bits = word.load(std::memory_order_relaxed);
      for (int byte = 0; byte < 8; ++byte) {
        const char c = static_cast<char>(bits >> (8 * byte));
        if (c == 0) return text;
        text.push_back(c);
      }
    }
    return text;
  }

 private:
  std::array<std::atomic<uint64_t>, kWords> words_{};
};

// Which collective: number `sequence` (from 1) of group number `group`.
struct CollectiveMark {
  std::atomic<int32_t> group{-1};
  std::atomic<int32_t> kind{-1};  // a CollectiveKind, or kControl
  std::atomic<uint64_t> sequence{0};
  SharedText<8> tensor;  // for kControl: which exchange

  static constexpr int kControl = 100;
};

enum class RankState : int32_t { absent, running, closed };

struct alignas(64) RankProgress {
  std::atomic<int32_t> pid{0};
  std::atomic<RankState> state{RankState::absent};

  // Rung by whoever makes a collective of this rank completable; slept on with a futex.
  alignas(64) std::atomic<uint32_t> doorbell{0};
  std::atomic<uint32_t> sleeping{0};
  std::atomic<uint32_t> sharing{0};  // 1 while this rank reads or writes its peers' operands

  alignas(64) CollectiveMark last;        // started last
  CollectiveMark waiting;                 // waited for, while waiting_since is not 0
  std::atomic<int64_t> waiting_since{0};  // monotonic nanoseconds
  std::atomic<int32_t> blocked_on{-1};    // the world rank that this one's watchdog holds guilty

  // Per group: the last collective begun, and the last whose share of work this rank has done.
  std::array<std::atomic<uint64_t>, kMaxGroups> started{};
  std::array<std::atomic<uint64_t>, kMaxGroups> finished{};
};

// `failed`: waits end with an error. `timed_out`: the watchdogs end the processes; waits stay put.
enum class AbortState : uint32_t { none, failed, timed_out };

class ProgressBoard {
 public:
  // Bytes of shared memory, zeroed, for `ranks` ranks.
  static int64_t bytes_for(int ranks);
  // Lays a board over `memory` (zeroed, 64-byte aligned); every process does so with its own map.
  ProgressBoard(std::byte* memory, std::span<const int> world_ranks);

  // Fills in what a rank's words hold before its first collective. Called by that rank alone.
  void join(int local);

  int size() const { return static_cast<int>(world_ranks_.size()); }
  int world_rank(int local) const { return world_ranks_[static_cast<size_t>(local)]; }
  int local_of(int world_rank) const;  // -1 where the rank is not on this board
  RankProgress& rank(int local) { return ranks_[local]; }
  const RankProgress& rank(int local) const { return ranks_[local]; }

  // The first abort wins; true for the caller whose it was. Wakes every rank of the board.
  bool abort(AbortState state, int world_rank, std::string_view reason);
  AbortState abort_state() const { return header_->state.load(std::memory_order_acquire); }
  int abort_rank() const { return header_->rank.load(std::memory_order_relaxed); }
  std::string abort_reason() const { return header_->reason.load(); }

  // After an abort: returns when no rank but `local` touches its peers' operands any more (or after
  // a second: it may be stopped), so that these may be freed.
  void await_shares(int local) const;

  // Sleeping and waking. A rank that wants to sleep reads its doorbell, sets `sleeping`, looks once
  // more for what it waits for, and then calls sleep; a rank that made something true rings. Both
  // sides order these with sequentially consistent accesses, so that one of them sees the other.
  void ring(int local);
  void sleep(int local, uint32_t seen, int64_t nanoseconds);  // until rung after `seen` was read

 private:
  struct Header {
    std::atomic<uint32_t> claimed;
    std::atomic<AbortState> state;
    std::atomic<int32_t> rank;
    SharedText<128> reason;
  };
  Header* header_;
  RankProgress* ranks_;
  std::span<const int> world_ranks_;  // owned by the world
};

int64_t monotonic_nanoseconds();

// What a rank was doing last, in words: "waits in all_reduce #7 of 'grad' for 3.2 s; ...".
std::string describe(const RankProgress& rank);
// "all_reduce #7 of 'grad'", "barrier #3".
std::string describe_collective(int kind, uint64_t sequence, std::string_view tensor);

}  // namespace tessera

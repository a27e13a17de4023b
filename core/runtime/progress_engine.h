// One rank's waiting, over all its groups.
//
// A rank that waits in one group must still do its share in the others: its peers may be waiting
// for it there. So every wait of a rank, whatever for, runs here: it polls all groups of the rank,
// spins briefly, yields, and then sleeps until a peer rings (ranks may outnumber cores). It also
// keeps the rank's words on the progress board, and ends at once when a peer aborts.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/runtime/progress_board.h"

namespace tessera {

// Another rank failed, or did not come: this rank's own part was in order.
class PeerFailure : public UserError {
 public:
  using UserError::UserError;
};

struct GroupInfo {
  std::string name;
  std::vector<int> members;  // world ranks, in group order
};

// What a wait is for, as messages show it. `tensor` is the exchange's name for kControl.
struct WaitSite {
  int group = 0;
  int kind = CollectiveMark::kControl;
  uint64_t sequence = 0;
  std::string_view tensor;
  bool polling = false;  // done() itself must be asked: no peer rings when it becomes true
};

// Something in flight that moves only when it is polled.
class Progressable {
 public:
  virtual ~Progressable() = default;
  virtual bool progress() = 0;  // true when something moved
  // True where no doorbell tells of progress (messages between hosts): the wait must keep polling.
  virtual bool needs_polling() const { return false; }
};

struct WaitPolicy {
  double timeout_seconds = 0;  // 0: none here (a watchdog looks after it)
  bool crowded = false;        // more ranks than cores: give the core away early
};

class ProgressEngine {
 public:
  ProgressEngine(ProgressBoard* board, int world_rank, WaitPolicy policy);
  ~ProgressEngine();

  int world_rank() const { return world_rank_; }
  void set_timeout(double seconds) { policy_.timeout_seconds = seconds; }
  ProgressBoard& board() { return *board_; }
  // This rank leaves in good order: its end is no failure.
  void close() { self().state.store(RankState::closed, std::memory_order_release); }

  // Registers a group; its number is the order of creation, the same on all its ranks.
  void add_group(int number, GroupInfo info);
  GroupInfo group(int number) const;  // any thread

  void attach(Progressable* item);
  void detach(Progressable* item);

  // Progress words. note_start gives the collective's sequence number in its group, from 1.
  uint64_t note_start(int group, int kind, std::string_view tensor);
  void note_finished(int group, uint64_t sequence);

  // Around reading and writing the peers' operands. Not `allowed` after an abort, when these may be
  // gone; an abort's errors in turn wait for the shares that are under way.
  class Share {
   public:
    explicit Share(ProgressEngine& engine);
    ~Share() { words_.sharing.store(0, std::memory_order_release); }
    Share(const Share&) = delete;
    bool allowed() const { return allowed_; }

   private:
    RankProgress& words_;
    bool allowed_;
  };

  bool poll();
  // Polls until done() is true. Throws PeerFailure when a peer aborts or the time is up.
  template <typename Done>
  void wait_until(const WaitSite& site, Done&& done) {
    if (done()) return;
    Waiter waiter(*this, site);
    while (true) {
      waiter.prepare();
      const bool moved = poll();
      if (done()) return;
      waiter.pause(moved);
    }
  }
  void check_abort(const WaitSite& site);

  // One wait: what it has tried, and the words on the board that it clears again.
  class Waiter {
   public:
    Waiter(ProgressEngine& engine, const WaitSite& site) : engine_(engine), site_(site) {}
    ~Waiter();
    void prepare();
    void pause(bool moved);

    void announce();

   private:
    ProgressEngine& engine_;
    const WaitSite& site_;
    int rounds_ = 0;
    uint32_t seen_ = 0;
    bool announced_ = false;
    int64_t since_ = 0;
  };

  // Around a call that blocks in a library: shows the watchdog what this rank waits for.
  class BlockingCall {
   public:
    BlockingCall(ProgressEngine& engine, const WaitSite& site) : waiter_(engine, site) {
      waiter_.announce();
    }

   private:
    Waiter waiter_;
  };

 private:
  [[noreturn]] void fail_timeout(const WaitSite& site, double seconds);
  RankProgress& self() { return board_->rank(local_); }

  ProgressBoard* board_;
  const int world_rank_;
  const int local_;
  WaitPolicy policy_;
  std::vector<Progressable*> items_;
  mutable std::mutex groups_mutex_;
  std::vector<std::unique_ptr<GroupInfo>> groups_;  // by number
};

}  // namespace tessera

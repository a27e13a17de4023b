#include "core/runtime/thread_world.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <numeric>
#include <thread>

#include "core/base/error.h"
#include "core/runtime/control_plane.h"
#include "core/runtime/progress_board.h"
#include "core/runtime/progress_engine.h"
#include "core/runtime/shared_group.h"

namespace tessera {
namespace {

struct FreeAligned {
  void operator()(std::byte* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeAligned>;

AlignedBytes allocate_zeroed(int64_t bytes) {
  const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 64));
  AlignedBytes memory(new (std::align_val_t{64}) std::byte[size]);
  std::memset(memory.get(), 0, size);
  return memory;
}

std::string this_host() {
  char name[256] = "localhost";
  gethostname(name, sizeof name - 1);
  return name;
}

// Every pointer of the process is an address that all ranks understand.
class ThreadMemory final : public PeerMemory {
 public:
  SharedAddress locate(const void* data, int64_t) const override {
    return {0, static_cast<int64_t>(reinterpret_cast<intptr_t>(data))};
  }
  std::byte* resolve(int, const SharedAddress& address) override {
    return reinterpret_cast<std::byte*>(static_cast<intptr_t>(address.offset));
  }

 protected:
  StagingBuffer allocate_staging(int64_t bytes) override {
    buffers_.push_back(allocate_zeroed(bytes));
    return {buffers_.back().get(), bytes, locate(buffers_.back().get(), bytes)};
  }

 private:
  std::vector<AlignedBytes> buffers_;
};

// What the ranks of one thread world have in common. Outlives them all.
class ThreadHouse {
 public:
  explicit ThreadHouse(int ranks)
      : world_ranks_(static_cast<size_t>(ranks)),
        board_memory_(allocate_zeroed(ProgressBoard::bytes_for(ranks))),
        host_name_(this_host()) {
    std::iota(world_ranks_.begin(), world_ranks_.end(), 0);
    board_ = std::make_unique<ProgressBoard>(board_memory_.get(), world_ranks_);
  }

  int size() const { return static_cast<int>(world_ranks_.size()); }
  const std::vector<int>& world_ranks() const { return world_ranks_; }
  ProgressBoard& board() { return *board_; }
  const std::string& host_name() const { return host_name_; }

  // The control block of the group that is its members' `number`-th; made by the first to ask.
  std::byte* control(int number, const std::vector<int>& members) {
    const std::lock_guard lock(mutex_);
    AlignedBytes& block = controls_[{number, members}];
    if (!block)
      block = allocate_zeroed(SharedGroup::control_bytes(static_cast<int>(members.size())));
    return block.get();
  }

 private:
  std::vector<int> world_ranks_;
  AlignedBytes board_memory_;
  std::unique_ptr<ProgressBoard> board_;
  std::string host_name_;
  std::mutex mutex_;
  std::map<std::pair<int, std::vector<int>>, AlignedBytes> controls_;
};

class ThreadWorld final : public World {
 public:
  ThreadWorld(ThreadHouse* house, int rank, WaitPolicy policy)
      : house_(house),
        rank_(rank),
        engine_(&house->board(), rank, policy),
        all_(make_group(0, house->world_ranks(), "world")),
        control_(all_.get()) {}

  bool shares_process() const override { return true; }
  int rank() const override { return rank_; }
  int size() const override { return house_->size(); }
  int local_rank() const override { return rank_; }
  int local_size() const override { return house_->size(); }
  const std::string& host_name() const override { return house_->host_name(); }

  std::byte* allocate_symmetric(int64_t bytes) override {
    arenas_.push_back(allocate_zeroed(bytes));
    return arenas_.back().get();
  }

  std::unique_ptr<Communicator> create_group(std::span<const int> ranks,
                                             std::string_view name) override {
    return make_group(next_group_++, {ranks.begin(), ranks.end()}, name);
  }

  void barrier() override { control_.barrier(); }
  int64_t all_reduce_max(int64_t value) override { return control_.all_reduce_max(value); }
  std::string broadcast_text(const std::string& text, int root) override {
    return control_.broadcast_text(text, root);
  }
  std::vector<std::string> all_gather_text(const std::string& text) override {
    return control_.all_gather_text(text);
  }
  void set_timeout(double seconds) override { engine_.set_timeout(seconds); }
  ProgressEngine* progress() override { return &engine_; }
  void close() { engine_.close(); }
  void abort(std::string_view reason) noexcept override {
    house_->board().abort(AbortState::failed, rank_, reason);
  }

 private:
  std::unique_ptr<Communicator> make_group(int number, std::vector<int> members,
                                           std::string_view name) {
    const auto self = std::find(members.begin(), members.end(), rank_);
    TESSERA_CHECK(self != members.end(), "rank ", rank_, " creates group '", name, "' of ranks ",
                  join(members), " without being in it");
    const int place = static_cast<int>(self - members.begin());
    std::byte* control = house_->control(number, members);
    return std::make_unique<SharedGroup>(number, GroupInfo{std::string(name), std::move(members)},
                                         place, control, &memory_, &engine_);
  }

  ThreadHouse* house_;
  const int rank_;
  ThreadMemory memory_;
  ProgressEngine engine_;
  std::vector<AlignedBytes> arenas_;
  int next_group_ = 1;
  std::unique_ptr<Communicator> all_;
  ControlPlane control_;
};

// A world of one: the same, with a house of its own.
class SingleWorld final : public World {
 public:
  SingleWorld() : house_(1), world_(&house_, 0, WaitPolicy{}) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  const std::string& host_name() const override { return world_.host_name(); }
  std::byte* allocate_symmetric(int64_t bytes) override { return world_.allocate_symmetric(bytes); }
  std::unique_ptr<Communicator> create_group(std::span<const int> ranks,
                                             std::string_view name) override {
    return world_.create_group(ranks, name);
  }
  void barrier() override {}
  int64_t all_reduce_max(int64_t value) override { return value; }
  std::string broadcast_text(const std::string& text, int) override { return text; }
  std::vector<std::string> all_gather_text(const std::string& text) override { return {text}; }
  ProgressEngine* progress() override { return world_.progress(); }
  void abort(std::string_view reason) noexcept override { world_.abort(reason); }

 private:
  ThreadHouse house_;
  ThreadWorld world_;
};

// The first failure, and whose it was. A PeerFailure follows from another rank's failure, so it
// counts only where there is nothing better.
class FirstFailure {
 public:
  void record(int rank, std::exception_ptr error, bool secondary) {
    const std::lock_guard lock(mutex_);
    if (error_ && (secondary || !secondary_)) return;
    rank_ = rank;
    error_ = std::move(error);
    secondary_ = secondary;
  }

  void rethrow() const {
    if (!error_) return;
    const auto named = [this](const std::exception& error) {
      return cat("rank ", rank_, ": ", error.what());
    };
    try {
      std::rethrow_exception(error_);
    } catch (const ConfigError& error) {
      throw ConfigError(named(error));
    } catch (const PeerFailure& error) {
      throw PeerFailure(named(error));
    } catch (const UserError& error) {
      throw UserError(named(error));
    } catch (const InternalError& error) {
      throw InternalError(named(error));
    } catch (const std::exception& error) {
      throw std::runtime_error(named(error));
    }
  }

 private:
  std::mutex mutex_;
  int rank_ = -1;
  bool secondary_ = false;
  std::exception_ptr error_;
};

// `world` outlives all threads: peers may still read its arenas when this rank has failed.
void run_rank(ThreadHouse& house, int rank, const std::function<void(World&)>& body,
              WaitPolicy policy, FirstFailure& failure, std::unique_ptr<ThreadWorld>& world) {
  const auto fail = [&](std::string_view reason, bool secondary) {
    failure.record(rank, std::current_exception(), secondary);
    house.board().abort(AbortState::failed, rank, reason);
  };
  try {
    world = std::make_unique<ThreadWorld>(&house, rank, policy);
    body(*world);
  } catch (const PeerFailure& error) {
    fail(error.what(), true);
  } catch (const std::exception& error) {
    fail(error.what(), false);
  } catch (...) {
    fail("an exception of unknown type", false);
  }
  if (world) world->close();
}

}  // namespace

void run_thread_ranks(int ranks, const std::function<void(World&)>& body,
                      const ThreadRanksOptions& options) {
  constexpr int kMaxRanks = 1024;
  if (ranks < 1 || ranks > kMaxRanks)
    throw_config_error(ranks, " virtual devices were asked for; 1 to ", kMaxRanks,
                       " can run as threads of one process");
  WaitPolicy policy;
  policy.timeout_seconds = options.timeout_seconds;
  policy.crowded = static_cast<unsigned>(ranks) > std::thread::hardware_concurrency();
  ThreadHouse house(ranks);
  FirstFailure failure;
  std::vector<std::unique_ptr<ThreadWorld>> worlds(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      run_rank(house, rank, body, policy, failure, worlds[static_cast<size_t>(rank)]);
    });
  for (std::thread& thread : threads) thread.join();
  failure.rethrow();
}

std::unique_ptr<World> create_single_world() { return std::make_unique<SingleWorld>(); }

}  // namespace tessera

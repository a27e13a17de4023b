#include "kernels/comm/mpi_world.h"

#include <mpi.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>
#include <numeric>
#include <thread>

#include "core/base/log.h"
#include "core/runtime/control_plane.h"
#include "core/runtime/shared_group.h"
#include "core/runtime/thread_world.h"
#include "kernels/comm/heap_memory.h"
#include "kernels/comm/launcher.h"
#include "kernels/comm/mpi/hierarchical_group.h"
#include "kernels/comm/mpi/mpi_group.h"
#include "kernels/comm/mpi/mpi_library.h"
#include "kernels/comm/mpi/mpi_support.h"
#include "kernels/comm/mpi/topology.h"
#include "kernels/comm/process_memory.h"
#include "kernels/comm/side_channel.h"
#include "kernels/comm/watchdog.h"

namespace tessera {
namespace {

// A group may be made of three others (HierarchicalGroup), and numbers must agree on all ranks.
constexpr int kNumbersPerGroup = 4;
constexpr int kSetupGroup = 1;  // a number of its own for the exchanges that make groups

class MpiWorld final : public World {
 public:
  explicit MpiWorld(const MpiOptions& options)
      : exceptions_(std::uncaught_exceptions()), comm_([] {
          MPI_Comm copy = MPI_COMM_NULL;
          check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "MPI_Comm_dup");
          return OwnedComm(copy);
        }()) {
    int size = 1;
    MPI_Comm_size(comm_.get(), &size);
    check_launcher(size, true);
    topology_ = discover_topology(comm_.get(), options, shared_);
    memory_ = shared_ ? static_cast<PeerMemory*>(shared_.get()) : &heap_;
    island_ = topology_.members_of(topology_.island());
    open_board();
    open_watchdog(options);
    if (topology_.islands == 1) {
      std::vector<int> all(static_cast<size_t>(size));
      std::iota(all.begin(), all.end(), 0);
      GroupInfo info{"world", std::move(all)};
      begin_setup(info);
      all_ = make_shared_group(0, std::move(info), rank());
      control_ = std::make_unique<ControlPlane>(all_.get());
    } else {
      GroupInfo world{"world", std::vector<int>(static_cast<size_t>(size))};
      std::iota(world.members.begin(), world.members.end(), 0);
      engine_->add_group(0, std::move(world));
    }
    barrier();
  }

  ~MpiWorld() override {
    bool broken =
        std::uncaught_exceptions() > exceptions_ || board_->abort_state() != AbortState::none;
    if (!broken) {
      try {
        barrier();  // nobody leaves while a peer still reads its memory
      } catch (const std::exception& error) {
        log_error(error.what());
        broken = true;
      }
    }
    if (broken) {
      abort("it ended with an error");
      let_culprit_exit();
      comm_.abandon();
      library_.abandon();
    } else {
      board_->rank(board_->local_of(rank())).state.store(RankState::closed);
    }
    watchdog_->stop();
  }

  int rank() const override { return topology_.rank; }
  int size() const override { return topology_.size; }
  int local_rank() const override { return topology_.local_rank; }
  int local_size() const override { return topology_.local_size; }
  const std::string& host_name() const override { return topology_.host_name; }

  std::byte* allocate_symmetric(int64_t bytes) override {
    return shared_ ? shared_->create(bytes).data : heap_.create(bytes).data;
  }

  std::unique_ptr<Communicator> create_group(std::span<const int> ranks,
                                             std::string_view name) override;

  void barrier() override;
  int64_t all_reduce_max(int64_t value) override;
  std::string broadcast_text(const std::string& text, int root) override;
  std::vector<std::string> all_gather_text(const std::string& text) override;

  void set_timeout(double seconds) override { watchdog_->set_timeout(seconds); }
  ProgressEngine* progress() override { return engine_.get(); }
  void abort(std::string_view reason) noexcept override {
    try {
      const std::string text(reason);
      if (board_->abort(AbortState::failed, rank(), text))
        watchdog_->spread_abort(AbortState::failed, rank(), text);
    } catch (...) {  // out of memory: the peers will notice that this process ends
    }
  }

  MPI_Comm comm() const { return comm_.get(); }

 private:
  void open_board();
  void open_watchdog(const MpiOptions& options);
  void let_culprit_exit() const;
  void begin_setup(const GroupInfo& info);
  SharedAddress exchange_address(int number, const std::vector<int>& members, SharedAddress mine);
  std::byte* shared_control(int number, const std::vector<int>& members);
  std::unique_ptr<SharedGroup> make_shared_group(int number, GroupInfo info, int place);
  std::unique_ptr<MpiGroup> make_mpi_group(int number, GroupInfo info, int place);
  std::unique_ptr<Communicator> make_spanning_group(int number, GroupInfo info, int place);
  // One native exchange over all ranks, for worlds of several islands.
  template <typename Post>
  void exchange(std::string_view what, Post&& post);

  const int exceptions_;
  MpiLibrary library_;
  OwnedComm comm_;
  Topology topology_;
  std::unique_ptr<ProcessMemory> shared_;
  HeapMemory heap_;
  PeerMemory* memory_ = nullptr;
  std::vector<int> island_;
  std::unique_ptr<ProgressBoard> board_;
  std::unique_ptr<ProgressEngine> engine_;
  std::unique_ptr<SideChannel> channel_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<SharedGroup> all_;
  std::unique_ptr<ControlPlane> control_;
  int next_group_ = kNumbersPerGroup;
  WaitSite setup_{kSetupGroup, CollectiveMark::kControl, 0, "group set-up", true};
};

// The board's memory is made by the island's first rank. Before it exists nothing watches, so this
// exchange is MPI's own, blocking.
void MpiWorld::open_board() {
  const int64_t bytes = ProgressBoard::bytes_for(static_cast<int>(island_.size()));
  std::byte* memory = nullptr;
  if (island_.size() == 1) {
    memory = heap_.create(bytes).data;
  } else {
    SharedAddress address;
    if (island_.front() == rank()) {
      const StagingBuffer buffer = shared_->create(bytes);
      address = buffer.address;
      memory = buffer.data;
      for (const int peer : island_)
        if (peer != rank())
          check_mpi(MPI_Send(&address, sizeof address, MPI_BYTE, peer, 0, comm_.get()), "MPI_Send");
    } else {
      check_mpi(MPI_Recv(&address, sizeof address, MPI_BYTE, island_.front(), 0, comm_.get(),
                         MPI_STATUS_IGNORE),
                "MPI_Recv");
      memory = shared_->resolve(island_.front(), address);
    }
  }
  board_ = std::make_unique<ProgressBoard>(memory, island_);
  WaitPolicy policy;
  policy.crowded = topology_.local_size > sysconf(_SC_NPROCESSORS_ONLN);
  engine_ = std::make_unique<ProgressEngine>(board_.get(), rank(), policy);
  // The watchdogs look at their peers' process numbers on the board.
  check_mpi(MPI_Barrier(comm_.get()), "MPI_Barrier");
}

void MpiWorld::open_watchdog(const MpiOptions& options) {
  channel_ = std::make_unique<SideChannel>(options.interface, topology_.one_machine);
  uint64_t mine = channel_->address();
  std::vector<uint64_t> addresses(static_cast<size_t>(size()));
  check_mpi(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, addresses.data(), sizeof mine, MPI_BYTE,
                          comm_.get()),
            "MPI_Allgather");
  if (!channel_->open() && topology_.islands > 1)
    log_warning("rank ", rank(),
                ": no UDP socket could be opened; ranks on other hosts that lag or "
                "die are noticed only by the timeout");
  channel_->connect(topology_.job, rank(), std::move(addresses));
  WatchdogOptions watch;
  watch.timeout_seconds = options.timeout_seconds;
  watch.host_name = topology_.host_name;
  watch.island = topology_.island();
  for (int island = 0; island < topology_.islands; ++island)
    watch.island_leaders.push_back(
        static_cast<int>(std::find(topology_.island_of.begin(), topology_.island_of.end(), island) -
                         topology_.island_of.begin()));
  watch.terminate = terminate_job;
  watchdog_ = std::make_unique<Watchdog>(engine_.get(), channel_.get(), std::move(watch));
}

// mpirun ends the job with the code of the first process that fails: that should be the rank which
// failed, not a peer that was faster to leave.
void MpiWorld::let_culprit_exit() const {
  const int culprit = board_->abort_rank();
  if (culprit == rank()) return;
  const int local = board_->local_of(culprit);
  for (int round = 0; round < 20; ++round) {
    if (local >= 0 && kill(board_->rank(local).pid.load(), 0) != 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

// Every rank counts its calls of create_group, so that one which lags in them can be named.
void MpiWorld::begin_setup(const GroupInfo& info) {
  engine_->add_group(kSetupGroup, info);
  setup_.sequence = engine_->note_start(kSetupGroup, CollectiveMark::kControl, setup_.tensor);
}

// From members.front(), which passes its own, to the other members.
SharedAddress MpiWorld::exchange_address(int number, const std::vector<int>& members,
                                         SharedAddress mine) {
  std::vector<MPI_Request> requests;
  auto* bytes = reinterpret_cast<std::byte*>(&mine);
  if (rank() == members.front()) {
    for (const int peer : members)
      if (peer != rank()) send_bytes(bytes, sizeof mine, peer, number, comm_.get(), requests);
  } else {
    receive_bytes(bytes, sizeof mine, members.front(), number, comm_.get(), requests);
  }
  for (MPI_Request& request : requests) await_request(*engine_, &request, setup_);
  return mine;
}

std::byte* MpiWorld::shared_control(int number, const std::vector<int>& members) {
  const int64_t bytes = SharedGroup::control_bytes(static_cast<int>(members.size()));
  StagingBuffer buffer;
  if (members.front() == rank()) buffer = shared_->create(bytes);
  const SharedAddress address = exchange_address(number, members, buffer.address);
  return members.front() == rank() ? buffer.data : shared_->resolve(members.front(), address);
}

std::unique_ptr<SharedGroup> MpiWorld::make_shared_group(int number, GroupInfo info, int place) {
  std::byte* control = nullptr;
  if (info.members.size() > 1) control = shared_control(number, info.members);
  return std::make_unique<SharedGroup>(number, std::move(info), place, control, memory_,
                                       engine_.get());
}

std::unique_ptr<MpiGroup> MpiWorld::make_mpi_group(int number, GroupInfo info, int place) {
  const ProgressEngine::BlockingCall waiting(*engine_, setup_);
  OwnedComm comm = create_comm(comm_.get(), info.members, number);
  return std::make_unique<MpiGroup>(number, std::move(info), place, std::move(comm), memory_,
                                    engine_.get());
}

std::unique_ptr<Communicator> MpiWorld::make_spanning_group(int number, GroupInfo info, int place) {
  // Group ranks by island, islands in the order in which the group meets them.
  std::map<int, size_t> index;
  std::vector<std::vector<int>> order;
  for (size_t i = 0; i < info.members.size(); ++i) {
    const int island = topology_.island_of[static_cast<size_t>(info.members[i])];
    const auto [found, added] = index.emplace(island, order.size());
    if (added) order.emplace_back();
    order[found->second].push_back(static_cast<int>(i));
  }
  const size_t places = order[0].size();
  const bool even = std::all_of(order.begin(), order.end(),
                                [&](const auto& ranks) { return ranks.size() == places; });
  if (!even || places == 1) return make_mpi_group(number, std::move(info), place);

  const std::vector<int>& mine = order[index.at(topology_.island())];
  const auto column =
      static_cast<size_t>(std::find(mine.begin(), mine.end(), place) - mine.begin());
  GroupInfo inner{info.name + " (in host)", {}}, outer{info.name + " (between hosts)", {}};
  for (const int group_rank : mine)
    inner.members.push_back(info.members[static_cast<size_t>(group_rank)]);
  for (const auto& ranks : order)
    outer.members.push_back(info.members[static_cast<size_t>(ranks[column])]);
  HierarchicalGroup::Parts parts;
  const auto row = static_cast<int>(index.at(topology_.island()));
  parts.inner = make_shared_group(number + 1, std::move(inner), static_cast<int>(column));
  parts.outer = make_mpi_group(number + 2, std::move(outer), row);
  parts.flat = make_mpi_group(number + 3, info, place);
  parts.order = std::move(order);
  return std::make_unique<HierarchicalGroup>(number, std::move(info), place, std::move(parts),
                                             memory_, engine_.get());
}

std::unique_ptr<Communicator> MpiWorld::create_group(std::span<const int> ranks,
                                                     std::string_view name) {
  GroupInfo info{std::string(name), {ranks.begin(), ranks.end()}};
  const int number = next_group_;
  next_group_ += kNumbersPerGroup;
  const auto self = std::find(ranks.begin(), ranks.end(), rank());
  TESSERA_CHECK(self != ranks.end(), "rank ", rank(), " creates group '", name, "' of ranks ",
                join(info.members), " without being in it");
  const auto place = static_cast<int>(self - ranks.begin());
  const bool within = std::all_of(ranks.begin(), ranks.end(), [&](int member) {
    return topology_.island_of[static_cast<size_t>(member)] == topology_.island();
  });
  begin_setup(info);
  if (within) return make_shared_group(number, std::move(info), place);
  return make_spanning_group(number, std::move(info), place);
}

template <typename Post>
void MpiWorld::exchange(std::string_view what, Post&& post) {
  const uint64_t sequence = engine_->note_start(0, CollectiveMark::kControl, what);
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(post(&request), what);
  await_request(*engine_, &request, {0, CollectiveMark::kControl, sequence, what, true});
  engine_->note_finished(0, sequence);
}

void MpiWorld::barrier() {
  if (control_) return control_->barrier();
  exchange("barrier", [&](MPI_Request* request) { return MPI_Ibarrier(comm_.get(), request); });
}

int64_t MpiWorld::all_reduce_max(int64_t value) {
  if (control_) return control_->all_reduce_max(value);
  int64_t result = value;
  exchange("maximum", [&](MPI_Request* request) {
    return MPI_Iallreduce(&value, &result, 1, MPI_INT64_T, MPI_MAX, comm_.get(), request);
  });
  return result;
}

std::string MpiWorld::broadcast_text(const std::string& text, int root) {
  if (control_) return control_->broadcast_text(text, root);
  int64_t bytes = static_cast<int64_t>(text.size());
  exchange("text size", [&](MPI_Request* request) {
    return MPI_Ibcast(&bytes, 1, MPI_INT64_T, root, comm_.get(), request);
  });
  std::string result = rank() == root ? text : std::string(static_cast<size_t>(bytes), '\0');
  exchange("text", [&](MPI_Request* request) {
    return MPI_Ibcast(result.data(), static_cast<int>(bytes), MPI_BYTE, root, comm_.get(), request);
  });
  return result;
}

std::vector<std::string> MpiWorld::all_gather_text(const std::string& text) {
  if (control_) return control_->all_gather_text(text);
  const int mine = static_cast<int>(text.size());
  std::vector<int> sizes(static_cast<size_t>(size())), starts(static_cast<size_t>(size()));
  exchange("text sizes", [&](MPI_Request* request) {
    return MPI_Iallgather(&mine, 1, MPI_INT, sizes.data(), 1, MPI_INT, comm_.get(), request);
  });
  std::exclusive_scan(sizes.begin(), sizes.end(), starts.begin(), 0);
  std::string joined(static_cast<size_t>(starts.back() + sizes.back()), '\0');
  exchange("texts", [&](MPI_Request* request) {
    return MPI_Iallgatherv(text.data(), mine, MPI_BYTE, joined.data(), sizes.data(), starts.data(),
                           MPI_BYTE, comm_.get(), request);
  });
  std::vector<std::string> texts;
  for (size_t i = 0; i < sizes.size(); ++i)
    texts.push_back(joined.substr(static_cast<size_t>(starts[i]), static_cast<size_t>(sizes[i])));
  return texts;
}

}  // namespace

std::unique_ptr<World> create_mpi_world(const MpiOptions& options) {
  if (!launched_by_mpi()) {
    check_launcher(1, true);
    return create_single_world();
  }
  return std::make_unique<MpiWorld>(options);
}

void mpi_library_all_reduce(World& world, float* values, int64_t count) {
  const auto* mpi = dynamic_cast<const MpiWorld*>(&world);
  TESSERA_CHECK(mpi != nullptr, "this world is not of MPI");
  check_mpi(
      MPI_Allreduce(MPI_IN_PLACE, values, static_cast<int>(count), MPI_FLOAT, MPI_SUM, mpi->comm()),
      "MPI_Allreduce");
}

}  // namespace tessera

#include "core/runtime/delayed_network.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "core/base/error.h"
#include "core/base/steady_clock.h"
#include "core/runtime/shared_group.h"

namespace tessera {
namespace {

// As in the cost model of the scheduler.
double wire_bytes(const CollectiveCall& call, int ranks) {
  const auto bytes = [&](const Shape& shape) {
    return static_cast<double>(shape.elements()) * static_cast<double>(size_of(call.dtype));
  };
  const double larger = std::max(bytes(call.shape), bytes(output_shape(call, ranks)));
  if (call.kind == CollectiveKind::permute || call.kind == CollectiveKind::broadcast) return larger;
  const double share = (ranks - 1.0) / ranks;
  return (call.kind == CollectiveKind::all_reduce ? 2 : 1) * share * larger;
}

// More than can be in flight, so that a slot is read before it is used again.
constexpr size_t kSlots = size_t{4} * kCollectiveSlots;

}  // namespace

// When each collective is over on the slowest rank that has started it so far.
struct DelayedNetwork::Group {
  void start(uint64_t sequence, double over) {
    const std::lock_guard lock(mutex);
    Slot& slot = slots[sequence % kSlots];
    if (slot.sequence != sequence) slot = {sequence, over};
    slot.over = std::max(slot.over, over);
  }
  double over(uint64_t sequence) {
    const std::lock_guard lock(mutex);
    const Slot& slot = slots[sequence % kSlots];
    TESSERA_CHECK(slot.sequence == sequence, "a collective of the delayed network was forgotten");
    return slot.over;
  }

  struct Slot {
    uint64_t sequence = 0;
    double over = 0;
  };
  std::mutex mutex;
  std::array<Slot, kSlots> slots;
};

namespace {

// One rank's link and what it remembers.
struct Link {
  NetworkModel model;
  double free_at = 0;
  bool recording = false;
  std::vector<WaitRecord> waits;
};

class DelayedCommunicator final : public Communicator {
 public:
  DelayedCommunicator(std::unique_ptr<Communicator> inner,
                      std::shared_ptr<DelayedNetwork::Group> group, Link* link)
      : inner_(std::move(inner)), group_(std::move(group)), link_(link) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }

  Ticket start(const CollectiveCall& call) override {
    Flight& flight = flights_[++sequence_ % kSlots];
    flight = {sequence_, 0, now(), 0, call.kind, call.tensor};
    if (link_->model.polls > 0) {
      flight.over = flight.started + static_cast<double>(link_->model.polls);
    } else if (size() == 1) {
      flight.over = flight.started;
    } else {
      link_->free_at = std::max(link_->free_at, flight.started) + link_->model.latency_seconds +
                       wire_bytes(call, size()) / link_->model.bytes_per_second;
      flight.over = link_->free_at;
      // Before the peers can see that this rank has started.
      group_->start(sequence_, flight.over);
    }
    flight.inner = inner_->start(call);
    return static_cast<Ticket>(sequence_);
  }

  void wait(Ticket ticket) override {
    const auto sequence = static_cast<uint64_t>(ticket);
    const Flight& flight = flights_[sequence % kSlots];
    TESSERA_CHECK(flight.sequence == sequence, "waits for collective ", sequence,
                  ", which is long over");
    const double asked = now();
    inner_->wait(flight.inner);  // all ranks have started it
    double over = flight.over;
    if (link_->model.polls == 0 && size() > 1) {
      over = group_->over(sequence);
      // Peers may need this rank's share of other collectives meanwhile.
      for (double left = over - now(); left > 0; left = over - now()) {
        std::this_thread::sleep_for(std::chrono::duration<double>(std::min(left, 2e-4)));
        inner_->poll();
      }
    }
    if (!link_->recording) return;
    const double ended = link_->model.polls > 0 ? over : now();
    link_->waits.push_back({std::string(flight.tensor), name(), flight.kind, over <= asked,
                            asked - flight.started, std::max(0.0, ended - asked)});
  }

  void poll() override {
    ++polls_;
    inner_->poll();
  }

 private:
  struct Flight {
    uint64_t sequence = 0;
    Ticket inner = 0;
    double started = 0, over = 0;
    CollectiveKind kind = CollectiveKind::all_reduce;
    std::string_view tensor;
  };

  double now() const { return link_->model.polls > 0 ? static_cast<double>(polls_) : steady_seconds(); }

  std::unique_ptr<Communicator> inner_;
  std::shared_ptr<DelayedNetwork::Group> group_;
  Link* const link_;
  std::array<Flight, kSlots> flights_;
  uint64_t sequence_ = 0;
  int64_t polls_ = 0;
};

}  // namespace

class DelayedWorldImpl final : public DelayedWorld {
 public:
  DelayedWorldImpl(DelayedNetwork& network, World& inner) : network_(network), inner_(inner) {
    link_.model = network.model_;
  }

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  int local_rank() const override { return inner_.local_rank(); }
  int local_size() const override { return inner_.local_size(); }
  const std::string& host_name() const override { return inner_.host_name(); }
  bool shares_process() const override { return inner_.shares_process(); }
  std::byte* allocate_symmetric(int64_t bytes) override { return inner_.allocate_symmetric(bytes); }

  std::unique_ptr<Communicator> create_group(std::span<const int> ranks,
                                             std::string_view name) override {
    // The number tells groups of the same ranks apart; all ranks create theirs in one order.
    std::string key = cat(++groups_, ":");
    for (int rank : ranks) key += cat(" ", rank);
    return std::make_unique<DelayedCommunicator>(inner_.create_group(ranks, name),
                                                 network_.group(key), &link_);
  }

  void barrier() override { inner_.barrier(); }
  int64_t all_reduce_max(int64_t value) override { return inner_.all_reduce_max(value); }
  std::string broadcast_text(const std::string& text, int root) override {
    return inner_.broadcast_text(text, root);
  }
  std::vector<std::string> all_gather_text(const std::string& text) override {
    return inner_.all_gather_text(text);
  }
  void set_timeout(double seconds) override { inner_.set_timeout(seconds); }
  ProgressEngine* progress() override { return inner_.progress(); }
  void abort(std::string_view reason) noexcept override { inner_.abort(reason); }

  void record(bool on) override { link_.recording = on; }
  const std::vector<WaitRecord>& waits() const override { return link_.waits; }
  void clear() override { link_.waits.clear(); }

 private:
  DelayedNetwork& network_;
  World& inner_;
  Link link_;
  int groups_ = 0;
};

std::unique_ptr<DelayedWorld> DelayedNetwork::connect(World& inner) {
  return std::make_unique<DelayedWorldImpl>(*this, inner);
}

std::shared_ptr<DelayedNetwork::Group> DelayedNetwork::group(const std::string& key) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Group>& found = groups_[key];
  if (!found) found = std::make_shared<Group>();
  return found;
}

}  // namespace tessera

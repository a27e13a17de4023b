#include "core/compile/scheduler.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "core/compile/left_in_flight.h"
#include "core/compile/live_bytes.h"
#include "core/compile/range_max.h"
#include "core/compile/weight_gathers.h"

namespace tessera {
namespace {

class Scheduler {
 public:
  Scheduler(const StepGraph& steps, const Graph& graph, const CostModel& cost,
            const ScheduleOptions& options, const std::vector<RegionSchedules>& regions)
      : steps_(steps),
        graph_(graph),
        cost_(cost),
        options_(options),
        regions_(regions),
        live_(steps, inner_peaks(regions)),
        link_free_(cost.links.size(), 0) {
    const size_t count = steps.nodes.size();
    seconds_.resize(count);
    link_.resize(count, 0);
    missing_.resize(count, 0);
    after_.resize(count);
    state_.resize(count, State::waiting);
    finish_.resize(count, 0);
    exposed_.resize(count, 0);
    is_issued_.resize(count, false);
    live_at_.resize(count, 0);
    for (size_t n = 0; n < count; ++n) {
      measure(static_cast<int>(n));
      missing_[n] = static_cast<int>(steps.nodes[n].before.size());
      for (int before : steps.nodes[n].before) after_[at(before)].push_back(static_cast<int>(n));
    }
    for (size_t n = 0; n < count; ++n)
      if (missing_[n] == 0) make_ready(static_cast<int>(n));
  }

  // `live_in_order`: per node, the bytes that are live while it runs in program order; empty where
  // nothing is moved.
  Schedule run(int64_t cap, int64_t window, std::vector<WeightGather> gathers,
               const std::vector<int64_t>& live_in_order) {
    cap_ = cap;
    window_ = window;
    gathers_ = std::move(gathers);
    in_order_ = RangeMax(live_in_order);
    first_use_of_.assign(steps_.nodes.size(), -1);
    preparing_.assign(steps_.nodes.size(), false);
    for (size_t g = 0; g < gathers_.size(); ++g) {
      first_use_of_[at(gathers_[g].node)] = static_cast<int>(g);
      for (int step : gathers_[g].prepare) preparing_[at(step)] = true;
    }
    while (issued_ < steps_.nodes.size()) {
      if (options_.overlap) {
        start_ready();
        gather_weights();
      }
      advance();
    }
    while (!in_flight_.empty()) wait(in_flight_.front());
    return report();
  }

 private:
  // A kernel goes waiting -> ready -> done; a collective stays `started` in between.
  enum class State : uint8_t { waiting, ready, started, done };

  static size_t at(int index) { return static_cast<size_t>(index); }
  const StepNode& node(int n) const { return steps_.nodes[at(n)]; }
  bool is_collective(int n) const { return node(n).kind == StepNode::Kind::collective; }

  static std::vector<int64_t> inner_peaks(const std::vector<RegionSchedules>& regions) {
    std::vector<int64_t> peaks;
    for (const RegionSchedules& inner : regions) peaks.push_back(inner.peak_live_bytes);
    return peaks;
  }

  void measure(int n) {
    const StepNode& step = node(n);
    if (step.kind == StepNode::Kind::control) {
      seconds_[at(n)] = regions_[at(n)].seconds;
      return;
    }
    if (step.kind == StepNode::Kind::copy) {
      const double bytes = static_cast<double>(steps_.buffers[at(step.reads[0])].bytes);
      seconds_[at(n)] = 2 * bytes / cost_.memory_bytes_per_second + cost_.kernel_seconds;
      return;
    }
    const Instruction& instruction = graph_.instructions[at(step.instruction)];
    if (step.kind != StepNode::Kind::collective) {
      seconds_[at(n)] = kernel_seconds(cost_, graph_, instruction);
      return;
    }
    const CollectiveCost collective = collective_cost(cost_, graph_, instruction);
    seconds_[at(n)] = collective.seconds;
    link_[at(n)] = collective.link;
  }

  void make_ready(int n) {
    state_[at(n)] = State::ready;
    (is_collective(n) ? ready_collectives_ : ready_kernels_).insert(n);
  }
  void release_followers(int n) {
    ++issued_;
    for (int next : after_[at(n)])
      if (--missing_[at(next)] == 0) make_ready(next);
  }

  // Nothing that `n` needs is still on the wire.
  bool is_free(int n) const {
    for (int before : node(n).before)
      if (state_[at(before)] == State::started && finish_[at(before)] > now_) return false;
    return true;
  }
  // Node `n`, issued before its place, adds to all that program order has live until there.
  bool fits(int n) const {
    const int64_t peak = std::max(in_order_.over(place_, n), live_.now() - early_bytes_);
    return peak + early_bytes_ + live_.would_add(n) <= cap_;
  }
  void note_issue(int n) {
    is_issued_[at(n)] = true;
    if (n > place_) {
      early_.emplace(n, live_.would_add(n));
      early_bytes_ += live_.would_add(n);
    }
    while (at(place_) < is_issued_.size() && is_issued_[at(place_)]) ++place_;
    while (!early_.empty() && early_.begin()->first < place_) {
      early_bytes_ -= early_.begin()->second;
      early_.erase(early_.begin());
    }
  }

  void act(Action::Kind kind, int n, double time) {
    actions_.push_back({kind, n, -1, {}});
    times_.push_back(time);
  }
  void wait(int n) {
    if (finish_[at(n)] > now_) {
      exposed_[at(n)] += finish_[at(n)] - now_;
      now_ = finish_[at(n)];
    }
    state_[at(n)] = State::done;
    in_flight_.erase(std::find(in_flight_.begin(), in_flight_.end(), n));
    live_.end(n);
    act(Action::Kind::done, n, now_);
  }
  void wait_for_operands(int n) {
    for (int before : node(n).before)
      if (state_[at(before)] == State::started) wait(before);
  }

  void start(int n) {
    wait_for_operands(n);
    ready_collectives_.erase(n);
    state_[at(n)] = State::started;
    double& link = link_free_[at(link_[at(n)])];
    finish_[at(n)] = std::max(now_, link) + seconds_[at(n)];
    link = finish_[at(n)];
    note_issue(n);
    live_.begin(n);
    live_at_[at(n)] = live_.now();
    in_flight_.push_back(n);
    act(Action::Kind::start, n, now_);
    if (first_use_of_[at(n)] >= 0) gathered_unused_ += gathers_[at(first_use_of_[at(n)])].bytes;
    if (!options_.overlap) wait(n);
    release_followers(n);
  }

  void run_kernel(int n) {
    wait_for_operands(n);
    note_weight_use(n);
    ready_kernels_.erase(n);
    state_[at(n)] = State::done;
    note_issue(n);
    live_.begin(n);
    live_at_[at(n)] = live_.now();
    live_.end(n);
    now_ += seconds_[at(n)];
    if (node(n).kind == StepNode::Kind::control) {
      compute_ += regions_[at(n)].compute_seconds;
      exposed_inside_ += regions_[at(n)].exposed_seconds;
    } else {
      compute_ += seconds_[at(n)];
    }
    act(Action::Kind::run, n, now_ - seconds_[at(n)]);
    release_followers(n);
    if (options_.overlap) free_memory();
  }

  void note_weight_use(int n) {
    for (int before : node(n).before) {
      int& gather = first_use_of_[at(before)];
      if (gather < 0) continue;
      gathered_unused_ -= gathers_[at(gather)].bytes;
      gather = -1;
    }
  }

  // Waits for collectives that are over in simulated time once they hold back more than a window,
  // and for any that would free something while the cap is exceeded.
  void free_memory() {
    int64_t held = 0;
    for (int n : in_flight_) held += live_.would_free(n);
    for (size_t i = 0; i < in_flight_.size();) {
      const int n = in_flight_[i];
      const int64_t frees = live_.would_free(n);
      const bool over = held > window_ && finish_[at(n)] <= now_;
      if (frees > 0 && (over || live_.now() > cap_)) {
        held -= frees;
        wait(n);
      } else {
        ++i;
      }
    }
  }

  void start_ready() {
    const std::vector<int> ready(ready_collectives_.begin(), ready_collectives_.end());
    for (int n : ready)
      if (first_use_of_[at(n)] < 0 && is_free(n) && fits(n)) start(n);
  }

  void gather_weights() {
    for (; next_gather_ < gathers_.size(); ++next_gather_) {
      const WeightGather& gather = gathers_[next_gather_];
      if (state_[at(gather.node)] > State::ready) continue;
      if (gathered_unused_ > 0 && gathered_unused_ + gather.bytes > window_) return;
      if (!fits(gather.node)) return;
      for (int step : gather.prepare) {
        if (state_[at(step)] == State::done) continue;
        if (state_[at(step)] != State::ready) return;  // an overwrite edge holds it back
        run_kernel(step);
      }
      if (state_[at(gather.node)] != State::ready) return;
      start(gather.node);
    }
  }

  // Issues one step: what comes first in the program, or something free while that one waits.
  void advance() {
    const int none = std::numeric_limits<int>::max();
    const int kernel = ready_kernels_.empty() ? none : *ready_kernels_.begin();
    const int collective = ready_collectives_.empty() ? none : *ready_collectives_.begin();
    if (issued_ == steps_.nodes.size()) return;
    TESSERA_CHECK(kernel != none || collective != none,
                  "the steps wait for each other in a circle");
    if (collective < kernel) {
      // A hop of a ring that would wait for the hop before it lets kernels run meanwhile.
      const int other = options_.overlap && !is_free(collective) ? find_free_after(collective) : -1;
      if (other >= 0)
        run_kernel(other);
      else
        start(collective);
      return;
    }
    if (options_.overlap && !is_free(kernel)) {
      const int other = find_free_after(kernel);
      if (other >= 0) {
        run_kernel(other);
        return;
      }
    }
    run_kernel(kernel);
  }

  int find_free_after(int kernel) const {
    for (auto it = ready_kernels_.upper_bound(kernel); it != ready_kernels_.end(); ++it) {
      if (*it > kernel + options_.lookahead) break;
      if (!preparing_[at(*it)] && is_free(*it) && fits(*it)) return *it;
    }
    return -1;
  }

  Schedule report() {
    Schedule schedule;
    schedule.actions = std::move(actions_);
    schedule.times = std::move(times_);
    schedule.peak_live_bytes = live_.peak();
    schedule.live_bytes = std::move(live_at_);
    schedule.report.step_seconds = now_;
    schedule.report.compute_seconds = compute_;
    schedule.report.exposed_communication_seconds = exposed_inside_;
    for (size_t n = 0; n < steps_.nodes.size(); ++n) {
      if (!is_collective(static_cast<int>(n))) continue;
      schedule.report.exposed_communication_seconds += exposed_[n];
      schedule.report.collectives.push_back(
          {steps_.nodes[n].instruction, seconds_[n], exposed_[n], 0, 1});
    }
    return schedule;
  }

  const StepGraph& steps_;
  const Graph& graph_;
  const CostModel& cost_;
  const ScheduleOptions& options_;
  const std::vector<RegionSchedules>& regions_;
  LiveBytes live_;
  int64_t cap_ = 0, window_ = 0;
  std::vector<WeightGather> gathers_;
  size_t next_gather_ = 0;
  std::vector<int> first_use_of_;  // node -> gather number until the first use, then -1
  std::vector<bool> preparing_;    // node -> prepares a weight gather
  int64_t gathered_unused_ = 0;

  std::vector<double> seconds_;
  std::vector<int> link_;
  std::vector<int> missing_;  // operands not yet issued
  std::vector<std::vector<int>> after_;
  std::vector<State> state_;
  std::vector<double> finish_, exposed_;  // of collectives
  std::set<int> ready_kernels_, ready_collectives_;
  std::vector<int> in_flight_;  // in start order
  std::vector<double> link_free_;
  double now_ = 0, compute_ = 0, exposed_inside_ = 0;
  size_t issued_ = 0;
  std::vector<Action> actions_;
  std::vector<double> times_;  // action -> its begin

  RangeMax in_order_;
  std::vector<int64_t> live_at_;  // node -> bytes live while it runs
  std::vector<bool> is_issued_;
  int place_ = 0;                 // the first node in the program that is not issued
  std::map<int, int64_t> early_;  // nodes issued before their place, and the bytes they added
  int64_t early_bytes_ = 0;
};

// The regions of a loop or branch, each alone.
RegionSchedules schedule_regions(const ControlSteps& control, const CostModel& cost,
                                 const ScheduleOptions& options) {
  RegionSchedules made;
  for (const ControlSteps::Region& region : control.regions) {
    made.schedules.push_back(schedule_steps(region.steps, *region.graph, cost, options));
    made.peak_live_bytes = std::max(made.peak_live_bytes, made.schedules.back().peak_live_bytes);
  }
  auto add = [&](const Schedule& schedule, double times) {
    made.seconds += times * schedule.report.step_seconds;
    made.compute_seconds += times * schedule.report.compute_seconds;
    made.exposed_seconds += times * schedule.report.exposed_communication_seconds;
  };
  if (!control.is_loop) {
    for (size_t a = 1; a < made.schedules.size(); ++a)
      if (made.schedules[a].report.step_seconds >
          made.schedules[static_cast<size_t>(made.slowest)].report.step_seconds)
        made.slowest = static_cast<int>(a);
    add(made.schedules[static_cast<size_t>(made.slowest)], 1);
    return made;
  }
  if (options.overlap) made.seconds = made.exposed_seconds = leave_in_flight(made.schedules[0], control);
  made.turns = control.trip_count < 0 ? cost.unknown_turns : static_cast<double>(control.trip_count);
  add(made.schedules[0], made.turns);
  if (control.trip_count < 0) add(made.schedules[1], made.turns + 1);
  return made;
}

// Per node; empty where there are none.
std::vector<RegionSchedules> schedule_all_regions(const StepGraph& steps, const CostModel& cost,
                                                  const ScheduleOptions& options) {
  std::vector<RegionSchedules> regions;
  for (size_t n = 0; n < steps.nodes.size(); ++n) {
    if (!steps.nodes[n].control) continue;
    regions.resize(steps.nodes.size());
    regions[n] = schedule_regions(*steps.nodes[n].control, cost, options);
  }
  return regions;
}

Schedule schedule_own(const StepGraph& steps, const Graph& graph, const CostModel& cost,
                      const ScheduleOptions& options, const std::vector<RegionSchedules>& regions) {
  constexpr int64_t kNoCap = std::numeric_limits<int64_t>::max() / 4;
  ScheduleOptions in_order = options;
  in_order.overlap = false;
  Schedule program = Scheduler(steps, graph, cost, in_order, regions).run(kNoCap, 0, {}, {});
  if (!options.overlap || steps.communicators.empty()) return program;
  std::vector<WeightGather> gathers = find_weight_gathers(steps, graph);
  int64_t window = options.window_bytes;
  if (window == 0) window = largest_block_bytes(gathers, steps, graph);
  // Without weight gathers the window only bounds what reductions hold back.
  if (window == 0) window = std::max(int64_t{1} << 20, program.peak_live_bytes / 16);
  const int64_t cap =
      options.memory_cap_bytes > 0 ? options.memory_cap_bytes : program.peak_live_bytes + window;
  Schedule overlapped = Scheduler(steps, graph, cost, options, regions)
                            .run(cap, window, std::move(gathers), program.live_bytes);
  // A heuristic may lose on a small graph; program order is then the better plan.
  return overlapped.report.step_seconds <= program.report.step_seconds ? overlapped : program;
}

}  // namespace

Schedule schedule_steps(const StepGraph& steps, const Graph& graph, const CostModel& cost,
                        const ScheduleOptions& options) {
  std::vector<RegionSchedules> regions = schedule_all_regions(steps, cost, options);
  Schedule schedule = schedule_own(steps, graph, cost, options, regions);
  schedule.regions = std::move(regions);
  return schedule;
}

}  // namespace tessera

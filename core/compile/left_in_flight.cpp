#include "core/compile/left_in_flight.h"

#include <algorithm>

namespace tessera {
namespace {

class Leaver {
 public:
  Leaver(Schedule& body, const ControlSteps& loop)
      : body_(body), loop_(loop), steps_(loop.regions[0].steps) {}

  double run() {
    double last_turn = 0;
    std::vector<int> waits;  // nothing happens behind them
    while (!body_.actions.empty() && body_.actions.back().kind == Action::Kind::done) {
      waits.push_back(body_.actions.back().node);
      body_.actions.pop_back();
    }
    body_.times.resize(body_.actions.size());
    for (size_t w = waits.size(); w-- > 0;) {
      const size_t before = first_touch(waits[w]);
      if (before > 0 && is_carried(waits[w])) {
        body_.left.push_back({waits[w], before});
        last_turn += hide(waits[w], body_.times[before]);
      } else {
        body_.actions.push_back({Action::Kind::done, waits[w], -1, {}});
      }
    }
    return last_turn;
  }

 private:
  const StepNode& node(int n) const { return steps_.nodes[static_cast<size_t>(n)]; }
  int result_of(int n) const { return steps_.root(node(n).writes[0]); }
  int operand_of(int n) const { return steps_.root(node(n).reads[0]); }

  // The result lies in a value that the loop carries, is that value of the next turn and no other, and
  // the condition does not look at it.
  bool is_carried(int n) const {
    const int result = result_of(n);
    const int input = steps_.buffers[static_cast<size_t>(result)].input;
    if (input < 0) return false;
    for (size_t o = 0; o < steps_.output_buffers.size(); ++o)
      if ((steps_.root(steps_.output_buffers[o]) == result) != (static_cast<int>(o) == input))
        return false;
    if (loop_.regions.size() < 2) return true;
    const StepGraph& condition = loop_.regions[1].steps;
    const int tested = condition.input_buffers[static_cast<size_t>(input)];
    auto looks = [&](int buffer) { return condition.root(buffer) == tested; };
    for (const StepNode& each : condition.nodes)
      if (std::any_of(each.reads.begin(), each.reads.end(), looks)) return false;
    return !looks(condition.output_buffers[0]);
  }

  // The first action that needs the result, or writes over what the collective reads; its own start at
  // the latest.
  size_t first_touch(int n) const {
    const int result = result_of(n), operand = operand_of(n);
    for (size_t a = 0; a < body_.actions.size(); ++a) {
      const Action& action = body_.actions[a];
      if (action.kind == Action::Kind::done) continue;
      if (action.node == n) return a;
      for (int read : node(action.node).reads)
        if (steps_.root(read) == result) return a;
      for (int written : node(action.node).writes)
        if (steps_.root(written) == result || steps_.root(written) == operand) return a;
    }
    return 0;
  }

  // `time`: of the next turn, that runs beside it. Returns what is hidden.
  double hide(int n, double time) {
    for (ScheduleReport::Exposed& entry : body_.report.collectives) {
      if (entry.instruction != node(n).instruction) continue;
      const double hidden = std::min(entry.exposed_seconds, time);
      entry.exposed_seconds -= hidden;
      body_.report.exposed_communication_seconds -= hidden;
      body_.report.step_seconds -= hidden;
      return hidden;
    }
    return 0;
  }

  Schedule& body_;
  const ControlSteps& loop_;
  const StepGraph& steps_;
};

}  // namespace

double leave_in_flight(Schedule& body, const ControlSteps& loop) { return Leaver(body, loop).run(); }

}  // namespace tessera

#include "core/compile/plan_checker.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "core/base/error.h"

namespace tessera {
namespace {

// Which buffer was last written where, of one arena (or of one persistent input).
class Stamps {
 public:
  void write(int64_t begin, int64_t end, int buffer) {
    if (begin == end) return;
    split(begin);
    split(end);
    pieces_.erase(pieces_.lower_bound(begin), pieces_.lower_bound(end));
    pieces_[begin] = {end, buffer};
  }
  // Calls `visit(begin, end, buffer)` over [begin, end); -1 where nothing was written.
  template <typename Visit>
  void read(int64_t begin, int64_t end, Visit&& visit) const {
    auto it = pieces_.upper_bound(begin);
    if (it != pieces_.begin() && std::prev(it)->second.end > begin) --it;
    int64_t at = begin;
    for (; at < end; ++it) {
      if (it == pieces_.end() || it->first >= end) return visit(at, end, -1);
      if (it->first > at) visit(at, it->first, -1);
      const int64_t stop = std::min(end, it->second.end);
      visit(std::max(at, it->first), stop, it->second.buffer);
      at = stop;
    }
  }

 private:
  struct Piece {
    int64_t end;
    int buffer;
  };
  void split(int64_t at) {
    auto it = pieces_.lower_bound(at);
    if (it == pieces_.begin()) return;
    Piece& piece = std::prev(it)->second;
    if (piece.end <= at) return;
    const Piece rest{piece.end, piece.buffer};
    piece.end = at;
    pieces_[at] = rest;
  }
  std::map<int64_t, Piece> pieces_;
};

class PlanChecker {
 public:
  explicit PlanChecker(const Executable& executable) : executable_(executable) {}

  void run() {
    for (int input : executable_.input_buffers) write(input);
    for (const Executable::Constant& constant : executable_.constants) {
      const Instruction& made = executable_.instruction_of(constant.region, constant.instruction);
      for (size_t r = 0; r < made.results.size(); ++r)
        write(constant.buffer + static_cast<int>(r));
    }
    replay_steps(0, executable_.steps.size());
    check(in_flight_.empty(), "a collective is never waited for");
    for (int output : executable_.output_buffers) read(output);
  }

 private:
  struct Flight {
    size_t step;
    int input, output;
  };

  const BufferPlan& plan(int buffer) const {
    return executable_.buffers[static_cast<size_t>(buffer)];
  }

  template <typename... Parts>
  void check(bool condition, const Parts&... parts) const {
    TESSERA_CHECK(condition, "step ", step_, " of graph \"", executable_.graph.name,
                  "\": ", parts...);
  }

  void replay_steps(size_t begin, size_t end) {
    for (step_ = begin; step_ < end; ++step_) {
      const size_t here = step_;
      const Step& step = executable_.steps[here];
      if (const auto* loop = std::get_if<LoopBegin>(&step)) {
        replay_loop(*loop, here);
        step_ = static_cast<size_t>(loop->end_step);
      } else if (const auto* branch = std::get_if<BranchBegin>(&step)) {
        replay_branch(*branch);
        step_ = static_cast<size_t>(branch->end_step);
      } else {
        std::visit([&](const auto& simple) { replay(simple); }, step);
      }
    }
  }

  void begin_control(const std::vector<HandedOn>& carried) {
    for (const HandedOn& pair : carried) {
      read(pair.from);
      check(plan(pair.from).bytes == plan(pair.to).bytes || plan(pair.from).type.elements() == 1,
            plan(pair.from).tensor, " does not fill ", plan(pair.to).tensor);
    }
    for (const HandedOn& pair : carried)
      if (!holds_same(pair.from, pair.to)) write(pair.to);
  }

  // What a region made is from here on the result of the loop or branch.
  // `left`: collectives that need not be over.
  void end_region(const std::vector<HandedOn>& outputs, size_t flights,
                  const std::vector<int>& left = {}) {
    for (size_t f = flights; f < in_flight_.size(); ++f)
      check(std::count(left.begin(), left.end(), static_cast<int>(in_flight_[f].step)) > 0,
            "a region ends before its collectives");
    auto is_left = [&](int buffer) {
      return std::any_of(in_flight_.begin() + static_cast<std::ptrdiff_t>(flights), in_flight_.end(),
                         [&](const Flight& flight) { return overlap(flight.output, buffer); });
    };
    for (const HandedOn& pair : outputs) {
      if (!is_left(pair.from)) read(pair.from);
      check(space(pair.from) == space(pair.to) && plan(pair.from).offset == plan(pair.to).offset,
            plan(pair.from).tensor, " is not where ", plan(pair.to).tensor, " must be");
    }
    for (const HandedOn& pair : outputs)
      if (!holds_same(pair.from, pair.to)) stamp(pair.to);  // the bytes stay as they are
  }

  void replay_loop(const LoopBegin& loop, size_t begin) {
    begin_control(loop.carried);
    const size_t flights = in_flight_.size(), end = static_cast<size_t>(loop.end_step);
    const auto& last = std::get<LoopEnd>(executable_.steps[end]);
    left_.insert(last.in_flight.begin(), last.in_flight.end());
    const int64_t turns = loop.trip_count < 0 ? 2 : std::min<int64_t>(2, loop.trip_count);
    for (int64_t turn = 0; turn < turns; ++turn) {
      replay_steps(begin + 1, end);
      step_ = end;
      end_region(last.carried, flights, last.in_flight);
    }
    if (loop.trip_count >= 0) return;
    size_t test = begin + 1;
    while (!std::holds_alternative<LoopTest>(executable_.steps[test]) ||
           std::get<LoopTest>(executable_.steps[test]).begin_step != static_cast<int>(begin))
      ++test;
    replay_steps(begin + 1, test + 1);
  }

  void replay_branch(const BranchBegin& branch) {
    if (branch.index >= 0) read(branch.index);
    begin_control(branch.carried);
    const auto before = stamps_;
    const size_t flights = in_flight_.size();
    std::vector<int> log;
    std::vector<int>* const outer = std::exchange(log_, &log);
    const std::vector<HandedOn>* results = nullptr;
    for (size_t a = 0; a < branch.arm_steps.size(); ++a) {
      stamps_ = before;
      const size_t next = a + 1 < branch.arm_steps.size()
                              ? static_cast<size_t>(branch.arm_steps[a + 1]) - 1
                              : static_cast<size_t>(branch.end_step);
      replay_steps(static_cast<size_t>(branch.arm_steps[a]), next);
      step_ = next;
      results = &std::get<ArmEnd>(executable_.steps[next]).results;
      end_region(*results, flights);
    }
    log_ = outer;
    stamps_ = before;
    for (int written : log) stamp(written);
    for (const HandedOn& pair : *results)
      if (!holds_same(pair.from, pair.to)) write(pair.to);
  }

  void replay(const LoopTest& step) { read(step.predicate); }
  void replay(const LoopBegin&) {}
  void replay(const LoopEnd&) {}
  void replay(const BranchBegin&) {}
  void replay(const ArmEnd&) {}

  void replay(const KernelStep& step) {
    for (int operand : step.operands) read(operand);
    if (step.workspace >= 0) write(step.workspace);
    for (int result : step.results) write(result);
    for (int result : step.results) check_disjoint(step, result);
  }
  void replay(const RankDataStep& step) {
    if (step.input >= 0) read(step.input);
    write(step.result);
  }
  void replay(const CopyStep& step) {
    read(step.from);
    write(step.to);
  }
  void replay(const CollectiveStart& step) {
    read(step.input);
    write(step.output);
    in_flight_.push_back({step_, step.input, step.output});
  }
  void replay(const CollectiveDone& step) {
    const auto at = std::find_if(in_flight_.begin(), in_flight_.end(), [&](const Flight& flight) {
      return flight.step == static_cast<size_t>(step.start_step);
    });
    if (at == in_flight_.end() && left_.contains(step.start_step)) return;  // no turn before
    check(at != in_flight_.end(), "waits for a collective that is not in flight");
    in_flight_.erase(at);
  }

  // Results and workspace of one kernel all exist at the same time.
  void check_disjoint(const KernelStep& step, int result) const {
    for (int other : step.results)
      check(other == result || !overlap(other, result), plan(result).tensor, " and ",
            plan(other).tensor, " are results of one kernel in the same place");
    if (step.workspace < 0) return;
    check(!overlap(step.workspace, result), plan(result).tensor, " lies in its kernel's workspace");
    for (int operand : step.operands)
      check(!overlap(step.workspace, operand), plan(operand).tensor,
            " lies in the workspace of the kernel that reads it");
  }

  bool overlap(int a, int b) const {
    if (space(a) != space(b)) return false;
    return plan(a).offset < plan(b).offset + plan(b).bytes &&
           plan(b).offset < plan(a).offset + plan(a).bytes;
  }

  std::pair<Arena, int> space(int buffer) const {
    const BufferPlan& of = plan(buffer);
    return {of.arena, of.arena == Arena::persistent ? of.input : -1};
  }

  void write(int buffer) {
    check(plan(buffer).offset >= 0, plan(buffer).tensor, " has no address");
    for (const Flight& flight : in_flight_)
      check(!overlap(flight.input, buffer) && !overlap(flight.output, buffer), plan(buffer).tensor,
            " is written over an operand of a collective in flight, ", plan(flight.input).tensor);
    stamp(buffer);
  }

  // Arms log what they write, so that it can be written over the state of the others.
  void stamp(int buffer) {
    stamps_[space(buffer)].write(plan(buffer).offset, plan(buffer).offset + plan(buffer).bytes,
                                 buffer);
    if (log_) log_->push_back(buffer);
  }

  void read(int buffer) {
    check(plan(buffer).offset >= 0, plan(buffer).tensor, " has no address");
    for (const Flight& flight : in_flight_)
      check(!overlap(flight.output, buffer), plan(buffer).tensor,
            " is read while a collective still writes there, ", plan(flight.output).tensor);
    stamps_[space(buffer)].read(
        plan(buffer).offset, plan(buffer).offset + plan(buffer).bytes,
        [&](int64_t begin, int64_t end, int found) {
          check(found >= 0, plan(buffer).tensor, " is read before it is written, bytes ", begin,
                " to ", end);
          check(holds_same(found, buffer), plan(buffer).tensor, " was overwritten by ",
                plan(found).tensor, " before it was read");
        });
  }

  // Up from both through aliases that share data: they meet where they hold the same data.
  bool holds_same(int found, int wanted) const { return data_root(found) == data_root(wanted); }
  int data_root(int buffer) const {
    while (plan(buffer).alias == AliasKind::view || plan(buffer).alias == AliasKind::member)
      buffer = plan(buffer).alias_of;
    return buffer;
  }

  const Executable& executable_;
  std::map<std::pair<Arena, int>, Stamps> stamps_;
  std::vector<Flight> in_flight_;
  std::set<int> left_;  // starts of collectives that go across turns
  std::vector<int>* log_ = nullptr;
  size_t step_ = 0;
};

}  // namespace

void check_plan(const Executable& executable) { PlanChecker(executable).run(); }

}  // namespace tessera

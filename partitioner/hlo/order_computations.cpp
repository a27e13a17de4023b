#include <algorithm>
#include <unordered_map>

#include "core/base/error.h"
#include "partitioner/hlo/attributes.h"
#include "partitioner/hlo/check_module.h"

namespace tessera::hlo {
namespace {

using Calls = std::vector<std::vector<int>>;  // by computation

Calls find_calls(const HloModule& module) {
  std::unordered_map<std::string_view, int> index;
  for (const HloComputation& computation : module.computations) {
    const auto [known, is_new] = index.emplace(computation.name, static_cast<int>(index.size()));
    if (!is_new)
      throw_user_error("line ", computation.line, ": the computation ", computation.name,
                       " stands already on line ",
                       module.computations[static_cast<size_t>(known->second)].line);
  }
  Calls calls(module.computations.size());
  for (size_t i = 0; i < calls.size(); ++i)
    for (const HloInstruction& instruction : module.computations[i].instructions)
      for (const std::string& name : called_computations(instruction)) {
        const auto callee = index.find(name);
        if (callee == index.end())
          throw_user_error(where(instruction), ": the module has no computation ", name);
        calls[i].push_back(callee->second);
      }
  return calls;
}

// Depth first without recursion: a chain of calls may be as long as the text.
class CallOrder {
 public:
  CallOrder(const HloModule& module, const Calls& calls)
      : module_(module), calls_(calls), state_(calls.size()), depth_(calls.size(), 1) {}

  void visit(int start) {
    if (state_[start] == State::done) return;
    open(start);
    while (!path_.empty()) {
      Frame& frame = path_.back();
      if (frame.next == calls_[frame.computation].size()) {
        close();
        continue;
      }
      const int callee = calls_[frame.computation][frame.next++];
      if (state_[callee] == State::open) refuse_cycle(callee);
      if (state_[callee] == State::done)
        deepen(frame.computation, callee);
      else
        open(callee);
    }
  }

  const std::vector<int>& order() const { return order_; }

 private:
  enum class State : uint8_t { fresh, open, done };
  struct Frame {
    int computation;
    size_t next = 0;
  };

  void open(int computation) {
    state_[computation] = State::open;
    path_.push_back({computation});
  }

  void close() {
    const int computation = path_.back().computation;
    path_.pop_back();
    state_[computation] = State::done;
    order_.push_back(computation);
    if (!path_.empty()) deepen(path_.back().computation, computation);
  }

  void deepen(int caller, int callee) {
    depth_[caller] = std::max(depth_[caller], depth_[callee] + 1);
    if (depth_[caller] > kMaxCallDepth)
      throw_user_error("line ", module_.computations[caller].line, ": calls nest deeper than ",
                       kMaxCallDepth, " below ", module_.computations[caller].name);
  }

  [[noreturn]] void refuse_cycle(int computation) const {
    const auto first = std::find_if(path_.begin(), path_.end(), [&](const Frame& frame) {
      return frame.computation == computation;
    });
    std::string names;
    for (auto frame = first; frame != path_.end() && names.size() < 200; ++frame)
      names += module_.computations[frame->computation].name + " -> ";
    throw_user_error("line ", module_.computations[computation].line,
                     ": computations call each other in a cycle: ", names,
                     module_.computations[computation].name);
  }

  const HloModule& module_;
  const Calls& calls_;
  std::vector<State> state_;
  std::vector<int> depth_;  // of the calls below
  std::vector<Frame> path_;
  std::vector<int> order_;
};

}  // namespace

std::vector<std::string> called_computations(const HloInstruction& instruction) {
  std::vector<std::string> result;
  for (const HloAttribute& attribute : instruction.attributes) {
    if (!attribute_facts(attribute.name).names_computations) continue;
    if (const auto* name = std::get_if<Name>(&attribute.value)) result.push_back(name->text);
    if (const auto* names = std::get_if<Names>(&attribute.value))
      result.insert(result.end(), names->list.begin(), names->list.end());
  }
  return result;
}

void order_computations(HloModule& module) {
  const Calls calls = find_calls(module);
  CallOrder order(module, calls);
  for (int i = 0; i < static_cast<int>(calls.size()); ++i)
    if (i != module.entry) order.visit(i);
  order.visit(module.entry);
  std::vector<HloComputation> sorted;
  sorted.reserve(calls.size());
  int entry = -1;
  for (const int from : order.order()) {
    if (from == module.entry) entry = static_cast<int>(sorted.size());
    sorted.push_back(std::move(module.computations[static_cast<size_t>(from)]));
  }
  module.computations = std::move(sorted);
  module.entry = entry;
}

}  // namespace tessera::hlo

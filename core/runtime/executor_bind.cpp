// Binds every step of an executable to addresses and communicators, once, so that run() only runs.
#include <algorithm>

#include "core/ops/sharding.h"
#include "core/runtime/bound_step.h"
#include "core/runtime/rank_data.h"

namespace tessera {

void Executor::bind_call(Bound& bound, const CollectiveStart& step) {
  const Instruction& instruction = executable_.instruction_of(step.region, step.instruction);
  const Attributes& attributes = instruction.attributes;
  bound.communicator = communicators_[static_cast<size_t>(step.communicator)].get();
  CollectiveCall& call = bound.call;
  call.kind = step.kind;
  call.input = bound.operands[0].data;
  call.output = bound.results[0].data;
  call.dtype = bound.operands[0].type.dtype;
  call.shape = bound.operands[0].type.shape;
  call.tensor = executable_.buffers[static_cast<size_t>(step.output)].tensor;
  call.stream = backend_.stream();
  if (attributes.has(Attr::reduce_kind))
    call.reduce = attributes.get<ReduceKind>(Attr::reduce_kind);
  switch (step.kind) {
    case CollectiveKind::all_gather:
      call.concat_dim = static_cast<int>(attributes.integer(Attr::dimension));
      break;
    case CollectiveKind::reduce_scatter:
      call.split_dim = static_cast<int>(attributes.integer(Attr::dimension));
      break;
    case CollectiveKind::all_to_all:
      call.split_dim = static_cast<int>(attributes.integer(Attr::split_dimension));
      call.concat_dim = static_cast<int>(attributes.integer(Attr::concat_dimension));
      break;
    case CollectiveKind::permute: {
      if (instruction.is(ops::kShift)) {
        const auto size = static_cast<int64_t>(bound.communicator->size());
        const int64_t shift = attributes.integer(Attr::shift);
        auto neighbour = [&](int64_t rank) {
          if (attributes.flag(Attr::wrap)) return static_cast<int>((rank + size) % size);
          return rank < 0 || rank >= size ? -1 : static_cast<int>(rank);
        };
        call.send_to = neighbour(bound.communicator->rank() + shift);
        call.receive_from = neighbour(bound.communicator->rank() - shift);
        break;
      }
      const PermuteRoute route =
          permute_route(*executable_.graph.mesh,
                        executable_.communicators[static_cast<size_t>(step.communicator)],
                        attributes, device_);
      call.send_to = route.send_to;
      call.receive_from = route.receive_from;
      break;
    }
    case CollectiveKind::all_reduce:
    case CollectiveKind::broadcast:
      break;
  }
}

void Executor::bind_step(Bound& bound, const Step& step) {
  auto view = [&](int buffer) { return views_[static_cast<size_t>(buffer)]; };
  if (const auto* kernel = std::get_if<KernelStep>(&step)) {
    bound.region = kernel->region;
    bound.instruction = kernel->instruction;
    bound.kernel = kernel->kernel;
    for (int operand : kernel->operands) bound.operands.push_back(view(operand));
    for (int result : kernel->results) bound.results.push_back(view(result));
    if (kernel->workspace >= 0) bound.workspace = view(kernel->workspace).as<std::byte>();
  } else if (const auto* start = std::get_if<CollectiveStart>(&step)) {
    bound.kind = Bound::Kind::start;
    bound.region = start->region;
    bound.instruction = start->instruction;
    bound.operands = {view(start->input)};
    bound.results = {view(start->output)};
    bind_call(bound, *start);
  } else if (const auto* done = std::get_if<CollectiveDone>(&step)) {
    bound.kind = Bound::Kind::done;
    bound.started = &bound_[static_cast<size_t>(done->start_step)];
    bound.region = bound.started->region;
    bound.instruction = bound.started->instruction;
    bound.communicator = bound.started->communicator;
    bound.results = bound.started->results;
  } else if (const auto* data = std::get_if<RankDataStep>(&step)) {
    bound.kind = Bound::Kind::rank_data;
    bound.region = data->region;
    bound.instruction = data->instruction;
    if (data->input >= 0) bound.operands = {view(data->input)};
    bound.results = {view(data->result)};
    const Instruction& instruction = executable_.instruction_of(data->region, data->instruction);
    if (executable_.graph.mesh)
      bound.coordinate = executable_.graph.mesh->coordinate(
          device_, instruction.attributes.get<AxisList>(Attr::axes));
  } else if (const auto* copy = std::get_if<CopyStep>(&step)) {
    bound.kind = Bound::Kind::copy;
    bound.operands = {view(copy->from)};
    bound.results = {view(copy->to)};
  } else {
    bind_control(bound, step);
  }
}

void Executor::bind_control(Bound& bound, const Step& step) {
  auto view = [&](int buffer) { return views_[static_cast<size_t>(buffer)]; };
  auto begin = [&](const auto& control) {
    bound.region = control.region;
    bound.instruction = control.instruction;
    bound.end_step = static_cast<size_t>(control.end_step);
    for (const HandedOn& pair : control.carried) {
      bound.operands.push_back(view(pair.from));
      bound.results.push_back(view(pair.to));
    }
    if (!control.communicates || !options_.check_uniform) return;
    std::vector<bool> used(communicators_.size(), false);
    for (size_t s = bound.begin_step; s < bound.end_step; ++s)
      if (const auto* start = std::get_if<CollectiveStart>(&executable_.steps[s]))
        used[static_cast<size_t>(start->communicator)] = true;
    for (size_t c = 0; c < used.size(); ++c)
      if (used[c]) bound.inside.push_back(communicators_[c].get());
  };
  auto end = [&](Bound::Kind kind, int begin_step, const std::vector<HandedOn>& outputs) {
    bound.kind = kind;
    bound.started = &bound_[static_cast<size_t>(begin_step)];
    bound.region = bound.started->region;
    bound.instruction = bound.started->instruction;
    for (const HandedOn& pair : outputs) bound.results.push_back(view(pair.to));
  };
  if (const auto* loop = std::get_if<LoopBegin>(&step)) {
    bound.kind = Bound::Kind::loop_begin;
    bound.trip_count = loop->trip_count;
    begin(*loop);
  } else if (const auto* branch = std::get_if<BranchBegin>(&step)) {
    bound.kind = Bound::Kind::branch_begin;
    bound.arm_steps = branch->arm_steps;
    if (branch->index >= 0) bound.condition = view(branch->index).as<std::byte>();
    begin(*branch);
  } else if (const auto* test = std::get_if<LoopTest>(&step)) {
    end(Bound::Kind::loop_test, test->begin_step, {});
    bound.condition = view(test->predicate).as<std::byte>();
  } else if (const auto* last = std::get_if<LoopEnd>(&step)) {
    end(Bound::Kind::loop_end, last->begin_step, last->carried);
  } else {
    const auto& arm = std::get<ArmEnd>(step);
    end(Bound::Kind::arm_end, arm.begin_step, arm.results);
  }
}

void Executor::prepare_kernels() {
  for (const Bound& bound : bound_)
    if (bound.kind == Bound::Kind::kernel && bound.kernel->prepare)
      bound.kernel->prepare({executable_.instruction_of(bound.region, bound.instruction),
                             bound.operands, bound.results, bound.workspace, backend_.stream()});
  backend_.finish_preparing();
}

bool Executor::needs_host(const Bound& bound) const {
  switch (bound.kind) {
    case Bound::Kind::kernel:
      return bound.kernel->needs_host;
    case Bound::Kind::start:
    case Bound::Kind::done:
      return bound.communicator->needs_host();
    case Bound::Kind::loop_test:
      return true;
    case Bound::Kind::branch_begin:
      return bound.condition != nullptr;
    default:
      return false;
  }
}

// The longest stretches of plain steps. One in which a collective is started and not waited for, or the
// other way round, is cut down to what comes before it.
void Executor::find_segments() {
  if (!options_.capture || options_.profile || options_.poison_freed || !backend_.can_capture()) return;
  segment_at_.assign(bound_.size(), -1);
  const auto is_plain = [&](const Bound& bound) {
    return bound.kind < Bound::Kind::loop_begin && !needs_host(bound);
  };
  std::vector<const Bound*> dones;
  for (const Bound& bound : bound_)
    if (bound.kind == Bound::Kind::done) dones.push_back(&bound);
  // A collective that is in flight from outside a recording is in no order with those inside. All ranks
  // need the same order in each communicator, so no other one of its communicator is recorded meanwhile.
  const auto meets_another = [&](const Bound& start, size_t begin) {
    const size_t here = start.begin_step;
    return std::any_of(dones.begin(), dones.end(), [&](const Bound* done) {
      const size_t from = done->started->begin_step, to = done->begin_step;
      if (done->communicator != start.communicator || (begin <= from && from <= here)) return false;
      return from < to ? from < here && here < to : from < here || here < to;  // across turns
    });
  };
  for (size_t begin = 0; begin < bound_.size(); ++begin) {
    size_t end = begin, balanced = begin;
    int64_t in_flight = 0;
    for (; end < bound_.size() && is_plain(bound_[end]); ++end) {
      const Bound& bound = bound_[end];
      if (bound.kind == Bound::Kind::start) {
        if (meets_another(bound, begin)) break;
        ++in_flight;
      }
      if (bound.kind == Bound::Kind::done) {
        if (bound.started->begin_step < begin || bound.started->begin_step > end) break;
        --in_flight;
      }
      if (in_flight == 0) balanced = end + 1;
    }
    if (balanced - begin < 2) continue;
    segment_at_[begin] = static_cast<int>(segments_.size());
    segments_.push_back({begin, balanced});
    begin = balanced - 1;
  }
}

void Executor::bind_steps() {
  bound_.resize(executable_.steps.size());
  // A done takes what its start has, which may stand behind it.
  for (const bool is_done : {false, true})
    for (size_t s = 0; s < bound_.size(); ++s) {
      bound_[s].begin_step = s;
      if (std::holds_alternative<CollectiveDone>(executable_.steps[s]) == is_done)
        bind_step(bound_[s], executable_.steps[s]);
    }
  for (Bound& bound : bound_) {
    std::string name = bound.kind == Bound::Kind::start  ? "start "
                       : bound.kind == Bound::Kind::done ? "wait "
                                                         : "";
    name += bound.instruction < 0
                ? "copy"
                : executable_.instruction_of(bound.region, bound.instruction).op->name;
    bound.profile_slot =
        profile_slots_.emplace(name, static_cast<int>(profile_slots_.size())).first->second;
  }
  seconds_.assign(profile_slots_.size(), 0);
  if (!options_.poison_freed) return;
  freed_after_.resize(bound_.size());
  for (size_t b = 0; b < executable_.buffers.size(); ++b) {
    const BufferPlan& plan = executable_.buffers[b];
    if (plan.alias_of >= 0 || plan.last_step < 0) continue;
    if (plan.last_step < static_cast<int>(bound_.size()))
      freed_after_[static_cast<size_t>(plan.last_step)].push_back(static_cast<int>(b));
  }
}

}  // namespace tessera

#include "core/runtime/executor.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/steady_clock.h"
#include "core/runtime/bound_step.h"
#include "core/runtime/named_range.h"
#include "core/runtime/rank_data.h"

namespace tessera {
Executor::Executor(const Executable& executable, Backend& backend, World* world, int64_t device,
                   BufferStore& store, ExecutorOptions options)
    : executable_(executable),
      backend_(backend),
      world_(world),
      device_(device),
      store_(store),
      options_(options) {
  const Executable* const own[] = {&executable_};
  store_.add_inputs(own);
  create_communicators();
  allocate_arenas();
  place_buffers();
  compute_constants();
  bind_steps();
  prepare_kernels();
  find_segments();
  name_ranges();
  if (options_.poison_freed) poison_all();
}

Executor::~Executor() {
  try {
    backend_.synchronize();  // what was submitted reads and writes the memory that goes
  } catch (const std::exception& error) {
    log_warning("warning: ", error.what());
  }
  for (const Segment& segment : segments_)
    if (segment.recording >= 0) backend_.drop(segment.recording);
  if (constants_) backend_.release(constants_);
  if (compared_) backend_.release(compared_);
}

void Executor::create_communicators() {
  if (executable_.communicators.empty()) return;
  const Mesh& mesh = *executable_.graph.mesh;
  TESSERA_CHECK(world_ != nullptr && world_->size() == mesh.devices(), "a program for ",
                mesh.devices(), " devices runs on ", world_ ? world_->size() : 1, " ranks");
  for (const AxisList& axes : executable_.communicators) {
    const std::vector<int64_t> devices = mesh.group(device_, axes);
    const std::vector<int> ranks(devices.begin(), devices.end());
    communicators_.push_back(world_->create_group(ranks, print_axes(mesh, axes)));
  }
}

void Executor::allocate_arenas() {
  const MemoryReport& memory = executable_.memory;
  if (options_.check_uniform) compared_ = backend_.allocate(3 * sizeof(int64_t));
  if (memory.constant_bytes > 0) constants_ = backend_.allocate(memory.constant_bytes);
  scratch_ = store_.lend(Arena::scratch, memory.scratch_bytes);
  symmetric_ = store_.lend(Arena::symmetric, memory.symmetric_bytes);
}

void Executor::place_buffers() {
  std::vector<std::byte*> inputs;
  for (size_t i = 0; i < executable_.input_buffers.size(); ++i)
    inputs.push_back(
        store_.get(input_name(executable_.graph, static_cast<int>(i))).as<std::byte>());
  for (const BufferPlan& plan : executable_.buffers) {
    std::byte* base = nullptr;
    switch (plan.arena) {
      case Arena::persistent:
        base = inputs[static_cast<size_t>(plan.input)];
        break;
      case Arena::symmetric:
        base = symmetric_;
        break;
      case Arena::scratch:
        base = scratch_;
        break;
      case Arena::constant:
        base = constants_;
        break;
    }
    views_.push_back({plan.type, plan.offset < 0 ? nullptr : base + plan.offset});
  }
}

void Executor::compute_constants() {
  for (const Executable::Constant& constant : executable_.constants) {
    const Instruction& instruction =
        executable_.instruction_of(constant.region, constant.instruction);
    std::vector<HostTensor> results;
    for (const ResultInfo& result : instruction.results) results.emplace_back(result.type);
    instruction.op->eval({{}, instruction.attributes}, {}, results);
    for (size_t r = 0; r < results.size(); ++r) {
      const TensorView& view = views_[static_cast<size_t>(constant.buffer) + r];
      backend_.copy_to_device(view.data, results[r].bytes().data(), view.type.bytes());
    }
  }
}

void Executor::run() {
  step_ = 0;
  try {
    if (options_.poison_freed) poison_all();
    const NamedRange range(*this, executable_.graph.name);
    if (timeline_)
      run_all_timed();
    else
      run_all();
  } catch (...) {
    for (Bound& bound : bound_) bound.in_flight = false;
    fail(step_);
  }
}

void Executor::run_all() {
  while (step_ < bound_.size()) {
    size_t next;
    const int segment = segment_at_.empty() || observer_ ? -1 : segment_at_[step_];
    if (segment >= 0) {
      next = run_segment(segments_[static_cast<size_t>(segment)]);
    } else if (options_.profile) {
      const double begin = steady_seconds();
      next = run_at(step_);
      backend_.synchronize();
      measure(bound_[step_], begin, steady_seconds());
    } else {
      next = run_at(step_);
    }
    for (const auto& communicator : communicators_) communicator->poll();
    step_ = next;
  }
}

void Executor::measure(Bound& bound, double begin, double end) {
  seconds_[static_cast<size_t>(bound.profile_slot)] += end - begin;
  if (bound.kind == Bound::Kind::start) bound.started_at = begin;
  if (bound.kind != Bound::Kind::done || bound.is_idle) return;
  MeasuredCollective& measured = bound.started->measured;
  ++measured.runs;
  measured.in_flight_seconds += end - bound.started->started_at;
  measured.waited_seconds += end - begin;
}

// The first run is as any other: it warms up what libraries set up lazily, which must not be recorded.
size_t Executor::run_segment(Segment& segment) {
  const NamedRange range(*this, segment.name);
  if (segment.runs++ == 0) {
    for (; step_ < segment.end; ++step_) run_step(bound_[step_]);
    return segment.end;
  }
  if (segment.recording < 0) {
    backend_.begin_capture();
    for (; step_ < segment.end; ++step_) run_step(bound_[step_]);
    segment.recording = backend_.end_capture();
  }
  backend_.replay(segment.recording);
  return segment.end;
}

size_t Executor::run_at(size_t step) {
  Bound& bound = bound_[step];
  if (bound.kind >= Bound::Kind::loop_begin) return run_control(step);
  run_step(bound);
  if (observer_) observe(bound);
  if (options_.poison_freed) poison_freed(step);
  return step + 1;
}

void Executor::run_step(Bound& bound) {
  const NamedRange range(*this, bound.begin_step);
  switch (bound.kind) {
    case Bound::Kind::kernel:
      bound.kernel->run({executable_.instruction_of(bound.region, bound.instruction),
                         bound.operands, bound.results, bound.workspace, backend_.stream()});
      return;
    case Bound::Kind::start:
      bound.ticket = bound.communicator->start(bound.call);
      bound.in_flight = true;
      return;
    case Bound::Kind::done:
      bound.is_idle = !bound.started->in_flight;
      if (bound.is_idle) return;
      bound.communicator->wait(bound.started->ticket);
      bound.started->in_flight = false;
      return;
    case Bound::Kind::rank_data:
      compute_rank_data(backend_, executable_.instruction_of(bound.region, bound.instruction),
                        bound.coordinate, bound.operands, bound.results[0]);
      return;
    default:
      backend_.copy(bound.results[0].data, bound.operands[0].data, bound.results[0].type.bytes());
  }
}

// A copy, or the one element of `from` all over `to`.
void Executor::start_as(const TensorView& to, const TensorView& from) {
  const int64_t bytes = to.type.bytes();
  auto* const begin = static_cast<std::byte*>(to.data);
  int64_t done = std::min(bytes, from.type.bytes());
  backend_.copy(begin, from.data, done);
  for (int64_t next; done > 0 && done < bytes; done += next) {
    next = std::min(done, bytes - done);
    backend_.copy(begin + done, begin, next);
  }
}

size_t Executor::run_control(size_t step) {
  Bound& bound = bound_[step];
  Bound& begin = bound.started ? *bound.started : bound;
  switch (bound.kind) {
    case Bound::Kind::loop_begin:
    case Bound::Kind::branch_begin: {
      for (size_t i = 0; i < bound.results.size(); ++i)
        if (bound.results[i].data != bound.operands[i].data)
          start_as(bound.results[i], bound.operands[i]);
      bound.turn = 0;
      if (bound.kind == Bound::Kind::loop_begin)
        return bound.trip_count == 0 ? leave(bound.end_step) : step + 1;
      if (!bound.condition) return step + 1;
      int32_t index = 0;
      backend_.copy_to_host(&index, bound.condition, sizeof(index));
      const auto arms = static_cast<int32_t>(bound.arm_steps.size());
      if (index < 0 || index >= arms) index = arms - 1;
      check_uniform(bound, index);
      return static_cast<size_t>(bound.arm_steps[static_cast<size_t>(index)]);
    }
    case Bound::Kind::loop_test: {
      std::byte predicate{};
      backend_.copy_to_host(&predicate, bound.condition, sizeof(predicate));
      const bool goes_on = predicate != std::byte{0};
      check_uniform(begin, goes_on);
      if (options_.poison_freed) poison_freed(step);
      return goes_on ? step + 1 : leave(begin.end_step);
    }
    case Bound::Kind::loop_end:
      ++begin.turn;
      if (begin.trip_count >= 0 && begin.turn == begin.trip_count) return leave(step);
      return begin.begin_step + 1;
    default:
      return leave(begin.end_step);
  }
}

size_t Executor::leave(size_t end_step) {
  if (observer_) observe(bound_[end_step]);
  if (options_.poison_freed) poison_freed(end_step);
  return end_step + 1;
}

void Executor::check_uniform(const Bound& control, int64_t value) {
  if (control.inside.empty()) return;
  int64_t seen[3] = {value, 0, 0};
  backend_.copy_to_device(compared_, seen, sizeof(seen));
  for (Communicator* group : control.inside) {
    CollectiveCall call;
    call.input = compared_;
    call.dtype = DType::s64;
    call.tensor = "the way through a loop or branch";
    call.stream = backend_.stream();
    for (const ReduceKind kind : {ReduceKind::max, ReduceKind::min}) {
      call.reduce = kind;
      call.output = compared_ + (kind == ReduceKind::max ? 1 : 2) * sizeof(value);
      group->run(call);
    }
    backend_.copy_to_host(seen, compared_, sizeof(seen));
    const auto [own, largest, smallest] = std::tuple(seen[0], seen[1], seen[2]);
    if (largest != smallest)
      throw_user_error("the ranks along ", group->name(), " do not go the same way: this one has ",
                       own, ", others ", smallest, " to ", largest,
                       ", and collectives inside need all of them");
  }
}

void Executor::observe(const Bound& bound) {
  // A collective's result is there when it is done.
  if (bound.kind == Bound::Kind::start || bound.is_idle || bound.instruction < 0) return;
  for (size_t r = 0; r < bound.results.size(); ++r)
    observer_(executable_.graph_of(bound.region), {bound.instruction, static_cast<int>(r)},
              bound.results[r]);
}

void Executor::poison_freed(size_t step) {
  for (int freed : freed_after_[step])
    poison(views_[static_cast<size_t>(freed)].data,
           executable_.buffers[static_cast<size_t>(freed)].bytes);
}

void Executor::poison(void* memory, int64_t bytes) { backend_.set_bytes(memory, 0xff, bytes); }

void Executor::poison_all() {
  const MemoryReport& memory = executable_.memory;
  if (scratch_) poison(scratch_, memory.scratch_bytes);
  if (!symmetric_) return;
  // A peer may still be reading what the step before left for it.
  if (world_) world_->barrier();
  poison(symmetric_, memory.symmetric_bytes);
  backend_.synchronize();
  if (world_) world_->barrier();
}

void Executor::fail(size_t step) const {
  std::string where = cat("graph \"", executable_.graph.name, "\"");
  if (step < bound_.size() && bound_[step].instruction >= 0) {
    where += cat(", step ", step, ", ",
                 describe_step(executable_, bound_[step].region, bound_[step].instruction));
    for (const Bound& loop : bound_)
      if (loop.kind == Bound::Kind::loop_begin && loop.begin_step < step && step < loop.end_step)
        where += cat(" (turn ", loop.turn, ")");
  }
  where += ": ";
  try {
    throw;
  } catch (const ConfigError& error) {
    throw ConfigError(where + error.what());
  } catch (const UserError& error) {
    throw UserError(where + error.what());
  } catch (const InternalError& error) {
    throw InternalError(where + error.what());
  } catch (const std::exception& error) {
    throw UserError(where + error.what());
  }
}

TensorView Executor::input(int index) const {
  return views_[static_cast<size_t>(executable_.input_buffers[static_cast<size_t>(index)])];
}

TensorView Executor::output(int index) const {
  return views_[static_cast<size_t>(executable_.output_buffers[static_cast<size_t>(index)])];
}

TensorView Executor::output(std::string_view name) const {
  const int index = executable_.graph.find_output(name);
  TESSERA_CHECK(index >= 0, "graph \"", executable_.graph.name, "\" has no output \"", name, "\"");
  return output(index);
}

std::map<std::string, double> Executor::profile() const {
  std::map<std::string, double> profile;
  for (const auto& [name, slot] : profile_slots_)
    profile[name] = seconds_[static_cast<size_t>(slot)];
  return profile;
}

Executor::Captured Executor::captured() const {
  Captured captured;
  for (const Segment& segment : segments_) {
    if (segment.recording < 0) continue;
    ++captured.recordings;
    captured.steps += static_cast<int64_t>(segment.end - segment.begin);
  }
  return captured;
}

std::map<std::string, int64_t> Executor::host_steps() const {
  std::map<std::string, int64_t> names;
  for (const Bound& bound : bound_)
    if (needs_host(bound))
      ++names[std::string(executable_.instruction_of(bound.region, bound.instruction).op->name)];
  return names;
}

std::vector<Executor::MeasuredCollective> Executor::collectives() const {
  std::vector<MeasuredCollective> collectives;
  for (const Bound& bound : bound_) {
    if (bound.kind != Bound::Kind::start) continue;
    collectives.push_back(bound.measured);
    collectives.back().region = bound.region;
    collectives.back().instruction = bound.instruction;
  }
  return collectives;
}

}  // namespace tessera

#include "core/runtime/executor.h"

#include <chrono>
#include <cstring>

#include "core/base/error.h"
#include "core/ops/sharding.h"
#include "core/runtime/rank_data.h"

namespace tessera {

struct Executor::Bound {
  enum class Kind : uint8_t { kernel, start, done, rank_data, copy };
  Kind kind = Kind::kernel;
  int instruction = -1;  // -1: a copy
  const Kernel* kernel = nullptr;
  std::vector<TensorView> operands, results;
  std::byte* workspace = nullptr;
  Communicator* communicator = nullptr;
  CollectiveCall call;
  int64_t coordinate = 0;  // of rank data; 0 on one device without a mesh
  Ticket ticket = 0;
  Bound* started = nullptr;  // of a done
  int profile_slot = -1;
};

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
  if (options_.poison_freed) poison_all();
}

Executor::~Executor() {
  if (scratch_) backend_.release(scratch_);
  if (constants_) backend_.release(constants_);
  if (owns_symmetric_) backend_.release(symmetric_);
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
  if (memory.scratch_bytes > 0) scratch_ = backend_.allocate(memory.scratch_bytes);
  if (memory.constant_bytes > 0) constants_ = backend_.allocate(memory.constant_bytes);
  if (memory.symmetric_bytes == 0) return;
  owns_symmetric_ = world_ == nullptr;
  symmetric_ = world_ ? world_->allocate_symmetric(memory.symmetric_bytes)
                      : backend_.allocate(memory.symmetric_bytes);
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
  for (const auto& [index, first] : executable_.constants) {
    const Instruction& instruction = executable_.graph.instructions[static_cast<size_t>(index)];
    std::vector<HostTensor> results;
    for (const ResultInfo& result : instruction.results) results.emplace_back(result.type);
    instruction.op->eval({{}, instruction.attributes}, {}, results);
    for (size_t r = 0; r < results.size(); ++r)
      backend_.copy_to_device(views_[static_cast<size_t>(first) + r].data,
                              results[r].bytes().data(),
                              static_cast<int64_t>(results[r].bytes().size()));
  }
}

void Executor::bind_call(Bound& bound, const CollectiveStart& step) {
  const Instruction& instruction =
      executable_.graph.instructions[static_cast<size_t>(step.instruction)];
  const Attributes& attributes = instruction.attributes;
  bound.communicator = communicators_[static_cast<size_t>(step.communicator)].get();
  CollectiveCall& call = bound.call;
  call.kind = step.kind;
  call.input = bound.operands[0].data;
  call.output = bound.results[0].data;
  call.dtype = bound.operands[0].type.dtype;
  call.shape = bound.operands[0].type.shape;
  call.tensor = executable_.buffers[static_cast<size_t>(step.output)].tensor;
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
                        attributes.get<AxisList>(Attr::axes),
                        attributes.get<AxisList>(Attr::target_axes), device_);
      call.send_to = route.send_to;
      call.receive_from = route.receive_from;
      break;
    }
    case CollectiveKind::all_reduce:
    case CollectiveKind::broadcast:
      break;
  }
}

void Executor::bind_steps() {
  bound_.resize(executable_.steps.size());
  auto view = [&](int buffer) { return views_[static_cast<size_t>(buffer)]; };
  for (size_t s = 0; s < executable_.steps.size(); ++s) {
    Bound& bound = bound_[s];
    std::string prefix;
    if (const auto* kernel = std::get_if<KernelStep>(&executable_.steps[s])) {
      bound.instruction = kernel->instruction;
      bound.kernel = kernel->kernel;
      for (int operand : kernel->operands) bound.operands.push_back(view(operand));
      for (int result : kernel->results) bound.results.push_back(view(result));
      if (kernel->workspace >= 0) bound.workspace = view(kernel->workspace).as<std::byte>();
    } else if (const auto* start = std::get_if<CollectiveStart>(&executable_.steps[s])) {
      bound.kind = Bound::Kind::start;
      bound.instruction = start->instruction;
      bound.operands = {view(start->input)};
      bound.results = {view(start->output)};
      bind_call(bound, *start);
      prefix = "start ";
    } else if (const auto* done = std::get_if<CollectiveDone>(&executable_.steps[s])) {
      bound.kind = Bound::Kind::done;
      bound.started = &bound_[static_cast<size_t>(done->start_step)];
      bound.instruction = bound.started->instruction;
      bound.communicator = bound.started->communicator;
      bound.results = bound.started->results;
      prefix = "wait ";
    } else if (const auto* data = std::get_if<RankDataStep>(&executable_.steps[s])) {
      bound.kind = Bound::Kind::rank_data;
      bound.instruction = data->instruction;
      if (data->input >= 0) bound.operands = {view(data->input)};
      bound.results = {view(data->result)};
      const Graph& graph = executable_.graph;
      if (graph.mesh)
        bound.coordinate = graph.mesh->coordinate(
            device_,
            graph.instructions[static_cast<size_t>(data->instruction)].attributes.get<AxisList>(
                Attr::axes));
    } else {
      const auto& copy = std::get<CopyStep>(executable_.steps[s]);
      bound.kind = Bound::Kind::copy;
      bound.operands = {view(copy.from)};
      bound.results = {view(copy.to)};
    }
    const std::string name =
        prefix +
        (bound.instruction < 0
             ? "copy"
             : std::string(executable_.graph.instructions[static_cast<size_t>(bound.instruction)]
                               .op->name));
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

void Executor::run() {
  using Clock = std::chrono::steady_clock;
  size_t step = 0;
  try {
    if (options_.poison_freed) poison_all();
    for (; step < bound_.size(); ++step) {
      Bound& bound = bound_[step];
      if (options_.profile) {
        const Clock::time_point begin = Clock::now();
        run_step(bound);
        seconds_[static_cast<size_t>(bound.profile_slot)] +=
            std::chrono::duration<double>(Clock::now() - begin).count();
      } else {
        run_step(bound);
      }
      for (const auto& communicator : communicators_) communicator->poll();
      if (observer_) observe(bound);
      if (!options_.poison_freed) continue;
      for (int freed : freed_after_[step])
        std::memset(views_[static_cast<size_t>(freed)].data, 0xff,
                    static_cast<size_t>(executable_.buffers[static_cast<size_t>(freed)].bytes));
    }
  } catch (...) {
    fail(step);
  }
}

void Executor::run_step(Bound& bound) {
  switch (bound.kind) {
    case Bound::Kind::kernel: {
      const Instruction& instruction =
          executable_.graph.instructions[static_cast<size_t>(bound.instruction)];
      bound.kernel->run({instruction, bound.operands, bound.results, bound.workspace, nullptr});
      return;
    }
    case Bound::Kind::start:
      bound.ticket = bound.communicator->start(bound.call);
      return;
    case Bound::Kind::done:
      bound.communicator->wait(bound.started->ticket);
      return;
    case Bound::Kind::rank_data:
      run_rank_data(bound);
      return;
    case Bound::Kind::copy:
      std::memmove(bound.results[0].data, bound.operands[0].data,
                   static_cast<size_t>(bound.results[0].type.bytes()));
      return;
  }
}

void Executor::run_rank_data(const Bound& bound) {
  const Instruction& instruction =
      executable_.graph.instructions[static_cast<size_t>(bound.instruction)];
  compute_rank_data(instruction, bound.coordinate, bound.operands, bound.results[0]);
}

void Executor::observe(const Bound& bound) {
  // A collective's result is there when it is done.
  if (bound.kind == Bound::Kind::start || bound.instruction < 0) return;
  for (size_t r = 0; r < bound.results.size(); ++r)
    observer_({bound.instruction, static_cast<int>(r)}, bound.results[r]);
}

void Executor::poison_all() {
  const MemoryReport& memory = executable_.memory;
  if (scratch_) std::memset(scratch_, 0xff, static_cast<size_t>(memory.scratch_bytes));
  if (!symmetric_) return;
  // A peer may still be reading what the step before left for it.
  if (world_) world_->barrier();
  std::memset(symmetric_, 0xff, static_cast<size_t>(memory.symmetric_bytes));
  if (world_) world_->barrier();
}

void Executor::fail(size_t step) const {
  std::string where = cat("graph \"", executable_.graph.name, "\"");
  if (step < bound_.size() && bound_[step].instruction >= 0)
    where += cat(", step ", step, ", ", describe(executable_.graph, {bound_[step].instruction, 0}));
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

}  // namespace tessera

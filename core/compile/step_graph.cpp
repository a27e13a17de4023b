#include "core/compile/step_graph.h"

#include <algorithm>
#include <numeric>

#include "core/compile/step_graph_builder.h"
#include "core/compile/views.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

bool is_constant(const Instruction& instruction) {
  const OpDef& op = *instruction.op;
  return instruction.operands.empty() && !op.has_state && !op.device_dependent &&
         !op.communicates && !is_control(instruction);
}

// One number all over: a constant, or a broadcast of one.
bool is_fill(const Graph& graph, const Instruction& instruction) {
  if (instruction.results.size() != 1 || instruction.results[0].type.elements() <= 1) return false;
  if (instruction.is(ops::kConstant)) return instruction.attributes.has(Attr::scalar);
  return instruction.is(ops::kBroadcastInDim) &&
         graph.type(instruction.operands[0]).elements() == 1 &&
         is_constant(graph.at(instruction.operands[0]));
}

bool is_rank_data(const Instruction& instruction) {
  return instruction.is(ops::kAxisIndex) || instruction.is(ops::kAllSlice) ||
         instruction.is(ops::kReplicatedToPartial);
}

CollectiveKind collective_kind(const Instruction& instruction) {
  if (instruction.is(ops::kAllReduce)) return CollectiveKind::all_reduce;
  if (instruction.is(ops::kAllGather)) return CollectiveKind::all_gather;
  if (instruction.is(ops::kReduceScatter)) return CollectiveKind::reduce_scatter;
  if (instruction.is(ops::kAllToAll)) return CollectiveKind::all_to_all;
  TESSERA_CHECK(instruction.is(ops::kCollectivePermute) || instruction.is(ops::kShift), instruction.op->name,
                " is no collective that can be run");
  return CollectiveKind::permute;
}

// Where order does not matter the axes are sorted, so that groups are shared.
AxisList group_axes(const Instruction& instruction, CollectiveKind kind) {
  AxisList axes;
  for (const AxisRef& ref : instruction.attributes.get<AxisList>(Attr::axes))
    if (ref.size > 1) axes.push_back(ref);
  if (instruction.is(ops::kShift)) return axes;  // the coordinate along the list is the group rank
  if (kind == CollectiveKind::permute)
    for (const AxisRef& ref :
         without(instruction.attributes.get_or<AxisList>(Attr::target_axes, {}), axes))
      axes.push_back(ref);
  if (kind == CollectiveKind::all_reduce || kind == CollectiveKind::permute)
    std::sort(axes.begin(), axes.end());
  return canonical(axes);
}

}  // namespace

int StepGraph::root(int buffer) const {
  while (buffers[static_cast<size_t>(buffer)].alias_of >= 0)
    buffer = buffers[static_cast<size_t>(buffer)].alias_of;
  return buffer;
}

int64_t StepGraph::offset_in_root(int buffer) const {
  int64_t offset = 0;
  for (; buffer >= 0; buffer = buffers[static_cast<size_t>(buffer)].alias_of)
    offset += buffers[static_cast<size_t>(buffer)].alias_offset;
  return offset;
}

std::vector<int> StepGraph::writers() const {
  std::vector<int> writers(buffers.size(), -1);
  for (size_t n = 0; n < nodes.size(); ++n)
    for (int buffer : nodes[n].writes) writers[static_cast<size_t>(buffer)] = static_cast<int>(n);
  return writers;
}

StepGraphBuilder::StepGraphBuilder(const Graph& graph, const KernelTable& kernels)
    : graph_(graph), kernels_(kernels) {
  for (const GraphOutput& output : graph.outputs) over_.push_back(output.alias_input);
}

StepGraphBuilder::StepGraphBuilder(const Graph& graph, const KernelTable& kernels,
                                   std::vector<int> over, bool own_outputs)
    : graph_(graph), kernels_(kernels), over_(std::move(over)), own_outputs_(own_outputs) {}

StepGraph StepGraphBuilder::build() {
  TESSERA_CHECK(graph_.is_local || !graph_.mesh || graph_.mesh->devices() == 1,
                "only a localized graph can be compiled");
  mark_kept_slices();
  make_buffers();
  make_nodes();
  place_outputs();
  place_members();
  make_edges();
  return std::move(made_);
}

// An output that overwrites an input should be written there by its own slice step, not copied from
// the larger buffer it would be a view of.
void StepGraphBuilder::mark_kept_slices() {
  kept_slice_.assign(graph_.instructions.size(), false);
  for (size_t o = 0; o < graph_.outputs.size(); ++o) {
    if (over_[o] < 0 && !own_outputs_) continue;
    Value value = graph_.outputs[o].value;
    while (view_offset(graph_, graph_.at(value)) && !graph_.at(value).is(ops::kSlice))
      value = graph_.at(value).operands[0];
    if (graph_.at(value).is(ops::kSlice))
      kept_slice_[static_cast<size_t>(value.instruction)] = true;
  }
}

void StepGraphBuilder::make_buffers() {
  controls_.resize(graph_.instructions.size());
  for (size_t i = 0; i < graph_.instructions.size(); ++i) {
    const Instruction& instruction = graph_.instructions[i];
    first_buffer_.push_back(static_cast<int>(made_.buffers.size()));
    for (size_t r = 0; r < instruction.results.size(); ++r) {
      BufferPlan plan;
      plan.type = instruction.results[r].type;
      plan.bytes = plan.type.bytes();
      plan.tensor = describe(graph_, {static_cast<int>(i), static_cast<int>(r)});
      if (is_constant(instruction)) plan.arena = Arena::constant;
      made_.buffers.push_back(std::move(plan));
    }
    if (is_constant(instruction)) made_.constants.push_back({static_cast<int>(i), first_buffer_.back()});
    if (is_control(instruction)) make_control(static_cast<int>(i));
    if (instruction.is(ops::kOptimizationBarrier)) make_barrier(static_cast<int>(i));
    const auto offset = kept_slice_[i] ? std::nullopt : view_offset(graph_, instruction);
    if (!offset) continue;
    BufferPlan& plan = made_.buffers.back();
    plan.alias_of = buffer_of(instruction.operands[0]);
    plan.alias_offset = *offset;
    plan.alias = AliasKind::view;
  }
  for (size_t i = 0; i < graph_.inputs.size(); ++i) {
    const int number = buffer_of(graph_.inputs[i].value);
    buffer(number).arena = Arena::persistent;
    buffer(number).input = static_cast<int>(i);
    made_.input_buffers.push_back(number);
  }
  for (const GraphOutput& output : graph_.outputs)
    made_.output_buffers.push_back(buffer_of(output.value));
}

void StepGraphBuilder::make_nodes() {
  for (size_t i = 0; i < graph_.instructions.size(); ++i) {
    const Instruction& instruction = graph_.instructions[i];
    if (instruction.op->has_state || is_constant(instruction)) continue;
    if (instruction.is(ops::kOptimizationBarrier)) continue;
    if (!is_control(instruction) && buffer(first_buffer_[i]).alias == AliasKind::view) continue;
    make_node(static_cast<int>(i));
  }
  drop_unread_fills();
  writer_ = made_.writers();
  removed_.assign(made_.nodes.size(), false);
  position_.resize(made_.nodes.size());
  std::iota(position_.begin(), position_.end(), 0);
  members_.resize(made_.buffers.size());
  pinned_.resize(made_.buffers.size(), false);
}

void StepGraphBuilder::make_node(int index) {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
  TESSERA_CHECK(!instruction.is(ops::kReshard), "a reshard is left in the graph to compile");
  StepNode node;
  node.instruction = index;
  for (Value operand : instruction.operands) node.reads.push_back(buffer_of(operand));
  for (size_t r = 0; r < instruction.results.size(); ++r)
    node.writes.push_back(first_buffer_[static_cast<size_t>(index)] + static_cast<int>(r));
  if (const auto& control = controls_[static_cast<size_t>(index)]) {
    node.kind = StepNode::Kind::control;
    node.control = control;
    for (size_t i = 0; control->is_loop && i < node.reads.size(); ++i)
      if (!control->unchanged[i] && is_fill(graph_, graph_.at(instruction.operands[i])))
        node.reads[i] = one_number_of(instruction.operands[i]);
  } else if (is_rank_data(instruction))
    node.kind = StepNode::Kind::rank_data;
  else if (instruction.op->communicates)
    choose_communicator(node, instruction);
  else
    choose_kernel(node, instruction);
  made_.nodes.push_back(std::move(node));
}

// A loop that begins with a filled tensor fills it in where it works on it: the number is enough.
int StepGraphBuilder::one_number_of(Value value) {
  const Instruction& instruction = graph_.at(value);
  if (instruction.is(ops::kBroadcastInDim)) return buffer_of(instruction.operands[0]);
  const auto [at, is_new] =
      one_number_.try_emplace(value.instruction, static_cast<int>(made_.buffers.size()));
  if (is_new) {
    BufferPlan plan = buffer(buffer_of(value));
    plan.type.shape = {};
    plan.bytes = plan.type.bytes();
    made_.buffers.push_back(std::move(plan));
    made_.constants.push_back({value.instruction, at->second});
  }
  return at->second;
}

// Filled tensors that nothing but the begin of loops wanted are not made.
void StepGraphBuilder::drop_unread_fills() {
  std::vector<bool> is_read(made_.buffers.size(), false);
  for (const StepNode& node : made_.nodes)
    for (int read : node.reads) is_read[static_cast<size_t>(made_.root(read))] = true;
  for (int output : made_.output_buffers) is_read[static_cast<size_t>(made_.root(output))] = true;
  auto is_unread = [&](int instruction, int number) {
    return !is_read[static_cast<size_t>(number)] &&
           is_fill(graph_, graph_.instructions[static_cast<size_t>(instruction)]);
  };
  std::erase_if(made_.nodes, [&](const StepNode& node) {
    return !node.writes.empty() && is_unread(node.instruction, node.writes[0]);
  });
  std::erase_if(made_.constants, [&](const Executable::Constant& constant) {
    if (!is_unread(constant.instruction, constant.buffer)) return false;
    buffer(constant.buffer).arena = Arena::scratch;  // without a user it gets no place
    return true;
  });
}

void StepGraphBuilder::choose_kernel(StepNode& node, const Instruction& instruction) {
  with_call(graph_, instruction, [&](const OpCall& call) {
    const std::vector<TensorType> results = Graph::result_types(instruction);
    KernelTable::Choice choice = kernels_.choose(*instruction.op, call, results);
    node.kernel = choice.kernel;
    if (choice.kernel->workspace_bytes)
      node.workspace_bytes = choice.kernel->workspace_bytes(call, results);
    if (choice.kernel->is_reference)
      made_.reference_kernels.push_back({node.instruction, std::move(choice.refusals)});
  });
}

void StepGraphBuilder::choose_communicator(StepNode& node, const Instruction& instruction) {
  node.kind = StepNode::Kind::collective;
  node.collective = collective_kind(instruction);
  const AxisList axes = group_axes(instruction, node.collective);
  const auto at = std::find(made_.communicators.begin(), made_.communicators.end(), axes);
  node.communicator = static_cast<int>(at - made_.communicators.begin());
  if (at == made_.communicators.end()) made_.communicators.push_back(axes);
  for (int number : {node.reads[0], node.writes[0]}) buffer(number).collective = true;
}

void StepGraphBuilder::place_members() {
  const size_t count = made_.nodes.size();  // copies are added behind
  for (size_t n = 0; n < count; ++n)
    if (made_.nodes[n].instruction >= 0 && place_members_of(static_cast<int>(n)))
      removed_[n] = true;
}

// The operand is the whole of a buffer that a step writes and that has no other place to be.
bool StepGraphBuilder::may_be_member(int operand, int64_t offset,
                                     const std::set<int>& taken) const {
  const int root = made_.root(operand);
  const BufferPlan& plan = made_.buffers[static_cast<size_t>(root)];
  return offset % 64 == 0 && made_.offset_in_root(operand) == 0 &&
         plan.bytes == made_.buffers[static_cast<size_t>(operand)].bytes &&
         writer_[static_cast<size_t>(root)] >= 0 && plan.arena == Arena::scratch &&
         !pinned_[static_cast<size_t>(root)] && !taken.contains(root);
}

bool StepGraphBuilder::place_members_of(int number) {
  const std::vector<int> operands = node(number).reads;
  const int result = node(number).writes[0];
  const std::vector<int64_t> offsets =
      member_offsets(graph_, graph_.instructions[static_cast<size_t>(node(number).instruction)]);
  if (offsets.empty() || buffer(result).alias_of >= 0) return false;
  std::set<int> roots;
  std::vector<bool> is_placed(operands.size(), false);
  int64_t placed = 0;
  for (size_t i = 0; i < operands.size(); ++i) {
    if (!may_be_member(operands[i], offsets[i], roots)) continue;
    is_placed[i] = true;
    roots.insert(made_.root(operands[i]));
    placed += buffer(operands[i]).bytes;
  }
  // One kernel for all is better than many copies.
  if (2 * placed < buffer(result).bytes) return false;
  for (size_t i = 0; i < operands.size(); ++i) {
    int member = operands[i];
    if (!is_placed[i]) {
      member = add_buffer(buffer(operands[i]), buffer(operands[i]).tensor);
      const int copy = add_copy(operands[i], member);
      position_[static_cast<size_t>(copy)] = number;
      instead_[number].push_back(copy);
    }
    BufferPlan& plan = buffer(made_.root(member));
    plan.alias_of = result;
    plan.alias_offset = offsets[i];
    plan.alias = AliasKind::member;
    members_[static_cast<size_t>(result)].push_back(member);
  }
  return true;
}

void StepGraphBuilder::add_sources(int number, std::vector<int>& sources) const {
  while (made_.buffers[static_cast<size_t>(number)].alias == AliasKind::view) {
    if (const int barrier = barrier_of(number); barrier >= 0) {
      // Whoever reads behind a barrier comes after all that stands before it.
      for (Value operand : graph_.instructions[static_cast<size_t>(barrier)].operands)
        add_sources(buffer_of(operand), sources);
      return;
    }
    number = made_.buffers[static_cast<size_t>(number)].alias_of;
  }
  const int writer = writer_[static_cast<size_t>(number)];
  if (writer < 0) return;
  if (!removed_[static_cast<size_t>(writer)]) {
    sources.push_back(writer);
    return;
  }
  for (int member : members_[static_cast<size_t>(number)]) add_sources(member, sources);
}

// Adds the data edges to the overwrite edges, drops the removed nodes and puts copies in their
// place.
void StepGraphBuilder::make_edges() {
  std::vector<size_t> order(made_.nodes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return position_[a] < position_[b]; });
  std::vector<int> renumbered(made_.nodes.size(), -1);
  std::vector<StepNode> kept;
  for (size_t n : order) {
    if (removed_[n]) continue;
    for (int read : made_.nodes[n].reads) add_sources(read, made_.nodes[n].before);
    renumbered[n] = static_cast<int>(kept.size());
    kept.push_back(std::move(made_.nodes[n]));
  }
  for (StepNode& node : kept) {
    std::vector<int> before;
    for (int n : node.before) {
      // Who waited for a removed node to have read its operands waits for the copies.
      if (!removed_[static_cast<size_t>(n)])
        before.push_back(renumbered[static_cast<size_t>(n)]);
      else
        for (int copy : instead_[n]) before.push_back(renumbered[static_cast<size_t>(copy)]);
    }
    node.before = std::move(before);
    std::sort(node.before.begin(), node.before.end());
    node.before.erase(std::unique(node.before.begin(), node.before.end()), node.before.end());
  }
  made_.nodes = std::move(kept);
}

StepGraph build_step_graph(const Graph& graph, const KernelTable& kernels) {
  return StepGraphBuilder(graph, kernels).build();
}

}  // namespace tessera

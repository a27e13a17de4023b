// Outputs that must lie over inputs: parameters, optimizer state, accumulators.
//
// Let output o be value v, made by node I, and p the input it must overwrite. Direct placement
// makes v's buffer an alias of p's and adds an edge R -> I for every other reader R of p. It needs
// that
//   * v fills a whole buffer that no other output claimed,
//   * I itself reads p only where its kernel works in place,
//   * no R depends on I (the edge would close a cycle).
// Otherwise v is copied into p when all readers of p are done. Swaps (a over b, b over a) resolve
// by first copying one of them aside.
#include <algorithm>

#include "core/compile/step_graph_builder.h"

namespace tessera {

void StepGraphBuilder::place_outputs() {
  after_.resize(made_.nodes.size());
  input_readers_.resize(made_.buffers.size());
  for (size_t n = 0; n < made_.nodes.size(); ++n)
    for (int read : made_.nodes[n].reads) {
      std::vector<int> sources;
      add_sources(read, sources);
      for (int source : sources) after_[static_cast<size_t>(source)].push_back(static_cast<int>(n));
      input_readers_[static_cast<size_t>(made_.root(read))].push_back(static_cast<int>(n));
    }
  std::vector<bool> overwritten(graph_.inputs.size(), false);
  for (int input : over_) {
    if (input < 0) continue;
    TESSERA_CHECK(!overwritten[static_cast<size_t>(input)], "two outputs overwrite input ", input);
    overwritten[static_cast<size_t>(input)] = true;
  }
  if (own_outputs_) own_outputs();
  for (size_t o = 0; o < graph_.outputs.size(); ++o) {
    const int root = made_.root(made_.output_buffers[o]);
    const int own = over_[o];
    const int input = buffer(root).input;
    const bool unchanged = own >= 0 && root == made_.input_buffers[static_cast<size_t>(own)];
    if (unchanged) continue;
    const bool lost = input >= 0 && overwritten[static_cast<size_t>(input)];
    if (lost || (own >= 0 && writer_[static_cast<size_t>(root)] < 0)) separate_output(o);
  }
  for (size_t o = 0; o < graph_.outputs.size(); ++o) {
    if (over_[o] < 0) continue;
    const int input = made_.input_buffers[static_cast<size_t>(over_[o])];
    if (made_.root(made_.output_buffers[o]) == input) continue;
    if (!overwrite_directly(made_.output_buffers[o], input)) overwrite_by_copy(o, input);
  }
  for (size_t o = 0; o < graph_.outputs.size(); ++o)
    buffer(made_.output_buffers[o]).output = static_cast<int>(o);
}

// An output without an input to lie over gets a whole buffer that nothing else claims.
void StepGraphBuilder::own_outputs() {
  std::set<int> taken;
  for (size_t o = 0; o < over_.size(); ++o)
    if (over_[o] >= 0) taken.insert(made_.root(made_.output_buffers[o]));
  for (size_t o = 0; o < over_.size(); ++o) {
    if (over_[o] >= 0) continue;
    const int value = made_.output_buffers[o], root = made_.root(value);
    const bool own = writer_[static_cast<size_t>(root)] >= 0 &&
                     buffer(root).arena == Arena::scratch && made_.offset_in_root(value) == 0 &&
                     buffer(root).bytes == buffer(value).bytes && taken.insert(root).second;
    if (!own) separate_output(o);
    pinned_[static_cast<size_t>(made_.root(made_.output_buffers[o]))] = true;
  }
}

void StepGraphBuilder::separate_output(size_t output) {
  const int from = made_.output_buffers[output];
  const int to = add_buffer(buffer(from), graph_.outputs[output].name);
  add_copy(from, to);
  ++made_.copies;
  made_.output_buffers[output] = to;
}

bool StepGraphBuilder::overwrite_directly(int value, int input) {
  const int root = made_.root(value);
  const int writer = writer_[static_cast<size_t>(root)];
  if (writer < 0 || buffer(root).arena != Arena::scratch || made_.offset_in_root(value) != 0 ||
      buffer(root).bytes != buffer(input).bytes || !may_write_over(node(writer), root, input))
    return false;
  const std::vector<int> readers = readers_of(input);
  std::set<int> others(readers.begin(), readers.end());
  others.erase(writer);
  if (reaches(writer, others)) return false;
  for (int reader : others) {
    node(writer).before.push_back(reader);
    after_[static_cast<size_t>(reader)].push_back(writer);
  }
  buffer(root).alias_of = input;
  buffer(root).alias = AliasKind::overwrite;
  // Readers of the value now read the input's memory, but only after the writer: they are no
  // readers of its old content, so input_readers_ stays as it is.
  return true;
}

void StepGraphBuilder::overwrite_by_copy(size_t output, int input) {
  const int value = made_.output_buffers[output];
  const int to = add_buffer(buffer(input), graph_.outputs[output].name);
  const std::vector<int> readers = readers_of(input);
  const int copy = add_copy(value, to);
  ++made_.copies;
  for (int reader : readers) {
    node(copy).before.push_back(reader);
    after_[static_cast<size_t>(reader)].push_back(copy);
  }
  buffer(to).alias_of = input;
  buffer(to).alias = AliasKind::overwrite;
  made_.output_buffers[output] = to;
}

bool StepGraphBuilder::may_write_over(const StepNode& writer, int value, int input) {
  std::vector<int> reading;  // operand numbers that read the input
  for (size_t i = 0; i < writer.reads.size(); ++i)
    if (made_.root(writer.reads[i]) == input) reading.push_back(static_cast<int>(i));
  if (reading.empty()) return true;
  for (int operand : reading) {
    const TensorType& read =
        made_.buffers[static_cast<size_t>(writer.reads[static_cast<size_t>(operand)])].type;
    const TensorType& written = made_.buffers[static_cast<size_t>(value)].type;
    if (read.bytes() != written.bytes() || read.elements() != written.elements()) return false;
  }
  if (writer.kind == StepNode::Kind::collective)
    return writer.collective == CollectiveKind::all_reduce ||
           writer.collective == CollectiveKind::permute;
  if (writer.kind == StepNode::Kind::control)
    return reading.size() == 1 && reading[0] == carried_operand(writer, value);
  if (writer.kind != StepNode::Kind::kernel) return false;
  if (writer.kernel->in_place_any) return true;
  const auto result = std::find(writer.writes.begin(), writer.writes.end(), value) - writer.writes.begin();
  return reading.size() == 1 && reading[0] == in_place_operands(writer)[static_cast<size_t>(result)];
}

// For all results at once: an update of all tensors has thousands, each of which is asked for.
const std::vector<int>& StepGraphBuilder::in_place_operands(const StepNode& kernel) {
  const auto [found, is_new] = in_place_operands_.try_emplace(kernel.instruction, kernel.writes.size(), -1);
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(kernel.instruction)];
  const auto in_place = kernel.kernel->in_place ? kernel.kernel->in_place : instruction.op->alias;
  if (is_new && in_place)
    with_call(graph_, instruction, [&](const OpCall& call) {
      for (size_t r = 0; r < found->second.size(); ++r) found->second[r] = in_place(call, static_cast<int>(r));
    });
  return found->second;
}

bool StepGraphBuilder::reaches(int from, const std::set<int>& targets) const {
  if (targets.empty()) return false;
  std::vector<int> open{from};
  std::set<int> seen{from};
  while (!open.empty()) {
    const int at = open.back();
    open.pop_back();
    for (int next : after_[static_cast<size_t>(at)]) {
      if (targets.contains(next)) return true;
      if (seen.insert(next).second) open.push_back(next);
    }
  }
  return false;
}

std::vector<int> StepGraphBuilder::readers_of(int input) const {
  return input_readers_[static_cast<size_t>(input)];
}

int StepGraphBuilder::add_copy(int from, int to) {
  StepNode copy;
  copy.kind = StepNode::Kind::copy;
  copy.reads = {from};
  copy.writes = {to};
  const auto number = static_cast<int>(made_.nodes.size());
  made_.nodes.push_back(std::move(copy));
  removed_.push_back(false);
  position_.push_back(number);
  after_.emplace_back();
  writer_[static_cast<size_t>(to)] = number;
  std::vector<int> sources;
  add_sources(from, sources);
  for (int source : sources) after_[static_cast<size_t>(source)].push_back(number);
  // Aliases made so far are those of views, whose root still tells the input.
  input_readers_[static_cast<size_t>(made_.root(from))].push_back(number);
  return number;
}

int StepGraphBuilder::add_buffer(const BufferPlan& like, const std::string& name) {
  BufferPlan plan;
  plan.type = like.type;
  plan.bytes = like.bytes;
  plan.tensor = name;
  made_.buffers.push_back(std::move(plan));
  writer_.push_back(-1);
  members_.emplace_back();
  input_readers_.emplace_back();
  pinned_.push_back(false);
  return static_cast<int>(made_.buffers.size()) - 1;
}

}  // namespace tessera

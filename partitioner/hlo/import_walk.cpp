#include "partitioner/hlo/import_walk.h"

#include <algorithm>

#include "core/ops/structure.h"
#include "partitioner/hlo/import_annotations.h"

namespace tessera::hlo {
namespace {

class Walk final : public ImportContext {
 public:
  Walk(ImportState& state, int computation, Graph& graph)
      : state_(state),
        computation_(state.module.computations[static_cast<size_t>(computation)]),
        is_entry_(computation == state.module.entry),
        builder_(graph),
        leaves_(computation_.instructions.size()) {}

  std::vector<std::vector<Value>> run() {
    make_inputs();
    for (current_ = 0; current_ < computation_.instructions.size(); ++current_) {
      try {
        import_current();
      } catch (const ConfigError& error) {
        recover<ConfigError>(error.what());
      } catch (const UserError& error) {
        recover<UserError>(error.what());
      }
    }
    make_outputs();
    return std::move(leaves_);
  }

  // ---- ImportContext
  // ------------------------------------------------------------------------------

  Builder& builder() override { return builder_; }
  const HloModule& module() const override { return state_.module; }
  const HloInstruction& instruction() const override { return computation_.instructions[current_]; }
  const MeshPtr& mesh() const override { return state_.mesh; }
  const MeshPtr& own_mesh() const override { return state_.own_mesh; }

  std::span<const Value> leaves(int index) const override {
    check_operand(index);
    return leaves_[static_cast<size_t>(instruction().operands[static_cast<size_t>(index)])];
  }
  Value operand(int index) const override {
    check_operand(index);
    const HloInstruction& source = operand_instruction(index);
    if (source.shape.is_tuple)
      fail(cat("operand ", index, " of ", instruction().opcode, ", ", source.name,
               ", is a tuple: ", print(source.shape, false)));
    return leaves(index)[0];
  }
  int operand_count() const override { return static_cast<int>(instruction().operands.size()); }
  std::vector<Value> all_operands() const override {
    std::vector<Value> all;
    for (int i = 0; i < operand_count(); ++i) {
      const std::span<const Value> some = leaves(i);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }

  void set(std::vector<Value> leaves) override {
    made_ = std::move(leaves);
    is_set_ = true;
  }

  GraphRef region(const std::string& computation) override {
    const auto found = state_.computation_of_name.find(computation);
    if (found == state_.computation_of_name.end())
      fail(cat("there is no computation ", computation));
    const GraphRef& graph = state_.regions[static_cast<size_t>(found->second)];
    if (!graph) fail(cat("the computation ", computation, " is not complete here"));
    return graph;
  }

  void unsupported(std::string what) override {
    state_.unsupported.insert(std::move(what));
    is_unsupported_ = true;
  }
  void note(std::string text) override {
    text = cat(where(instruction()), ": ", text);
    std::vector<std::string>& notes = state_.notes;
    if (std::find(notes.begin(), notes.end(), text) == notes.end())
      notes.push_back(std::move(text));
  }

 private:
  const HloInstruction& operand_instruction(int index) const {
    return computation_
        .instructions[static_cast<size_t>(instruction().operands[static_cast<size_t>(index)])];
  }
  void check_operand(int index) const {
    if (index < 0 || index >= operand_count())
      fail(cat(instruction().opcode, " has ", operand_count(), " operands, but needs at least ",
               index + 1));
  }

  // All inputs first and by parameter number, whatever the order of the instructions.
  void make_inputs() {
    for (int number : computation_.parameters()) {
      const HloInstruction& parameter = computation_.instructions[static_cast<size_t>(number)];
      const std::vector<TensorType> types = leaf_types(parameter.shape);
      const std::vector<Ints> paths = leaf_paths(parameter.shape);
      for (size_t i = 0; i < types.size(); ++i) {
        const std::string name =
            paths[i].empty() ? parameter.name : cat(parameter.name, ".", join(paths[i], "."));
        leaves_[static_cast<size_t>(number)].push_back(
            builder_.input(InputKind::data, name, types[i]));
      }
    }
  }

  void make_outputs() {
    const auto root = static_cast<size_t>(computation_.root);
    const std::vector<Ints> paths = leaf_paths(computation_.instructions[root].shape);
    for (size_t i = 0; i < paths.size(); ++i)
      builder_.output(leaves_[root][i],
                      paths[i].empty() ? "out" : cat("out.", join(paths[i], ".")));
  }

  // Operands and result of types that we have; else there is nothing to build.
  bool is_expressible() const {
    if (!has_known_types(instruction().shape)) return false;
    for (int i = 0; i < operand_count(); ++i)
      if (!has_known_types(operand_instruction(i).shape)) return false;
    return true;
  }

  void import_current() {
    set_scope();
    is_set_ = is_unsupported_ = false;
    if (instruction().opcode == "parameter") {
      made_ = leaves_[current_];
    } else if (!is_expressible()) {
      made_ = zeros_as_stated();
    } else if (instruction().opcode == "tuple") {
      made_ = all_operands();
      check_shape(tuple_of_operands());
    } else if (instruction().opcode == "get-tuple-element") {
      made_ = tuple_element();
      check_shape(operand_instruction(0).shape.elements[static_cast<size_t>(integer("index"))]);
    } else {
      run_handler();
    }
    if (!is_entry_ || static_cast<int>(current_) != computation_.root)
      annotate_values(*this, made_);
    leaves_[current_] = std::move(made_);
  }

  void run_handler() {
    if (const OpcodeHandler handler = state_.handler_of(instruction()))
      handler(*this);
    else
      is_unsupported_ = true;
    if (is_unsupported_) {
      made_ = zeros_as_stated();
      return;
    }
    TESSERA_CHECK(is_set_, where(instruction()), ": ", instruction().opcode, " gave no result");
    check_made();
  }

  // An error among what we do not have may be a consequence of that; the list says more.
  template <typename Error>
  void recover(const std::string& message) {
    if (state_.unsupported.empty()) {
      const std::string place = where(instruction());
      throw Error(message.starts_with(place) ? message : cat(place, ": ", message));
    }
    leaves_[current_] = zeros_as_stated();
  }

  // Of the stated types, so that the walk goes on and lists everything. Never part of a result: they are
  // made only where something is on the list, and then import throws the list.
  std::vector<Value> zeros_as_stated() {
    TESSERA_CHECK(!state_.unsupported.empty(), where(instruction()), ": nothing is unsupported");
    std::vector<Value> values;
    for (const TensorType& type : leaf_types(instruction().shape))
      values.push_back(ops::constant(builder_, 0.0, type));
    return values;
  }

  std::vector<Value> tuple_element() const {
    const int64_t index = integer("index");
    check_operand(0);
    const HloShape& tuple = operand_instruction(0).shape;
    if (!tuple.is_tuple || index < 0 || index >= static_cast<int64_t>(tuple.elements.size()))
      fail(cat("index=", index, " of ", print(tuple, false)));
    int64_t first = 0;
    for (int64_t i = 0; i < index; ++i) first += leaf_count(tuple.elements[static_cast<size_t>(i)]);
    const std::span<const Value> element = leaves(0).subspan(
        static_cast<size_t>(first),
        static_cast<size_t>(leaf_count(tuple.elements[static_cast<size_t>(index)])));
    return {element.begin(), element.end()};
  }

  // The leaves are what the text says they are.
  void check_made() const {
    const std::vector<const HloShape*> stated = instruction().shape.leaves();
    std::vector<TensorType> made;
    for (Value value : made_) made.push_back(builder_.type(value));
    bool is_same = stated.size() == made.size();
    for (size_t i = 0; is_same && i < made.size(); ++i)
      is_same = stated[i]->dtype == made[i].dtype && stated[i]->dims == made[i].shape;
    if (instruction().shape.is_tuple && made.size() == 1)
      is_same = is_same && may_be_tuple_of_one();
    if (!is_same) fail_contradiction(made.size() == 1 ? cat(made[0]) : cat("(", join(made), ")"));
  }

  void check_shape(const HloShape& made) const {
    if (!instruction().shape.same_as(made)) fail_contradiction(print(made, false));
  }

  HloShape tuple_of_operands() const {
    HloShape tuple;
    tuple.is_tuple = true;
    for (int i = 0; i < operand_count(); ++i)
      tuple.elements.push_back(operand_instruction(i).shape);
    return tuple;
  }

  // What hands on tuples or has a literal; all others give one array as it is.
  bool may_be_tuple_of_one() const {
    static constexpr std::string_view kNames[] = {"while",       "call",        "conditional",
                                                  "custom-call", "opt-barrier", "constant",
                                                  "copy",        "all-to-all"};
    return std::find(std::begin(kNames), std::end(kNames), instruction().opcode) !=
           std::end(kNames);
  }

  [[noreturn]] void fail_contradiction(const std::string& made) const {
    std::vector<std::string> operands;
    for (int i = 0; i < operand_count(); ++i)
      operands.push_back(print(operand_instruction(i).shape, false));
    fail(cat("the text says ", print(instruction().shape, false), ", but ", instruction().opcode,
             operands.empty() ? "" : cat(" of ", join(operands)), " gives ", made));
  }

  void set_scope() {
    const auto* metadata = instruction().get<Dictionary>("metadata");
    const std::string* op_name = metadata ? metadata->find("op_name") : nullptr;
    builder_.set_scope(op_name ? scope_of_op_name(*op_name) : "");
  }

  ImportState& state_;
  const HloComputation& computation_;
  const bool is_entry_;
  Builder builder_;
  std::vector<std::vector<Value>> leaves_;
  size_t current_ = 0;
  std::vector<Value> made_;
  bool is_set_ = false, is_unsupported_ = false;
};

}  // namespace

HandlerMap opcode_handlers() {
  HandlerMap handlers;
  for (auto entries :
       {elementwise_opcodes(), structure_opcodes(), contraction_opcodes(), reduction_opcodes(),
        index_opcodes(), control_opcodes(), collective_opcodes()})
    for (const OpcodeEntry& entry : entries) handlers.emplace(entry.opcode, entry.handler);
  return handlers;
}

HandlerMap custom_call_handlers() {
  HandlerMap handlers;
  for (const OpcodeEntry& entry : custom_call_targets())
    handlers.emplace(entry.opcode, entry.handler);
  return handlers;
}

ImportState::ImportState(const HloModule& m)
    : module(m),
      opcodes(opcode_handlers()),
      targets(custom_call_handlers()),
      regions(m.computations.size()) {
  for (size_t i = 0; i < m.computations.size(); ++i)
    computation_of_name.emplace(m.computations[i].name, static_cast<int>(i));
}

std::vector<std::vector<Value>> import_computation(ImportState& state, int computation,
                                                   Graph& graph) {
  graph.mesh = state.mesh;
  return Walk(state, computation, graph).run();
}

}  // namespace tessera::hlo

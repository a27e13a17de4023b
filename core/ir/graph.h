// Instructions and graphs: the one intermediate representation, from model to executable.
//
// A Graph is append-only and in topological order. Every value is a result of an instruction;
// inputs are `parameter` instructions. Shapes are global until the pass `localize` sets `is_local`.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/ir/attributes.h"
#include "core/ir/op_def.h"

namespace tessera {

struct Value {
  int instruction = -1;
  int result = 0;
  bool valid() const { return instruction >= 0; }
  auto operator<=>(const Value&) const = default;
};

// Values of one group are sharded together: `as` demands one and the same lying, `like` lets shardings
// flow between the members (a gradient and its parameter). Members have the same shape, except that
// dims may differ in size within a `like` group. Ids are unique within a graph, regions included.
struct ShardingGroup {
  enum class Kind : uint8_t { as, like };
  int64_t id = 0;
  Kind kind = Kind::like;
  auto operator<=>(const ShardingGroup&) const = default;
};

// What is known of one result.
struct ResultInfo {
  TensorType type;
  // How it lies on the mesh; unset before annotate, complete after propagate. With partial axes
  // after the pass insert_reshards. After localize unset on values that belong to one device alone
  // (halos, starts): they are no shard of a logical tensor.
  std::optional<Sharding> sharding;
  // The model's name per dim ("batch", "length", "embed", ...; "" where unnamed); empty: not given.
  std::vector<std::string> logical_axes;
  // Set on parameters and named activations; stable across meshes. "" otherwise.
  std::string name;
  // Read by propagation; partitioning ignores them afterwards.
  std::vector<ShardingGroup> groups = {};
  // While the graph is global, `type` is the logical tensor; its extents as stored stand here where
  // axes do not divide it (pass pad_dims). What lies beyond the logical extents is padding.
  std::optional<Shape> padded_shape = std::nullopt;
  // After localize: the logical (global) shape, where shards hold padding.
  std::optional<Shape> logical_shape = std::nullopt;

  // Of all devices' shards together; before pad_dims what the axes make of `type`.
  Shape stored_shape() const {
    return padded_shape ? *padded_shape : sharding ? sharding->padded_shape(type.shape) : type.shape;
  }
};

struct Instruction {
  const OpDef* op = nullptr;
  Attributes attributes;
  std::vector<Value> operands;
  std::vector<ResultInfo> results;
  std::string scope;        // "block.3/attention"
  bool recompute = false;   // made by rematerialisation; never merged with what is not
  // Axes chosen per factor of the op's rule (pass choose_op_shardings); empty before.
  std::vector<AxisList> factor_axes;

  bool is(const OpDef& other) const { return op == &other; }
};

// What an input is to a training step; decides which sharding rules apply and the memory report.
enum class InputKind : uint8_t { data, parameter, optimizer, accumulator, scalar };
std::string_view name_of(InputKind kind);

struct GraphInput {
  Value value;  // of the parameter instruction
  InputKind kind = InputKind::data;
};

struct GraphOutput {
  Value value;
  std::string name;
  // Index of the input whose buffer this output must overwrite, or -1.
  int alias_input = -1;
  // Demanded lying; unset: as the partitioner finds best. A partial one is kept unreduced.
  std::optional<Sharding> sharding;
};

class Graph {
 public:
  std::string name = "graph";
  MeshPtr mesh;           // null before a mesh is chosen
  bool is_local = false;  // shapes are those of shards
  // Masks stand wherever an op needs a certain content of padding (pass mask_padding); before that
  // the needs are understood.
  bool masks_padding = false;
  std::vector<Instruction> instructions;
  std::vector<GraphInput> inputs;    // in order of their parameter numbers
  std::vector<GraphOutput> outputs;

  const Instruction& at(Value value) const { return instructions[static_cast<size_t>(value.instruction)]; }
  Instruction& at(Value value) { return instructions[static_cast<size_t>(value.instruction)]; }
  const ResultInfo& info(Value value) const { return at(value).results[static_cast<size_t>(value.result)]; }
  ResultInfo& info(Value value) { return at(value).results[static_cast<size_t>(value.result)]; }
  const TensorType& type(Value value) const { return info(value).type; }
  const Sharding& sharding(Value value) const;  // TESSERA_CHECKs that there is one

  std::vector<TensorType> operand_types(const Instruction& instruction) const;
  static std::vector<TensorType> result_types(const Instruction& instruction);

  // For each instruction, the (user instruction, operand number) pairs; outputs are not users.
  struct Use {
    int user;
    int operand;
    int result;  // which result is used
  };
  std::vector<std::vector<Use>> uses() const;

  int find_input(std::string_view name) const;   // -1 where there is none
  int find_output(std::string_view name) const;
};

// The name of the value for messages: its own, else "%12" or "%12:1" with its scope.
std::string describe(const Graph& graph, Value value);

// Calls with OpCall for an instruction of a graph; keeps the operand types alive for the call.
template <typename Body>
decltype(auto) with_call(const Graph& graph, const Instruction& instruction, Body&& body) {
  const std::vector<TensorType> operands = graph.operand_types(instruction);
  return body(OpCall{operands, instruction.attributes});
}
FactorRule factor_rule(const Graph& graph, const Instruction& instruction);

}  // namespace tessera

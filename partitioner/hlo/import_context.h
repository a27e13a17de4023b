// What the translation of one opcode sees. Handlers stand in import_<family>.cpp, one function per
// opcode, and in the list of their family; import.cpp walks the computations.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/ir/builder.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

class ImportContext {
 public:
  virtual ~ImportContext() = default;
  virtual Builder& builder() = 0;
  virtual const HloModule& module() const = 0;
  virtual const HloInstruction& instruction() const = 0;
  virtual const MeshPtr& mesh() const = 0;
  // Of the devices that the module counts: where it runs on a multiple of them, `mesh` has one more axis.
  virtual const MeshPtr& own_mesh() const = 0;

  // Operands: the leaves of operand `index`, and its only leaf (UserError where it is a tuple).
  virtual std::span<const Value> leaves(int index) const = 0;
  virtual Value operand(int index) const = 0;
  virtual int operand_count() const = 0;
  virtual std::vector<Value> all_operands() const = 0;  // all leaves, in order

  // The result's leaves; checked against the instruction's shape (dtype and extents) by the walk.
  virtual void set(std::vector<Value> leaves) = 0;

  // A computation as a graph whose inputs are the leaves of its parameters, and outputs the leaves of
  // its root.
  virtual GraphRef region(const std::string& computation) = 0;

  // Adds to the list; the handler then returns without set().
  virtual void unsupported(std::string what) = 0;
  virtual void note(std::string text) = 0;

  // Attributes, with an error that names line, instruction and attribute where one is missing.
  const Ints& ints(std::string_view name) const;
  Ints ints_or_empty(std::string_view name) const;
  int64_t integer(std::string_view name) const;
  int64_t integer_or(std::string_view name, int64_t fallback) const;
  bool flag(std::string_view name) const;
  const std::string& name_of(std::string_view name) const;    // an identifier or a string
  TensorType result_type(int leaf = 0) const;
  [[noreturn]] void fail(const std::string& message) const;   // UserError with line and instruction
};

using OpcodeHandler = void (*)(ImportContext&);
struct OpcodeEntry {
  std::string_view opcode;
  OpcodeHandler handler;
};

std::span<const OpcodeEntry> elementwise_opcodes();   // add, compare, select, convert, ...
std::span<const OpcodeEntry> structure_opcodes();     // constant, iota, broadcast, reshape, slice, pad, ...
std::span<const OpcodeEntry> contraction_opcodes();   // dot, ragged-dot, convolution
std::span<const OpcodeEntry> reduction_opcodes();     // reduce, reduce-window, select-and-scatter, sort, ...
std::span<const OpcodeEntry> index_opcodes();         // gather, scatter, dynamic-slice, ...
std::span<const OpcodeEntry> control_opcodes();       // while, conditional, call, opt-barrier
std::span<const OpcodeEntry> collective_opcodes();    // all-reduce, ..., partition-id
// By custom_call_target.
std::span<const OpcodeEntry> custom_call_targets();   // Sharding, TopK, SPMDFullToShardShape, ...

}  // namespace tessera::hlo

// The walk over one computation, and what all walks of one import share. Private to the importer.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "partitioner/hlo/import_context.h"

namespace tessera::hlo {

using HandlerMap = std::unordered_map<std::string_view, OpcodeHandler>;

// All opcodes that have a handler, and the custom calls by target.
HandlerMap opcode_handlers();
HandlerMap custom_call_handlers();

// What an import has found out so far.
struct ImportState {
  explicit ImportState(const HloModule& m);

  const HloModule& module;
  MeshPtr mesh, own_mesh;
  HandlerMap opcodes, targets;
  std::unordered_map<std::string_view, int> computation_of_name;
  std::vector<GraphRef> regions;  // by computation; null before its walk
  std::set<std::string> unsupported;
  std::vector<std::string> notes;  // each once

  // The handler of an instruction; null where there is none, then listed as unsupported.
  OpcodeHandler handler_of(const HloInstruction& instruction);
};

// The computations that the entry needs, itself the last, callees before callers. Throws UserError
// where one is unknown or does not stand before its caller.
std::vector<int> needed_computations(const HloModule& module);
// Lists the opcodes, custom calls and element types of these computations that Tessera lacks.
void list_unsupported(ImportState& state, const std::vector<int>& computations);
// Opcodes that the walk itself resolves: parameter, tuple, get-tuple-element.
bool is_wiring(std::string_view opcode);

// Whether every leaf has an element type of ours.
bool has_known_types(const HloShape& shape);
int64_t leaf_count(const HloShape& shape);
// Of every leaf; f32 stands for types that Tessera lacks.
std::vector<TensorType> leaf_types(const HloShape& shape);
// "", "0", "0.1": where each leaf stands in its tuple.
std::vector<Ints> leaf_paths(const HloShape& shape);

// "jit(step)/jit(main)/block.0/dot_general" -> "block.0": what JAX puts around the user's names is
// cut.
std::string scope_of_op_name(std::string_view op_name);

// Appends a computation to `graph`: its parameters' leaves as inputs, then its instructions, then
// its root's leaves as outputs. Returns the leaves of every instruction.
std::vector<std::vector<Value>> import_computation(ImportState& state, int computation,
                                                   Graph& graph);

}  // namespace tessera::hlo

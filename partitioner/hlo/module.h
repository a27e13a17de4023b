// HLO text as data: what `jax.jit(f).lower(...).as_text(dialect="hlo")` prints, parsed and nothing
// more. Meaning comes with import.h.
//
//     module text --parse--> Module --print--> module text
//                              | import
//                              v
//                            Graph
//
// The grammar is that of XLA's HLO text before optimisation. Attributes are typed by their names
// (attributes.h); those of unknown names are kept as they stand, so that a print loses nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/ir/attributes.h"
#include "core/types/shape.h"
#include "partitioner/hlo/replica_groups.h"
#include "partitioner/hlo/sharding.h"

namespace tessera::hlo {

// f32[8,16]{1,0}, or a tuple of such: (s32[], f32[8]{0}). `token[]` and types that Tessera lacks
// keep their name; import lists them as unsupported.
struct HloShape {
  bool is_tuple = false;
  std::vector<HloShape> elements;     // of a tuple
  std::string element_type;           // "f32", "c128", "token"; "" for tuples
  std::optional<DType> dtype;         // unset where Tessera has no such type
  Shape dims;
  std::string layout;                 // "{1,0:T(8,128)}" as it stands, "" where absent; no part in equality

  // Leaves in order: those of (a, (b, c)) are a, b, c; an empty tuple has none.
  std::vector<const HloShape*> leaves() const;
  bool same_as(const HloShape& other) const;  // types and extents, whatever the layouts
};

// size=3x3 stride=2x2 pad=1_1x1_1 lhs_dilate=1x2 rhs_dilate=... rhs_reversal=1x0; unset lists are
// empty (ones, or zeros for padding).
struct Window {
  Ints size, stride, pad_low, pad_high, lhs_dilate, rhs_dilate;
  Ints rhs_reversal;
  bool operator==(const Window&) const = default;
};

// b01f_01io->b01f: where each dim of input, kernel and output stands.
struct DimLabels {
  std::string input, kernel, output;
  bool operator==(const DimLabels&) const = default;
};

// padding=lo_hi_interior x ... of the opcode pad.
struct PadConfig {
  Ints low, high, interior;
  bool operator==(const PadConfig&) const = default;
};

// slice={[a:b:s], ...}
struct SliceRanges {
  Ints start, limit, stride;
  bool operator==(const SliceRanges&) const = default;
};

struct Name {  // LT, add.3, region_0.1, rng_three_fry: an identifier, without its %
  std::string text;
  bool operator==(const Name&) const = default;
};
struct Names {  // branch_computations={a, b}, called_computations={...}
  std::vector<std::string> list;
  bool operator==(const Names&) const = default;
};
struct IntLists {  // source_target_pairs={{0,1},{1,0}}
  std::vector<Ints> lists;
  bool operator==(const IntLists&) const = default;
};
struct Dictionary {  // frontend_attributes={a="b", c={...}}, metadata={...}: values as they stand
  std::vector<std::pair<std::string, std::string>> entries;
  const std::string* find(std::string_view key) const;
  bool operator==(const Dictionary&) const = default;
};
struct Verbatim {  // anything else, balanced, as it stands
  std::string text;
  bool operator==(const Verbatim&) const = default;
};

// A string is the text between quotes with its escapes resolved.
using HloAttributeValue = std::variant<bool, int64_t, double, std::string, Name, Names, Ints, IntLists,
                                       Window, DimLabels, PadConfig, SliceRanges, HloSharding,
                                       ReplicaGroups, Dictionary, Verbatim>;
struct HloAttribute {
  std::string name;
  HloAttributeValue value;
  int line = 0;
};

// A tuple literal has elements, any other a tensor.
struct Literal {
  ConstTensor tensor;
  std::vector<Literal> elements;
};

struct HloInstruction {
  std::string name;     // without %
  HloShape shape;
  std::string opcode;   // "dynamic-update-slice"
  std::vector<int> operands;  // instructions of the same computation, all earlier
  int64_t parameter_number = -1;
  // Of a constant. Unset where its type is one that Tessera lacks: then `literal_text` alone.
  std::optional<Literal> literal;
  std::string literal_text;
  std::vector<HloAttribute> attributes;
  int line = 0;

  const HloAttribute* find(std::string_view attribute) const;
  // The value, or null where it is absent. Throws UserError (line, instruction, attribute) where it
  // is of another kind.
  template <typename T>
  const T* get(std::string_view attribute) const;
};

struct HloComputation {
  std::string name;
  std::vector<HloInstruction> instructions;
  int root = -1;
  int line = 0;

  int find(std::string_view instruction) const;       // -1 where there is none
  std::vector<int> parameters() const;                // by number; verified dense by the parser
};

// input_output_alias={ {0}: (1, {}, may-alias), {1}: (2, {0}, must-alias) } and
// buffer_donor={ (0, {}), (1, {2}) }.
struct HloAlias {
  Ints output_index;       // path into the root's tuple
  int64_t parameter = 0;
  Ints parameter_index;    // path into the parameter
  bool must = false;
  bool operator==(const HloAlias&) const = default;
};
struct HloDonor {
  int64_t parameter = 0;
  Ints parameter_index;
  bool operator==(const HloDonor&) const = default;
};

struct HloModule {
  std::string name;
  std::vector<HloComputation> computations;  // callees before their callers
  int entry = -1;
  std::vector<HloAlias> aliases;
  std::vector<HloDonor> donors;
  std::optional<int64_t> num_partitions, replica_count;
  Dictionary frontend_attributes;            // the module's, with xla.sdy.meshes
  std::vector<HloAttribute> attributes;      // the other ones: entry_computation_layout, ...

  const HloComputation& entry_computation() const { return computations[static_cast<size_t>(entry)]; }
  int find(std::string_view computation) const;       // -1 where there is none
  int64_t instruction_count() const;
};

// Where in the text, for messages: "line 12 (%dot.3)".
std::string where(const HloInstruction& instruction);

// Throws UserError: line, column, what stands there and what was expected. Checks names, arities,
// types of literals and the roots; not the shapes of results (import does).
HloModule parse(std::string_view text);
// The canonical text; parse(print(m)) prints the same, and is the same program.
std::string print(const HloModule& module);
std::string print(const HloShape& shape, bool with_layout = true);

}  // namespace tessera::hlo

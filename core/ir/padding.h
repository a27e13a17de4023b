// What padding holds, and what it must hold.
//
// A dim whose axes do not divide it is stored larger than it is (ResultInfo::padded_shape). What
// lies beyond the logical extent is garbage, NaN included, unless it is proved otherwise here. A
// claim about (value, dim) holds on one device's tensor for every element beyond the logical extent
// of the dim, wherever it lies in the other dims; it is a statement about what is stored, so that of
// a partial value every addend obeys it.
//
//                    zero   one   min_identity   max_identity   copy of valid
//                       \     \        |              /             /
//                                   unknown
//
// min_identity is what min leaves alone (+infinity or the largest integer), max_identity likewise
// (-infinity or the lowest). A join of different contents is unknown, and 0 x unknown is unknown,
// because 0 x NaN is NaN.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/types/dtype.h"
#include "core/types/reduce_kind.h"

namespace tessera {

class Graph;
struct FactorRule;
struct OpCall;
struct OpDef;
struct Instruction;
struct TensorType;

enum class PadContent : uint8_t {
  unknown,
  zero,
  one,
  min_identity,
  max_identity,
  copy_of_valid,  // the same as some element that is valid in this dim
};
std::string_view name_of(PadContent content);
std::ostream& operator<<(std::ostream& out, PadContent content);

// By dim of one tensor. A dim without padding is unknown too: nobody asks.
using PadContents = std::vector<PadContent>;

inline PadContent join(PadContent a, PadContent b) { return a == b ? a : PadContent::unknown; }

// The number that a constant content stands for in a dtype; none for unknown and copies.
std::optional<double> number_of(PadContent content, DType dtype);
// The constant content that every element of the value `number` has, else unknown.
PadContent content_of(double number, DType dtype);
// What a combiner leaves alone: sum zero, product one, min min_identity ...
PadContent identity_content(ReduceKind kind);

// What a transfer or a need is computed from. Types and attributes are logical.
struct PadFacts {
  const OpCall& call;
  std::span<const TensorType> results;
  const FactorRule& rule;
  std::span<const PadContents> operands;     // contents by operand and dim
  std::span<const std::vector<bool>> padded;  // which operand dims have padding at all
  // Dim `dim` of operand `operand` holds a number (a constant content) or has no padding.
  bool is_number(int operand, int dim) const;
  // The same for all dims of the operand: 0 x its elements is 0 everywhere but at invalid numbers.
  bool is_number(int operand) const;
};

// `content` in the padding of dim `dim` of operand `operand`.
struct PadNeed {
  int operand = 0;
  int dim = 0;
  PadContent content = PadContent::zero;
  bool operator==(const PadNeed&) const = default;
};

// Transfer of an op that moves elements along with their dims: a result dim holds what the operand
// dim with the same single factor holds (first operand that has it).
std::vector<PadContents> transfer_by_factors(const PadFacts& facts);
// Of a sum of products of one element of every operand (dot_general): zero where one operand is zero
// and all others hold numbers.
std::vector<PadContents> transfer_of_product(const PadFacts& facts);
// Transfer by evaluating the op on the contents, elementwise: all operands of the results' rank.
std::vector<PadContents> transfer_by_evaluation(const OpDef& op, const PadFacts& facts);

// All results zero along a dim in which all operands that have it are zero.
std::vector<PadContents> transfer_of_zeros(const PadFacts& facts);
// Every dim of every result the same.
std::vector<PadContents> transfer_constant(const PadFacts& facts, PadContent content);
// Nothing.
std::vector<PadNeed> no_pad_needs(const PadFacts& facts);

// With the slots' defaults.
std::vector<PadContents> pad_transfer(const OpDef& op, const PadFacts& facts);
std::vector<PadNeed> pad_needs(const OpDef& op, const PadFacts& facts);

// Of every value of a global graph after pad_dims, by instruction and result. Inputs other than data
// are zero in their padding: that is an invariant of stored tensors.
using GraphPadding = std::vector<std::vector<PadContents>>;
GraphPadding analyse_padding(const Graph& graph);

// The needs of one instruction that concern dims with padding; `contents` of its operands.
std::vector<PadNeed> open_needs(const Graph& graph, const Instruction& instruction,
                                std::span<const PadContents> contents);
// The contents of the operands of an instruction.
std::vector<PadContents> operand_contents(const Graph& graph, const GraphPadding& padding,
                                          const Instruction& instruction);

}  // namespace tessera

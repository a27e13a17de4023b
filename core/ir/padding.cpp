#include "core/ir/padding.h"

#include <algorithm>
#include <array>
#include <limits>
#include <ostream>

#include "core/ir/graph.h"

namespace tessera {

std::string_view name_of(PadContent content) {
  static constexpr std::array<std::string_view, 6> kNames = {
      "unknown", "zero", "one", "min_identity", "max_identity", "copy_of_valid"};
  return kNames[static_cast<size_t>(content)];
}

std::ostream& operator<<(std::ostream& out, PadContent content) { return out << name_of(content); }

namespace {

// The largest (or lowest) number of the dtype; none for complex numbers.
std::optional<double> extreme(DType dtype, bool is_lowest) {
  const double sign = is_lowest ? -1 : 1;
  if (dtype == DType::f8e4m3fn) return sign * 448;  // it has no infinities
  if (is_float(dtype)) return sign * std::numeric_limits<double>::infinity();
  return dispatch_dtype(dtype, [&]<typename T>() -> std::optional<double> {
    if constexpr (std::is_same_v<T, bool>) return is_lowest ? 0 : 1;
    if constexpr (std::is_integral_v<T>)
      return static_cast<double>(is_lowest ? std::numeric_limits<T>::min()
                                           : std::numeric_limits<T>::max());
    return std::nullopt;
  });
}

bool is_constant(PadContent content) {
  return content != PadContent::unknown && content != PadContent::copy_of_valid;
}

}  // namespace

std::optional<double> number_of(PadContent content, DType dtype) {
  switch (content) {
    case PadContent::zero:
      return 0;
    case PadContent::one:
      return 1;
    case PadContent::min_identity:
      return extreme(dtype, false);
    case PadContent::max_identity:
      return extreme(dtype, true);
    case PadContent::unknown:
    case PadContent::copy_of_valid:
      break;
  }
  return std::nullopt;
}

PadContent content_of(double number, DType dtype) {
  for (PadContent content : {PadContent::zero, PadContent::one, PadContent::min_identity,
                             PadContent::max_identity})
    if (number_of(content, dtype) == number) return content;
  return PadContent::unknown;
}

PadContent identity_content(ReduceKind kind) {
  switch (kind) {
    case ReduceKind::sum:
    case ReduceKind::logical_or:
      return PadContent::zero;
    case ReduceKind::product:
    case ReduceKind::logical_and:
      return PadContent::one;
    case ReduceKind::max:
      return PadContent::max_identity;
    case ReduceKind::min:
      return PadContent::min_identity;
  }
  return PadContent::unknown;
}

bool PadFacts::is_number(int operand, int dim) const {
  const auto o = static_cast<size_t>(operand), d = static_cast<size_t>(dim);
  const PadContent content = operands[o][d];
  // 0 x infinity is NaN, too.
  return !padded[o][d] || content == PadContent::zero || content == PadContent::one ||
         content == PadContent::copy_of_valid;
}

bool PadFacts::is_number(int operand) const {
  for (size_t d = 0; d < operands[static_cast<size_t>(operand)].size(); ++d)
    if (!is_number(operand, static_cast<int>(d))) return false;
  return true;
}

namespace {

std::vector<PadContents> nothing_known(const PadFacts& facts) {
  std::vector<PadContents> contents;
  for (const TensorType& result : facts.results)
    contents.emplace_back(static_cast<size_t>(result.rank()), PadContent::unknown);
  return contents;
}

}  // namespace

std::vector<PadContents> transfer_by_factors(const PadFacts& facts) {
  std::vector<PadContents> contents = nothing_known(facts);
  for (size_t r = 0; r < contents.size(); ++r)
    for (size_t d = 0; d < contents[r].size(); ++d) {
      const std::vector<int>& factors = facts.rule.results[r][d];
      if (factors.empty()) continue;
      std::optional<PadContent> found;
      bool is_in_operand = false;
      for (size_t o = 0; o < facts.rule.operands.size(); ++o)
        for (size_t e = 0; e < facts.rule.operands[o].size(); ++e) {
          const std::vector<int>& others = facts.rule.operands[o][e];
          is_in_operand = is_in_operand || std::count(others.begin(), others.end(), factors[0]);
          if (others != factors) continue;
          found = found ? join(*found, facts.operands[o][e]) : facts.operands[o][e];
        }
      // A dim that only the result has repeats its elements.
      contents[r][d] = found ? *found
                       : is_in_operand ? PadContent::unknown
                                       : PadContent::copy_of_valid;
    }
  return contents;
}

namespace {

// Calls with (result, dim, factor) for result dims of one factor.
template <typename Body>
void for_single_factors(const PadFacts& facts, const Body& body) {
  for (size_t r = 0; r < facts.rule.results.size(); ++r)
    for (size_t d = 0; d < facts.rule.results[r].size(); ++d)
      if (facts.rule.results[r][d].size() == 1) body(r, d, facts.rule.results[r][d][0]);
}

// The dim of the operand that is `factor` alone, or -1.
int dim_with(const PadFacts& facts, size_t operand, int factor) {
  const TensorFactors& dims = facts.rule.operands[operand];
  for (size_t d = 0; d < dims.size(); ++d)
    if (dims[d] == std::vector<int>{factor}) return static_cast<int>(d);
  return -1;
}

}  // namespace

std::vector<PadContents> transfer_of_product(const PadFacts& facts) {
  std::vector<PadContents> contents = nothing_known(facts);
  for_single_factors(facts, [&](size_t r, size_t d, int factor) {
    for (size_t o = 0; o < facts.operands.size(); ++o) {
      const int dim = dim_with(facts, o, factor);
      if (dim < 0 || facts.operands[o][static_cast<size_t>(dim)] != PadContent::zero) continue;
      bool others_are_numbers = true;
      for (size_t other = 0; other < facts.operands.size(); ++other)
        others_are_numbers =
            others_are_numbers && (other == o || facts.is_number(static_cast<int>(other)));
      if (others_are_numbers) contents[r][d] = PadContent::zero;
    }
  });
  return contents;
}

std::vector<PadContents> transfer_of_zeros(const PadFacts& facts) {
  std::vector<PadContents> contents = nothing_known(facts);
  for_single_factors(facts, [&](size_t r, size_t d, int factor) {
    bool any = false, all = true;
    for (size_t o = 0; o < facts.operands.size(); ++o)
      if (const int dim = dim_with(facts, o, factor); dim >= 0) {
        any = true;
        all = all && facts.operands[o][static_cast<size_t>(dim)] == PadContent::zero;
      }
    if (any && all) contents[r][d] = PadContent::zero;
  });
  return contents;
}

std::vector<PadContents> transfer_constant(const PadFacts& facts, PadContent content) {
  std::vector<PadContents> contents = nothing_known(facts);
  for (PadContents& dims : contents) std::fill(dims.begin(), dims.end(), content);
  return contents;
}

std::vector<PadNeed> no_pad_needs(const PadFacts&) { return {}; }

namespace {

// The content of padding along dim `dim` of all results, from numbers in that of the operands.
std::vector<PadContent> evaluate_contents(const OpDef& op, const PadFacts& facts, size_t dim,
                                          int rank) {
  std::vector<PadContent> unknown(facts.results.size(), PadContent::unknown);
  const Shape one_each(std::vector<int64_t>(static_cast<size_t>(rank), 1));
  std::vector<TensorType> types;
  std::vector<HostTensor> values;
  bool all_copies = true, has_zero = false, all_numbers = true;
  for (size_t o = 0; o < facts.call.operands.size(); ++o) {
    const TensorType& type = facts.call.operands[o];
    if (type.rank() != rank) return unknown;
    const PadContent content = facts.operands[o][dim];
    all_copies = all_copies && content == PadContent::copy_of_valid;
    has_zero = has_zero || content == PadContent::zero;
    all_numbers = all_numbers && (is_constant(content) || content == PadContent::copy_of_valid);
    const std::optional<double> number = number_of(content, type.dtype);
    types.push_back({type.dtype, one_each});
    if (number) values.push_back(HostTensor::filled(types.back(), *number));
  }
  if (types.empty()) return unknown;
  if (all_copies) return std::vector<PadContent>(facts.results.size(), PadContent::copy_of_valid);
  // A valid number times zero.
  if (values.size() != types.size())
    return op.name == "multiply" && has_zero && all_numbers
               ? std::vector<PadContent>{PadContent::zero}
               : unknown;
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& value : values) pointers.push_back(&value);
  std::vector<HostTensor> outs;
  for (const TensorType& result : facts.results)
    outs.emplace_back(TensorType{result.dtype, one_each});
  op.eval({types, facts.call.attributes}, pointers, outs);
  for (size_t r = 0; r < outs.size(); ++r)
    unknown[r] = content_of(outs[r].get_real(0), outs[r].dtype());
  return unknown;
}

}  // namespace

std::vector<PadContents> transfer_by_evaluation(const OpDef& op, const PadFacts& facts) {
  std::vector<PadContents> contents = nothing_known(facts);
  const int rank = facts.results[0].rank();
  for (int d = 0; d < rank; ++d) {
    const std::vector<PadContent> found =
        evaluate_contents(op, facts, static_cast<size_t>(d), rank);
    for (size_t r = 0; r < contents.size(); ++r) contents[r][static_cast<size_t>(d)] = found[r];
  }
  return contents;
}

std::vector<PadContents> pad_transfer(const OpDef& op, const PadFacts& facts) {
  if (op.pad_transfer) return op.pad_transfer(facts);
  return op.elementwise ? transfer_by_evaluation(op, facts) : nothing_known(facts);
}

std::vector<PadNeed> pad_needs(const OpDef& op, const PadFacts& facts) {
  if (op.pad_needs) return op.pad_needs(facts);
  std::vector<PadNeed> needs;
  for (size_t o = 0; o < facts.rule.operands.size() && o < facts.operands.size(); ++o)
    for (size_t d = 0; d < facts.rule.operands[o].size(); ++d)
      for (int f : facts.rule.operands[o][d]) {
        const Factor& factor = facts.rule.factors[static_cast<size_t>(f)];
        if (factor.kind == FactorKind::reduction)
          needs.push_back(
              {static_cast<int>(o), static_cast<int>(d), identity_content(factor.reduce)});
      }
  return needs;
}

namespace {

std::vector<bool> padded_dims(const ResultInfo& info) {
  std::vector<bool> padded(static_cast<size_t>(info.type.rank()), false);
  if (!info.sharding) return padded;
  const Shape stored = info.stored_shape();
  for (int d = 0; d < info.type.rank(); ++d)
    padded[static_cast<size_t>(d)] = stored[d] != info.type.shape[d];
  return padded;
}

bool satisfies(PadContent has, PadContent need, DType dtype) {
  // Two names of one number: true is what and and min leave alone.
  const auto number = number_of(has, dtype);
  return has == need || (number && number == number_of(need, dtype)) || (has == PadContent::copy_of_valid && (need == PadContent::min_identity ||
                                                              need == PadContent::max_identity));
}

// What is known once a mask has written `content` along `dim`: where another dim's padding meets
// this one, its old content is overwritten.
void overwrite(PadContents& contents, const std::vector<bool>& padded, int dim,
               PadContent content) {
  for (size_t d = 0; d < contents.size(); ++d)
    if (padded[d] && contents[d] != content) contents[d] = PadContent::unknown;
  contents[static_cast<size_t>(dim)] = content;
}

template <typename Body>
decltype(auto) with_facts(const Graph& graph, const Instruction& instruction,
                          std::span<const PadContents> contents, Body&& body) {
  const FactorRule rule = factor_rule(graph, instruction);
  const std::vector<TensorType> results = Graph::result_types(instruction);
  std::vector<std::vector<bool>> padded;
  for (Value operand : instruction.operands) padded.push_back(padded_dims(graph.info(operand)));
  return with_call(graph, instruction, [&](const OpCall& call) {
    return body(PadFacts{call, results, rule, contents, padded});
  });
}

bool touches_padding(const Graph& graph, const Instruction& instruction) {
  auto is_padded = [](const ResultInfo& info) {
    return info.sharding && info.stored_shape() != info.type.shape;
  };
  return std::any_of(instruction.results.begin(), instruction.results.end(), is_padded) ||
         std::any_of(instruction.operands.begin(), instruction.operands.end(),
                     [&](Value operand) { return is_padded(graph.info(operand)); });
}

}  // namespace

std::vector<PadContents> operand_contents(const Graph&, const GraphPadding& padding,
                                          const Instruction& instruction) {
  std::vector<PadContents> contents;
  for (Value operand : instruction.operands)
    contents.push_back(padding[static_cast<size_t>(operand.instruction)]
                              [static_cast<size_t>(operand.result)]);
  return contents;
}

std::vector<PadNeed> open_needs(const Graph& graph, const Instruction& instruction,
                                std::span<const PadContents> contents) {
  if (!touches_padding(graph, instruction)) return {};
  return with_facts(graph, instruction, contents, [&](const PadFacts& facts) {
    std::vector<PadNeed> open;
    for (const PadNeed& need : pad_needs(*instruction.op, facts)) {
      const auto o = static_cast<size_t>(need.operand), d = static_cast<size_t>(need.dim);
      if (!facts.padded[o][d] || satisfies(contents[o][d], need.content, facts.call.operands[o].dtype))
        continue;
      if (std::find(open.begin(), open.end(), need) == open.end()) open.push_back(need);
    }
    return open;
  });
}

GraphPadding analyse_padding(const Graph& graph) {
  TESSERA_CHECK(!graph.is_local, "padding of local graph \"", graph.name, "\"");
  GraphPadding padding(graph.instructions.size());
  for (size_t i = 0; i < graph.instructions.size(); ++i)
    for (const ResultInfo& result : graph.instructions[i].results)
      padding[i].emplace_back(static_cast<size_t>(result.type.rank()), PadContent::unknown);
  for (const GraphInput& input : graph.inputs)
    if (input.kind != InputKind::data) {
      PadContents& contents = padding[static_cast<size_t>(input.value.instruction)][0];
      std::fill(contents.begin(), contents.end(), PadContent::zero);
    }
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    if (instruction.op->has_state || !touches_padding(graph, instruction)) continue;
    std::vector<PadContents> contents = operand_contents(graph, padding, instruction);
    if (!graph.masks_padding)
      for (const PadNeed& need : open_needs(graph, instruction, contents))
        overwrite(contents[static_cast<size_t>(need.operand)],
                  padded_dims(graph.info(instruction.operands[static_cast<size_t>(need.operand)])),
                  need.dim, need.content);
    padding[i] = with_facts(graph, instruction, contents, [&](const PadFacts& facts) {
      return pad_transfer(*instruction.op, facts);
    });
  }
  return padding;
}

}  // namespace tessera

#include "core/ops/combiner.h"

#include <algorithm>
#include <cstring>

#include "core/ir/interpreter.h"
#include "core/ops/elementwise.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// The one instruction that makes the only output of a region, or null.
const Instruction* only_instruction(const Graph& region) {
  if (region.outputs.size() != 1) return nullptr;
  const Instruction& made = region.at(region.outputs[0].value);
  return made.operands.size() == 2 ? &made : nullptr;
}

int input_number(const Graph& region, Value value) {
  for (size_t i = 0; i < region.inputs.size(); ++i)
    if (region.inputs[i].value == value) return static_cast<int>(i);
  return -1;
}

void combine_element(ReduceKind kind, HostTensor& sums, int64_t at, const HostTensor& values,
                     int64_t from) {
  auto apply = [kind](auto a, auto b) { return combined(kind, a, b); };
  const DType dtype = sums.dtype();
  if (dtype == DType::c64)
    return sums.set_complex(at, apply(sums.get_complex(at), values.get_complex(from)));
  if (is_float(dtype)) return sums.set_real(at, apply(sums.get_real(at), values.get_real(from)));
  if (dtype == DType::u64)
    return sums.set_int(at,
                        static_cast<int64_t>(apply(static_cast<uint64_t>(sums.get_int(at)),
                                                   static_cast<uint64_t>(values.get_int(from)))));
  sums.set_int(at, apply(sums.get_int(at), values.get_int(from)));
}

HostTensor scalar_at(const HostTensor& tensor, int64_t index) {
  HostTensor scalar({tensor.dtype(), {}});
  const auto size = static_cast<size_t>(size_of(tensor.dtype()));
  std::memcpy(scalar.bytes().data(), tensor.bytes().data() + static_cast<size_t>(index) * size,
              size);
  return scalar;
}

const OpDef& combining_op(ReduceKind kind) {
  switch (kind) {
    case ReduceKind::sum:
      return kAdd;
    case ReduceKind::product:
      return kMultiply;
    case ReduceKind::max:
      return kMaximum;
    case ReduceKind::min:
      return kMinimum;
    case ReduceKind::logical_and:
      return kLogicalAnd;
    case ReduceKind::logical_or:
      return kLogicalOr;
  }
  TESSERA_CHECK(false, "a kind of reduction without an op");
}

}  // namespace

Value combine_values(Builder& b, ReduceKind kind, Value x, Value y) {
  return b.emit(combining_op(kind), {x, y});
}

ReduceKind numeric_kind(ReduceKind kind) {
  return kind == ReduceKind::logical_or    ? ReduceKind::max
         : kind == ReduceKind::logical_and ? ReduceKind::min
                                           : kind;
}

void check_kind(std::string_view op, ReduceKind kind, const TensorType& x) {
  const bool fits = x.dtype == DType::c64
                        ? kind == ReduceKind::sum || kind == ReduceKind::product
                        : (x.dtype == DType::pred) == (numeric_kind(kind) != kind);
  require(fits, op, ": ", name_of(kind), " is not defined for ", x);
}

std::optional<ReduceKind> as_reduce_kind(const Graph& region) {
  return region.outputs.size() == 1 && region.inputs.size() == 2 ? as_reduce_kind(region, 0)
                                                                 : std::nullopt;
}

std::optional<ReduceKind> as_reduce_kind(const Graph& region, size_t k) {
  const Instruction& made = region.at(region.outputs[k].value);
  if (made.operands.size() != 2) return std::nullopt;
  const int own = static_cast<int>(k), other = static_cast<int>(region.outputs.size() + k);
  const int a = input_number(region, made.operands[0]), b = input_number(region, made.operands[1]);
  if (std::min(a, b) != own || std::max(a, b) != other) return std::nullopt;
  const bool is_pred = region.type(region.outputs[k].value).dtype == DType::pred;
  if (made.is(kAdd)) return is_pred ? ReduceKind::logical_or : ReduceKind::sum;
  if (made.is(kMultiply)) return is_pred ? ReduceKind::logical_and : ReduceKind::product;
  if (made.is(kMaximum)) return is_pred ? ReduceKind::logical_or : ReduceKind::max;
  if (made.is(kMinimum)) return is_pred ? ReduceKind::logical_and : ReduceKind::min;
  if (made.is(kLogicalAnd) && is_pred) return ReduceKind::logical_and;
  if (made.is(kLogicalOr) && is_pred) return ReduceKind::logical_or;
  return std::nullopt;
}

std::optional<Comparison> as_comparison(const Graph& region) {
  const Instruction* made = only_instruction(region);
  if (!made || !made->is(kCompare)) return std::nullopt;
  const int a = input_number(region, made->operands[0]),
            b = input_number(region, made->operands[1]);
  if (a < 0 || b < 0 || a / 2 != b / 2 || a == b) return std::nullopt;
  Comparison comparison{a / 2, made->attributes.get<CompareDirection>(Attr::direction),
                        made->attributes.flag(Attr::total_order)};
  if (a > b) {  // y direction x
    switch (comparison.direction) {
      case CompareDirection::lt:
        comparison.direction = CompareDirection::gt;
        break;
      case CompareDirection::le:
        comparison.direction = CompareDirection::ge;
        break;
      case CompareDirection::gt:
        comparison.direction = CompareDirection::lt;
        break;
      case CompareDirection::ge:
        comparison.direction = CompareDirection::le;
        break;
      default:
        break;
    }
  }
  return comparison;
}

GraphRef combiner_of(ReduceKind kind, DType dtype) {
  auto region = std::make_shared<Graph>();
  region->name = name_of(kind);
  Builder b(*region);
  const Value x = b.input(InputKind::data, "x", {dtype, {}}),
              y = b.input(InputKind::data, "y", {dtype, {}});
  b.output(combine_values(b, kind, x, y), "combined");
  return region;
}

GraphRef comparator_of(const std::vector<DType>& dtypes, CompareDirection direction, int key) {
  auto region = std::make_shared<Graph>();
  region->name = "comparator";
  Builder b(*region);
  std::vector<Value> inputs;
  for (size_t i = 0; i < dtypes.size(); ++i)
    for (const char* side : {"x", "y"})
      inputs.push_back(b.input(InputKind::data, cat(side, i), {dtypes[i], {}}));
  b.output(compare(b, inputs[static_cast<size_t>(2 * key)],
                   inputs[static_cast<size_t>(2 * key + 1)], direction),
           "is_before");
  return region;
}

void check_region(std::string_view op, const Graph& region, const std::vector<DType>& inputs,
                  const std::vector<DType>& outputs) {
  std::vector<TensorType> takes, gives, wants, makes;
  for (const GraphInput& input : region.inputs) takes.push_back(region.type(input.value));
  for (const GraphOutput& output : region.outputs) gives.push_back(region.type(output.value));
  for (DType dtype : inputs) wants.push_back({dtype, {}});
  for (DType dtype : outputs) makes.push_back({dtype, {}});
  require(takes == wants && gives == makes, op, ": the region \"", region.name, "\" is ",
          types_text(takes), " -> ", types_text(gives), ", but must be ", types_text(wants), " -> ",
          types_text(makes));
}

void check_combiner(std::string_view op, const Graph& region, const std::vector<DType>& dtypes) {
  std::vector<DType> both = dtypes;
  both.insert(both.end(), dtypes.begin(), dtypes.end());
  check_region(op, region, both, dtypes);
}

Combiner::Combiner(const Attributes& attributes) {
  if (attributes.has(Attr::combiner)) {
    region_ = attributes.get<GraphRef>(Attr::combiner);
    kind_ = as_reduce_kind(*region_);
  } else {
    kind_ = attributes.get<ReduceKind>(Attr::reduce_kind);
  }
}

void Combiner::combine(std::span<HostTensor> accumulators, int64_t index,
                       std::span<const HostTensor* const> elements,
                       int64_t index_of_element) const {
  if (kind_ && accumulators.size() == 1)
    return combine_element(*kind_, accumulators[0], index, *elements[0], index_of_element);
  std::vector<HostTensor> inputs;
  for (const HostTensor& accumulator : accumulators)
    inputs.push_back(scalar_at(accumulator, index));
  for (const HostTensor* element : elements)
    inputs.push_back(scalar_at(*element, index_of_element));
  const std::vector<HostTensor> made = interpret(*region_, inputs);
  for (size_t i = 0; i < accumulators.size(); ++i) {
    const auto size = static_cast<size_t>(size_of(accumulators[i].dtype()));
    std::memcpy(accumulators[i].bytes().data() + static_cast<size_t>(index) * size,
                made[i].bytes().data(), size);
  }
}

}  // namespace tessera::ops

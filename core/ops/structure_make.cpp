// Ops that make values from nothing: constant and iota.
#include <limits>

#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

TensorType attribute_type(const OpCall& call) {
  return {call.attributes.get<DType>(Attr::dtype), Shape(call.attributes.ints(Attr::shape))};
}

std::vector<TensorType> infer_constant(const OpCall& call) {
  check_operand_count("constant", call, 0);
  if (call.attributes.has(Attr::value))
    return {call.attributes.get<ConstTensor>(Attr::value)->type()};
  require(call.attributes.has(Attr::scalar), "constant: needs the attribute value or scalar");
  return {attribute_type(call)};
}

void eval_constant(const OpCall& call, std::span<const HostTensor* const>,
                   std::span<HostTensor> y) {
  if (call.attributes.has(Attr::value))
    y[0] = *call.attributes.get<ConstTensor>(Attr::value);
  else
    y[0] = HostTensor::filled(attribute_type(call), call.attributes.number(Attr::scalar));
}

// One number fills any shard; a table of values is whole on every device.
FactorRule constant_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  const auto kind =
      call.attributes.has(Attr::value) ? FactorKind::need_replication : FactorKind::pass_through;
  rule.results = {dims_of(add_factors(rule, results[0].shape, kind))};
  return rule;
}

Attributes localize_constant(const OpCall& global, std::span<const TensorType> operands,
                             std::span<const TensorType> results) {
  return global.attributes.has(Attr::value) ? global.attributes
                                            : localize_shape(global, operands, results);
}

std::vector<OpSample> constant_samples() {
  const HostTensor table = HostTensor::of<double>({2, 3}, std::vector<double>{1, 2, 3, 4, 5, 6});
  return {{{}, {{Attr::value, std::make_shared<const HostTensor>(table)}}},
          {{}, {{Attr::scalar, 1.5}, {Attr::shape, Ints{4, 6}}, {Attr::dtype, DType::f64}}},
          {{}, {{Attr::scalar, 7.0}, {Attr::shape, Ints{}}, {Attr::dtype, DType::s32}}, {}, false}};
}

// ---- iota ---------------------------------------------------------------------------------------

std::vector<TensorType> infer_iota(const OpCall& call) {
  check_operand_count("iota", call, 0, 1);
  const TensorType type = attribute_type(call);
  const int64_t dimension = call.attributes.integer(Attr::dimension);
  require(dimension >= 0 && dimension < type.rank(), "iota: dimension ", dimension, " of ", type);
  require(type.dtype != DType::pred, "iota: not defined for ", type);
  return {type};
}

void eval_iota(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const auto dimension = static_cast<int>(call.attributes.integer(Attr::dimension));
  const int64_t start = start_of(x, 0), size = y[0].shape()[dimension];
  const int64_t inner = y[0].shape().strides()[dimension];
  for (int64_t i = 0; i < y[0].elements(); ++i) y[0].set_int(i, start + i / inner % size);
}

FactorRule iota_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  std::vector<int> dims;
  for (int d = 0; d < results[0].rank(); ++d)
    dims.push_back(add_factor(rule, results[0].shape[d], FactorKind::pass_through, ReduceKind::sum,
                              d == call.attributes.integer(Attr::dimension)));
  rule.results = {dims_of(dims)};
  add_starts(rule, call);
  return rule;
}

std::vector<OpSample> iota_samples() {
  auto sample = [](Ints shape, int64_t dimension, DType dtype) {
    return OpSample{
        {}, {{Attr::dimension, dimension}, {Attr::shape, shape}, {Attr::dtype, dtype}}, {}, false};
  };
  return {sample({4, 6}, 0, DType::f64), sample({4, 6}, 1, DType::s32),
          sample({8}, 0, DType::bf16)};
}

std::vector<PadContents> transfer_constant_op(const PadFacts& facts) {
  if (!facts.call.attributes.has(Attr::scalar)) return transfer_constant(facts, PadContent::unknown);
  const PadContent content =
      content_of(facts.call.attributes.number(Attr::scalar), facts.results[0].dtype);
  return transfer_constant(
      facts, content == PadContent::unknown ? PadContent::copy_of_valid : content);
}

}  // namespace

const OpDef kConstant{.name = "constant",
                      .optional_attributes = {Attr::value, Attr::scalar, Attr::shape, Attr::dtype},
                      .infer = infer_constant,
                      .eval = eval_constant,
                      .factors = constant_factors,
                      .localize = localize_constant,
                      .pad_transfer = transfer_constant_op,
                      .flops = no_flops,
                      .samples = constant_samples};
const OpDef kIota{.name = "iota",
                  .attributes = {Attr::dimension, Attr::shape, Attr::dtype},
                  .infer = infer_iota,
                  .eval = eval_iota,
                  .factors = iota_factors,
                  .localize = localize_shape,
                  .flops = no_flops,
                  .samples = iota_samples};

Value constant(Builder& b, HostTensor value) {
  return b.emit(kConstant, {},
                {{Attr::value, std::make_shared<const HostTensor>(std::move(value))}});
}
Value constant(Builder& b, double scalar, TensorType type) {
  return b.emit(
      kConstant, {},
      {{Attr::scalar, scalar}, {Attr::shape, ints_of(type.shape)}, {Attr::dtype, type.dtype}});
}
Value constant_like(Builder& b, Value x, double scalar) { return constant(b, scalar, b.type(x)); }
Value zeros_like(Builder& b, Value x) { return constant_like(b, x, 0.0); }

Value iota(Builder& b, TensorType type, int64_t dimension) {
  return b.emit(kIota, {},
                {{Attr::dimension, dimension},
                 {Attr::shape, ints_of(type.shape)},
                 {Attr::dtype, type.dtype}});
}

double identity_of(ReduceKind kind, DType dtype) {
  switch (kind) {
    case ReduceKind::sum:
    case ReduceKind::logical_or:
      return 0;
    case ReduceKind::product:
    case ReduceKind::logical_and:
      return 1;
    case ReduceKind::max:
    case ReduceKind::min:
      break;
  }
  const bool is_max = kind == ReduceKind::max;
  if (dtype == DType::f8e4m3fn) return is_max ? -448 : 448;  // it has no infinities
  if (is_float(dtype)) return (is_max ? -1 : 1) * std::numeric_limits<double>::infinity();
  return dispatch_dtype(dtype, [&]<typename T>() -> double {
    if constexpr (std::is_integral_v<T>)
      return static_cast<double>(is_max ? std::numeric_limits<T>::min()
                                        : std::numeric_limits<T>::max());
    throw_user_error("reduce: ", dtype, " has no ", name_of(kind));
  });
}

}  // namespace tessera::ops

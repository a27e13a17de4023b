#include "core/ops/random.h"

#include "core/ops/philox.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

Shape shape_of(const OpCall& call) { return Shape(call.attributes.ints(Attr::shape)); }

Ints logical_strides(const OpCall& call) {
  return call.attributes.has(Attr::strides) ? call.attributes.ints(Attr::strides)
                                            : shape_of(call).strides();
}

// Which dims have a start: those whose size in the whole tensor is above 1. A stride tells the size
// of the dim after it; that of dim 0 shows in the number of starts.
std::vector<int> dims_with_start(const Ints& strides, size_t starts) {
  std::vector<int> dims;
  for (size_t d = 1; d < strides.size(); ++d)
    if (strides[d - 1] != strides[d]) dims.push_back(static_cast<int>(d));
  if (starts > dims.size()) dims.insert(dims.begin(), 0);
  return dims;
}

std::vector<TensorType> infer(const OpCall& call) {
  const TensorType type{call.attributes.get<DType>(Attr::dtype), shape_of(call)};
  check_operand_count("random_uniform", call, 0, type.rank());
  require(is_float(type.dtype), "random_uniform: needs a float type, not ", type);
  require(static_cast<int>(logical_strides(call).size()) == type.rank(),
          "random_uniform: strides [", join(logical_strides(call), ","), "] for ", type);
  const size_t starts = call.operands.size();
  require(starts == 0 || starts == dims_with_start(logical_strides(call), starts).size(),
          "random_uniform: ", starts, " starts for ", type, " with strides [",
          join(logical_strides(call), ","), "]");
  return {type};
}

}  // namespace

int random_precision(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 53;
    case DType::f32:
      return 24;
    case DType::f16:
      return 11;
    case DType::bf16:
      return 8;
    case DType::f8e4m3fn:
      return 4;
    default:
      return 3;
  }
}

Ints random_strides(const OpCall& call) { return logical_strides(call); }

Ints strides_of_starts(const Ints& strides, size_t starts) {
  Ints steps;
  if (starts == 0) return steps;
  for (int d : dims_with_start(strides, starts)) steps.push_back(strides[static_cast<size_t>(d)]);
  return steps;
}

Ints random_start_strides(const OpCall& call) {
  return strides_of_starts(logical_strides(call), call.operands.size());
}

namespace {

void eval(const OpCall& call, std::span<const HostTensor* const> operands,
          std::span<HostTensor> results) {
  const Ints strides = logical_strides(call);
  int64_t offset = 0;
  const Ints steps = random_start_strides(call);
  for (size_t i = 0; i < steps.size(); ++i) offset += operands[i]->get_int(0) * steps[i];
  const auto seed = static_cast<uint64_t>(call.attributes.integer(Attr::seed));
  const auto site = static_cast<uint64_t>(call.attributes.integer(Attr::seed_site));
  std::vector<double> values(static_cast<size_t>(results[0].elements()));
  const Shape& shape = results[0].shape();
  walk(shape, strides, shape.strides(), [&](int64_t from, int64_t to) {
    values[to] = tessera::random_uniform(seed, site, static_cast<uint64_t>(offset + from),
                                         random_precision(results[0].dtype()));
  });
  set_reals(results[0], values);
}

FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  std::vector<int> dims;
  for (int64_t size : results[0].shape)
    dims.push_back(add_factor(rule, size, FactorKind::pass_through, ReduceKind::sum, true));
  rule.results = {dims_of(dims)};
  add_starts(rule, call);
  return rule;
}

Attributes localize(const OpCall& global, std::span<const TensorType> operands,
                    std::span<const TensorType> results) {
  Attributes local = localize_shape(global, operands, results);
  local.set(Attr::strides, logical_strides(global));
  return local;
}

// Ten rounds of two multiplications and four other operations.
double flops(const OpCall&, std::span<const TensorType> results) {
  return 60.0 * static_cast<double>(results[0].elements());
}

Attributes attributes_of(const TensorType& type, int64_t seed, int64_t seed_site) {
  return {{Attr::seed, seed},
          {Attr::seed_site, seed_site},
          {Attr::shape, ints_of(type.shape)},
          {Attr::dtype, type.dtype}};
}

std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (const TensorType& type :
       {TensorType{DType::f64, {4, 6}}, {DType::f64, {1, 4, 1, 2}}, {DType::bf16, {8}}})
    samples.push_back({{}, attributes_of(type, 7, 3), {}, false});
  return samples;
}

}  // namespace

const OpDef kRandomUniform{.name = "random_uniform",
                           .attributes = {Attr::seed, Attr::seed_site, Attr::shape, Attr::dtype},
                           .optional_attributes = {Attr::strides},
                           .infer = infer,
                           .eval = eval,
                           .factors = factors,
                           .localize = localize,
                           .flops = flops,
                           .samples = samples};

Value random_uniform(Builder& b, TensorType type, int64_t seed, int64_t seed_site) {
  return b.emit(kRandomUniform, {}, attributes_of(type, seed, seed_site));
}

}  // namespace tessera::ops

// concatenate: blocks side by side, on shards by halo exchange.
#include <algorithm>

#include "core/ops/elementwise.h"
#include "core/ops/halo.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

std::vector<TensorType> infer_concatenate(const OpCall& call) {
  require(!call.operands.empty(), "concatenate: takes at least one operand");
  TensorType type = call.operands[0];
  const auto dimension = static_cast<int>(call.attributes.integer(Attr::dimension));
  require(dimension >= 0 && dimension < type.rank(), "concatenate: dimension ", dimension, " of ",
          type);
  for (size_t i = 1; i < call.operands.size(); ++i) {
    TensorType other = call.operands[i];
    bool fits = other.rank() == type.rank();
    if (fits) {
      type.shape[dimension] += other.shape[dimension];
      other.shape[dimension] = type.shape[dimension];
    }
    require(fits && other == type, "concatenate: operands ", call.operands[0], " and ",
            call.operands[i], " differ in more than dim ", dimension);
  }
  return {type};
}

void eval_concatenate(const OpCall& call, std::span<const HostTensor* const> x,
                      std::span<HostTensor> y) {
  std::vector<int64_t> start(static_cast<size_t>(y[0].shape().rank()), 0);
  const auto dimension = static_cast<int>(call.attributes.integer(Attr::dimension));
  for (const HostTensor* block : x) {
    y[0].put(start, *block);
    start[dimension] += block->shape()[dimension];
  }
}

std::vector<Value> grad_concatenate(GradContext& c) {
  const int64_t dimension = c.attributes().integer(Attr::dimension);
  const Value dy = c.cotangent(0);
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  int64_t start = 0;
  for (int i = 0; i < c.operand_count(); ++i) {
    const int64_t limit = start + c.operand_type(i).shape[static_cast<int>(dimension)];
    if (c.needs_gradient(i)) cotangents[i] = slice_dim(c.builder(), dy, dimension, start, limit);
    start = limit;
  }
  return cotangents;
}

// Operands of half the result and more share its factor; the others are small and wanted whole.
FactorRule concatenate_factors(const OpCall& call, std::span<const TensorType> results) {
  const auto dimension = static_cast<int>(call.attributes.integer(Attr::dimension));
  const Shape& y = results[0].shape;
  int64_t joint = y[dimension];
  const auto is_large = [&](const TensorType& x) { return 2 * x.shape[dimension] >= y[dimension]; };
  for (const TensorType& x : call.operands)
    if (is_large(x)) joint = joint_extent(joint, x.shape[dimension]);
  FactorRule rule;
  std::vector<int> result;
  for (int d = 0; d < y.rank(); ++d)
    result.push_back(d != dimension ? add_factor(rule, y[d])
                     : joint > 1
                         ? rule.add(joint, call.operands.size() == 1 ? FactorKind::pass_through
                                                                     : FactorKind::permutation)
                         : add_factor(rule, y[d], FactorKind::need_replication));
  for (const TensorType& x : call.operands) {
    std::vector<int> operand = result;
    if (joint <= 1 || !is_large(x))
      operand[dimension] = add_factor(rule, x.shape[dimension], FactorKind::need_replication);
    rule.operands.push_back(dims_of(operand));
  }
  rule.results = {dims_of(result)};
  return rule;
}

std::vector<Value> partition_concatenate(PartitionContext& c) {
  Builder& b = c.builder();
  const auto dimension = static_cast<int>(c.call().attributes.integer(Attr::dimension));
  const int64_t length = c.local_result_type(0).shape[dimension];
  const AxisList axes = c.result_sharding(0).dims[static_cast<size_t>(dimension)].axes;
  const int count = static_cast<int>(c.call().operands.size());
  const Value first = AffineStart{length, 0}.value(b, axes);
  Value made;
  int64_t start = c.result_types()[0].shape[dimension];
  // From the last to the first: below its own end, an operand covers what comes after it.
  for (int i = count - 1; i >= 0; --i) {
    const CutDim cut = cut_dim(c, i, dimension);
    const int64_t end = start;
    start -= cut.size;
    const HaloWindow window{{length, -start}, length};
    const Value part =
        cut.axes.empty()
            ? own_window(b, c.operand(i), dimension, window.start.value(b, axes), length)
            : halo_window(b, c.operand(i), cut, window, {HaloFill::Kind::anything, {}});
    made = made.valid() ? select_below(b, first, end, dimension, part, made) : part;
  }
  return {made};
}

double concatenate_exchange(const OpCall& call, std::span<const TensorType> results,
                            std::span<const AxisList> axes) {
  const FactorRule rule = concatenate_factors(call, results);
  const CutShapes shapes(rule, axes);
  const auto dimension = static_cast<int>(call.attributes.integer(Attr::dimension));
  const int64_t length = shapes.local(results[0].shape, rule.results[0])[dimension];
  ExchangeBytes bytes(size_of(results[0].dtype));
  int64_t start = 0;
  for (size_t i = 0; i < call.operands.size(); ++i) {
    const Shape& x = call.operands[i].shape;
    const CutDim cut = shapes.cut(x, rule.operands[i], dimension);
    if (!cut.axes.empty())
      bytes.add(cut, {{length, -start}, length}, shapes.local(x, rule.operands[i]));
    start += cut.size;
  }
  return bytes.total();
}

std::vector<OpSample> concatenate_samples() {
  const TensorType a{DType::f64, {4, 2}}, b{DType::f64, {4, 6}};
  return {{{a, b, a}, {{Attr::dimension, int64_t{1}}}},
          {{b, b}, {{Attr::dimension, int64_t{0}}}},
          {{{DType::f64, {8, 2}}, {DType::f64, {2, 2}}, {DType::f64, {2, 2}}},
           {{Attr::dimension, int64_t{0}}}},
          {{{DType::f64, {1, 4}}, {DType::f64, {6, 4}}, {DType::f64, {1, 4}}},
           {{Attr::dimension, int64_t{0}}}}};
}

}  // namespace

const OpDef kConcatenate{.name = "concatenate",
                         .attributes = {Attr::dimension},
                         .infer = infer_concatenate,
                         .eval = eval_concatenate,
                         .grad = grad_concatenate,
                         .factors = concatenate_factors,
                         .linear = linear_in_all,
                         .partition = partition_concatenate,
                         .exchange_bytes = concatenate_exchange,
                         .flops = no_flops,
                         .samples = concatenate_samples};

Value concatenate(Builder& b, std::vector<Value> xs, int64_t dimension) {
  return b.emit(kConcatenate, std::move(xs), {{Attr::dimension, dimension}});
}

}  // namespace tessera::ops

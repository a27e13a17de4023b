// Ops that say where elements go: broadcast_in_dim, reshape, transpose.
#include <algorithm>
#include <numeric>

#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

const Ints& dimensions_of(const OpCall& call) { return call.attributes.ints(Attr::dimensions); }
Shape shape_of(const OpCall& call) { return Shape(call.attributes.ints(Attr::shape)); }

// ---- broadcast_in_dim ---------------------------------------------------------------------------

std::vector<TensorType> infer_broadcast(const OpCall& call) {
  check_operand_count("broadcast_in_dim", call, 1);
  const TensorType& x = call.operands[0];
  const Shape shape = shape_of(call);
  const Ints& dims = dimensions_of(call);
  require(static_cast<int>(dims.size()) == x.rank(), "broadcast_in_dim: ", dims.size(),
          " dimensions [", join(dims, ","), "] for operand ", x);
  for (int d = 0; d < x.rank(); ++d) {
    require(dims[d] >= 0 && dims[d] < shape.rank() && (d == 0 || dims[d] > dims[d - 1]),
            "broadcast_in_dim: dimensions [", join(dims, ","), "] must ascend within ", shape);
    require(x.shape[d] == 1 || x.shape[d] == shape[static_cast<int>(dims[d])],
            "broadcast_in_dim: dim ", d, " of ", x, " does not fit dim ", dims[d], " of ", shape);
  }
  return {{x.dtype, shape}};
}

void eval_broadcast(const OpCall& call, std::span<const HostTensor* const> x,
                    std::span<HostTensor> y) {
  const auto own = x[0]->shape().strides();
  std::vector<int64_t> strides(static_cast<size_t>(y[0].shape().rank()), 0);
  for (int d = 0; d < x[0]->shape().rank(); ++d)
    if (x[0]->shape()[d] != 1) strides[dimensions_of(call)[d]] = own[d];
  copy_elements(*x[0], 0, strides, y[0], 0, y[0].shape().strides(), y[0].shape());
}

std::vector<Value> grad_broadcast(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  Builder& b = c.builder();
  const TensorType& x = c.operand_type(0);
  const Shape& shape = c.result_type(0).shape;
  const Ints& dims = c.attributes().ints(Attr::dimensions);
  std::vector<bool> is_kept(static_cast<size_t>(shape.rank()), false);
  for (int d = 0; d < x.rank(); ++d)
    is_kept[dims[d]] = x.shape[d] == shape[static_cast<int>(dims[d])];
  Ints summed;
  for (int d = 0; d < shape.rank(); ++d)
    if (!is_kept[d]) summed.push_back(d);
  const Value dy = as_dtype(b, c.cotangent(0), c.gradient_dtype(0));
  return {reshape(b, summed.empty() ? dy : reduce(b, dy, summed), x.shape)};
}

FactorRule broadcast_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  const std::vector<int> result = add_factors(rule, results[0].shape);
  std::vector<int> operand;
  for (int d = 0; d < call.operands[0].rank(); ++d)
    operand.push_back(call.operands[0].shape[d] == 1 ? -1 : result[dimensions_of(call)[d]]);
  rule.operands = {dims_of(operand)};
  rule.results = {dims_of(result)};
  return rule;
}

std::vector<OpSample> broadcast_samples() {
  auto sample = [](Shape x, Ints shape, Ints dimensions) {
    return OpSample{{{DType::f64, x}}, {{Attr::shape, shape}, {Attr::dimensions, dimensions}}};
  };
  return {sample({6}, {4, 6}, {1}), sample({}, {2, 4}, {}), sample({4, 1}, {4, 2, 6}, {0, 2}),
          sample({4, 6}, {4, 2, 6}, {0, 2})};
}

// ---- reshape ------------------------------------------------------------------------------------

std::vector<TensorType> infer_reshape(const OpCall& call) {
  check_operand_count("reshape", call, 1);
  const Shape shape = shape_of(call);
  require(std::all_of(shape.begin(), shape.end(), [](int64_t size) { return size >= 0; }) &&
              shape.elements() == call.operands[0].elements(),
          "reshape: ", call.operands[0], " has ", call.operands[0].elements(), " elements, ", shape,
          " has ", shape.elements());
  return {{call.operands[0].dtype, shape}};
}

void eval_reshape(const OpCall& call, std::span<const HostTensor* const> x,
                  std::span<HostTensor> y) {
  y[0] = x[0]->reshaped(shape_of(call));
}

std::vector<Value> grad_reshape(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  return {reshape(c.builder(), c.cotangent(0), c.operand_type(0).shape)};
}

// Walks both shapes from the major end and takes the greatest common divisor of what is left of the
// two current dims as a factor: [6,4] -> [2,12] gives i=2 (2 of 6), j=3 (3 of 12), k=4. Where it is
// 1 with something left on both sides ([4,3] -> [6,2] after i=2), what follows has no common blocks
// until both dims end together, and needs replication.
class ReshapeWalk {
 public:
  ReshapeWalk(const Shape& from, const Shape& to) : sides_{Side(from), Side(to)} {}

  FactorRule run() {
    while (sides_[0].load() && sides_[1].load()) {
      const int64_t common = std::gcd(sides_[0].left, sides_[1].left);
      if (common > 1) {
        const int factor = rule_.add(common);
        for (Side& side : sides_) side.take(common, factor);
      } else {
        skip_segment();
      }
    }
    rule_.operands = {sides_[0].dims};
    rule_.results = {sides_[1].dims};
    return rule_;
  }

 private:
  struct Side {
    explicit Side(const Shape& s) : shape(s), dims(static_cast<size_t>(s.rank())) {}
    // Moves on to a dim with something left; false at the end.
    bool load() {
      while (left == 1 && dim + 1 < shape.rank()) left = shape[++dim];
      return left != 1;
    }
    void take(int64_t size, int factor) {
      dims[static_cast<size_t>(dim)].push_back(factor);
      left /= size;
    }
    const Shape& shape;
    TensorFactors dims;
    int dim = -1;
    int64_t left = 1;
  };

  // Gives the rest of the current dims, and whole dims after them, factors of their own until both
  // sides have covered the same number of elements.
  void skip_segment() {
    int64_t covered[2] = {take_rest(0), take_rest(1)};
    while (covered[0] != covered[1]) {
      const int behind = covered[0] < covered[1] ? 0 : 1;
      if (!sides_[behind].load()) return;
      covered[behind] *= take_rest(behind);
    }
  }

  int64_t take_rest(int side) {
    const int64_t size = sides_[side].left;
    sides_[side].take(size, rule_.add(size, FactorKind::need_replication));
    return size;
  }

  FactorRule rule_;
  Side sides_[2];
};

FactorRule reshape_factors(const OpCall& call, std::span<const TensorType> results) {
  if (results[0].elements() == 0) {  // no block is in common with nothing
    FactorRule rule;
    rule.operands = {
        dims_of(add_factors(rule, call.operands[0].shape, FactorKind::need_replication))};
    rule.results = {dims_of(add_factors(rule, results[0].shape, FactorKind::need_replication))};
    return rule;
  }
  return ReshapeWalk(call.operands[0].shape, results[0].shape).run();
}

std::vector<OpSample> reshape_samples() {
  auto sample = [](Shape x, Ints shape) {
    return OpSample{{{DType::f64, x}}, {{Attr::shape, shape}}};
  };
  return {sample({6, 4}, {2, 12}),      sample({2, 4, 8}, {2, 4, 4, 2}),
          sample({2, 4, 4, 2}, {8, 8}), sample({4, 6}, {6, 4}),
          sample({1, 8, 1}, {8}),       sample({4, 3, 8}, {6, 2, 8}),
          sample({2, 6, 4}, {2, 4, 6}), sample({8}, {2, 1, 4})};
}

// ---- transpose ----------------------------------------------------------------------------------

std::vector<TensorType> infer_transpose(const OpCall& call) {
  check_operand_count("transpose", call, 1);
  const TensorType& x = call.operands[0];
  Ints sorted = dimensions_of(call);
  std::sort(sorted.begin(), sorted.end());
  bool is_permutation = static_cast<int>(sorted.size()) == x.rank();
  for (size_t i = 0; i < sorted.size(); ++i) is_permutation &= sorted[i] == static_cast<int64_t>(i);
  require(is_permutation, "transpose: [", join(dimensions_of(call), ","),
          "] is not a permutation of the dims of ", x);
  Shape shape;
  for (int64_t d : dimensions_of(call)) shape.push_back(x.shape[static_cast<int>(d)]);
  return {{x.dtype, shape}};
}

void eval_transpose(const OpCall& call, std::span<const HostTensor* const> x,
                    std::span<HostTensor> y) {
  const auto own = x[0]->shape().strides();
  std::vector<int64_t> strides;
  for (int64_t d : dimensions_of(call)) strides.push_back(own[d]);
  copy_elements(*x[0], 0, strides, y[0], 0, y[0].shape().strides(), y[0].shape());
}

std::vector<Value> grad_transpose(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  const Ints& dims = c.attributes().ints(Attr::dimensions);
  Ints inverse(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) inverse[dims[i]] = static_cast<int64_t>(i);
  return {transpose(c.builder(), c.cotangent(0), inverse)};
}

FactorRule transpose_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const std::vector<int> operand = add_factors(rule, call.operands[0].shape);
  std::vector<int> result;
  for (int64_t d : dimensions_of(call)) result.push_back(operand[d]);
  rule.operands = {dims_of(operand)};
  rule.results = {dims_of(result)};
  return rule;
}

std::vector<OpSample> transpose_samples() {
  return {{{{DType::f64, {4, 6}}}, {{Attr::dimensions, Ints{1, 0}}}},
          {{{DType::f64, {2, 4, 1, 6}}}, {{Attr::dimensions, Ints{2, 0, 3, 1}}}}};
}

}  // namespace

const OpDef kBroadcastInDim{.name = "broadcast_in_dim",
                            .attributes = {Attr::shape, Attr::dimensions},
                            .infer = infer_broadcast,
                            .eval = eval_broadcast,
                            .grad = grad_broadcast,
                            .factors = broadcast_factors,
                            .linear = linear_in_all,
                            .localize = localize_shape,
                            .pad_transfer = transfer_by_factors,
                            .flops = no_flops,
                            .samples = broadcast_samples};
const OpDef kReshape{.name = "reshape",
                     .attributes = {Attr::shape},
                     .infer = infer_reshape,
                     .eval = eval_reshape,
                     .grad = grad_reshape,
                     .factors = reshape_factors,
                     .linear = linear_in_all,
                     .localize = localize_shape,
                     .pad_transfer = transfer_by_factors,
                     .flops = no_flops,
                     .samples = reshape_samples,
                     .alias = [](const OpCall&, int) { return 0; }};
const OpDef kTranspose{.name = "transpose",
                       .attributes = {Attr::dimensions},
                       .infer = infer_transpose,
                       .eval = eval_transpose,
                       .grad = grad_transpose,
                       .factors = transpose_factors,
                       .linear = linear_in_all,
                       .pad_transfer = transfer_by_factors,
                       .flops = no_flops,
                       .samples = transpose_samples};

Value broadcast_in_dim(Builder& b, Value x, const Shape& shape, Ints dimensions) {
  return b.emit(kBroadcastInDim, {x},
                {{Attr::shape, ints_of(shape)}, {Attr::dimensions, std::move(dimensions)}});
}
Value broadcast_scalar(Builder& b, Value x, const Shape& shape) {
  return shape.rank() == 0 ? x : broadcast_in_dim(b, x, shape, {});
}
Value broadcast_last(Builder& b, Value x, const Shape& shape) {
  if (b.shape(x) == shape) return x;
  Ints dimensions(static_cast<size_t>(b.shape(x).rank()));
  std::iota(dimensions.begin(), dimensions.end(), shape.rank() - b.shape(x).rank());
  return broadcast_in_dim(b, x, shape, dimensions);
}
Value reshape(Builder& b, Value x, const Shape& shape) {
  if (b.shape(x) == shape) return x;
  return b.emit(kReshape, {x}, {{Attr::shape, ints_of(shape)}});
}
Value transpose(Builder& b, Value x, Ints dimensions) {
  return b.emit(kTranspose, {x}, {{Attr::dimensions, std::move(dimensions)}});
}

}  // namespace tessera::ops

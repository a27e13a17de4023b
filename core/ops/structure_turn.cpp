// Ops that turn a dim round: reverse and rotate.
#include <algorithm>

#include "core/ops/elementwise.h"
#include "core/ops/halo.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// ---- reverse ------------------------------------------------------------------------------------

std::vector<TensorType> infer_reverse(const OpCall& call) {
  check_operand_count("reverse", call, 1);
  const Ints& dims = call.attributes.ints(Attr::dimensions);
  for (int64_t d : dims)
    require(d >= 0 && d < call.operands[0].rank() && std::count(dims.begin(), dims.end(), d) == 1,
            "reverse: dimensions [", join(dims, ","), "] of ", call.operands[0]);
  return {call.operands[0]};
}

void eval_reverse(const OpCall& call, std::span<const HostTensor* const> x,
                  std::span<HostTensor> y) {
  std::vector<int64_t> steps = x[0]->shape().strides();
  int64_t offset = 0;
  for (int64_t d : call.attributes.ints(Attr::dimensions)) {
    offset += (x[0]->shape()[static_cast<int>(d)] - 1) * steps[d];
    steps[d] = -steps[d];
  }
  copy_elements(*x[0], offset, steps, y[0], 0, y[0].shape().strides(), y[0].shape());
}

std::vector<Value> grad_reverse(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  return {reverse(c.builder(), c.cotangent(0), c.attributes().ints(Attr::dimensions))};
}

FactorRule reverse_factors(const OpCall& call, std::span<const TensorType>) {
  return permuted_factors(call, 1, call.attributes.ints(Attr::dimensions));
}

// After mirroring shards and their elements the padding stands in front: one more halo brings the
// logical elements to position 0.
CutDim mirrored(const CutDim& cut) {
  return {cut.dim, cut.parts() * cut.shard, cut.shard, cut.axes};
}
HaloWindow behind_padding(const CutDim& cut, int64_t length) {
  return {{length, cut.parts() * cut.shard - cut.size}, length};
}

std::vector<Value> partition_reverse(PartitionContext& c) {
  Builder& b = c.builder();
  const Attributes attributes = c.call().attributes;
  const Ints dims = attributes.ints(Attr::dimensions);
  const Shape result = c.local_result_type(0).shape;
  Value x = c.operand(0);
  for (int64_t d : dims) x = mirror_shards(b, x, cut_dim(c, 0, static_cast<int>(d)).axes);
  x = reverse(b, x, dims);
  for (int64_t d : dims) {
    const CutDim cut = cut_dim(c, 0, static_cast<int>(d));
    if (cut.is_padded() || cut.shard != result[cut.dim])
      x = halo_window(b, x, mirrored(cut), behind_padding(cut, result[cut.dim]),
                      {HaloFill::Kind::anything, {}});
  }
  return {x};
}

double reverse_exchange(const OpCall& call, std::span<const TensorType> results,
                        std::span<const AxisList> axes) {
  const FactorRule rule = reverse_factors(call, results);
  const CutShapes shapes(rule, axes);
  const TensorType& x = call.operands[0];
  const Shape local = shapes.local(x.shape, rule.operands[0]);
  ExchangeBytes bytes(size_of(x.dtype));
  double sends = 0;
  for (int64_t d : call.attributes.ints(Attr::dimensions)) {
    const CutDim cut = shapes.cut(x.shape, rule.operands[0], static_cast<int>(d));
    sends += static_cast<double>(mirror_sends(cut.axes));
    if (cut.is_padded()) bytes.add(mirrored(cut), behind_padding(cut, cut.shard), local);
  }
  if (bytes.total() < 0) return -1;
  return bytes.total() + sends * static_cast<double>(local.elements() * size_of(x.dtype));
}

std::vector<OpSample> reverse_samples() {
  auto sample = [](Shape x, Ints dims) {
    return OpSample{{{DType::f64, x}}, {{Attr::dimensions, dims}}};
  };
  return {sample({4, 6}, {0}), sample({6, 1, 8}, {0, 2}), sample({4}, {})};
}

// ---- rotate -------------------------------------------------------------------------------------

struct Rotation {
  int dim;
  int64_t places;  // in [0, size)
};
Rotation rotation_of(const OpCall& call) {
  const auto dim = static_cast<int>(call.attributes.integer(Attr::dimension));
  const int64_t size = std::max<int64_t>(1, call.operands[0].shape[dim]);
  const int64_t places = call.attributes.integer(Attr::shift);
  return {dim, places - floor_div(places, size) * size};
}

std::vector<TensorType> infer_rotate(const OpCall& call) {
  check_operand_count("rotate", call, 1);
  const int64_t dim = call.attributes.integer(Attr::dimension);
  require(dim >= 0 && dim < call.operands[0].rank(), "rotate: dimension ", dim, " of ",
          call.operands[0]);
  return {call.operands[0]};
}

void eval_rotate(const OpCall& call, std::span<const HostTensor* const> x,
                 std::span<HostTensor> y) {
  const auto [dim, places] = rotation_of(call);
  const std::vector<int64_t> steps = x[0]->shape().strides();
  Shape front = x[0]->shape(), back = front;
  front[dim] -= places;
  back[dim] = places;
  copy_elements(*x[0], places * steps[dim], steps, y[0], 0, steps, front);
  copy_elements(*x[0], 0, steps, y[0], front[dim] * steps[dim], steps, back);
}

std::vector<Value> grad_rotate(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  return {rotate(c.builder(), c.cotangent(0), c.attributes().integer(Attr::dimension),
                 -c.attributes().integer(Attr::shift))};
}

FactorRule rotate_factors(const OpCall& call, std::span<const TensorType>) {
  return permuted_factors(call, 1, {call.attributes.integer(Attr::dimension)});
}

// Whole shards form a ring: a device reads the end of one and the beginning of the next.
Value rotate_ring(Builder& b, Value x, const CutDim& cut, int64_t places) {
  auto fetch = [&](int64_t hop, int64_t begin, int64_t end) {
    Value part = begin == 0 && end == cut.shard ? x : slice_dim(b, x, cut.dim, begin, end);
    hop %= cut.parts();
    return hop == 0 ? part : shift(b, part, cut.axes, -hop, true);
  };
  const int64_t hop = places / cut.shard, within = places % cut.shard;
  const Value front = fetch(hop, within, cut.shard);
  return within == 0 ? front : concatenate(b, {front, fetch(hop + 1, 0, within)}, cut.dim);
}

std::vector<Value> partition_rotate(PartitionContext& c) {
  Builder& b = c.builder();
  const auto [dim, places] = rotation_of(c.call());
  const CutDim cut = cut_dim(c, 0, dim);
  const int64_t length = c.local_result_type(0).shape[dim];
  const Value x = c.operand(0);
  if (!cut.is_padded() && cut.shard == length) return {rotate_ring(b, x, cut, places)};
  const HaloFill anything{HaloFill::Kind::anything, {}};
  const AffineStart start{length, places};
  const Value front = halo_window(b, x, cut, {start, length}, anything);
  const Value back = halo_window(b, x, cut, {{length, places - cut.size}, length}, anything);
  return {select_below(b, start.value(b, cut.axes), cut.size, dim, front, back)};
}

double rotate_exchange(const OpCall& call, std::span<const TensorType> results,
                       std::span<const AxisList> axes) {
  const FactorRule rule = rotate_factors(call, results);
  const CutShapes shapes(rule, axes);
  const TensorType& x = call.operands[0];
  const auto [dim, places] = rotation_of(call);
  const CutDim cut = shapes.cut(x.shape, rule.operands[0], dim);
  if (cut.axes.empty()) return 0;
  const Shape local = shapes.local(x.shape, rule.operands[0]);
  ExchangeBytes bytes(size_of(x.dtype));
  if (cut.is_padded()) {
    bytes.add(cut, {{cut.shard, places}, cut.shard}, local);
    bytes.add(cut, {{cut.shard, places - cut.size}, cut.shard}, local);
    return bytes.total();
  }
  const int64_t hop = places / cut.shard, within = places % cut.shard;
  const int64_t rows = (hop % cut.parts() == 0 ? 0 : cut.shard - within) +
                       ((hop + 1) % cut.parts() == 0 ? 0 : within);
  return static_cast<double>(rows * (local.elements() / cut.shard) * size_of(x.dtype));
}

std::vector<OpSample> rotate_samples() {
  auto sample = [](Shape x, int64_t dim, int64_t places) {
    return OpSample{{{DType::f64, x}}, {{Attr::dimension, dim}, {Attr::shift, places}}};
  };
  return {sample({8, 2}, 0, 2), sample({2, 6}, 1, -1), sample({8}, 0, 5), sample({4, 4}, 1, 0)};
}

}  // namespace

const OpDef kReverse{.name = "reverse",
                     .attributes = {Attr::dimensions},
                     .infer = infer_reverse,
                     .eval = eval_reverse,
                     .grad = grad_reverse,
                     .factors = reverse_factors,
                     .linear = linear_in_all,
                     .partition = partition_reverse,
                     .exchange_bytes = reverse_exchange,
                     .flops = no_flops,
                     .samples = reverse_samples};
const OpDef kRotate{.name = "rotate",
                    .attributes = {Attr::dimension, Attr::shift},
                    .infer = infer_rotate,
                    .eval = eval_rotate,
                    .grad = grad_rotate,
                    .factors = rotate_factors,
                    .linear = linear_in_all,
                    .partition = partition_rotate,
                    .exchange_bytes = rotate_exchange,
                    .flops = no_flops,
                    .samples = rotate_samples};

Value reverse(Builder& b, Value x, Ints dimensions) {
  return b.emit(kReverse, {x}, {{Attr::dimensions, std::move(dimensions)}});
}
Value rotate(Builder& b, Value x, int64_t dimension, int64_t places) {
  return b.emit(kRotate, {x}, {{Attr::dimension, dimension}, {Attr::shift, places}});
}

}  // namespace tessera::ops

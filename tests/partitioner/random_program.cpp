#include "tests/partitioner/random_program.h"

#include <numeric>

#include "core/base/error.h"
#include "core/ir/builder.h"
#include "core/ops/attention.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/loss.h"
#include "core/ops/norm.h"
#include "core/ops/random.h"
#include "core/ops/structure.h"

namespace tessera::testing {
namespace {

class Writer {
 public:
  explicit Writer(const std::vector<uint32_t>& tape) : tape_(tape), b_(graph_) {
    static const char* const kMeshes[] = {"a=2",         "a=2,b=2", "a=4",    "a=2,b=4",
                                          "a=2,b=2,c=2", "a=8",     "a=4,b=2"};
    mesh_ = std::make_shared<const Mesh>(parse_mesh(kMeshes[draw(std::size(kMeshes))]));
    graph_.mesh = mesh_;
    graph_.name = "random";
  }

  RandomProgram run() {
    const int inputs = 1 + static_cast<int>(draw(3));
    for (int i = 0; i < inputs; ++i) add_input();
    // Every op reads two or three numbers.
    while (at_ < tape_.size() && graph_.instructions.size() < 60) add_op();
    const int outputs = 1 + static_cast<int>(draw(3));
    for (int o = 0; o < outputs; ++o) add_output(o);
    return {std::move(graph_), mesh_};
  }

 private:
  uint64_t draw(uint64_t below) { return (at_ < tape_.size() ? tape_[at_++] : 0) % below; }
  bool chance(uint64_t one_in) { return draw(one_in) == 1; }
  Value pick() { return reals_[reals_.size() - 1 - draw(reals_.size())]; }

  // A legal sharding with each axis on some dim, split in two, or nowhere.
  Sharding random_sharding(const Shape& shape, bool is_open, bool may_be_partial) {
    Sharding sharding(mesh_, shape.rank(), is_open);
    for (int a = 0; a < mesh_->rank(); ++a) {
      std::vector<AxisRef> parts = {mesh_->axis(a)};
      if (parts[0].size > 2 && chance(3)) parts = {{a, 1, 2}, {a, 2, parts[0].size / 2}};
      for (const AxisRef& part : parts) {
        const auto where = static_cast<int>(draw(static_cast<uint64_t>(shape.rank()) + 2));
        if (where < shape.rank()) {
          AxisList& axes = sharding.dims[static_cast<size_t>(where)].axes;
          if (shape[where] % (size_of(axes) * part.size) == 0) axes = concat(axes, {part});
        } else if (may_be_partial && where == shape.rank()) {
          sharding.partial = concat(sharding.partial, {part});
        }
      }
    }
    return sharding;
  }

  Shape random_shape() {
    static constexpr int64_t kSizes[] = {8, 4, 8, 1, 2, 16};
    Shape shape;
    for (uint64_t rank = 1 + draw(3); rank > 0; --rank)
      shape.push_back(kSizes[draw(std::size(kSizes))]);
    return shape;
  }

  void keep(Value value) {
    if (b_.type(value).elements() <= 4096 && b_.type(value).rank() <= 4) reals_.push_back(value);
    if (!chance(4)) return;
    ResultInfo& info = graph_.info(value);
    info.name = cat("v", value.instruction, ".", value.result);
    info.sharding = random_sharding(info.type.shape, chance(2), false);
  }

  void add_input() {
    const TensorType type{DType::f64, random_shape()};
    static constexpr InputKind kKinds[] = {InputKind::data, InputKind::parameter,
                                           InputKind::accumulator};
    const Value value = b_.input(kKinds[draw(3)], cat("in", graph_.inputs.size()), type);
    graph_.info(value).sharding = random_sharding(type.shape, false, chance(3));
    if (chance(4)) graph_.info(value).sharding->partial_kind = ReduceKind::max;
    reals_.push_back(value);
  }

  void add_output(int number) {
    const Value value = reals_[reals_.size() - 1 - draw(std::min<uint64_t>(reals_.size(), 6))];
    b_.output(value, cat("out", number));
    if (chance(2))
      graph_.outputs.back().sharding = random_sharding(b_.shape(value), false, chance(2));
  }

  Value integers(const Shape& shape, int64_t below) {
    // Exact on every sharding: from iotas.
    const Value index = ops::iota(b_, {DType::s32, shape},
                                  static_cast<int64_t>(draw(static_cast<uint64_t>(shape.rank()))));
    const Value twice = ops::add(b_, ops::multiply(b_, index, ops::constant_like(b_, index, 3)),
                                 ops::constant_like(b_, index, static_cast<double>(draw(5))));
    return ops::minimum(b_, twice, ops::constant_like(b_, twice, static_cast<double>(below - 1)));
  }

  void add_op();
  void add_dot(Value x);
  void add_reshape(Value x);
  void add_composite(Value x);

  const std::vector<uint32_t>& tape_;
  size_t at_ = 0;
  Graph graph_;
  Builder b_;
  MeshPtr mesh_;
  std::vector<Value> reals_;
};

void Writer::add_dot(Value x) {
  // Against a transposed or plain earlier value of a fitting dim, else against itself.
  const Shape shape = b_.shape(x);
  const auto dim = static_cast<int64_t>(draw(static_cast<uint64_t>(shape.rank())));
  Value other = x;
  int64_t other_dim = dim;
  for (size_t tries = 0; tries < reals_.size(); ++tries) {
    const Value candidate = pick();
    for (int d = 0; d < b_.shape(candidate).rank(); ++d)
      if (b_.shape(candidate)[d] == shape[static_cast<int>(dim)] &&
          b_.shape(candidate).rank() + shape.rank() <= 5) {
        other = candidate;
        other_dim = d;
      }
    if (other != x) break;
  }
  if (2 * shape.rank() > 6 && other == x) return;
  ops::DotDims dims{{dim}, {other_dim}};
  if (chance(2))
    for (int d = 0; d < std::min(shape.rank(), b_.shape(other).rank()); ++d)
      if (d != dim && d != other_dim && shape[d] == b_.shape(other)[d]) {
        dims.lhs_batch.push_back(d);
        dims.rhs_batch.push_back(d);
        break;
      }
  keep(ops::scale(b_, ops::dot_general(b_, x, other, dims), 0.25));
}

void Writer::add_reshape(Value x) {
  const Shape shape = b_.shape(x);
  if (shape.rank() >= 2 && chance(2)) {  // merge two neighbours
    const auto at = static_cast<int>(draw(static_cast<uint64_t>(shape.rank() - 1)));
    Shape merged;
    for (int d = 0; d < shape.rank(); ++d)
      d == at + 1 ? void(merged[merged.rank() - 1] *= shape[d]) : merged.push_back(shape[d]);
    return keep(ops::reshape(b_, x, merged));
  }
  const auto at = static_cast<int>(draw(static_cast<uint64_t>(shape.rank())));
  if (shape[at] < 4 || shape.rank() > 3) return;
  Shape split;
  for (int d = 0; d < shape.rank(); ++d) {
    if (d == at) split.push_back(chance(2) ? 2 : shape[d] / 2);
    split.push_back(d == at ? shape[d] / split[split.rank() - 1] : shape[d]);
  }
  keep(ops::reshape(b_, x, split));
}

void Writer::add_composite(Value x) {
  const Shape shape = b_.shape(x);
  const int64_t last = shape[shape.rank() - 1];
  const Shape vector{last};
  switch (draw(7)) {
    case 0: {
      const Value gain = ops::constant(b_, 1.5, {DType::f64, vector});
      const auto y = ops::layer_norm(b_, x, gain, gain, 1e-1);
      keep(y.y);
      return keep(ops::layer_norm_grad(b_, x, gain, y.mean, y.rstd, y.y).dgamma);
    }
    case 1: {
      const auto y = ops::rms_norm(b_, x, ops::constant(b_, 0.5, {DType::f64, vector}), 1e-1);
      return keep(y.y);
    }
    case 2:
      return keep(ops::sum_of_squares(b_, x));
    case 3: {
      if (shape.rank() != 2) return;
      const Value ids = integers({4, 2}, shape[0]);
      const Value rows = ops::embedding(b_, x, ids);
      keep(rows);
      return keep(ops::embedding_grad(b_, ids, rows, shape[0]));
    }
    case 4: {
      if (shape.rank() < 2 || shape.rank() > 3) return;
      Shape batch = shape;
      batch = Shape(std::vector<int64_t>(shape.begin(), shape.end() - 1));
      return keep(
          ops::softmax_cross_entropy(b_, x, integers(batch, last), std::max<int64_t>(1, last - 1))
              .loss);
    }
    case 5: {
      if (shape.rank() != 4 || shape.elements() > 1024) return;
      keep(ops::attention(b_, x, x, x, {.causal = chance(2), .scale = 0.5}).out);
      return;
    }
    default: {
      const Value noise =
          ops::random_uniform(b_, {DType::f64, shape}, 7, static_cast<int64_t>(draw(9)));
      return keep(ops::add(b_, x, noise));
    }
  }
}

void Writer::add_op() {
  const Value x = pick();
  const Shape shape = b_.shape(x);
  const uint64_t op = draw(14);
  if (shape.rank() == 0) {
    // Scalars: broadcast, or combine.
    return keep(chance(2) ? ops::tanh(b_, x) : ops::broadcast_scalar(b_, x, random_shape()));
  }
  const auto dim = static_cast<int64_t>(draw(static_cast<uint64_t>(shape.rank())));
  switch (op) {
    case 0:
      return keep(ops::tanh(b_, x));
    case 1:
    case 2:
    case 3: {  // with another value of this shape
      Value y = x;
      for (size_t i = 0; i < reals_.size(); ++i)
        if (const Value candidate = reals_[(i + draw(8)) % reals_.size()];
            b_.shape(candidate) == shape)
          y = candidate;
      return keep(op == 1     ? ops::add(b_, x, y)
                  : op == 2   ? ops::multiply(b_, x, y)
                  : chance(2) ? ops::maximum(b_, x, y)
                              : ops::subtract(b_, x, y));
    }
    case 4:
    case 5:
      return add_dot(x);
    case 6: {
      static constexpr ReduceKind kKinds[] = {ReduceKind::sum, ReduceKind::max, ReduceKind::min};
      return keep(ops::reduce(b_, x, {dim}, kKinds[draw(3)]));
    }
    case 7: {
      Shape wide = shape;
      if (shape.rank() > 3) return;
      wide.push_back(chance(2) ? 8 : 2);
      Ints dims(static_cast<size_t>(shape.rank()));
      std::iota(dims.begin(), dims.end(), 0);
      return keep(ops::broadcast_in_dim(b_, x, wide, dims));
    }
    case 8: {
      Ints order(static_cast<size_t>(shape.rank()));
      std::iota(order.begin(), order.end(), 0);
      std::swap(order[0], order[static_cast<size_t>(dim)]);
      return keep(ops::transpose(b_, x, order));
    }
    case 9:
      return add_reshape(x);
    case 10:
      return keep(ops::concatenate(b_, {x, ops::negate(b_, x)}, dim));
    case 11:
      return shape[static_cast<int>(dim)] > 1
                 ? keep(ops::slice_dim(b_, x, dim, shape[static_cast<int>(dim)] / 2,
                                       shape[static_cast<int>(dim)]))
                 : void();
    case 12: {
      // An iota takes part, so that positions matter.
      const Value index = ops::convert(b_, ops::iota(b_, {DType::s32, shape}, dim), DType::f64);
      return keep(ops::add(b_, ops::scale(b_, index, 0.125), x));
    }
    default:
      return add_composite(x);
  }
}

}  // namespace

RandomProgram random_program(const std::vector<uint32_t>& tape) { return Writer(tape).run(); }

}  // namespace tessera::testing

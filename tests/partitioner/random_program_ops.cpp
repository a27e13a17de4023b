#include <numeric>

#include "core/ops/attention.h"
#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/loss.h"
#include "core/ops/norm.h"
#include "core/ops/random.h"
#include "core/ops/structure.h"
#include "tests/partitioner/random_program_writer.h"

namespace tessera::testing {

void ProgramWriter::add_dot(Value x) {
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

void ProgramWriter::add_reshape(Value x) {
  const Shape shape = b_.shape(x);
  if (shape.rank() >= 2 && chance(2)) {  // merge two neighbours
    const auto at = static_cast<int>(draw(static_cast<uint64_t>(shape.rank() - 1)));
    Shape merged;
    for (int d = 0; d < shape.rank(); ++d)
      d == at + 1 ? void(merged[merged.rank() - 1] *= shape[d]) : merged.push_back(shape[d]);
    return keep(ops::reshape(b_, x, merged));
  }
  const auto at = static_cast<int>(draw(static_cast<uint64_t>(shape.rank())));
  if (shape[at] < 4 || shape[at] % 2 != 0 || shape.rank() > 3) return;
  Shape split;
  for (int d = 0; d < shape.rank(); ++d) {
    if (d == at) split.push_back(chance(2) ? 2 : shape[d] / 2);
    split.push_back(d == at ? shape[d] / split[split.rank() - 1] : shape[d]);
  }
  keep(ops::reshape(b_, x, split));
}

void ProgramWriter::add_composite(Value x) {
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

void ProgramWriter::add_op() {
  const Value x = pick();
  const Shape shape = b_.shape(x);
  const uint64_t op = draw(24);
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
    case 13:
    case 14:
      return add_composite(x);
    case 15:
    case 16:
      return options_.control && depth_ < 2 ? add_loop() : void();
    case 17:
      return options_.control && depth_ < 2 ? add_branches() : void();
    case 18:
      return options_.control && depth_ < 2 ? add_manual() : void();
    case 19:
      return keep(ops::optimization_barrier(b_, {x})[0]);
    default:
      return options_.sample_ops ? add_sample() : void();
  }
}

}  // namespace tessera::testing

// pad: elements around and between those of the operand, on shards by halo exchange.
#include <algorithm>

#include "core/ops/elementwise.h"
#include "core/ops/halo.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

struct PadAmounts {
  const Ints &low, &high, &interior;
};
PadAmounts amounts_of(const Attributes& a) {
  return {a.ints(Attr::edge_low), a.ints(Attr::edge_high), a.ints(Attr::interior)};
}

std::vector<TensorType> infer_pad(const OpCall& call) {
  check_operand_count("pad", call, 2);
  const TensorType& x = call.operands[0];
  require(call.operands[1] == TensorType{x.dtype, {}}, "pad: the value for ", x, " must be ",
          x.dtype, "[], not ", call.operands[1]);
  const auto [low, high, interior] = amounts_of(call.attributes);
  const auto rank = static_cast<size_t>(x.rank());
  require(low.size() == rank && high.size() == rank && interior.size() == rank, "pad: low [",
          join(low, ","), "] high [", join(high, ","), "] interior [", join(interior, ","),
          "] for ", x);
  Shape shape;
  for (size_t d = 0; d < rank; ++d) {
    const int64_t size = x.shape[static_cast<int>(d)];
    const int64_t padded = low[d] + size + std::max<int64_t>(size - 1, 0) * interior[d] + high[d];
    require(interior[d] >= 0 && padded >= 0, "pad: dim ", d, " of ", x, " by low ", low[d],
            ", high ", high[d], ", interior ", interior[d], " has size ", padded);
    shape.push_back(padded);
  }
  return {{x.dtype, shape}};
}

// Negative amounts cut elements off.
void eval_pad(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const auto [low, high, interior] = amounts_of(call.attributes);
  std::vector<int64_t> steps = y[0].shape().strides();
  copy_elements(*x[1], 0, std::vector<int64_t>(steps.size(), 0), y[0], 0, steps, y[0].shape());
  const std::vector<int64_t> own = x[0]->shape().strides();
  Shape extent;
  int64_t from = 0, to = 0;
  for (size_t d = 0; d < steps.size(); ++d) {
    // The elements i with 0 <= low + i step < size of the result.
    const int64_t step = interior[d] + 1, size = y[0].shape()[static_cast<int>(d)];
    const int64_t first = std::max<int64_t>(0, ceil_div(-low[d], step));
    const int64_t last =
        std::min(x[0]->shape()[static_cast<int>(d)], floor_div(size - 1 - low[d], step) + 1);
    extent.push_back(std::max<int64_t>(0, last - first));
    from += first * own[d];
    to += (low[d] + first * step) * steps[d];
    steps[d] *= step;
  }
  copy_elements(*x[0], from, own, y[0], to, steps, extent);
}

std::vector<Value> grad_pad(GradContext& c) {
  Builder& b = c.builder();
  const auto [low, high, interior] = amounts_of(c.attributes());
  const Shape &x = c.operand_type(0).shape, &y = c.result_type(0).shape;
  Ints start, limit, strides, cut_low, cut_high;
  for (int d = 0; d < x.rank(); ++d) {
    cut_low.push_back(std::max<int64_t>(-low[d], 0));
    cut_high.push_back(std::max<int64_t>(-high[d], 0));
    start.push_back(std::max<int64_t>(low[d], 0));
    limit.push_back(y[d] + cut_low[d] + cut_high[d] - std::max<int64_t>(high[d], 0));
    strides.push_back(interior[d] + 1);
  }
  const Value dy = c.cotangent(0);
  Value dx = dy;
  const auto is_zero = [](int64_t amount) { return amount == 0; };
  if (!std::all_of(cut_low.begin(), cut_low.end(), is_zero) ||
      !std::all_of(cut_high.begin(), cut_high.end(), is_zero))
    dx = pad(b, dx, constant(b, 0.0, {b.dtype(dy), {}}), cut_low, cut_high);
  dx = slice(b, dx, start, limit, strides);
  std::vector<Value> cotangents(2);
  if (c.needs_gradient(0)) cotangents[0] = dx;
  if (c.needs_gradient(1)) cotangents[1] = subtract(b, reduce_all(b, dy), reduce_all(b, dx));
  return cotangents;
}

bool is_padded(const PadAmounts& amounts, int d) {
  return amounts.low[d] != 0 || amounts.high[d] != 0 || amounts.interior[d] != 0;
}

FactorRule pad_factors(const OpCall& call, std::span<const TensorType> results) {
  const PadAmounts amounts = amounts_of(call.attributes);
  const Shape &x = call.operands[0].shape, &y = results[0].shape;
  FactorRule rule;
  std::vector<int> operand, result;
  for (int d = 0; d < x.rank(); ++d) {
    MovedDim dim;
    if (is_padded(amounts, d))
      dim = add_moved_dim(rule, x[d], y[d]);
    else
      dim.operand = dim.result = add_factor(rule, x[d]);
    operand.push_back(dim.operand);
    result.push_back(dim.result);
  }
  rule.operands = {dims_of(operand), {}};
  rule.results = {dims_of(result)};
  return rule;
}

DilatedWindow pad_window(const PadAmounts& amounts, const CutDim& cut, int64_t length) {
  return dilated_window_of(cut, amounts.interior[cut.dim] + 1, length, -amounts.low[cut.dim],
                           length);
}

std::vector<Value> partition_pad(PartitionContext& c) {
  Builder& b = c.builder();
  const Attributes attributes = c.call().attributes;
  const PadAmounts amounts = amounts_of(attributes);
  const Shape result = c.local_result_type(0).shape;
  Value x = c.operand(0);
  Ints low(static_cast<size_t>(result.rank()), 0), high = low, interior = low;
  bool is_rest = false;
  for (int d = 0; d < result.rank(); ++d) {
    const CutDim cut = cut_dim(c, 0, d);
    if (!is_padded(amounts, d) && cut.shard == result[d]) continue;
    if (cut.axes.empty() && !cut.is_padded()) {
      low[d] = amounts.low[d];
      interior[d] = amounts.interior[d];
      high[d] = result[d] - low[d] - (cut.shard + (cut.shard - 1) * interior[d]);
      is_rest = true;
    } else {
      x = dilated_window(b, x, cut, pad_window(amounts, cut, result[d]),
                         {HaloFill::Kind::value, c.operand(1)});
    }
  }
  return {is_rest ? pad(b, x, c.operand(1), low, high, interior) : x};
}

double pad_exchange(const OpCall& call, std::span<const TensorType> results,
                    std::span<const AxisList> axes) {
  const FactorRule rule = pad_factors(call, results);
  const CutShapes shapes(rule, axes);
  const PadAmounts amounts = amounts_of(call.attributes);
  const TensorType& x = call.operands[0];
  const Shape local = shapes.local(x.shape, rule.operands[0]);
  const Shape result = shapes.local(results[0].shape, rule.results[0]);
  ExchangeBytes bytes(size_of(x.dtype));
  for (int d = 0; d < x.rank(); ++d) {
    const CutDim cut = shapes.cut(x.shape, rule.operands[0], d);
    if (is_padded(amounts, d) && !cut.axes.empty())
      bytes.add(cut, pad_window(amounts, cut, result[d]).source, local);
  }
  return bytes.total();
}

std::vector<OpSample> pad_samples() {
  auto sample = [](Shape x, Ints low, Ints high, Ints interior) {
    return OpSample{{{DType::f64, x}, {DType::f64, {}}},
                    {{Attr::edge_low, low}, {Attr::edge_high, high}, {Attr::interior, interior}}};
  };
  return {sample({4, 6}, {0, 1}, {0, 2}, {0, 0}),   sample({2, 4}, {1, 0}, {0, 0}, {2, 0}),
          sample({8, 2}, {2, 0}, {-2, 0}, {0, 0}),  sample({6, 4}, {-1, 1}, {-1, 2}, {0, 1}),
          sample({6, 4}, {-2, 0}, {3, -1}, {2, 0}), sample({4}, {1}, {0}, {1})};
}

}  // namespace

// Linear jointly with its value: a partial x meets a replicated value as in an addition.
const OpDef kPad{.name = "pad",
                 .attributes = {Attr::edge_low, Attr::edge_high, Attr::interior},
                 .infer = infer_pad,
                 .eval = eval_pad,
                 .grad = grad_pad,
                 .factors = pad_factors,
                 .linear = linear_in_all,
                 .partition = partition_pad,
                 .exchange_bytes = pad_exchange,
                 .flops = no_flops,
                 .samples = pad_samples};

Value pad(Builder& b, Value x, Value value, Ints low, Ints high, Ints interior) {
  if (interior.empty()) interior.assign(low.size(), 0);
  return b.emit(kPad, {x, value},
                {{Attr::edge_low, std::move(low)},
                 {Attr::edge_high, std::move(high)},
                 {Attr::interior, std::move(interior)}});
}

}  // namespace tessera::ops

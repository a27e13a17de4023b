#include "core/ops/halo.h"

#include <algorithm>

#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

Value scalar_s64(Builder& b, int64_t value) {
  return constant(b, HostTensor::of<int64_t>({}, std::span<const int64_t>(&value, 1)));
}

int64_t AffineStart::at(int64_t coordinate) const {
  return floor_div(scale * coordinate + offset, divisor);
}

Value AffineStart::value(Builder& b, const AxisList& axes) const {
  if (scale == 0 || axes.empty()) return scalar_s64(b, at(0));
  Value v = axis_index(b, axes);
  if (scale != 1) v = multiply(b, v, scalar_s64(b, scale));
  if (divisor == 1) return offset == 0 ? v : add(b, v, scalar_s64(b, offset));
  // Integer division truncates: bring the dividend above zero by a multiple of the divisor.
  const int64_t least = std::min(offset, scale * (size_of(axes) - 1) + offset);
  const int64_t lift = std::max<int64_t>(0, -floor_div(least, divisor));
  v = add(b, v, scalar_s64(b, offset + lift * divisor));
  v = divide(b, v, scalar_s64(b, divisor));
  return lift == 0 ? v : add(b, v, scalar_s64(b, -lift));
}

CutDim cut_dim(PartitionContext& c, int index, int dim) {
  return {dim, c.call().operands[static_cast<size_t>(index)].shape[dim],
          c.builder().shape(c.operand(index))[dim],
          c.operand_sharding(index).dims[static_cast<size_t>(dim)].axes};
}

CutDim result_cut(PartitionContext& c, int index, int dim) {
  return {dim, c.result_types()[static_cast<size_t>(index)].shape[dim],
          c.local_result_type(index).shape[dim],
          c.result_sharding(index).dims[static_cast<size_t>(dim)].axes};
}

namespace {

// What comes from the shard `hop` places up the axis: its elements [begin, end), of which some
// device reads [first, last).
struct Piece {
  int64_t hop = 0;
  int64_t begin = 0, end = 0;
  int64_t first = 0, last = 0;
  bool is_needed() const { return first < last; }
};

// The stretch [low, high) relative to the own shard in which every device's window lies.
struct Plan {
  int64_t low = 0, high = 0;
  bool drifts = false;  // the window's place in the stretch depends on the device
  std::vector<Piece> pieces;
};

Plan plan_of(const CutDim& cut, const HaloWindow& window) {
  const int64_t parts = cut.parts(), shard = cut.shard;
  Plan plan;
  auto relative = [&](int64_t c) { return window.start.at(c) - shard * c; };
  plan.low = plan.high = relative(0);
  for (int64_t c = 1; c < parts; ++c) {
    plan.low = std::min(plan.low, relative(c));
    plan.high = std::max(plan.high, relative(c));
  }
  plan.drifts = plan.low != plan.high;
  plan.high += window.length;
  const int64_t last_hop = floor_div(plan.high - 1, shard);
  for (int64_t hop = floor_div(plan.low, shard); hop <= last_hop; ++hop) {
    Piece piece{hop, std::max(plan.low - hop * shard, int64_t{0}),
                std::min(plan.high - hop * shard, shard), shard, 0};
    for (int64_t c = std::max<int64_t>(0, -hop); c < std::min(parts, parts - hop); ++c) {
      const int64_t own = relative(c) - hop * shard;  // the window in the sender's own positions
      const int64_t held = std::clamp<int64_t>(cut.size - (c + hop) * shard, 0, shard);
      const int64_t first = std::max<int64_t>(own, 0), last = std::min(own + window.length, held);
      if (first >= last) continue;
      piece.first = std::min(piece.first, first);
      piece.last = std::max(piece.last, last);
    }
    plan.pieces.push_back(piece);
  }
  return plan;
}

Value zeros_along(Builder& b, Value like, int64_t dim, int64_t length) {
  TensorType type = b.type(like);
  type.shape[static_cast<int>(dim)] = length;
  return constant(b, 0.0, type);
}

// Concatenates neighbours; zero stretches between them are made once.
class Glue {
 public:
  Glue(Builder& b, Value like, int64_t dim) : b_(b), like_(like), dim_(dim) {}
  void add(Value value) {
    flush();
    parts_.push_back(value);
  }
  void add_zeros(int64_t length) { zeros_ += length; }
  Value finish() {
    flush();
    return parts_.size() == 1 ? parts_[0] : concatenate(b_, parts_, dim_);
  }

 private:
  void flush() {
    if (zeros_ > 0) parts_.push_back(zeros_along(b_, like_, dim_, zeros_));
    zeros_ = 0;
  }
  Builder& b_;
  Value like_;
  int64_t dim_;
  std::vector<Value> parts_;
  int64_t zeros_ = 0;
};

Value slice_if_less(Builder& b, Value x, int64_t dim, int64_t begin, int64_t end) {
  if (begin == 0 && end == b.shape(x)[static_cast<int>(dim)]) return x;
  return slice_dim(b, x, dim, begin, end);
}

// Whether first + i, for the i-th element of `shape` along `dim`, stands so to a bound.
Value positions_compare(Builder& b, const Shape shape, int64_t dim, Value first,
                        CompareDirection direction, int64_t bound) {
  const Shape line{shape[static_cast<int>(dim)]};
  const TensorType type{DType::s64, line};
  const Value positions = add(b, iota(b, type, 0), broadcast_scalar(b, first, line));
  const Value is_inside =
      compare(b, positions, broadcast_scalar(b, scalar_s64(b, bound), line), direction);
  return shape.rank() == 1 ? is_inside : broadcast_in_dim(b, is_inside, shape, {dim});
}

// Which sides of the logical extent some device's window leaves, as far as the fill is not there
// already: beyond the shards of all devices nobody sends, and zeros arrive.
struct Leaves {
  bool below = false, above = false;
};
Leaves leaves_of(const CutDim& cut, const HaloWindow& window, const HaloFill& fill) {
  Leaves leaves;
  const int64_t stored = cut.parts() * cut.shard;
  for (int64_t c = 0; c < cut.parts() && fill.kind != HaloFill::Kind::anything; ++c) {
    const int64_t start = window.start.at(c), end = start + window.length;
    if (fill.kind == HaloFill::Kind::zero) {
      leaves.above = leaves.above || (cut.is_padded() && start < stored && end > cut.size);
    } else {
      leaves.below = leaves.below || start < 0;
      leaves.above = leaves.above || end > cut.size;
    }
  }
  return leaves;
}

}  // namespace

Value halo_window(Builder& b, Value x, const CutDim& cut, const HaloWindow& window,
                  const HaloFill& fill) {
  TESSERA_CHECK(b.shape(x)[cut.dim] == cut.shard, "a shard of ", cut.shard, " along dim ", cut.dim,
                " of ", b.type(x));
  const Plan plan = plan_of(cut, window);
  Glue glue(b, x, cut.dim);
  for (const Piece& piece : plan.pieces) {
    if (!piece.is_needed()) {
      glue.add_zeros(piece.end - piece.begin);
      continue;
    }
    if (piece.hop == 0) {
      glue.add(slice_if_less(b, x, cut.dim, piece.begin, piece.end));
      continue;
    }
    glue.add_zeros(piece.first - piece.begin);
    glue.add(shift(b, slice_if_less(b, x, cut.dim, piece.first, piece.last), cut.axes, -piece.hop));
    glue.add_zeros(piece.end - piece.last);
  }
  Value made = glue.finish();
  const Value start = plan.drifts || fill.kind != HaloFill::Kind::anything
                          ? window.start.value(b, cut.axes)
                          : Value{};
  if (plan.drifts) {
    const Value own = AffineStart{cut.shard, plan.low}.value(b, cut.axes);
    made = slice_at(b, made, cut.dim, subtract(b, start, own), window.length);
  }
  const Leaves leaves = leaves_of(cut, window, fill);
  if (!leaves.below && !leaves.above) return made;
  const Shape shape = b.shape(made);
  const Value outside = fill.kind == HaloFill::Kind::zero ? zeros_like(b, made)
                                                          : broadcast_scalar(b, fill.scalar, shape);
  Value is_inside;
  if (leaves.below)
    is_inside = positions_compare(b, shape, cut.dim, start, CompareDirection::ge, 0);
  if (leaves.above) {
    const Value below = positions_compare(b, shape, cut.dim, start, CompareDirection::lt, cut.size);
    is_inside = is_inside.valid() ? logical_and(b, is_inside, below) : below;
  }
  return select(b, is_inside, made, outside);
}

DilatedWindow dilated_window_of(const CutDim& cut, int64_t dilation, int64_t scale, int64_t offset,
                                int64_t length) {
  DilatedWindow window{{{scale, offset}, length}, dilation, {scale, offset}, length};
  if (dilation == 1) return window;
  window.drifts = cut.parts() > 1 && scale % dilation != 0;
  if (window.drifts) {
    window.source = {{scale, offset, dilation}, ceil_div(length + dilation - 1, dilation)};
    return window;
  }
  const int64_t first = ceil_div(offset, dilation);
  window.low = first * dilation - offset;
  const int64_t count = std::max<int64_t>(1, ceil_div(length - window.low, dilation));
  window.high = length - window.low - ((count - 1) * dilation + 1);
  window.source = {{scale / dilation, first}, count};
  return window;
}

Value dilated_window(Builder& b, Value x, const CutDim& cut, const DilatedWindow& window,
                     const HaloFill& fill) {
  Value made = halo_window(b, x, cut, window.source, fill);
  if (window.dilation == 1) return made;
  const auto rank = static_cast<size_t>(b.shape(made).rank());
  const auto dim = static_cast<size_t>(cut.dim);
  Ints low(rank, 0), high(rank, 0), interior(rank, 0);
  low[dim] = window.low;
  high[dim] = window.drifts ? window.dilation - 1 : window.high;
  interior[dim] = window.dilation - 1;
  const Value value =
      fill.kind == HaloFill::Kind::value ? fill.scalar : constant(b, 0.0, {b.dtype(made), {}});
  made = pad(b, made, value, low, high, interior);
  if (!window.drifts) return made;
  const Value first = window.source.start.value(b, cut.axes);
  const Value phase = subtract(b, window.start.value(b, cut.axes),
                               multiply(b, first, scalar_s64(b, window.dilation)));
  return slice_at(b, made, cut.dim, phase, window.length);
}

Value own_window(Builder& b, Value x, int64_t dim, Value first, int64_t length) {
  const int64_t extent = b.shape(x)[static_cast<int>(dim)];
  const Value zeros = zeros_along(b, x, dim, length);
  const Value line = concatenate(b, {zeros, x, zeros}, dim);
  const Value inside = clamp(b, scalar_s64(b, -length), first, scalar_s64(b, extent));
  return slice_at(b, line, dim, add(b, inside, scalar_s64(b, length)), length);
}

Value mirror_shards(Builder& b, Value x, const AxisList& axes) {
  const int64_t parts = size_of(axes);
  if (parts == 1) return x;
  Ints sources;
  for (int64_t c = parts; c-- > 0;) sources.push_back(c);
  return collective_permute_from(b, x, axes, std::move(sources));
}

int64_t mirror_sends(const AxisList& axes) { return size_of(axes) > 1 ? 1 : 0; }

double halo_rows(const CutDim& cut, const HaloWindow& window) {
  const int64_t whole = (cut.parts() - 1) * cut.shard;
  // Wider than twice the dim: not worth a look, piece by piece.
  const int64_t span = std::max(std::abs(window.start.at(0)),
                                std::abs(window.start.at(cut.parts() - 1)) + window.length);
  if (span > 4 * cut.parts() * cut.shard + 4) return -1;
  double rows = 0;
  for (const Piece& piece : plan_of(cut, window).pieces)
    if (piece.hop != 0 && piece.is_needed()) {
      rows += static_cast<double>(piece.last - piece.first);
      if (rows > static_cast<double>(whole + cut.shard)) return -1;
    }
  return rows;
}

Value clear_padding(Builder& b, Value x, const CutDim& cut, Value scalar) {
  if (!cut.is_padded()) return x;
  const Value start = AffineStart{cut.shard, 0}.value(b, cut.axes);
  const Shape shape = b.shape(x);
  const Value is_inside =
      positions_compare(b, shape, cut.dim, start, CompareDirection::lt, cut.size);
  return select(b, is_inside, x, broadcast_scalar(b, scalar, shape));
}

Value slice_at(Builder& b, Value x, int64_t dim, Value start, int64_t length) {
  Shape sizes = b.shape(x);
  if (sizes[static_cast<int>(dim)] == length) return x;
  TESSERA_CHECK(sizes[static_cast<int>(dim)] > length);
  std::vector<Value> starts(static_cast<size_t>(sizes.rank()));
  const Value zero = scalar_s64(b, 0);
  for (size_t d = 0; d < starts.size(); ++d)
    starts[d] = static_cast<int64_t>(d) == dim ? start : zero;
  sizes[static_cast<int>(dim)] = length;
  return dynamic_slice(b, x, starts, ints_of(sizes));
}

Value select_below(Builder& b, Value first, int64_t limit, int64_t dim, Value on_true,
                   Value on_false) {
  const Value is_below =
      positions_compare(b, b.shape(on_true), dim, first, CompareDirection::lt, limit);
  return select(b, is_below, on_true, on_false);
}

AxisList CutShapes::axes_of(const TensorFactors& factors, int dim) const {
  AxisList axes;
  for (int f : factors[static_cast<size_t>(dim)])
    axes = concat(axes, axes_[static_cast<size_t>(f)]);
  return axes;
}

Shape CutShapes::local(const Shape& global, const TensorFactors& factors) const {
  Shape local = global;
  for (int d = 0; d < global.rank(); ++d)
    local[d] = ceil_div(global[d], size_of(axes_of(factors, d)));
  return local;
}

CutDim CutShapes::cut(const Shape& global, const TensorFactors& factors, int dim) const {
  const AxisList axes = axes_of(factors, dim);
  return {dim, global[dim], ceil_div(global[dim], size_of(axes)), axes};
}

void ExchangeBytes::add(const CutDim& cut, const HaloWindow& window, const Shape& local) {
  const double rows = halo_rows(cut, window);
  if (rows < 0) impossible_ = true;
  total_ += rows * static_cast<double>(local.elements() / std::max<int64_t>(1, local[cut.dim]) *
                                       element_bytes_);
}

MovedDim add_moved_dim(FactorRule& rule, int64_t operand, int64_t result, FactorKind kind) {
  if (const int64_t joint = joint_extent(operand, result); joint > 1) {
    const int factor = rule.add(joint, kind);
    return {factor, factor};
  }
  return {add_factor(rule, operand, FactorKind::need_replication),
          add_factor(rule, result, FactorKind::need_replication)};
}

// A dim alone on its axes may lie unevenly, so nothing need divide; a dim of one element has no
// factor.
int64_t joint_extent(int64_t a, int64_t b) { return std::min(a, b) > 1 ? std::max(a, b) : 1; }

}  // namespace tessera::ops

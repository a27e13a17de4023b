// Halo exchange: for every device a window of a dim that is cut over mesh axes.
//
// Ops whose elements depend on positions near their own (slices, pads, convolutions, pooling) run
// on shards once each device holds the stretch of the operand that its part of the result reads.
// That stretch starts at an affine function of the device's coordinate and has one static length,
// so it is: the own shard, the edges of neighbours by ops::shift (several hops where the window is
// wider than a shard), glued together, cut at an offset where shards of operand and result drift
// apart, and masked where it leaves the logical extent. See docs/halo.md.
//
// All values here are local (core/ir/partition_context.h): nothing made here has a sharding.
#pragma once

#include "core/ir/partition_context.h"

namespace tessera::ops {

// floor((scale * c + offset) / divisor): a position as a function of the device's coordinate c.
struct AffineStart {
  int64_t scale = 0;
  int64_t offset = 0;
  int64_t divisor = 1;

  int64_t at(int64_t coordinate) const;
  // As an s64[] of the local graph, for the coordinate along `axes`; constant where it does not
  // depend on it.
  Value value(Builder& b, const AxisList& axes) const;
};

// A dim of logical extent `size`, stored in `parts()` shards of `shard` elements. Device c has
// positions [c shard, (c + 1) shard); those from `size` on hold anything.
struct CutDim {
  int dim = 0;
  int64_t size = 0;
  int64_t shard = 0;
  AxisList axes;

  int64_t parts() const { return size_of(axes); }
  bool is_cut() const { return !axes.empty(); }
  bool is_padded() const { return parts() * shard > size; }
};
// Of operand, or of result, `index` of the op that is partitioned.
CutDim cut_dim(PartitionContext& c, int index, int dim);
CutDim result_cut(PartitionContext& c, int index, int dim);

// Positions [start, start + length), which may lie outside [0, size).
struct HaloWindow {
  AffineStart start;
  int64_t length = 0;
};

// What the elements outside [0, size) hold.
struct HaloFill {
  enum class Kind { anything, zero, value };
  Kind kind = Kind::zero;
  Value scalar;  // for `value`: a scalar of the operand's dtype
};

// The window of `x` (a shard as `cut` says) along cut.dim; the other dims are x's.
Value halo_window(Builder& b, Value x, const CutDim& cut, const HaloWindow& window,
                  const HaloFill& fill);

// Rows of `cut` that a device sends for this window at most; negative where the exchange moves more
// than the whole dim, so that the op should be resharded instead.
double halo_rows(const CutDim& cut, const HaloWindow& window);

// A window of a line with `dilation - 1` fill elements between neighbours, in its own positions:
// the element i of the operand stands at dilation * i. It is read from a window of the operand
// itself, spread, and cut where the phase of the first position depends on the device.
struct DilatedWindow {
  HaloWindow source;
  int64_t dilation = 1;
  AffineStart start;  // in dilated positions, divisor 1
  int64_t length = 0;
  bool drifts = false;  // the phase depends on the device
  // Where it does not: what a pad of the source with interior `dilation - 1` adds on both sides to
  // make the window. May be negative.
  int64_t low = 0, high = 0;
};
DilatedWindow dilated_window_of(const CutDim& cut, int64_t dilation, int64_t scale, int64_t offset,
                                int64_t length);
// The window, spread and filled.
Value dilated_window(Builder& b, Value x, const CutDim& cut, const DilatedWindow& window,
                     const HaloFill& fill);

// Positions [first, first + length) of what this device holds, x, with zeros where they leave it.
Value own_window(Builder& b, Value x, int64_t dim, Value first, int64_t length);

// The shards in reverse order of the coordinate along `axes`, themselves unchanged.
Value mirror_shards(Builder& b, Value x, const AxisList& axes);
// How many shards a device sends for that.
int64_t mirror_sends(const AxisList& axes);

// x with what lies at and beyond the logical extent replaced by `scalar`. x itself where nothing
// does.
Value clear_padding(Builder& b, Value x, const CutDim& cut, Value scalar);

// `length` elements along `dim` from a start that only the device knows (s64[], in bounds by the
// caller's promise: 0 <= start <= extent - length).
Value slice_at(Builder& b, Value x, int64_t dim, Value start, int64_t length);

// select(first + i < limit, a, b) for the i-th element along `dim`; `first` is an s64[].
Value select_below(Builder& b, Value first, int64_t limit, int64_t dim, Value on_true,
                   Value on_false);

Value scalar_s64(Builder& b, int64_t value);

// ---- Estimates ----------------------------------------------------------------------------------

// Local extents as exchange_bytes sees them: every dim in ceil(size / parts) shards.
class CutShapes {
 public:
  CutShapes(const FactorRule& rule, std::span<const AxisList> axes) : rule_(rule), axes_(axes) {}

  Shape local(const Shape& global, const TensorFactors& factors) const;
  // The dim's axes, all its factors together.
  AxisList axes_of(const TensorFactors& factors, int dim) const;
  CutDim cut(const Shape& global, const TensorFactors& factors, int dim) const;

 private:
  const FactorRule& rule_;
  std::span<const AxisList> axes_;
};

// Adds up the bytes of several exchanges of one operand; negative once one cannot be done.
class ExchangeBytes {
 public:
  explicit ExchangeBytes(int64_t element_bytes) : element_bytes_(element_bytes) {}
  // `local`: the shape that the window is cut from.
  void add(const CutDim& cut, const HaloWindow& window, const Shape& local);
  double total() const { return impossible_ ? -1 : total_; }

 private:
  int64_t element_bytes_;
  double total_ = 0;
  bool impossible_ = false;
};

// Adds the factors of an operand dim and of the result dim that its elements move along: one
// permutation factor, or one each that needs replication where they have no parts in common.
struct MovedDim {
  int operand = -1, result = -1;
};
MovedDim add_moved_dim(FactorRule& rule, int64_t operand, int64_t result,
                       FactorKind kind = FactorKind::permutation);
// The size of a factor that joins dims of these extents.
int64_t joint_extent(int64_t a, int64_t b);

int64_t floor_div(int64_t a, int64_t b);
int64_t ceil_div(int64_t a, int64_t b);

}  // namespace tessera::ops

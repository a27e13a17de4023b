#include "core/ops/sort_merge.h"

#include "core/ops/elementwise.h"
#include "core/ops/partition_support.h"
#include "core/ops/sharding.h"
#include "core/ops/sort.h"

namespace tessera::ops {
namespace {

// The minor half of the minor axis, where the number of devices is even: swapping along it swaps
// the devices 2i and 2i + 1.
std::optional<AxisRef> minor_pair(const AxisList& axes) {
  AxisRef pair = axes.back();
  if (pair.size % 2 != 0) return std::nullopt;
  pair.pre *= pair.size / 2;
  pair.size = 2;
  return pair;
}

// Whether some devices have a partner in the round.
bool has_pairs(int64_t round, int64_t devices) { return round % 2 + 1 < devices; }

class MergeSplit {
 public:
  MergeSplit(PartitionContext& c, int dim, CutDim cut)
      : b_(c.builder()),
        attributes_(c.call().attributes),
        dim_(dim),
        cut_(std::move(cut)),
        devices_(size_of(cut_.axes)),
        coordinate_(axis_index(b_, cut_.axes)) {
    for (size_t i = 0; i < c.call().operands.size(); ++i)
      shards_.push_back(c.operand(static_cast<int>(i)));
    if (!cut_.is_padded()) return;
    std::vector<DType> dtypes;
    for (const Value& shard : shards_) dtypes.push_back(b_.dtype(shard));
    padded_attributes_ = {{Attr::dimension, static_cast<int64_t>(dim)},
                          {Attr::is_stable, true},
                          {Attr::combiner, padding_last(attributes_, dtypes)}};
  }

  std::vector<Value> run() {
    shards_ = sorted(shards_, coordinate_);
    for (int64_t round = 0; round < devices_; ++round)
      if (has_pairs(round, devices_)) merge(round);
    return shards_;
  }

 private:
  // The operands are the shards from number `first` on. Padding is behind all else in the whole
  // dim, before and after every step: it comes last and steps are stable.
  std::vector<Value> sorted(std::vector<Value> xs, Value first) {
    const size_t count = xs.size();
    const Shape shape = b_.shape(xs[0]);
    if (padded_attributes_) {
      const Value valid =
          subtract(b_, scalar_s64(b_, cut_.size), multiply(b_, first, scalar_s64(b_, cut_.shard)));
      xs.push_back(position_mask(b_, shape, dim_, valid, scalar_s64(b_, shape[dim_])));
    }
    const Value made =
        b_.emit(kSort, std::move(xs), padded_attributes_ ? *padded_attributes_ : attributes_);
    std::vector<Value> results;
    for (size_t i = 0; i < count; ++i) results.push_back({made.instruction, static_cast<int>(i)});
    return results;
  }

  Value choose(Value pred, Value on_true, Value on_false) {
    return select(b_, broadcast_scalar(b_, pred, b_.shape(on_true)), on_true, on_false);
  }

  Value of_partner(Value x, int64_t round, Value is_lower) {
    const std::optional<AxisRef> pair = minor_pair(cut_.axes);
    if (pair && round % 2 == 0) return shift(b_, x, {*pair}, 1, true);
    return choose(is_lower, shift(b_, x, cut_.axes, -1), shift(b_, x, cut_.axes, 1));
  }

  void merge(int64_t round) {
    const Value one = scalar_s64(b_, 1), zero = scalar_s64(b_, 0);
    const Value turn = add(b_, coordinate_, scalar_s64(b_, round % 2));
    const Value is_lower =
        compare(b_, remainder(b_, turn, scalar_s64(b_, 2)), zero, CompareDirection::eq);
    const Value first = select(b_, is_lower, coordinate_, subtract(b_, coordinate_, one));
    const Value is_paired =
        logical_and(b_, compare(b_, first, zero, CompareDirection::ge),
                    compare(b_, first, scalar_s64(b_, devices_ - 1), CompareDirection::lt));
    std::vector<Value> both;
    for (const Value& x : shards_) {
      const Value other = of_partner(x, round, is_lower);
      both.push_back(
          concatenate(b_, {choose(is_lower, x, other), choose(is_lower, other, x)}, dim_));
    }
    both = sorted(std::move(both), first);
    for (size_t i = 0; i < shards_.size(); ++i) {
      const Value half = choose(is_lower, slice_dim(b_, both[i], dim_, 0, cut_.shard),
                                slice_dim(b_, both[i], dim_, cut_.shard, 2 * cut_.shard));
      shards_[i] = choose(is_paired, half, shards_[i]);
    }
  }

  Builder& b_;
  const Attributes& attributes_;
  std::optional<Attributes> padded_attributes_;  // where there is padding
  int dim_;
  CutDim cut_;
  int64_t devices_;
  Value coordinate_;
  std::vector<Value> shards_;
};

// Every device sorts the whole lines and keeps its part.
std::vector<Value> sort_gathered(PartitionContext& c, int dim) {
  Builder& b = c.builder();
  std::vector<Value> wholes;
  for (size_t i = 0; i < c.call().operands.size(); ++i) {
    const CutDim cut = cut_dim(c, static_cast<int>(i), dim);
    const int64_t stored = cut.shard * size_of(cut.axes);
    const Value whole = local_all_gather(b, c.operand(static_cast<int>(i)), dim, cut.axes);
    wholes.push_back(stored == cut.size ? whole : slice_dim(b, whole, dim, 0, cut.size));
  }
  const Value sorted = b.emit(kSort, wholes, c.call().attributes);
  std::vector<Value> results;
  for (size_t i = 0; i < wholes.size(); ++i) {
    Value result{sorted.instruction, static_cast<int>(i)};
    const CutDim cut = result_cut(c, static_cast<int>(i), dim);
    const int64_t stored = cut.shard * size_of(cut.axes);
    if (stored != cut.size) {
      Ints low(static_cast<size_t>(b.shape(result).rank()), 0), high = low;
      high[static_cast<size_t>(dim)] = stored - cut.size;
      result = pad(b, result, constant(b, 0, {b.dtype(result), {}}), low, high);
    }
    results.push_back(local_all_slice(b, result, dim, cut.axes));
  }
  return results;
}

// x before y in the order of `attributes`, of scalars.
Value before(Builder& b, const Attributes& attributes, Value x, Value y) {
  Attributes order{{Attr::direction, attributes.get<CompareDirection>(Attr::direction)}};
  if (is_float(b.dtype(x))) order.set(Attr::total_order, true);
  return b.emit(kCompare, {x, y}, order);
}

bool is_input(const Graph& region, Value value, int number) {
  return number < static_cast<int>(region.inputs.size()) &&
         region.inputs[static_cast<size_t>(number)].value == value;
}

}  // namespace

bool is_strict(const Comparison& comparison) {
  return comparison.direction == CompareDirection::lt ||
         comparison.direction == CompareDirection::gt;
}

std::optional<Comparison> sort_comparison(const Attributes& attributes) {
  if (attributes.has(Attr::direction))
    return Comparison{0, attributes.get<CompareDirection>(Attr::direction), true};
  return as_comparison(*attributes.get<GraphRef>(Attr::combiner));
}

GraphRef padding_last(const Attributes& attributes, const std::vector<DType>& dtypes) {
  const bool has_region = attributes.has(Attr::combiner);
  auto region = has_region ? std::make_shared<Graph>(*attributes.get<GraphRef>(Attr::combiner))
                           : std::make_shared<Graph>();
  Builder b(*region);
  for (size_t i = 0; !has_region && i < dtypes.size(); ++i)
    for (const char* side : {"x", "y"}) b.input(InputKind::data, cat(side, i), {dtypes[i], {}});
  const Value is_before =
      has_region ? region->outputs[0].value
                 : before(b, attributes, region->inputs[0].value, region->inputs[1].value);
  const Value x = b.input(InputKind::data, "x_is_padding", {DType::pred, {}}),
              y = b.input(InputKind::data, "y_is_padding", {DType::pred, {}});
  region->name = "padding_last";
  region->outputs.clear();
  b.output(logical_and(b, logical_not(b, x), logical_or(b, y, is_before)), "is_before");
  return region;
}

std::optional<PaddingLast> as_padding_last(const Graph& region) {
  if (region.outputs.size() != 1 || region.inputs.size() < 4) return std::nullopt;
  const int y = static_cast<int>(region.inputs.size()) - 1;
  const Instruction& both = region.at(region.outputs[0].value);
  if (!both.is(kLogicalAnd)) return std::nullopt;
  const Instruction &left = region.at(both.operands[0]), &right = region.at(both.operands[1]);
  if (!left.is(kLogicalNot) || !is_input(region, left.operands[0], y - 1) ||
      !right.is(kLogicalOr) || !is_input(region, right.operands[0], y))
    return std::nullopt;
  Graph rest = region;
  rest.outputs[0].value = right.operands[1];
  const std::optional<Comparison> comparison = as_comparison(rest);
  if (!comparison) return std::nullopt;
  return PaddingLast{y / 2, *comparison};
}

std::vector<Value> partition_sort(PartitionContext& c) {
  const auto dim = static_cast<int>(c.call().attributes.integer(Attr::dimension));
  const CutDim cut = cut_dim(c, 0, dim);
  const std::optional<Comparison> comparison = sort_comparison(c.call().attributes);
  // By `le`, what is equal has no order that merging would keep.
  const bool can_merge = !comparison || is_strict(*comparison);
  // Merging exchanges places, which must be stored alike in all operands and results.
  bool are_alike = true;
  for (size_t i = 0; i < c.call().operands.size(); ++i)
    are_alike = are_alike && cut_dim(c, static_cast<int>(i), dim).shard == cut.shard &&
                result_cut(c, static_cast<int>(i), dim).shard == cut.shard;
  if (!cut.is_cut() || size_of(cut.axes) > kMostMergingDevices || !can_merge || !are_alike)
    return sort_gathered(c, dim);
  return MergeSplit(c, dim, cut).run();
}

double sort_exchanges(const AxisList& axes) {
  const int64_t devices = size_of(axes);
  if (devices > kMostMergingDevices) return static_cast<double>(devices - 1);
  double shards = 0;
  for (int64_t round = 0; round < devices; ++round)
    if (has_pairs(round, devices)) shards += round % 2 == 0 && minor_pair(axes) ? 1 : 2;
  return shards;
}

}  // namespace tessera::ops

// sort and topk. What JAX compares by is one key, or several keys lexicographically; each float in
// the numeric total order, in which all NaN are the last and -0 is +0. Keys are then made such that
// the bits have that order, and are sorted by direction, the last key first (sorts are stable).
#include <algorithm>
#include <limits>

#include "core/ops/combiner.h"
#include "core/ops/complex.h"
#include "core/ops/elementwise.h"
#include "core/ops/sort.h"
#include "core/ops/structure.h"
#include "partitioner/hlo/import_support.h"
#include "partitioner/hlo/region_expression.h"

namespace tessera::hlo {
namespace {

enum class Part : uint8_t { whole, real, imag };

struct SortKey {
  int operand = 0;
  Part part = Part::whole;
  bool is_canonical = false;  // NaN and -0 are made one before they are compared
  CompareDirection direction = CompareDirection::lt;
};

Value part_of(Builder& b, Value x, Part part) {
  return part == Part::real ? ops::real(b, x) : part == Part::imag ? ops::imag(b, x) : x;
}

// One NaN and one zero.
Value canonical(Builder& b, Value x) {
  const Value zero = ops::zeros_like(b, x);
  const Value nan = ops::constant_like(b, x, std::numeric_limits<double>::quiet_NaN());
  const Value nonzero =
      b.emit(ops::kSelect, {ops::compare(b, x, zero, CompareDirection::eq), zero, x});
  return b.emit(ops::kSelect, {ops::compare(b, x, x, CompareDirection::ne), nan, nonzero});
}

// Which key the operand of a compare is, and of which side (0: x, 1: y).
struct Compared {
  SortKey key;
  int side = 0;
};
std::optional<Compared> compared(const Graph& region, Value value) {
  const std::string found = expression_of(region, value);
  for (size_t i = 0; i < region.inputs.size() && !found.empty(); ++i) {
    const DType dtype = region.type(region.inputs[i].value).dtype;
    for (Part part : {Part::whole, Part::real, Part::imag}) {
      if ((dtype == DType::c64) != (part != Part::whole)) continue;
      for (bool is_canonical : {false, true}) {
        const bool is_real = is_float(dtype) || dtype == DType::c64;
        if (is_canonical && !is_real) continue;
        Graph wanted;
        Builder b(wanted);
        for (size_t k = 0; k <= i; ++k)
          b.input(InputKind::data, "x", region.type(region.inputs[k].value));
        Value text = part_of(b, wanted.inputs[i].value, part);
        if (is_canonical) text = canonical(b, text);
        if (expression_of(wanted, text) != found) continue;
        const int input = static_cast<int>(i);
        return Compared{{input / 2, part, is_canonical, CompareDirection::lt}, input % 2};
      }
    }
  }
  return std::nullopt;
}

// compare(x_key, y_key) by lt or gt, or with `eq` for equality; floats in total order.
std::optional<SortKey> as_key(const Graph& region, Value value, bool eq) {
  const Instruction& made = region.at(value);
  if (!made.is(ops::kCompare)) return std::nullopt;
  const std::optional<Compared> left = compared(region, made.operands[0]),
                                right = compared(region, made.operands[1]);
  if (!left || !right || left->side == right->side || left->key.operand != right->key.operand ||
      left->key.part != right->key.part || left->key.is_canonical != right->key.is_canonical)
    return std::nullopt;
  const DType dtype = region.type(made.operands[0]).dtype;
  if (is_float(dtype) && !made.attributes.flag(Attr::total_order)) return std::nullopt;
  SortKey key = left->key;
  const auto direction = made.attributes.get<CompareDirection>(Attr::direction);
  if (eq) return direction == CompareDirection::eq ? std::optional(key) : std::nullopt;
  if (direction != CompareDirection::lt && direction != CompareDirection::gt) return std::nullopt;
  key.direction = (direction == CompareDirection::lt) == (left->side == 0) ? CompareDirection::lt
                                                                           : CompareDirection::gt;
  return key;
}

// first, or equal in the first and before in the rest.
std::optional<std::vector<SortKey>> as_keys(const Graph& region) {
  std::vector<SortKey> keys;
  Value value = region.outputs[0].value;
  while (true) {
    if (const auto key = as_key(region, value, false)) {
      keys.push_back(*key);
      return keys;
    }
    const Instruction& either = region.at(value);
    if (!either.is(ops::kLogicalOr)) return std::nullopt;
    bool is_found = false;
    for (int side = 0; side < 2 && !is_found; ++side) {
      const auto first = as_key(region, either.operands[static_cast<size_t>(side)], false);
      const Instruction& both = region.at(either.operands[static_cast<size_t>(1 - side)]);
      if (!first || !both.is(ops::kLogicalAnd)) continue;
      for (int other = 0; other < 2 && !is_found; ++other) {
        const auto equal = as_key(region, both.operands[static_cast<size_t>(other)], true);
        if (!equal || equal->operand != first->operand || equal->part != first->part ||
            equal->is_canonical != first->is_canonical)
          continue;
        keys.push_back(*first);
        value = both.operands[static_cast<size_t>(1 - other)];
        is_found = true;
      }
    }
    if (!is_found) return std::nullopt;
  }
}

std::vector<Value> sort_by(Builder& b, std::vector<Value> xs, const SortKey& key,
                           int64_t dimension) {
  const Value operand = xs[static_cast<size_t>(key.operand)];
  const bool is_first = key.operand == 0 && key.part == Part::whole && !key.is_canonical;
  if (is_first) return ops::sort(b, xs, dimension, key.direction);
  const Value part = part_of(b, operand, key.part);
  xs.insert(xs.begin(), key.is_canonical ? canonical(b, part) : part);
  std::vector<Value> sorted = ops::sort(b, xs, dimension, key.direction);
  sorted.erase(sorted.begin());
  return sorted;
}

}  // namespace

void import_sort(ImportContext& c) {
  Builder& b = c.builder();
  std::vector<Value> xs;
  for (int i = 0; i < c.operand_count(); ++i) xs.push_back(c.operand(i));
  const Ints& dims = c.ints("dimensions");
  if (dims.size() != 1) c.fail(cat("dimensions={", join(dims, ","), "} must be one dim"));
  const GraphRef region = flat_region(c, "to_apply");
  std::vector<DType> both;
  for (Value x : xs) both.insert(both.end(), 2, b.dtype(x));
  ops::check_region("sort", *region, both, {DType::pred});
  if (const auto keys = as_keys(*region)) {
    for (auto key = keys->rbegin(); key != keys->rend(); ++key)
      xs = sort_by(b, std::move(xs), *key, dims[0]);
    return c.set(std::move(xs));
  }
  c.set(results_of(b, b.emit(ops::kSort, xs,
                             {{Attr::dimension, dims[0]},
                              {Attr::is_stable, c.flag("is_stable")},
                              {Attr::combiner, region}})));
}

void import_top_k(ImportContext& c) {
  expect_operands(c, 1);
  Builder& b = c.builder();
  const bool* largest = c.instruction().get<bool>("largest");
  const ops::TopK made = ops::top_k(b, c.operand(0), c.integer("k"), !largest || *largest);
  c.set({made.values, ops::convert(b, made.indices, c.result_type(1).dtype)});
}

}  // namespace tessera::hlo

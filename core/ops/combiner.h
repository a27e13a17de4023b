// Regions of scalars: the combiners of reductions and scatters, the comparators of sorts.
//
// A region is right when it is interpreted, and slow. The common ones are recognised once per call
// and done directly: as_reduce_kind and as_comparison are the only places that look inside.
#pragma once

#include <complex>
#include <optional>
#include <span>
#include <vector>

#include "core/ir/builder.h"

namespace tessera::ops {

// a combined with b; NaN where either is.
template <typename D>
D combined(ReduceKind kind, D a, D b) {
  switch (kind) {
    case ReduceKind::sum:
      return a + b;
    case ReduceKind::product:
      return a * b;
    case ReduceKind::logical_and:
      return D(a != D(0) && b != D(0) ? 1 : 0);
    case ReduceKind::logical_or:
      return D(a != D(0) || b != D(0) ? 1 : 0);
    default:
      break;
  }
  if constexpr (!std::is_same_v<D, std::complex<double>>) {
    if (a != a || b != b) return a + b;
    return (kind == ReduceKind::max) == (a > b) ? a : b;
  }
  return a;
}

// x combined with y, element by element.
Value combine_values(Builder& b, ReduceKind kind, Value x, Value y);

// As partial values have it: max is `or` on pred, min is `and`.
ReduceKind numeric_kind(ReduceKind kind);

// Throws UserError that names `op` unless elements of `x` have the kind: and, or are those of pred
// and pred has no others; complex numbers have sums and products.
void check_kind(std::string_view op, ReduceKind kind, const TensorType& x);

// The kind of a region (x, y) -> x combined with y: one add, maximum, minimum, multiply, and, or of
// its two inputs in either order. On pred, add and maximum are logical_or, multiply and minimum are
// logical_and. nullopt for everything else, also for bitwise `and` and `or` of integers.
std::optional<ReduceKind> as_reduce_kind(const Graph& region);
// The same of what makes output `k` of N from inputs k and N + k of 2 N.
std::optional<ReduceKind> as_reduce_kind(const Graph& region, size_t k);

// What a comparator (x0, y0, x1, y1, ...) -> pred[] does: x_key direction y_key.
struct Comparison {
  int key = 0;
  CompareDirection direction = CompareDirection::lt;
  bool total_order = false;
};
// nullopt where the region is more than one compare of one pair of inputs.
std::optional<Comparison> as_comparison(const Graph& region);

// The regions that the functions above recognise: (x, y) -> scalar, and a comparator of one key
// among operands of these dtypes.
GraphRef combiner_of(ReduceKind kind, DType dtype);
GraphRef comparator_of(const std::vector<DType>& dtypes, CompareDirection direction, int key = 0);

// Throws UserError that names `op` unless `region` takes scalars of the dtypes `inputs` and gives
// scalars of the dtypes `outputs`.
void check_region(std::string_view op, const Graph& region, const std::vector<DType>& inputs,
                  const std::vector<DType>& outputs);
// The same of a combiner (accumulators..., elements...) -> accumulators.
void check_combiner(std::string_view op, const Graph& region, const std::vector<DType>& dtypes);

// A value and what is combined with it, by a kind where there is one, else by interpretation. For
// several operands at once: (accumulators..., elements...) -> accumulators.
class Combiner {
 public:
  // `attributes` has reduce_kind or combiner.
  explicit Combiner(const Attributes& attributes);
  std::optional<ReduceKind> kind() const { return kind_; }
  // Element `index_of_element` of each of `elements` is combined into element `index` of each of
  // `accumulators`.
  void combine(std::span<HostTensor> accumulators, int64_t index,
               std::span<const HostTensor* const> elements, int64_t index_of_element) const;

 private:
  std::optional<ReduceKind> kind_;
  GraphRef region_;
};

}  // namespace tessera::ops

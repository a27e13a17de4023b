// What the definitions of ops share: reading elements in a domain of computation, checking
// operands, building factor rules. Private to core/ops.
#pragma once

#include <complex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/ir/builder.h"

namespace tessera::ops {

// ---- Elements -----------------------------------------------------------------------------------

// All elements, row-major, as D: double, int64_t, uint64_t, bool or complex<double>. One dispatch
// on the dtype per tensor, so that op bodies are compiled once per domain rather than per dtype.
template <typename D>
struct StoredAs {
  using type = D;
};
template <>
struct StoredAs<bool> {
  using type = uint8_t;
};  // not vector<bool>
template <typename D>
using Elements = std::vector<typename StoredAs<D>::type>;

template <typename D>
Elements<D> elements_of(const HostTensor& tensor);
template <typename D>
void set_elements(HostTensor& tensor, const Elements<D>& values);

inline std::vector<double> reals_of(const HostTensor& tensor) {
  return elements_of<double>(tensor);
}
inline void set_reals(HostTensor& tensor, const std::vector<double>& values) {
  set_elements<double>(tensor, values);
}

// Calls body<D>() with the domain that values of `dtype` are combined in: double, complex<double>,
// int64_t, or uint64_t (pred too).
template <typename Body>
decltype(auto) dispatch_domain(DType dtype, Body&& body) {
  if (is_float(dtype)) return body.template operator()<double>();
  if (dtype == DType::c64) return body.template operator()<std::complex<double>>();
  if (is_signed_integer(dtype)) return body.template operator()<int64_t>();
  return body.template operator()<uint64_t>();
}

// Calls body(a, b) for each position of `extent` in row-major order, where a and b are the sums of
// position times strides.
template <typename Body>
void walk(const Shape& extent, const std::vector<int64_t>& strides_a,
          const std::vector<int64_t>& strides_b, Body body) {
  const int rank = extent.rank();
  if (extent.elements() == 0) return;
  if (rank == 0) return body(int64_t{0}, int64_t{0});
  std::vector<int64_t> position(static_cast<size_t>(rank), 0);
  const int64_t inner = extent[rank - 1], step_a = strides_a[rank - 1],
                step_b = strides_b[rank - 1];
  int64_t a = 0, b = 0;
  while (true) {
    for (int64_t i = 0; i < inner; ++i) body(a + i * step_a, b + i * step_b);
    int d = rank - 2;
    for (; d >= 0; --d) {
      a += strides_a[d];
      b += strides_b[d];
      if (++position[d] < extent[d]) break;
      a -= extent[d] * strides_a[d];
      b -= extent[d] * strides_b[d];
      position[d] = 0;
    }
    if (d < 0) return;
  }
}

// Copies elements of any dtype; offsets and strides in elements.
void copy_elements(const HostTensor& from, int64_t from_offset,
                   const std::vector<int64_t>& from_strides, HostTensor& to, int64_t to_offset,
                   const std::vector<int64_t>& to_strides, const Shape& extent);

// ---- Checks -------------------------------------------------------------------------------------

template <typename... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) throw_user_error(parts...);
}

// "(f32[2], s32[3])"
std::string types_text(std::span<const TensorType> types);

// `own` operands, and behind them none or up to `max_starts` scalars s64[].
void check_operand_count(std::string_view op, const OpCall& call, int own, int max_starts = 0);
// The start operand behind the `own` operands; 0 where it is absent.
int64_t start_of(std::span<const HostTensor* const> operands, size_t own, size_t which = 0);
inline bool has_start(const OpCall& call, size_t own) { return call.operands.size() > own; }

// A float, of any width.
void check_float(std::string_view op, const OpCall& call, int operand);
void check_same_shape(std::string_view op, const OpCall& call, int a, int b);

Shape without_last(const Shape& shape);
int64_t last_dim(const Shape& shape);
Ints ints_of(const Shape& shape);

// ---- Factors ------------------------------------------------------------------------------------

// A dim of size 1 has no factor: -1 stands for that, and dims_of drops it.
int add_factor(FactorRule& rule, int64_t size, FactorKind kind = FactorKind::pass_through,
               ReduceKind reduce = ReduceKind::sum, bool positional = false);
// One factor per dim.
std::vector<int> add_factors(FactorRule& rule, const Shape& shape,
                             FactorKind kind = FactorKind::pass_through);
// Tensors whose dims have one factor each, or (second form) several.
TensorFactors dims_of(const std::vector<int>& factors);
TensorFactors dims_of(const std::vector<std::vector<int>>& factors);
// All operands and `results` results have the shape of operand 0: a factor per dim, those of
// `permuted` dims permutations.
FactorRule permuted_factors(const OpCall& call, size_t results, const Ints& permuted);
// Start operands have no factors; appends as many entries as the call has operands.
void add_starts(FactorRule& rule, const OpCall& call);

// ---- Small slots that many ops share ------------------------------------------------------------

double no_flops(const OpCall&, std::span<const TensorType>);
// The attribute `shape` becomes result 0's.
Attributes localize_shape(const OpCall& global, std::span<const TensorType> local_operands,
                          std::span<const TensorType> local_results);
// All operands jointly, for sum, max and min: ops that only move elements.
std::vector<LinearSet> linear_in_all(const OpCall& call);

// `value` in `dtype`: what a gradient rule returns for an operand of that dtype.
Value as_dtype(Builder& b, Value value, DType dtype);

}  // namespace tessera::ops

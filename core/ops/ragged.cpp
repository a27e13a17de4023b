#include "core/ops/ragged.h"

#include "core/ops/support.h"

namespace tessera::ops {
namespace {

bool is_by_columns(const Attributes& attributes) {
  return attributes.ints(Attr::rhs_contracting) == Ints{static_cast<int64_t>(RaggedRhs::by_columns)};
}

DType result_dtype(const OpCall& call) {
  return call.attributes.get_or<DType>(Attr::dtype, call.operands[0].dtype);
}

// ---- infer --------------------------------------------------------------------------------------

void check_operands(std::string_view op, const OpCall& call, int rhs_rank) {
  check_operand_count(op, call, 3, 1);
  const TensorType &lhs = call.operands[0], &rhs = call.operands[1], &sizes = call.operands[2];
  require(lhs.dtype == rhs.dtype && is_float(lhs.dtype) && is_float(result_dtype(call)), op,
          ": operands must be floats of one type, got ", lhs, " and ", rhs);
  require(lhs.rank() == 2 && rhs.rank() == rhs_rank, op, ": lhs and rhs must have ranks 2 and ",
          rhs_rank, ", got ", lhs, " and ", rhs);
  require(sizes.rank() == 1 && sizes.dtype == DType::s32, op,
          ": group_sizes must be s32[groups], not ", sizes);
}

std::vector<TensorType> infer_dot(const OpCall& call) {
  check_operands("ragged_dot", call, 3);
  const Ints& contracting = call.attributes.ints(Attr::rhs_contracting);
  require(contracting == Ints{1} || contracting == Ints{2},
          "ragged_dot: rhs_contracting is [1] or [2], not [", join(contracting, ","), "]");
  const TensorType &lhs = call.operands[0], &rhs = call.operands[1], &sizes = call.operands[2];
  const int dim = static_cast<int>(contracting[0]);
  require(rhs.shape[dim] == lhs.shape[1], "ragged_dot: dim ", dim, " of ", rhs, " and dim 1 of ",
          lhs, " differ in size");
  require(has_start(call, 3) || rhs.shape[0] == sizes.shape[0], "ragged_dot: ", rhs, " has ", rhs.shape[0],
          " groups, group_sizes ", sizes, " has ", sizes.shape[0]);
  return {{result_dtype(call), {lhs.shape[0], rhs.shape[3 - dim]}}};
}

std::vector<TensorType> infer_contraction(const OpCall& call) {
  check_operands("ragged_contraction", call, 2);
  const TensorType &lhs = call.operands[0], &rhs = call.operands[1];
  require(lhs.shape[0] == rhs.shape[0], "ragged_contraction: ", lhs, " and ", rhs,
          " differ in their number of rows");
  const int64_t sizes = call.operands[2].shape[0],
                groups = call.attributes.get_or<int64_t>(Attr::group_count, sizes);
  require(groups >= 0 && (has_start(call, 3) || groups == sizes), "ragged_contraction: group_count ",
          groups, " for group_sizes ", call.operands[2]);
  return {{result_dtype(call), {groups, lhs.shape[1], rhs.shape[1]}}};
}

// ---- eval ---------------------------------------------------------------------------------------

// Calls body(group, row) for each row that is in a group of this device, in order.
template <typename Body>
void for_each_row(std::string_view op, std::span<const HostTensor* const> x, const RaggedSizes& s,
                  Body body) {
  const HostTensor& group_sizes = *x[2];
  const int64_t start = start_of(x, 3), rows = s.m;
  int64_t row = 0;
  for (int64_t group = 0; group < group_sizes.elements(); ++group) {
    const int64_t size = group_sizes.get_int(group);
    require(size >= 0, op, ": group_sizes[", group, "] is ", size,
            "; a group has no rows or some");
    require(size <= rows - row, op, ": group_sizes up to [", group, "] sum to ", row + size,
            ", but there are ", rows, " rows; sizes must not count more rows than lhs has");
    for (const int64_t end = row + size; row < end; ++row)
      if (group >= start && group - start < s.groups) body(group - start, row);
  }
}

void eval_dot(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const RaggedSizes s = ragged_sizes(kRaggedDot, call);
  const std::vector<double> lhs = reals_of(*x[0]), rhs = reals_of(*x[1]);
  const int64_t k_step = s.rhs_by_columns ? 1 : s.n, n_step = s.rhs_by_columns ? s.k : 1;
  std::vector<double> result(static_cast<size_t>(s.m * s.n), 0);
  for_each_row("ragged_dot", x, s, [&](int64_t group, int64_t row) {
    for (int64_t k = 0; k < s.k; ++k)
      for (int64_t n = 0; n < s.n; ++n)
        result[row * s.n + n] +=
            lhs[row * s.k + k] * rhs[group * s.k * s.n + k * k_step + n * n_step];
  });
  set_reals(y[0], result);
}

void eval_contraction(const OpCall& call, std::span<const HostTensor* const> x,
                      std::span<HostTensor> y) {
  const RaggedSizes s = ragged_sizes(kRaggedContraction, call);
  const std::vector<double> lhs = reals_of(*x[0]), rhs = reals_of(*x[1]);
  std::vector<double> result(static_cast<size_t>(s.groups * s.k * s.n), 0);
  for_each_row("ragged_contraction", x, s, [&](int64_t group, int64_t row) {
    for (int64_t k = 0; k < s.k; ++k)
      for (int64_t n = 0; n < s.n; ++n)
        result[(group * s.k + k) * s.n + n] += lhs[row * s.k + k] * rhs[row * s.n + n];
  });
  set_reals(y[0], result);
}

// ---- gradients: each op's are made of the two ---------------------------------------------------

std::vector<Value> grad_dot(GradContext& c) {
  Builder& b = c.builder();
  const bool by_columns = is_by_columns(c.attributes());
  const Value sizes = c.operand(2), dy = as_dtype(b, c.cotangent(0), c.operand_type(0).dtype);
  std::vector<Value> cotangents(3);
  if (c.needs_gradient(0))
    cotangents[0] =
        ragged_dot(b, dy, c.operand(1), sizes,
                   by_columns ? RaggedRhs::by_rows : RaggedRhs::by_columns, c.gradient_dtype(0));
  if (c.needs_gradient(1)) {
    const Value lhs = c.operand(0);
    cotangents[1] = ragged_contraction(b, by_columns ? dy : lhs, by_columns ? lhs : dy, sizes,
                                       c.gradient_dtype(1));
  }
  return cotangents;
}

std::vector<Value> grad_contraction(GradContext& c) {
  Builder& b = c.builder();
  const Value sizes = c.operand(2), dy = as_dtype(b, c.cotangent(0), c.operand_type(0).dtype);
  std::vector<Value> cotangents(3);
  if (c.needs_gradient(0))
    cotangents[0] = ragged_dot(b, c.operand(1), dy, sizes, RaggedRhs::by_columns,
                               c.gradient_dtype(0));
  if (c.needs_gradient(1))
    cotangents[1] =
        ragged_dot(b, c.operand(0), dy, sizes, RaggedRhs::by_rows, c.gradient_dtype(1));
  return cotangents;
}

// ---- the rest -----------------------------------------------------------------------------------

// Which group a row is in depends on all sizes and on the row's number, so those are not cut.
FactorRule factors_dot(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const RaggedSizes s = ragged_sizes(kRaggedDot, call);
  const int m = add_factor(rule, s.m, FactorKind::need_replication), n = add_factor(rule, s.n),
            k = add_factor(rule, s.k, FactorKind::reduction),
            g = add_factor(rule, s.groups, FactorKind::reduction, ReduceKind::sum, true),
            sizes = add_factor(rule, call.operands[2].shape[0], FactorKind::need_replication);
  rule.operands = {dims_of({m, k}),
                   s.rhs_by_columns ? dims_of({g, n, k}) : dims_of({g, k, n}),
                   dims_of(std::vector<int>{sizes})};
  rule.results = {dims_of({m, n})};
  add_starts(rule, call);
  return rule;
}

FactorRule factors_contraction(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const RaggedSizes s = ragged_sizes(kRaggedContraction, call);
  const int g = add_factor(rule, s.groups, FactorKind::pass_through, ReduceKind::sum, true),
            k = add_factor(rule, s.k), n = add_factor(rule, s.n),
            m = add_factor(rule, s.m, FactorKind::need_replication),
            sizes = add_factor(rule, call.operands[2].shape[0], FactorKind::need_replication);
  rule.operands = {dims_of({m, k}), dims_of({m, n}), dims_of(std::vector<int>{sizes})};
  rule.results = {dims_of({g, k, n})};
  add_starts(rule, call);
  return rule;
}

std::vector<LinearSet> linear(const OpCall&) {
  return {{{0}, ReduceKind::sum}, {{1}, ReduceKind::sum}};
}

Attributes localize_contraction(const OpCall& global, std::span<const TensorType>,
                                std::span<const TensorType> local_results) {
  Attributes local = global.attributes;
  local.set(Attr::group_count, local_results[0].shape[0]);
  return local;
}

// Groups beyond the last one have no rows.
std::vector<PadContents> transfer_contraction(const PadFacts& facts) {
  std::vector<PadContents> contents = transfer_of_product(facts);
  contents[0][0] = PadContent::zero;
  return contents;
}

// Each row meets one matrix, whatever the sizes.
template <const OpDef& kOp>
double flops(const OpCall& call, std::span<const TensorType>) {
  const RaggedSizes s = ragged_sizes(kOp, call);
  return 2.0 * static_cast<double>(s.m) * static_cast<double>(s.k * s.n);
}

// Sizes that never count more rows than there are, with rows behind the last group.
std::vector<OpSample> samples_dot() {
  auto sample = [](DType dtype, Shape lhs, Shape rhs, int64_t contracting) {
    const int64_t groups = rhs[0];
    return OpSample{{{dtype, lhs}, {dtype, rhs}, {DType::s32, {groups}}},
                    {{Attr::rhs_contracting, Ints{contracting}}},
                    {{-1, 1}, {-1, 1}, {1, 2}},
                    dtype == DType::f64};
  };
  std::vector<OpSample> samples = {
      sample(DType::f64, {8, 6}, {4, 6, 2}, 1), sample(DType::f64, {8, 6}, {4, 2, 6}, 2),
      sample(DType::f64, {10, 4}, {2, 4, 4}, 1), sample(DType::f64, {2, 4}, {1, 4, 6}, 1),
      sample(DType::bf16, {8, 6}, {4, 6, 2}, 1)};
  samples.back().attributes.set(Attr::dtype, DType::f32);
  return samples;
}

std::vector<OpSample> samples_contraction() {
  auto sample = [](DType dtype, Shape lhs, Shape rhs, int64_t groups) {
    return OpSample{{{dtype, lhs}, {dtype, rhs}, {DType::s32, {groups}}},
                    {},
                    {{-1, 1}, {-1, 1}, {1, 2}},
                    dtype == DType::f64};
  };
  std::vector<OpSample> samples = {sample(DType::f64, {8, 6}, {8, 2}, 4),
                                   sample(DType::f64, {10, 4}, {10, 6}, 2),
                                   sample(DType::bf16, {8, 6}, {8, 2}, 4)};
  samples.back().attributes.set(Attr::dtype, DType::f32);
  return samples;
}

Attributes attributes_of(Builder& b, Value lhs, std::optional<DType> dtype) {
  return dtype && *dtype != b.dtype(lhs) ? Attributes{{Attr::dtype, *dtype}} : Attributes{};
}

}  // namespace

RaggedSizes ragged_sizes(const OpDef& op, const OpCall& call) {
  const Shape &lhs = call.operands[0].shape, &rhs = call.operands[1].shape;
  RaggedSizes s{lhs[0], lhs[1], rhs[1], rhs[0], &op == &kRaggedContraction, false};
  if (s.is_contraction) {
    s.groups = call.attributes.get_or<int64_t>(Attr::group_count, call.operands[2].shape[0]);
  } else {
    s.rhs_by_columns = is_by_columns(call.attributes);
    s.n = rhs[s.rhs_by_columns ? 1 : 2];
  }
  return s;
}

const OpDef kRaggedDot{.name = "ragged_dot",
                       .attributes = {Attr::rhs_contracting},
                       .optional_attributes = {Attr::dtype},
                       .infer = infer_dot,
                       .eval = eval_dot,
                       .grad = grad_dot,
                       .factors = factors_dot,
                       .linear = linear,
                       .pad_transfer = transfer_of_product,
                       .flops = flops<kRaggedDot>,
                       .samples = samples_dot,
                       .multiplies_matrices = true};
const OpDef kRaggedContraction{.name = "ragged_contraction",
                               .optional_attributes = {Attr::dtype, Attr::group_count},
                               .infer = infer_contraction,
                               .eval = eval_contraction,
                               .grad = grad_contraction,
                               .factors = factors_contraction,
                               .linear = linear,
                               .localize = localize_contraction,
                               .pad_transfer = transfer_contraction,
                               .flops = flops<kRaggedContraction>,
                               .samples = samples_contraction};

Value ragged_dot(Builder& b, Value lhs, Value rhs, Value group_sizes, RaggedRhs contracted,
                 std::optional<DType> dtype) {
  Attributes attributes = attributes_of(b, lhs, dtype);
  attributes.set(Attr::rhs_contracting, Ints{static_cast<int64_t>(contracted)});
  return b.emit(kRaggedDot, {lhs, rhs, group_sizes}, std::move(attributes));
}
Value ragged_contraction(Builder& b, Value lhs, Value rhs, Value group_sizes,
                         std::optional<DType> dtype) {
  return b.emit(kRaggedContraction, {lhs, rhs, group_sizes}, attributes_of(b, lhs, dtype));
}

}  // namespace tessera::ops

#include "core/ops/contraction.h"

#include <algorithm>
#include <numeric>

#include "core/ops/product_gradient.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

bool holds(const Ints& list, int64_t value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

DotDims dims_of(const Attributes& a) {
  return {a.ints(Attr::lhs_contracting), a.ints(Attr::rhs_contracting), a.ints(Attr::lhs_batch),
          a.ints(Attr::rhs_batch)};
}

// The dims of one side by what they are for; `free` ascends.
struct Side {
  Ints batch, contracting, free;
};
Side side_of(const DotDims& dims, bool is_lhs, int rank) {
  Side side{is_lhs ? dims.lhs_batch : dims.rhs_batch,
            is_lhs ? dims.lhs_contracting : dims.rhs_contracting,
            {}};
  for (int d = 0; d < rank; ++d)
    if (!holds(side.batch, d) && !holds(side.contracting, d)) side.free.push_back(d);
  return side;
}

int64_t product(const Shape& shape, const Ints& dims) {
  int64_t size = 1;
  for (int64_t d : dims) size *= shape[static_cast<int>(d)];
  return size;
}

// ---- infer --------------------------------------------------------------------------------------

void check_dims(const OpCall& call, const Ints& left, const Ints& right, std::string_view what) {
  const TensorType &lhs = call.operands[0], &rhs = call.operands[1];
  require(left.size() == right.size(), "dot_general: ", what, " [", join(left, ","), "] of ", lhs,
          " and [", join(right, ","), "] of ", rhs, " differ in number");
  for (size_t i = 0; i < left.size(); ++i) {
    require(left[i] >= 0 && left[i] < lhs.rank() && right[i] >= 0 && right[i] < rhs.rank(),
            "dot_general: ", what, " dims ", left[i], " of ", lhs, " and ", right[i], " of ", rhs,
            " do not exist");
    require(lhs.shape[static_cast<int>(left[i])] == rhs.shape[static_cast<int>(right[i])],
            "dot_general: ", what, " dim ", left[i], " of ", lhs, " and dim ", right[i], " of ",
            rhs, " differ in size");
  }
}

void check_distinct(const OpCall& call, int operand, Ints dims) {
  std::sort(dims.begin(), dims.end());
  require(std::adjacent_find(dims.begin(), dims.end()) == dims.end(), "dot_general: a dim of ",
          call.operands[operand], " is named twice");
}

std::vector<TensorType> infer(const OpCall& call) {
  check_operand_count("dot_general", call, 2);
  const TensorType &lhs = call.operands[0], &rhs = call.operands[1];
  require((lhs.dtype == rhs.dtype && lhs.dtype != DType::pred) || (is_f8(lhs.dtype) && is_f8(rhs.dtype)),
          "dot_general: operands must be numbers of one type, or of the two f8 types, got ", lhs, " and ", rhs);
  const DotDims dims = dims_of(call.attributes);
  check_dims(call, dims.lhs_contracting, dims.rhs_contracting, "contracting");
  check_dims(call, dims.lhs_batch, dims.rhs_batch, "batch");
  const Side left = side_of(dims, true, lhs.rank()), right = side_of(dims, false, rhs.rank());
  for (int operand : {0, 1}) {
    Ints named = operand == 0 ? left.batch : right.batch;
    const Ints& contracting = operand == 0 ? left.contracting : right.contracting;
    named.insert(named.end(), contracting.begin(), contracting.end());
    check_distinct(call, operand, named);
  }
  Shape shape;
  for (int64_t d : left.batch) shape.push_back(lhs.shape[static_cast<int>(d)]);
  for (int64_t d : left.free) shape.push_back(lhs.shape[static_cast<int>(d)]);
  for (int64_t d : right.free) shape.push_back(rhs.shape[static_cast<int>(d)]);
  return {{call.attributes.get_or<DType>(Attr::dtype, lhs.dtype), shape}};
}

// ---- eval ---------------------------------------------------------------------------------------

// Elements in the dim order a, b, c.
template <typename D>
std::vector<D> gather(const HostTensor& x, const Ints& a, const Ints& b, const Ints& c) {
  const Elements<D> values = elements_of<D>(x);
  Shape extent;
  std::vector<int64_t> strides;
  const auto own = x.shape().strides();
  for (const Ints* group : {&a, &b, &c})
    for (int64_t d : *group) {
      extent.push_back(x.shape()[static_cast<int>(d)]);
      strides.push_back(own[d]);
    }
  std::vector<D> ordered(values.size());
  walk(extent, strides, extent.strides(),
       [&](int64_t from, int64_t to) { ordered[to] = values[from]; });
  return ordered;
}

// result[b, m, n] = sum over k of lhs[b, m, k] rhs[b, k, n], k ascending.
template <typename D>
void multiply_matrices(const OpCall& call, const HostTensor& lhs, const HostTensor& rhs,
                       HostTensor& result) {
  const DotDims dims = dims_of(call.attributes);
  const Side left = side_of(dims, true, lhs.shape().rank()),
             right = side_of(dims, false, rhs.shape().rank());
  const DotSizes size = dot_sizes(call);
  const std::vector<D> a = gather<D>(lhs, left.batch, left.free, left.contracting);
  const std::vector<D> b = gather<D>(rhs, right.batch, right.contracting, right.free);
  Elements<D> c(static_cast<size_t>(size.batch * size.rows * size.columns), D(0));
  for (int64_t row = 0; row < size.batch * size.rows; ++row) {
    const D* b_matrix = b.data() + row / size.rows * size.depth * size.columns;
    D* c_row = c.data() + row * size.columns;
    for (int64_t k = 0; k < size.depth; ++k) {
      const D factor = a[row * size.depth + k];
      const D* b_row = b_matrix + k * size.columns;
      for (int64_t n = 0; n < size.columns; ++n) c_row[n] += factor * b_row[n];
    }
  }
  set_elements<D>(result, c);
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const DType dtype = call.operands[0].dtype;
  if (is_float(dtype))
    multiply_matrices<double>(call, *x[0], *x[1], y[0]);
  else if (dtype == DType::c64)
    multiply_matrices<std::complex<double>>(call, *x[0], *x[1], y[0]);
  else
    multiply_matrices<uint64_t>(call, *x[0], *x[1], y[0]);
}

// ---- gradient -----------------------------------------------------------------------------------

Ints range(size_t start, size_t count) {
  Ints values(count);
  std::iota(values.begin(), values.end(), static_cast<int64_t>(start));
  return values;
}

}  // namespace

Value product_gradient(GradContext& c, bool is_lhs, const EmitGradientProduct& emit) {
  Builder& b = c.builder();
  const DotDims dims = dims_of(c.attributes());
  const TensorType& own_type = c.operand_type(is_lhs ? 0 : 1);
  const Side own = side_of(dims, is_lhs, own_type.rank());
  const Side other = side_of(dims, !is_lhs, c.operand_type(is_lhs ? 1 : 0).rank());

  const size_t batch = own.batch.size(), lhs_free = is_lhs ? own.free.size() : other.free.size();
  const Ints dy_batch = range(0, batch);
  const Ints dy_contracting = range(is_lhs ? batch + lhs_free : batch, other.free.size());

  // Which dim of the operand each result dim is, in both orders. The other side's contracting dims
  // appear in ascending order of *its* dims.
  std::vector<std::pair<int64_t, int64_t>> contracting;
  for (size_t i = 0; i < own.contracting.size(); ++i)
    contracting.push_back({other.contracting[i], own.contracting[i]});
  std::sort(contracting.begin(), contracting.end());
  auto order = [&](bool dy_first) {
    Ints result = own.batch;
    auto add_free = [&] { result.insert(result.end(), own.free.begin(), own.free.end()); };
    if (dy_first) add_free();
    for (const auto& [other_dim, own_dim] : contracting) result.push_back(own_dim);
    if (!dy_first) add_free();
    return result;
  };
  const Ints identity = range(0, static_cast<size_t>(own_type.rank()));
  const bool dy_first = order(false) != identity && (is_lhs || order(true) == identity);

  const Value x = c.operand(is_lhs ? 1 : 0);
  const Value dy = as_dtype(b, c.cotangent(0), own_type.dtype);
  const Value product =
      dy_first ? emit(dy, x, {dy_contracting, other.free, dy_batch, other.batch}, dy_first)
               : emit(x, dy, {other.free, dy_contracting, other.batch, dy_batch}, dy_first);
  const Ints made = order(dy_first);
  if (made == identity) return product;
  Ints permutation(made.size());
  for (size_t i = 0; i < made.size(); ++i) permutation[made[i]] = static_cast<int64_t>(i);
  return transpose(b, product, permutation);
}

namespace {

std::vector<Value> grad(GradContext& c) {
  std::vector<Value> gradients(2);
  for (int side : {0, 1}) {
    if (!c.needs_gradient(side)) continue;
    gradients[static_cast<size_t>(side)] =
        product_gradient(c, side == 0, [&](Value lhs, Value rhs, const DotDims& dims, bool) {
          return dot_general(c.builder(), lhs, rhs, dims, c.gradient_dtype(side));
        });
  }
  return gradients;
}

// ---- the rest -----------------------------------------------------------------------------------

FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const DotDims dims = dims_of(call.attributes);
  const Shape &lhs = call.operands[0].shape, &rhs = call.operands[1].shape;
  std::vector<int> left(static_cast<size_t>(lhs.rank())), right(static_cast<size_t>(rhs.rank())),
      result;
  for (size_t i = 0; i < dims.lhs_batch.size(); ++i) {
    left[dims.lhs_batch[i]] = right[dims.rhs_batch[i]] =
        add_factor(rule, lhs[static_cast<int>(dims.lhs_batch[i])]);
    result.push_back(left[dims.lhs_batch[i]]);
  }
  for (int64_t d : side_of(dims, true, lhs.rank()).free)
    result.push_back(left[d] = add_factor(rule, lhs[static_cast<int>(d)]));
  for (int64_t d : side_of(dims, false, rhs.rank()).free)
    result.push_back(right[d] = add_factor(rule, rhs[static_cast<int>(d)]));
  for (size_t i = 0; i < dims.lhs_contracting.size(); ++i)
    left[dims.lhs_contracting[i]] = right[dims.rhs_contracting[i]] =
        add_factor(rule, lhs[static_cast<int>(dims.lhs_contracting[i])], FactorKind::reduction);
  rule.operands = {ops::dims_of(left), ops::dims_of(right)};
  rule.results = {ops::dims_of(result)};
  return rule;
}

std::vector<LinearSet> linear(const OpCall&) {
  return {{{0}, ReduceKind::sum}, {{1}, ReduceKind::sum}};
}

double flops(const OpCall& call, std::span<const TensorType>) {
  const DotSizes size = dot_sizes(call);
  return 2.0 * static_cast<double>(size.batch * size.rows) *
         static_cast<double>(size.columns * size.depth);
}

Attributes attributes_of(const DotDims& dims, std::optional<DType> dtype) {
  Attributes attributes{{Attr::lhs_contracting, dims.lhs_contracting},
                        {Attr::rhs_contracting, dims.rhs_contracting},
                        {Attr::lhs_batch, dims.lhs_batch},
                        {Attr::rhs_batch, dims.rhs_batch}};
  if (dtype) attributes.set(Attr::dtype, *dtype);
  return attributes;
}

std::vector<OpSample> samples() {
  auto sample = [](DType dtype, Shape lhs, Shape rhs, DotDims dims,
                   std::optional<DType> result = {}) {
    return OpSample{
        {{dtype, lhs}, {dtype, rhs}}, attributes_of(dims, result), {}, dtype == DType::f64};
  };
  return {sample(DType::f64, {4, 6}, {6, 2}, {{1}, {0}}),
          sample(DType::f64, {2, 4, 6}, {8, 6}, {{2}, {1}}),
          sample(DType::f64, {2, 4, 6}, {6, 2, 4}, {{2}, {0}}),
          sample(DType::f64, {2, 4, 6}, {2, 6, 2}, {{2}, {1}, {0}, {0}}),
          sample(DType::f64, {4, 2, 6, 2}, {2, 6, 4, 8}, {{2, 0}, {1, 2}, {1}, {0}}),
          sample(DType::f64, {4}, {4}, {{0}, {0}}),
          sample(DType::f64, {2}, {4}, {{}, {}}),
          sample(DType::bf16, {4, 6}, {6, 2}, {{1}, {0}}, DType::f32),
          sample(DType::c64, {4, 6}, {6, 2}, {{1}, {0}}),
          sample(DType::s32, {4, 6}, {6, 2}, {{1}, {0}})};
}

}  // namespace

DotSizes dot_sizes(const OpCall& call) {
  const DotDims dims = dims_of(call.attributes);
  const Shape &lhs = call.operands[0].shape, &rhs = call.operands[1].shape;
  return {product(lhs, dims.lhs_batch), product(lhs, side_of(dims, true, lhs.rank()).free),
          product(rhs, side_of(dims, false, rhs.rank()).free), product(lhs, dims.lhs_contracting)};
}

const OpDef kDotGeneral{
    .name = "dot_general",
    .attributes = {Attr::lhs_contracting, Attr::rhs_contracting, Attr::lhs_batch, Attr::rhs_batch},
    .optional_attributes = {Attr::dtype},
    .infer = infer,
    .eval = eval,
    .grad = grad,
    .factors = factors,
    .linear = linear,
    .pad_transfer = transfer_of_product,
    .flops = flops,
    .samples = samples,
    .multiplies_matrices = true};

Value dot_general(Builder& b, Value lhs, Value rhs, const DotDims& dims,
                  std::optional<DType> dtype) {
  if (dtype == b.dtype(lhs)) dtype.reset();
  return b.emit(kDotGeneral, {lhs, rhs}, attributes_of(dims, dtype));
}

Value matmul(Builder& b, Value x, Value w, std::optional<DType> dtype) {
  return dot_general(b, x, w, {{b.shape(x).rank() - 1}, {0}}, dtype);
}

}  // namespace tessera::ops

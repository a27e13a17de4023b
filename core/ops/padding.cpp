#include "core/ops/padding.h"

#include <algorithm>

#include "core/ops/halo.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// ---- resize_padding -----------------------------------------------------------------------------

// Whether the dim is in shards, so that its elements go from device to device.
bool is_exchanged(const OpCall& call, int64_t dim) {
  if (!call.attributes.has(Attr::dimensions)) return false;
  const Ints& dims = call.attributes.ints(Attr::dimensions);
  return std::count(dims.begin(), dims.end(), dim) > 0;
}

std::vector<TensorType> infer_resize(const OpCall& call) {
  check_operand_count("resize_padding", call, 1);
  if (call.attributes.has(Attr::dimensions))
    for (int64_t d : call.attributes.ints(Attr::dimensions))
      require(d >= 0 && d < call.operands[0].rank(), "resize_padding: dimension ", d, " of ",
              call.operands[0]);
  if (!call.attributes.has(Attr::shape)) return {call.operands[0]};
  const Shape shape(call.attributes.ints(Attr::shape));
  require(shape.rank() == call.operands[0].rank(), "resize_padding: shape ", shape, " for ",
          call.operands[0]);
  return {{call.operands[0].dtype, shape}};
}

void eval_resize(const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  Shape common = x[0]->shape();
  for (int d = 0; d < common.rank(); ++d) common[d] = std::min(common[d], y[0].shape()[d]);
  const std::vector<int64_t> origin(static_cast<size_t>(common.rank()), 0);
  y[0].put(origin, x[0]->slice(origin, common));
}

// Dims of size 1 have a factor here: they, too, may be stored larger.
FactorRule resize_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  std::vector<int> dims;
  for (int d = 0; d < call.operands[0].rank(); ++d)
    dims.push_back(rule.add(call.operands[0].shape[d], is_exchanged(call, d)
                                                           ? FactorKind::permutation
                                                           : FactorKind::pass_through));
  rule.operands = rule.results = {dims_of(dims)};
  return rule;
}

std::vector<Value> partition_resize(PartitionContext& c) {
  Builder& b = c.builder();
  Value made = c.operand(0);
  const Shape& wanted = c.local_result_type(0).shape;
  for (int d = 0; d < wanted.rank(); ++d)
    if (is_exchanged(c.call(), d))
      made = halo_window(b, made, cut_dim(c, 0, d), {{wanted[d]}, wanted[d]},
                         {HaloFill::Kind::anything, {}});
  const Shape now = b.shape(made);
  Ints none(static_cast<size_t>(now.rank()), 0), limits, high;
  for (int d = 0; d < now.rank(); ++d) {
    limits.push_back(std::min(now[d], wanted[d]));
    high.push_back(wanted[d] - limits.back());
  }
  if (Shape(limits) != now) made = slice(b, made, none, limits);
  if (b.shape(made) == wanted) return {made};
  return {pad(b, made, constant(b, 0.0, {b.dtype(made), {}}), none, high)};
}

// Zero where it was zero; whole dims that grew from their logical extent are zero beyond it. Of what
// comes from other devices nothing is said.
std::vector<PadContents> transfer_resize(const PadFacts& facts) {
  PadContents contents = facts.operands[0];
  const bool is_own = !facts.call.attributes.has(Attr::dimensions);
  for (size_t d = 0; d < contents.size(); ++d)
    contents[d] = is_own && (!facts.padded[0][d] || contents[d] == PadContent::zero)
                      ? PadContent::zero
                      : PadContent::unknown;
  return {contents};
}

std::vector<OpSample> resize_samples() {
  return {{{{DType::f64, {4, 6}}}, {}},
          {{{DType::f64, {5, 6}}}, {{Attr::dimensions, Ints{0}}}},
          {{{DType::s32, {3}}}, {}, {}, false}};
}

std::vector<Value> grad_resize(GradContext& c) {
  return {c.needs_gradient(0) ? c.cotangent(0) : Value{}};
}

// ---- mask_padding -------------------------------------------------------------------------------

const Ints& dims_of_mask(const OpCall& call) { return call.attributes.ints(Attr::dimensions); }

std::vector<TensorType> infer_mask(const OpCall& call) {
  const Ints &dims = dims_of_mask(call), &limits = call.attributes.ints(Attr::limit_indices);
  require(dims.size() == limits.size() && !dims.empty(), "mask_padding: dimensions [",
          join(dims, ","), "] with limits [", join(limits, ","), "]");
  check_operand_count("mask_padding", call, 1, static_cast<int>(dims.size()));
  for (size_t i = 0; i < dims.size(); ++i)
    require(dims[i] >= 0 && dims[i] < call.operands[0].rank() && (i == 0 || dims[i] > dims[i - 1]),
            "mask_padding: dimensions [", join(dims, ","), "] of ", call.operands[0]);
  return {call.operands[0]};
}

void eval_mask(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const Ints &dims = dims_of_mask(call), &limits = call.attributes.ints(Attr::limit_indices);
  y[0] = *x[0];
  for (size_t i = 0; i < dims.size(); ++i) {
    const auto d = static_cast<int>(dims[i]);
    Shape pads = y[0].shape();
    const int64_t first =
        std::clamp<int64_t>(limits[i] - start_of(x, 1, i), 0, pads[d]);
    pads[d] -= first;
    if (pads.elements() == 0) continue;
    std::vector<int64_t> origin(static_cast<size_t>(pads.rank()), 0);
    origin[static_cast<size_t>(d)] = first;
    y[0].put(origin,
             HostTensor::filled({y[0].dtype(), pads}, call.attributes.number(Attr::scalar)));
  }
}

FactorRule mask_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  std::vector<int> dims;
  for (int d = 0; d < call.operands[0].rank(); ++d) {
    const bool is_masked =
        std::count(dims_of_mask(call).begin(), dims_of_mask(call).end(), d) > 0;
    dims.push_back(rule.add(call.operands[0].shape[d], FactorKind::pass_through, ReduceKind::sum,
                            is_masked));
  }
  rule.operands = rule.results = {dims_of(dims)};
  add_starts(rule, call);
  return rule;
}

std::vector<LinearSet> linear_mask(const OpCall& call) {
  std::vector<LinearSet> sets = {{{0}, ReduceKind::max}, {{0}, ReduceKind::min}};
  if (call.attributes.number(Attr::scalar) == 0) sets.push_back({{0}, ReduceKind::sum});
  return sets;
}

// What is masked holds the scalar; other claims do where they say the same.
std::vector<PadContents> transfer_mask(const PadFacts& facts) {
  const PadContent content =
      content_of(facts.call.attributes.number(Attr::scalar), facts.results[0].dtype);
  PadContents contents = facts.operands[0];
  for (size_t d = 0; d < contents.size(); ++d) {
    const Ints& dims = dims_of_mask(facts.call);
    if (std::count(dims.begin(), dims.end(), static_cast<int64_t>(d)))
      contents[d] = content;
    else if (contents[d] != content)
      contents[d] = PadContent::unknown;
  }
  return {contents};
}

std::vector<Value> grad_mask(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  return {mask_padding(c.builder(), c.cotangent(0), c.attributes().ints(Attr::dimensions),
                       c.attributes().ints(Attr::limit_indices), 0)};
}

std::vector<OpSample> mask_samples() {
  auto sample = [](TensorType type, Ints dims, Ints limits, double scalar) {
    return OpSample{{type},
                    {{Attr::dimensions, dims}, {Attr::limit_indices, limits}, {Attr::scalar, scalar}},
                    {},
                    is_float(type.dtype)};
  };
  return {sample({DType::f64, {4, 6}}, {1}, {5}, 0), sample({DType::f64, {4, 6}}, {0, 1}, {3, 4}, 1),
          sample({DType::s32, {4}}, {0}, {4}, 7)};
}

}  // namespace

const OpDef kResizePadding{.name = "resize_padding",
                           .optional_attributes = {Attr::shape, Attr::dimensions},
                           .infer = infer_resize,
                           .eval = eval_resize,
                           .grad = grad_resize,
                           .factors = resize_factors,
                           .linear = linear_in_all,
                           .localize = localize_shape,
                           .partition = partition_resize,
                           .pad_transfer = transfer_resize,
                           .flops = no_flops,
                           .samples = resize_samples};

const OpDef kMaskPadding{.name = "mask_padding",
                         .attributes = {Attr::dimensions, Attr::limit_indices, Attr::scalar},
                         .infer = infer_mask,
                         .eval = eval_mask,
                         .grad = grad_mask,
                         .factors = mask_factors,
                         .linear = linear_mask,
                         .pad_transfer = transfer_mask,
                         .flops = no_flops,
                         .samples = mask_samples,
                         .alias = [](const OpCall&, int) { return 0; }};

Value resize_padding(Builder& b, Value x) { return b.emit(kResizePadding, {x}); }
Value mask_padding(Builder& b, Value x, Ints dimensions, Ints limits, double scalar) {
  return b.emit(kMaskPadding, {x},
                {{Attr::dimensions, std::move(dimensions)},
                 {Attr::limit_indices, std::move(limits)},
                 {Attr::scalar, scalar}});
}

}  // namespace tessera::ops

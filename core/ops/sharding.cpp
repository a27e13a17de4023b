#include "core/ops/sharding.h"

#include <algorithm>

#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// After localize: the local result shape follows from the operand's and the axes.
std::vector<TensorType> local_result(std::string_view op, const OpCall& call, Shape expected) {
  const Shape shape(call.attributes.ints(Attr::shape));
  require(shape == expected, op, ": operand ", call.operands[0], " over ",
          size_of(call.attributes.get<AxisList>(Attr::axes)), " devices gives ", expected,
          ", not the shape ", shape, " of the attribute");
  return {{call.operands[0].dtype, shape}};
}

int checked_dim(std::string_view op, const OpCall& call, Attr key) {
  const int64_t dim = call.attributes.integer(key);
  require(dim >= 0 && dim < call.operands[0].rank(), op, ": ", name_of(key), " ", dim, " of ",
          call.operands[0]);
  return static_cast<int>(dim);
}

bool is_local(const OpCall& call) { return call.attributes.has(Attr::shape); }

void divide_dim(std::string_view op, const OpCall& call, Shape& shape, int dim, int64_t parts) {
  require(shape[dim] % parts == 0, op, ": dim ", dim, " of ", call.operands[0],
          " does not divide by ", parts, " devices");
  shape[dim] /= parts;
}

// `dimension` grows (kGrows) or shrinks by the number of devices, or the shape stays.
enum class Change { none, grows, shrinks };

template <const OpDef& kOp, Change kChange>
std::vector<TensorType> infer(const OpCall& call) {
  check_operand_count(kOp.name, call, 1);
  const int64_t devices = size_of(call.attributes.get<AxisList>(Attr::axes));
  Shape shape = call.operands[0].shape;
  int dim = 0;
  if constexpr (kChange != Change::none) dim = checked_dim(kOp.name, call, Attr::dimension);
  if (!is_local(call)) return {call.operands[0]};
  if constexpr (kChange == Change::grows) shape[dim] *= devices;
  if constexpr (kChange == Change::shrinks) divide_dim(kOp.name, call, shape, dim, devices);
  return local_result(kOp.name, call, shape);
}

std::vector<TensorType> infer_all_to_all(const OpCall& call) {
  check_operand_count("all_to_all", call, 1);
  const int64_t devices = size_of(call.attributes.get<AxisList>(Attr::axes));
  const int split = checked_dim("all_to_all", call, Attr::split_dimension);
  const int concat = checked_dim("all_to_all", call, Attr::concat_dimension);
  require(split != concat, "all_to_all: splits and concatenates dim ", split, " of ",
          call.operands[0]);
  if (!is_local(call)) return {call.operands[0]};
  Shape shape = call.operands[0].shape;
  divide_dim("all_to_all", call, shape, split, devices);
  shape[concat] *= devices;
  return local_result("all_to_all", call, shape);
}

void check_sources(const Ints& sources, int64_t devices) {
  require(static_cast<int64_t>(sources.size()) == devices, "collective_permute: ", sources.size(),
          " sources for ", devices, " devices");
  std::vector<bool> sends(sources.size(), false);
  for (int64_t source : sources) {
    require(source >= -1 && source < devices, "collective_permute: source ", source, " of ",
            devices, " devices");
    if (source < 0) continue;
    require(!sends[static_cast<size_t>(source)], "collective_permute: source ", source,
            " sends twice");
    sends[static_cast<size_t>(source)] = true;
  }
}

std::vector<TensorType> infer_permute(const OpCall& call) {
  const auto& from = call.attributes.get<AxisList>(Attr::axes);
  require(call.attributes.has(Attr::target_axes) != call.attributes.has(Attr::sources),
          "collective_permute: needs either target_axes or sources");
  if (call.attributes.has(Attr::sources)) {
    check_sources(call.attributes.ints(Attr::sources), size_of(from));
  } else {
    const auto& to = call.attributes.get<AxisList>(Attr::target_axes);
    require(size_of(from) == size_of(to), "collective_permute: ", size_of(from), " sending and ",
            size_of(to), " receiving coordinates for ", types_text(call.operands));
  }
  return infer<kCollectivePermute, Change::none>(call);
}

std::vector<TensorType> infer_shift(const OpCall& call) {
  check_operand_count("shift", call, 1);
  const int64_t devices = size_of(call.attributes.get<AxisList>(Attr::axes));
  const int64_t places = call.attributes.integer(Attr::shift);
  require(places > -devices && places < devices, "shift: by ", places, " places over ", devices,
          " devices");
  return {call.operands[0]};
}

std::vector<TensorType> infer_reshard(const OpCall& call) {
  check_operand_count("reshard", call, 1);
  const Sharding& sharding = call.attributes.get<Sharding>(Attr::sharding);
  require(sharding.rank() == call.operands[0].rank(), "reshard: sharding ", sharding, " of rank ",
          sharding.rank(), " for ", call.operands[0]);
  return {call.operands[0]};
}

std::vector<TensorType> infer_axis_index(const OpCall& call) {
  check_operand_count("axis_index", call, 0);
  return {{DType::s64, {}}};
}

// The logical value does not change. With local shapes the result depends on other devices.
void eval_identity(const OpCall& call, std::span<const HostTensor* const> x,
                   std::span<HostTensor> y) {
  TESSERA_CHECK(!is_local(call), "a collective on local shapes ", x[0]->type(),
                " has no value on one device");
  y[0] = *x[0];
}

void eval_axis_index(const OpCall& call, std::span<const HostTensor* const>,
                     std::span<HostTensor> y) {
  const int64_t devices = size_of(call.attributes.get<AxisList>(Attr::axes));
  TESSERA_CHECK(devices == 1, "axis_index over ", devices, " devices has no value of its own");
  y[0].set_int(0, 0);
}

std::vector<Value> grad_reshard(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  return {reshard(c.builder(), c.cotangent(0), c.attributes().get<Sharding>(Attr::sharding))};
}

// Its meaning is the exchange itself: only who knows all devices can compute it.
void eval_shift(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  TESSERA_CHECK(size_of(call.attributes.get<AxisList>(Attr::axes)) == 1,
                "shift has no value on one device");
  y[0] = *x[0];
}

// Along the axes of the exchange itself nothing is left to choose. In a manual computation (stated
// local shape) the other axes are still free: a dim that the exchange cuts or joins stays whole.
FactorRule identity_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  std::vector<int> in, out;
  for (int d = 0; d < call.operands[0].rank(); ++d) {
    const int64_t size = call.operands[0].shape[d];
    auto is_moved = [&](Attr key) {
      return is_local(call) && call.attributes.has(key) && call.attributes.integer(key) == d;
    };
    const bool whole = is_moved(Attr::dimension) || is_moved(Attr::split_dimension) ||
                       is_moved(Attr::concat_dimension);
    const FactorKind kind = whole ? FactorKind::need_replication : FactorKind::pass_through;
    in.push_back(add_factor(rule, size, kind));
    out.push_back(whole ? add_factor(rule, results[0].shape[d], kind) : in.back());
  }
  rule.operands = {dims_of(in)};
  rule.results = {dims_of(out)};
  return rule;
}

int overwrite_operand(const OpCall&, int) { return 0; }

// Who has no source holds zeros, in the padding too.
std::vector<PadContents> transfer_permuted(const PadFacts& facts) {
  std::vector<PadContents> contents = transfer_by_factors(facts);
  const auto sources = facts.call.attributes.get_or<Ints>(Attr::sources, {});
  if (std::count(sources.begin(), sources.end(), -1) > 0)
    for (PadContent& content : contents[0])
      if (content != PadContent::zero) content = PadContent::unknown;
  return contents;
}

// What combining with itself or with the identity leaves as it is.
std::vector<PadContents> transfer_combined(const PadFacts& facts) {
  const auto kind = facts.call.attributes.get<ReduceKind>(Attr::reduce_kind);
  PadContents contents = facts.operands[0];
  for (PadContent& content : contents)
    if (content != identity_content(kind)) content = PadContent::unknown;
  return {contents};
}

// ---- Test inputs: axes 0 and 1 of a mesh <a=2, b=2> ---------------------------------------------

const AxisList kFirst = {{0, 1, 2}}, kSecond = {{1, 1, 2}};

OpSample sample_with(Attributes attributes, bool has_gradient = false) {
  return {{{DType::f64, {4, 6}}}, std::move(attributes), {}, has_gradient};
}
std::vector<OpSample> dim_samples() {
  return {sample_with({{Attr::dimension, int64_t{0}}, {Attr::axes, kFirst}}),
          sample_with({{Attr::dimension, int64_t{1}}, {Attr::axes, kSecond}})};
}
std::vector<OpSample> reduce_samples() {
  return {sample_with({{Attr::axes, kFirst}, {Attr::reduce_kind, ReduceKind::sum}}),
          sample_with({{Attr::axes, kSecond}, {Attr::reduce_kind, ReduceKind::max}})};
}
std::vector<OpSample> scatter_samples() {
  std::vector<OpSample> samples = dim_samples();
  for (OpSample& sample : samples) sample.attributes.set(Attr::reduce_kind, ReduceKind::sum);
  return samples;
}
std::vector<OpSample> all_to_all_samples() {
  return {sample_with({{Attr::split_dimension, int64_t{0}},
                       {Attr::concat_dimension, int64_t{1}},
                       {Attr::axes, kFirst}})};
}
std::vector<OpSample> permute_samples() {
  return {sample_with({{Attr::axes, kFirst}, {Attr::target_axes, kSecond}}),
          sample_with({{Attr::axes, concat(kFirst, kSecond)}, {Attr::sources, Ints{2, 0, 1, 3}}})};
}
std::vector<OpSample> shift_samples() {
  return {sample_with({{Attr::axes, AxisList{}}, {Attr::shift, int64_t{0}}, {Attr::wrap, false}})};
}
std::vector<OpSample> reshard_samples() {
  const auto mesh = std::make_shared<const Mesh>(std::vector<MeshAxis>{{"a", 2}, {"b", 2}});
  Sharding sharding(mesh, 2);
  sharding.dims[0].axes = {mesh->axis(0)};
  return {sample_with({{Attr::sharding, sharding}}, true)};
}
std::vector<OpSample> axis_index_samples() { return {{{}, {{Attr::axes, AxisList{}}}, {}, false}}; }

}  // namespace

const OpDef kReshard{.name = "reshard",
                     .attributes = {Attr::sharding},
                     .infer = infer_reshard,
                     .eval = eval_identity,
                     .grad = grad_reshard,
                     .factors = identity_factors,
                     .flops = no_flops,
                     .samples = reshard_samples};
const OpDef kAllGather{.name = "all_gather",
                       .attributes = {Attr::dimension, Attr::axes},
                       .optional_attributes = {Attr::shape},
                       .infer = infer<kAllGather, Change::grows>,
                       .eval = eval_identity,
                       .factors = identity_factors,
                       .linear = linear_in_all,
                       .localize = localize_shape,
                       .pad_transfer = transfer_by_factors,
                       .flops = no_flops,
                       .samples = dim_samples,
                       .communicates = true};
const OpDef kAllSlice{.name = "all_slice",
                      .attributes = {Attr::dimension, Attr::axes},
                      .optional_attributes = {Attr::shape},
                      .infer = infer<kAllSlice, Change::shrinks>,
                      .eval = eval_identity,
                      .factors = identity_factors,
                      .linear = linear_in_all,
                      .localize = localize_shape,
                      .pad_transfer = transfer_by_factors,
                      .flops = no_flops,
                      .samples = dim_samples,
                      .device_dependent = true};
const OpDef kAllToAll{.name = "all_to_all",
                      .attributes = {Attr::split_dimension, Attr::concat_dimension, Attr::axes},
                      .optional_attributes = {Attr::shape},
                      .infer = infer_all_to_all,
                      .eval = eval_identity,
                      .factors = identity_factors,
                      .linear = linear_in_all,
                      .localize = localize_shape,
                      .pad_transfer = transfer_by_factors,
                      .flops = no_flops,
                      .samples = all_to_all_samples,
                      .communicates = true};
const OpDef kCollectivePermute{
    .name = "collective_permute",
    .attributes = {Attr::axes},
    .optional_attributes = {Attr::shape, Attr::target_axes, Attr::sources},
    .infer = infer_permute,
    .eval = eval_identity,
    .factors = identity_factors,
    .linear = linear_in_all,
    .localize = localize_shape,
    .pad_transfer = transfer_permuted,
    .flops = no_flops,
    .samples = permute_samples,
    .communicates = true};
const OpDef kShift{.name = "shift",
                   .attributes = {Attr::axes, Attr::shift, Attr::wrap},
                   .infer = infer_shift,
                   .eval = eval_shift,
                   .factors = identity_factors,
                   .flops = no_flops,
                   .samples = shift_samples,
                   .communicates = true};
const OpDef kAllReduce{.name = "all_reduce",
                       .attributes = {Attr::axes, Attr::reduce_kind},
                       .optional_attributes = {Attr::shape},
                       .infer = infer<kAllReduce, Change::none>,
                       .eval = eval_identity,
                       .factors = identity_factors,
                       .localize = localize_shape,
                       .pad_transfer = transfer_combined,
                       .samples = reduce_samples,
                       .communicates = true,
                       .alias = overwrite_operand};
const OpDef kReduceScatter{.name = "reduce_scatter",
                           .attributes = {Attr::dimension, Attr::axes, Attr::reduce_kind},
                           .optional_attributes = {Attr::shape},
                           .infer = infer<kReduceScatter, Change::shrinks>,
                           .eval = eval_identity,
                           .factors = identity_factors,
                           .localize = localize_shape,
                           .pad_transfer = transfer_combined,
                           .samples = scatter_samples,
                           .communicates = true};
const OpDef kReplicatedToPartial{.name = "replicated_to_partial",
                                 .attributes = {Attr::axes, Attr::reduce_kind},
                                 .optional_attributes = {Attr::shape},
                                 .infer = infer<kReplicatedToPartial, Change::none>,
                                 .eval = eval_identity,
                                 .factors = identity_factors,
                                 .localize = localize_shape,
                                 .pad_transfer = transfer_combined,
                                 .flops = no_flops,
                                 .samples = reduce_samples,
                                 .device_dependent = true,
                                 .alias = overwrite_operand};
const OpDef kAxisIndex{.name = "axis_index",
                       .attributes = {Attr::axes},
                       .infer = infer_axis_index,
                       .eval = eval_axis_index,
                       .flops = no_flops,
                       .samples = axis_index_samples,
                       .device_dependent = true};

Value reshard(Builder& b, Value x, Sharding sharding) {
  return b.emit(kReshard, {x}, {{Attr::sharding, std::move(sharding)}});
}
Value all_gather(Builder& b, Value x, int64_t dimension, AxisList axes) {
  return b.emit(kAllGather, {x}, {{Attr::dimension, dimension}, {Attr::axes, std::move(axes)}});
}
Value all_slice(Builder& b, Value x, int64_t dimension, AxisList axes) {
  return b.emit(kAllSlice, {x}, {{Attr::dimension, dimension}, {Attr::axes, std::move(axes)}});
}
Value all_to_all(Builder& b, Value x, int64_t split_dimension, int64_t concat_dimension,
                 AxisList axes) {
  return b.emit(kAllToAll, {x},
                {{Attr::split_dimension, split_dimension},
                 {Attr::concat_dimension, concat_dimension},
                 {Attr::axes, std::move(axes)}});
}
Value collective_permute(Builder& b, Value x, AxisList axes, AxisList target_axes) {
  return b.emit(kCollectivePermute, {x},
                {{Attr::axes, std::move(axes)}, {Attr::target_axes, std::move(target_axes)}});
}
Value collective_permute_from(Builder& b, Value x, AxisList axes, Ints sources) {
  return b.emit(kCollectivePermute, {x},
                {{Attr::axes, std::move(axes)}, {Attr::sources, std::move(sources)}});
}
Value shift(Builder& b, Value x, AxisList axes, int64_t places, bool wrap) {
  return b.emit(kShift, {x},
                {{Attr::axes, std::move(axes)}, {Attr::shift, places}, {Attr::wrap, wrap}});
}
Value all_reduce(Builder& b, Value x, AxisList axes, ReduceKind kind) {
  return b.emit(kAllReduce, {x}, {{Attr::axes, std::move(axes)}, {Attr::reduce_kind, kind}});
}
Value reduce_scatter(Builder& b, Value x, int64_t dimension, AxisList axes, ReduceKind kind) {
  return b.emit(
      kReduceScatter, {x},
      {{Attr::dimension, dimension}, {Attr::axes, std::move(axes)}, {Attr::reduce_kind, kind}});
}
Value replicated_to_partial(Builder& b, Value x, AxisList axes, ReduceKind kind) {
  return b.emit(kReplicatedToPartial, {x},
                {{Attr::axes, std::move(axes)}, {Attr::reduce_kind, kind}});
}
Value axis_index(Builder& b, AxisList axes) {
  return b.emit(kAxisIndex, {}, {{Attr::axes, std::move(axes)}});
}

}  // namespace tessera::ops

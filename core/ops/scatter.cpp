// scatter. On shards of the input each device drops what is not its own: an index minus the start
// of the shard falls outside exactly where it should. On shards of the indices the result is
// partial: each device combines its updates into the combiner's identity, one of them into the
// input.
#include <algorithm>
#include <cstring>
#include <optional>

#include "core/ir/padding.h"
#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/gather.h"
#include "core/ops/index_map.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera::ops {
namespace {

// Outside of every tensor, whatever is added to it.
constexpr int64_t kNowhere = -(int64_t{1} << 40);

bool has_region(const OpCall& call) { return call.attributes.has(Attr::combiner); }

// The kind, as far as partial values know it: sum, max or min.
std::optional<ReduceKind> partial_kind(const OpCall& call) {
  if (scatter_inputs(call) != 1) return std::nullopt;
  const std::optional<ReduceKind> kind = Combiner(call.attributes).kind();
  return kind && *kind != ReduceKind::product ? std::optional(numeric_kind(*kind)) : std::nullopt;
}

std::vector<TensorType> infer_scatter(const OpCall& call) {
  const auto inputs = static_cast<size_t>(scatter_inputs(call));
  scatter_map(call);
  std::vector<DType> dtypes;
  for (size_t i = 0; i < inputs; ++i) {
    const TensorType &x = call.operands[i], &update = call.operands[inputs + 1 + i];
    require(x.shape == call.operands[0].shape && update.shape == call.operands[inputs + 1].shape &&
                x.dtype == update.dtype,
            "scatter: input ", x, " and update ", update, " do not go with ", call.operands[0],
            " and ", call.operands[inputs + 1]);
    dtypes.push_back(x.dtype);
  }
  require(has_region(call) != call.attributes.has(Attr::reduce_kind),
          "scatter: takes either reduce_kind or combiner");
  if (has_region(call)) {
    check_combiner("scatter", *call.attributes.get<GraphRef>(Attr::combiner), dtypes);
  } else {
    require(inputs == 1, "scatter: several inputs take a combiner, not a reduce_kind, got ",
            types_text(call.operands));
    check_kind("scatter", call.attributes.get<ReduceKind>(Attr::reduce_kind), call.operands[0]);
  }
  return {call.operands.begin(), call.operands.begin() + static_cast<std::ptrdiff_t>(inputs)};
}

void eval_scatter(const OpCall& call, std::span<const HostTensor* const> x,
                  std::span<HostTensor> y) {
  const IndexMap map = scatter_map(call);
  const size_t inputs = y.size();
  const Combiner combiner(call.attributes);
  const bool replaces = is_replacement(call.attributes);
  const std::vector<int64_t> vectors = index_vectors(map, *x[inputs]);
  for (size_t i = 0; i < inputs; ++i) y[i] = *x[i];
  // Floats are rounded once, after the last update.
  const bool in_double = inputs == 1 && combiner.kind() && is_float(y[0].dtype());
  std::vector<double> sums, addends;
  if (in_double) sums = reals_of(y[0]), addends = reals_of(*x[2]);
  const Shape batch = map.batch_shape();
  std::vector<int64_t> position(static_cast<size_t>(map.window.rank()), 0);
  const auto strides = map.operand.strides();
  if (map.window.elements() == 0) return;
  const std::vector<int64_t> batch_strides = batch.strides();
  int64_t from = 0;
  do {
    int64_t vector = 0, to = 0;
    for (size_t i = 0; i < batch_strides.size(); ++i)
      vector += batch_strides[i] * position[static_cast<size_t>(map.window_batch_dims[i])];
    bool is_inside = true;
    for (size_t d = 0; d < map.dims.size(); ++d) {
      const IndexMap::Dim& dim = map.dims[d];
      int64_t at = 0;
      if (dim.window_dim >= 0) at += position[static_cast<size_t>(dim.window_dim)];
      if (dim.batching >= 0)
        at +=
            position[static_cast<size_t>(map.window_batch_dims[static_cast<size_t>(dim.batching)])];
      if (dim.component >= 0)
        at += vectors[static_cast<size_t>(vector * map.components() + dim.component)];
      is_inside = is_inside && at >= 0 && at < map.operand[static_cast<int>(d)];
      to += at * strides[d];
    }
    if (is_inside && replaces) {
      for (size_t i = 0; i < inputs; ++i) {
        const auto size = static_cast<size_t>(size_of(y[i].dtype()));
        std::memcpy(y[i].bytes().data() + static_cast<size_t>(to) * size,
                    x[inputs + 1 + i]->bytes().data() + static_cast<size_t>(from) * size, size);
      }
    } else if (is_inside && in_double) {
      double& sum = sums[static_cast<size_t>(to)];
      sum = combined(*combiner.kind(), sum, addends[static_cast<size_t>(from)]);
    } else if (is_inside) {
      combiner.combine(y, to, x.subspan(inputs + 1), from);
    }
    ++from;
  } while (next_position(position, map.window));
  if (in_double) set_reals(y[0], sums);
}

// ---- Gradient -----------------------------------------------------------------------------------

// dy at the positions of the updates, 0 for those that were dropped.
Value read_back(GradContext& c, const IndexMap& map, Value dy) {
  Builder& b = c.builder();
  const GatherDims dims = scatter_dims(c.attributes());
  Ints sizes;
  for (const IndexMap::Dim& dim : map.dims) sizes.push_back(dim.size);
  Value indices = as_s64(b, c.operand(1));
  bool single = true;  // windows of one element along every indexed dim
  for (const IndexMap::Dim& dim : map.dims) single = single && (dim.component < 0 || dim.size == 1);
  if (single) {
    const Value is_inside =
        compare(b, indices, clamped_indices(b, indices, map), CompareDirection::eq);
    return only_where(b, gather(b, dy, indices, dims, sizes), is_inside, map);
  }
  // Wider windows may lie partly outside: dy with zeros around it.
  Ints edge(map.dims.size(), 0);
  std::vector<int64_t> low(static_cast<size_t>(map.components())), high(low), add_edge(low);
  for (size_t d = 0; d < map.dims.size(); ++d) {
    if (map.dims[d].component < 0) continue;
    const auto k = static_cast<size_t>(map.dims[d].component);
    edge[d] = add_edge[k] = map.dims[d].size;
    low[k] = -map.dims[d].size;
    high[k] = map.operand[static_cast<int>(d)];
  }
  const Value wide = pad(b, dy, constant(b, 0, {b.dtype(dy), {}}), edge, edge);
  indices = maximum(b, indices, by_component(b, low, map, map.indices));
  indices = minimum(b, indices, by_component(b, high, map, map.indices));
  indices = add(b, indices, by_component(b, add_edge, map, map.indices));
  return gather(b, wide, indices, dims, sizes);
}

std::vector<Value> grad_scatter(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  const Attributes attributes = c.attributes();
  std::vector<TensorType> types;
  for (int i = 0; i < c.operand_count(); ++i) types.push_back(c.operand_type(i));
  const OpCall call{types, attributes};
  const bool replaces = is_replacement(attributes) && attributes.flag(Attr::unique_indices);
  require(scatter_inputs(call) == 1 && (replaces || Combiner(attributes).kind() == ReduceKind::sum),
          "scatter: has a gradient where it adds, or replaces with unique_indices; not with ",
          types_text(types));
  Builder& b = c.builder();
  const Value dy = c.cotangent(0);
  if (c.needs_gradient(0))
    cotangents[0] =
        !replaces ? dy : b.emit(kScatter, {dy, c.operand(1), constant(b, 0, types[2])}, attributes);
  if (c.needs_gradient(2)) cotangents[2] = read_back(c, scatter_map(call), dy);
  return cotangents;
}

// ---- Factors ------------------------------------------------------------------------------------

FactorRule scatter_factors(const OpCall& call, std::span<const TensorType>) {
  const IndexMap map = scatter_map(call);
  const std::optional<ReduceKind> kind = partial_kind(call);
  FactorRule rule;
  std::vector<int> input(map.dims.size(), -1);
  std::vector<int> indices(static_cast<size_t>(map.indices.rank()), -1);
  std::vector<int> update(static_cast<size_t>(map.window.rank()), -1);
  std::vector<bool> is_tied(map.indices_batch_dims.size(), false);
  for (const IndexMap::Dim& dim : map.dims)
    if (dim.batching >= 0) is_tied[static_cast<size_t>(dim.batching)] = true;
  for (size_t i = 0; i < map.indices_batch_dims.size(); ++i) {
    const auto d = static_cast<size_t>(map.indices_batch_dims[i]);
    const FactorKind factor = is_tied[i] ? FactorKind::pass_through
                              : kind     ? FactorKind::reduction
                                         : FactorKind::need_replication;
    indices[d] =
        add_factor(rule, map.indices[static_cast<int>(d)], factor, kind.value_or(ReduceKind::sum));
    update[static_cast<size_t>(map.window_batch_dims[i])] = indices[d];
  }
  if (map.vector_dim < map.indices.rank())
    indices[static_cast<size_t>(map.vector_dim)] =
        add_factor(rule, map.components(), FactorKind::need_replication);
  for (size_t d = 0; d < map.dims.size(); ++d) {
    const IndexMap::Dim& dim = map.dims[d];
    const int64_t size = map.operand[static_cast<int>(d)];
    if (dim.batching >= 0) {
      input[d] =
          indices[static_cast<size_t>(map.indices_batch_dims[static_cast<size_t>(dim.batching)])];
      continue;
    }
    const bool is_whole = dim.component < 0 && dim.size == size;
    // Not indexed and not whole: only the first elements, which is a slice in disguise.
    input[d] = add_factor(
        rule, size,
        is_whole || dim.component >= 0 ? FactorKind::pass_through : FactorKind::need_replication);
    if (dim.window_dim >= 0)
      update[static_cast<size_t>(dim.window_dim)] =
          is_whole ? input[d] : add_factor(rule, dim.size, FactorKind::need_replication);
  }
  const int inputs = scatter_inputs(call);
  rule.operands.assign(static_cast<size_t>(inputs), dims_of(input));
  rule.results = rule.operands;
  rule.operands.push_back(dims_of(indices));
  rule.operands.insert(rule.operands.end(), static_cast<size_t>(inputs), dims_of(update));
  return rule;
}

std::vector<LinearSet> linear_scatter(const OpCall& call) {
  if (scatter_inputs(call) != 1) return {};
  if (is_replacement(call.attributes))
    return {{{0, 2}, ReduceKind::sum}, {{0, 2}, ReduceKind::max}, {{0, 2}, ReduceKind::min}};
  const std::optional<ReduceKind> kind = partial_kind(call);
  return kind ? std::vector<LinearSet>{{{0, 2}, *kind}} : std::vector<LinearSet>{};
}

std::vector<Value> partition_scatter(PartitionContext& c) {
  Builder& b = c.builder();
  const IndexMap map = scatter_map(c.call());
  const int inputs = scatter_inputs(c.call());
  std::vector<Value> operands;
  for (int i = 0; i < inputs; ++i) operands.push_back(c.operand(i));
  Value indices = localized_indices(c, as_s64(b, c.operand(inputs)), map);
  const Shape shape = b.shape(indices);
  AxisList partial;
  for (size_t i = 0; i < map.indices_batch_dims.size(); ++i) {
    const int d = map.indices_batch_dims[i];
    const CutDim cut = cut_dim(c, inputs, d);
    const auto& factors = c.rule().operands[static_cast<size_t>(inputs)][static_cast<size_t>(d)];
    if (factors.empty() ||
        c.rule().factors[static_cast<size_t>(factors[0])].kind != FactorKind::reduction)
      continue;
    partial.insert(partial.end(), cut.axes.begin(), cut.axes.end());
    // Updates in the padding go nowhere.
    indices = clear_padding(b, indices, cut, scalar_s64(b, kNowhere));
  }
  if (!partial.empty()) {
    const auto kind = *partial_kind(c.call());
    const Value is_first =
        compare(b, axis_index(b, partial), scalar_s64(b, 0), CompareDirection::eq);
    const Value identity =
        constant(b, identity_of(kind, b.dtype(operands[0])), b.type(operands[0]));
    operands[0] =
        select(b, broadcast_scalar(b, is_first, b.shape(operands[0])), operands[0], identity);
  }
  operands.push_back(indices);
  for (int i = 0; i < inputs; ++i) operands.push_back(c.operand(inputs + 1 + i));
  const Value made = b.emit(kScatter, operands, c.call().attributes);
  std::vector<Value> results;
  for (int i = 0; i < inputs; ++i) results.push_back({made.instruction, i});
  return results;
}

double scatter_flops(const OpCall& call, std::span<const TensorType>) {
  return static_cast<double>(call.operands.back().elements());
}

Attributes attributes_of(const GatherDims& dims, ReduceKind kind) {
  Attributes attributes = scatter_attributes(dims);
  attributes.set(Attr::reduce_kind, kind);
  return attributes;
}

// (x, y) -> y, and (a, b, x, y) -> (a + x, b * y).
GraphRef replacing_region(DType dtype) {
  auto region = std::make_shared<Graph>();
  region->name = "replace";
  Builder b(*region);
  b.input(InputKind::data, "old", {dtype, {}});
  b.output(b.input(InputKind::data, "new", {dtype, {}}), "kept");
  return region;
}
GraphRef sum_and_product_region() {
  auto region = std::make_shared<Graph>();
  region->name = "sum_and_product";
  Builder b(*region);
  std::vector<Value> in;
  for (const char* name : {"a", "b", "x", "y"})
    in.push_back(b.input(InputKind::data, name, {DType::f64, {}}));
  b.output(add(b, in[0], in[2]), "sum");
  b.output(multiply(b, in[1], in[3]), "product");
  return region;
}

std::vector<OpSample> scatter_samples() {
  auto sample = [](DType dtype, Shape x, Shape indices, Shape updates, GatherDims dims,
                   ReduceKind kind = ReduceKind::sum, DType index = DType::s32) {
    return OpSample{{{dtype, x}, {index, indices}, {dtype, updates}},
                    attributes_of(dims, kind),
                    {{-1, 1}, {is_signed_integer(index) ? -2 : 0, 9}},
                    dtype == DType::f64 && kind == ReduceKind::sum};
  };
  std::vector<OpSample> samples = {
      sample(DType::f64, {8, 6}, {4, 2}, {4, 2, 6}, {{2}, {0}, {0}, 2}),
      sample(DType::f64, {8, 6}, {4, 2}, {4}, {{}, {0, 1}, {0, 1}, 1}, ReduceKind::sum, DType::s64),
      sample(DType::f64, {4, 6, 2}, {4, 2}, {4, 2, 2}, {{1, 2}, {1}, {1, 0}, 1}),
      sample(DType::f64, {4, 8, 6}, {4, 2, 1}, {4, 2, 6}, {{2}, {1}, {1}, 2, {0}, {0}}),
      sample(DType::f64, {8, 6}, {4, 1}, {4, 6}, {{1}, {0}, {0}, 1}, ReduceKind::max),
      sample(DType::s32, {8}, {4}, {4}, {{}, {0}, {0}, 1}, ReduceKind::min, DType::u8),
      sample(DType::f64, {8}, {4}, {4}, {{}, {0}, {0}, 1}, ReduceKind::product),
      sample(DType::pred, {8}, {4}, {4}, {{}, {0}, {0}, 1}, ReduceKind::logical_or)};
  OpSample replace = sample(DType::bf16, {8, 6}, {4, 1}, {4, 6}, {{1}, {0}, {0}, 1});
  replace.attributes = scatter_attributes({{1}, {0}, {0}, 1});
  replace.attributes.set(Attr::combiner, replacing_region(DType::bf16));
  samples.push_back(replace);
  OpSample two = replace;
  two.attributes.set(Attr::combiner, sum_and_product_region());
  two.operands = {{DType::f64, {8, 6}},
                  {DType::f64, {8, 6}},
                  {DType::s32, {4, 1}},
                  {DType::f64, {4, 6}},
                  {DType::f64, {4, 6}}};
  two.ranges = {{-1, 1}, {-1, 1}, {-2, 9}};
  samples.push_back(two);
  return samples;
}

}  // namespace

bool is_replacement(const Attributes& attributes) {
  if (!attributes.has(Attr::combiner)) return false;
  const Graph& region = *attributes.get<GraphRef>(Attr::combiner);
  const size_t count = region.outputs.size();
  for (size_t i = 0; i < count; ++i)
    if (region.inputs.size() != 2 * count ||
        region.outputs[i].value != region.inputs[count + i].value)
      return false;
  return true;
}

const OpDef kScatter{
    .name = "scatter",
    .attributes = {Attr::update_window_dims, Attr::inserted_window_dims,
                   Attr::scatter_dims_to_operand_dims, Attr::index_vector_dim},
    .optional_attributes = {Attr::reduce_kind, Attr::combiner, Attr::input_batching_dims,
                            Attr::scatter_indices_batching_dims, Attr::indices_are_sorted,
                            Attr::unique_indices},
    .infer = infer_scatter,
    .eval = eval_scatter,
    .grad = grad_scatter,
    .factors = scatter_factors,
    .linear = linear_scatter,
    .partition = partition_scatter,
    .partition_always = true,
    .pad_needs = no_pad_needs,
    .flops = scatter_flops,
    .samples = scatter_samples,
    .alias = [](const OpCall&, int result) { return result; }};

Value scatter(Builder& b, Value input, Value indices, Value updates, const GatherDims& dims,
              ReduceKind kind) {
  return b.emit(kScatter, {input, indices, updates}, attributes_of(dims, kind));
}

}  // namespace tessera::ops

// gather. On shards, an operand dim from which elements or windows are taken stays sharded: each
// device gives zeros for what it lacks, windows element by element, so the whole is the sum.
// Indices are clamped on global extents before they are made local.
#include "core/ops/gather.h"

#include <algorithm>

#include "core/ir/padding.h"
#include "core/ops/elementwise.h"
#include "core/ops/gather_elements.h"
#include "core/ops/index_map.h"
#include "core/ops/structure.h"

namespace tessera::ops {
namespace {

std::vector<TensorType> infer_gather(const OpCall& call) {
  return {{call.operands.empty() ? DType::f32 : call.operands[0].dtype, gather_map(call).window}};
}

void eval_gather(const OpCall& call, std::span<const HostTensor* const> x,
                 std::span<HostTensor> y) {
  const IndexMap map = gather_map(call);
  const std::vector<int64_t> vectors = index_vectors(map, *x[1]);
  const auto from = map.operand.strides(), to = map.window.strides();
  Shape extent;
  std::vector<int64_t> from_strides, to_strides;
  for (size_t d = 0; d < map.dims.size(); ++d) {
    if (map.dims[d].window_dim < 0) continue;
    extent.push_back(map.dims[d].size);
    from_strides.push_back(from[d]);
    to_strides.push_back(to[static_cast<size_t>(map.dims[d].window_dim)]);
  }
  const Shape batch = map.batch_shape();
  if (batch.elements() == 0 || map.operand.elements() == 0) return;
  std::vector<int64_t> position(static_cast<size_t>(batch.rank()), 0);
  int64_t vector = 0;
  do {
    int64_t source = 0, target = 0;
    for (size_t i = 0; i < position.size(); ++i)
      target += position[i] * to[static_cast<size_t>(map.window_batch_dims[i])];
    for (size_t d = 0; d < map.dims.size(); ++d) {
      const IndexMap::Dim& dim = map.dims[d];
      if (dim.batching >= 0) source += position[static_cast<size_t>(dim.batching)] * from[d];
      if (dim.component >= 0)
        source +=
            from[d] * std::clamp<int64_t>(vectors[static_cast<size_t>(vector + dim.component)], 0,
                                          map.operand[static_cast<int>(d)] - dim.size);
    }
    copy_elements(*x[0], source, from_strides, y[0], target, to_strides, extent);
    vector += map.components();
  } while (next_position(position, batch));
}

// Where gather clamps, scatter drops: the indices are clamped first.
std::vector<Value> grad_gather(GradContext& c) {
  std::vector<Value> cotangents(2);
  if (!c.needs_gradient(0)) return cotangents;
  Builder& b = c.builder();
  const Attributes attributes = c.attributes();
  const std::vector<TensorType> types{c.operand_type(0), c.operand_type(1)};
  const IndexMap map = gather_map({types, attributes});
  const Value indices = clamped_indices(b, c.operand(1), map);
  const Value dy = as_dtype(b, c.cotangent(0), c.gradient_dtype(0));
  const Value zeros = constant(b, 0, {b.dtype(dy), types[0].shape});
  cotangents[0] = scatter(b, zeros, indices, dy, gather_dims(attributes));
  return cotangents;
}

FactorRule gather_factors(const OpCall& call, std::span<const TensorType>) {
  const IndexMap map = gather_map(call);
  FactorRule rule;
  std::vector<int> operand(map.dims.size(), -1);
  std::vector<int> indices(static_cast<size_t>(map.indices.rank()), -1);
  std::vector<int> result(static_cast<size_t>(map.window.rank()), -1);
  for (size_t i = 0; i < map.indices_batch_dims.size(); ++i) {
    const auto d = static_cast<size_t>(map.indices_batch_dims[i]);
    indices[d] = add_factor(rule, map.indices[static_cast<int>(d)]);
    result[static_cast<size_t>(map.window_batch_dims[i])] = indices[d];
  }
  if (map.vector_dim < map.indices.rank())
    indices[static_cast<size_t>(map.vector_dim)] =
        add_factor(rule, map.components(), FactorKind::need_replication);
  for (size_t d = 0; d < map.dims.size(); ++d) {
    const IndexMap::Dim& dim = map.dims[d];
    const int64_t size = map.operand[static_cast<int>(d)];
    const bool is_whole = dim.size == size && dim.window_dim >= 0;
    if (dim.batching >= 0)
      operand[d] =
          indices[static_cast<size_t>(map.indices_batch_dims[static_cast<size_t>(dim.batching)])];
    else if (is_whole)
      operand[d] = result[static_cast<size_t>(dim.window_dim)] = add_factor(rule, size);
    else
      operand[d] = add_factor(rule, size,
                              dim.size > 0 && dim.component >= 0 ? FactorKind::reduction
                                                                 : FactorKind::need_replication);
    if (dim.batching < 0 && !is_whole && dim.window_dim >= 0)
      result[static_cast<size_t>(dim.window_dim)] =
          add_factor(rule, dim.size, FactorKind::need_replication);
  }
  rule.operands = {dims_of(operand), dims_of(indices)};
  rule.results = {dims_of(result)};
  return rule;
}

std::vector<LinearSet> linear_gather(const OpCall&) {
  return {{{0}, ReduceKind::sum}, {{0}, ReduceKind::max}, {{0}, ReduceKind::min}};
}

// Operand dims in shards of which windows of several elements, but not all, are taken.
std::vector<int> cut_windows(PartitionContext& c, const IndexMap& map) {
  std::vector<int> cut;
  for (size_t d = 0; d < map.dims.size(); ++d)
    if (map.dims[d].size > 1 && map.dims[d].component >= 0 &&
        map.dims[d].size < map.operand[static_cast<int>(d)] &&
        cut_dim(c, 0, static_cast<int>(d)).is_cut())
      cut.push_back(static_cast<int>(d));
  return cut;
}

std::vector<Value> partition_gather(PartitionContext& c) {
  Builder& b = c.builder();
  IndexMap map = gather_map(c.call());
  Attributes attributes = c.call().attributes;
  Value indices = clamped_indices(b, c.operand(1), map);
  if (const std::vector<int> windows = cut_windows(c, map); !windows.empty()) {
    ElementGather elements = by_elements(b, indices, map, attributes, windows);
    indices = elements.indices;
    attributes = std::move(elements.attributes);
    TensorType operand = c.call().operands[0];  // with batching dims as the indices have them
    for (size_t d = 0; d < map.dims.size(); ++d)
      if (map.dims[d].batching >= 0)
        operand.shape[static_cast<int>(d)] = b.shape(c.operand(0))[static_cast<int>(d)];
    const std::vector<TensorType> types{operand, b.type(indices)};
    map = gather_map({types, attributes});
  }
  Ints sizes = attributes.ints(Attr::slice_sizes);
  // Per component, how far a local index may go, and whether another device may own it.
  std::vector<int64_t> last(static_cast<size_t>(map.components()), 0);
  bool is_shared = false;
  for (size_t d = 0; d < map.dims.size(); ++d) {
    const CutDim cut = cut_dim(c, 0, static_cast<int>(d));
    const bool is_whole = map.dims[d].size == cut.size && map.dims[d].window_dim >= 0;
    if (is_whole) sizes[d] = cut.shard;
    if (map.dims[d].component < 0) continue;
    const bool is_owned = cut.is_cut() && !is_whole;
    is_shared = is_shared || is_owned;
    last[static_cast<size_t>(map.dims[d].component)] =
        is_owned ? cut.shard - 1 : cut.size - map.dims[d].size;
  }
  attributes.set(Attr::slice_sizes, sizes);
  if (!is_shared) return {b.emit(kGather, {c.operand(0), indices}, attributes)};
  indices = localized_indices(c, indices, map);
  const Shape shape = b.shape(indices);
  const Value is_own =
      logical_and(b, compare(b, indices, constant_like(b, indices, 0), CompareDirection::ge),
                  compare(b, indices, by_component(b, last, map, shape), CompareDirection::le));
  const Value y = b.emit(kGather, {c.operand(0), indices}, attributes);
  return {only_where(b, y, is_own, map)};
}

Attributes attributes_of(const GatherDims& dims, Ints slice_sizes) {
  Attributes attributes = gather_attributes(dims);
  attributes.set(Attr::slice_sizes, std::move(slice_sizes));
  return attributes;
}

std::vector<OpSample> gather_samples() {
  auto sample = [](DType dtype, Shape x, Shape indices, GatherDims dims, Ints sizes,
                   DType index = DType::s32) {
    return OpSample{{{dtype, x}, {index, indices}},
                    attributes_of(dims, sizes),
                    {{-1, 1}, {is_signed_integer(index) ? -2 : 0, 9}},
                    dtype == DType::f64};
  };
  return {sample(DType::f64, {8, 6}, {4, 2}, {{2}, {0}, {0}, 2}, {1, 6}),
          sample(DType::f64, {8, 6}, {4, 2}, {{}, {0, 1}, {0, 1}, 1}, {1, 1}, DType::s64),
          sample(DType::f64, {4, 6, 2}, {4, 2}, {{1, 2}, {1}, {1, 0}, 1}, {2, 1, 2}),
          sample(DType::f64, {4, 6, 2}, {2, 4}, {{0}, {0, 2}, {0, 2}, 0}, {1, 6, 1}),
          // Batching dims: row i of the operand with row i of the indices.
          sample(DType::f64, {4, 8, 6}, {4, 2, 1}, {{2}, {1}, {1}, 2, {0}, {0}}, {1, 1, 6}),
          sample(DType::f64, {6, 8, 4}, {2, 4}, {{1, 2}, {}, {0}, 2, {2}, {1}}, {3, 8, 1}),
          // Windows over a part of dims that may be cut, in another order than the operand's dims.
          sample(DType::f64, {8, 6, 4}, {2, 5}, {{0, 1, 3}, {}, {2, 0}, 0}, {3, 6, 2}),
          sample(DType::f64, {7, 4}, {3}, {{0, 1}, {}, {0}, 1}, {4, 4}),
          sample(DType::bf16, {8, 6}, {4}, {{1}, {0}, {0}, 1}, {1, 6}, DType::u8),
          sample(DType::pred, {8}, {4}, {{}, {0}, {0}, 1}, {1})};
}

}  // namespace

const OpDef kGather{
    .name = "gather",
    .attributes = {Attr::offset_dims, Attr::collapsed_slice_dims, Attr::start_index_map,
                   Attr::index_vector_dim, Attr::slice_sizes},
    .optional_attributes = {Attr::operand_batching_dims, Attr::start_indices_batching_dims,
                            Attr::indices_are_sorted},
    .infer = infer_gather,
    .eval = eval_gather,
    .grad = grad_gather,
    .factors = gather_factors,
    .linear = linear_gather,
    .partition = partition_gather,
    .partition_always = true,
    .pad_needs = no_pad_needs,
    .flops = no_flops,
    .samples = gather_samples};

Value gather(Builder& b, Value operand, Value indices, const GatherDims& dims, Ints slice_sizes) {
  return b.emit(kGather, {operand, indices}, attributes_of(dims, std::move(slice_sizes)));
}

Value take(Builder& b, Value x, Value indices, int64_t dimension) {
  const int rank = b.shape(indices).rank();
  GatherDims dims{{}, {dimension}, {dimension}, rank};
  Ints sizes = ints_of(b.shape(x));
  sizes[static_cast<size_t>(dimension)] = 1;
  for (int d = 0; d < b.shape(x).rank(); ++d)
    if (d != dimension) dims.offset_dims.push_back(d < dimension ? d : d - 1 + rank);
  return gather(b, x, indices, dims, sizes);
}

}  // namespace tessera::ops

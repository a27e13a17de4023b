#include "core/ops/index_map.h"

#include <algorithm>

#include "core/ops/elementwise.h"

namespace tessera::ops {
namespace {

bool contains(const Ints& list, int64_t value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// Ascending, different, within [0, rank).
void check_dims(std::string_view op, std::string_view what, const Ints& dims, int rank) {
  for (size_t i = 0; i < dims.size(); ++i)
    require(dims[i] >= 0 && dims[i] < rank && (i == 0 || dims[i] > dims[i - 1]), op, ": ", what,
            " [", join(dims, ","), "] must ascend within ", rank, " dims");
}

struct Names {
  std::string_view op;
  Attr window, collapsed, batching, indices_batching, map;
};
constexpr Names kGatherNames{"gather",
                             Attr::offset_dims,
                             Attr::collapsed_slice_dims,
                             Attr::operand_batching_dims,
                             Attr::start_indices_batching_dims,
                             Attr::start_index_map};
constexpr Names kScatterNames{"scatter",
                              Attr::update_window_dims,
                              Attr::inserted_window_dims,
                              Attr::input_batching_dims,
                              Attr::scatter_indices_batching_dims,
                              Attr::scatter_dims_to_operand_dims};

// All but window sizes and window shape.
IndexMap common_map(const Names& names, const Attributes& attributes, const TensorType& operand,
                    const TensorType& indices, int window_rank) {
  const std::string_view op = names.op;
  const Ints none;
  auto list = [&](Attr key) { return attributes.get_or<Ints>(key, none); };
  const Ints window = list(names.window), collapsed = list(names.collapsed),
             batching = list(names.batching), indices_batching = list(names.indices_batching),
             start_map = list(names.map);
  IndexMap map;
  map.operand = operand.shape;
  map.indices = indices.shape;
  require(is_integer(indices.dtype), op, ": indices must be integers, not ", indices);
  const int64_t vector_dim = attributes.integer(Attr::index_vector_dim);
  require(vector_dim >= 0 && vector_dim <= indices.rank(), op, ": index_vector_dim ", vector_dim,
          " of ", indices);
  map.vector_dim = static_cast<int>(vector_dim);
  check_dims(op, name_of(names.window), window, window_rank);
  check_dims(op, name_of(names.collapsed), collapsed, operand.rank());
  check_dims(op, name_of(names.batching), batching, operand.rank());
  require(window.size() + collapsed.size() + batching.size() == static_cast<size_t>(operand.rank()),
          op, ": ", window.size(), " ", name_of(names.window), ", ", collapsed.size(), " ",
          name_of(names.collapsed), " and ", batching.size(), " ", name_of(names.batching),
          " for operand ", operand);
  for (int64_t d : batching)
    require(!contains(collapsed, d), op, ": dim ", d, " of operand ", operand, " is both in ",
            name_of(names.collapsed), " and in ", name_of(names.batching));
  require(static_cast<int64_t>(start_map.size()) == map.components(), op, ": ", name_of(names.map),
          " [", join(start_map, ","), "] for index vectors of ", map.components(), " in ", indices);
  for (int d = 0; d < indices.rank(); ++d)
    if (d != map.vector_dim) map.indices_batch_dims.push_back(d);
  for (int d = 0; d < window_rank; ++d)
    if (!contains(window, d)) map.window_batch_dims.push_back(d);
  require(map.window_batch_dims.size() == map.indices_batch_dims.size(), op, ": ",
          map.window_batch_dims.size(), " batch dims beside the windows, ",
          map.indices_batch_dims.size(), " in the indices ", indices);
  map.dims.resize(static_cast<size_t>(operand.rank()));
  size_t next = 0;
  for (int d = 0; d < operand.rank(); ++d)
    if (!contains(collapsed, d) && !contains(batching, d))
      map.dims[static_cast<size_t>(d)].window_dim = static_cast<int>(window[next++]);
  for (size_t k = 0; k < start_map.size(); ++k) {
    require(start_map[k] >= 0 && start_map[k] < operand.rank() &&
                !contains(batching, start_map[k]) &&
                map.dims[static_cast<size_t>(start_map[k])].component < 0,
            op, ": ", name_of(names.map), " [", join(start_map, ","), "] of operand ", operand);
    map.dims[static_cast<size_t>(start_map[k])].component = static_cast<int>(k);
  }
  require(batching.size() == indices_batching.size(), op, ": ", batching.size(), " ",
          name_of(names.batching), " of ", operand, ", ", indices_batching.size(), " of ", indices);
  for (size_t i = 0; i < batching.size(); ++i) {
    const auto at = std::find(map.indices_batch_dims.begin(), map.indices_batch_dims.end(),
                              static_cast<int>(indices_batching[i]));
    require(at != map.indices_batch_dims.end() && !contains(collapsed, batching[i]) &&
                operand.shape[static_cast<int>(batching[i])] == indices.shape[*at],
            op, ": batching dim ", batching[i], " of ", operand, " and ", indices_batching[i],
            " of ", indices, " must have one size");
    map.dims[static_cast<size_t>(batching[i])].batching =
        static_cast<int>(at - map.indices_batch_dims.begin());
  }
  return map;
}

GatherDims dims_under(const Names& names, const Attributes& a) {
  const Ints none;
  return {a.ints(names.window),
          a.ints(names.collapsed),
          a.ints(names.map),
          a.integer(Attr::index_vector_dim),
          a.get_or<Ints>(names.batching, none),
          a.get_or<Ints>(names.indices_batching, none)};
}

Attributes attributes_under(const Names& names, const GatherDims& dims) {
  Attributes attributes{{names.window, dims.offset_dims},
                        {names.collapsed, dims.collapsed_slice_dims},
                        {names.map, dims.start_index_map},
                        {Attr::index_vector_dim, dims.index_vector_dim}};
  if (!dims.operand_batching_dims.empty()) {
    attributes.set(names.batching, dims.operand_batching_dims);
    attributes.set(names.indices_batching, dims.start_indices_batching_dims);
  }
  return attributes;
}

}  // namespace

GatherDims gather_dims(const Attributes& gather) { return dims_under(kGatherNames, gather); }
GatherDims scatter_dims(const Attributes& scatter) { return dims_under(kScatterNames, scatter); }
Attributes gather_attributes(const GatherDims& dims) {
  return attributes_under(kGatherNames, dims);
}
Attributes scatter_attributes(const GatherDims& dims) {
  return attributes_under(kScatterNames, dims);
}

Shape IndexMap::batch_shape() const {
  Shape shape;
  for (int d : indices_batch_dims) shape.push_back(indices[d]);
  return shape;
}

IndexMap gather_map(const OpCall& call) {
  check_operand_count("gather", call, 2);
  const TensorType &x = call.operands[0], &indices = call.operands[1];
  const Ints& sizes = call.attributes.ints(Attr::slice_sizes);
  const int batch =
      indices.rank() - (call.attributes.integer(Attr::index_vector_dim) < indices.rank());
  const int rank = batch + static_cast<int>(call.attributes.ints(Attr::offset_dims).size());
  IndexMap map = common_map(kGatherNames, call.attributes, x, indices, rank);
  bool fits = static_cast<int>(sizes.size()) == x.rank();
  for (int d = 0; fits && d < x.rank(); ++d) {
    IndexMap::Dim& dim = map.dims[static_cast<size_t>(d)];
    dim.size = sizes[static_cast<size_t>(d)];
    fits = dim.size >= 0 && dim.size <= x.shape[d] && (dim.window_dim >= 0 || dim.size == 1);
  }
  require(fits, "gather: slice_sizes [", join(sizes, ","), "] do not fit ", x,
          ", or are not 1 in a collapsed dim");
  map.window = Shape(std::vector<int64_t>(static_cast<size_t>(rank), 1));
  for (const IndexMap::Dim& dim : map.dims)
    if (dim.window_dim >= 0) map.window[dim.window_dim] = dim.size;
  for (size_t i = 0; i < map.window_batch_dims.size(); ++i)
    map.window[map.window_batch_dims[i]] = indices.shape[map.indices_batch_dims[i]];
  return map;
}

int scatter_inputs(const OpCall& call) {
  require(call.operands.size() >= 3 && call.operands.size() % 2 == 1,
          "scatter: takes inputs, indices and as many updates, got ", types_text(call.operands));
  return static_cast<int>(call.operands.size() / 2);
}

IndexMap scatter_map(const OpCall& call) {
  const int inputs = scatter_inputs(call);
  const TensorType &x = call.operands[0], &indices = call.operands[static_cast<size_t>(inputs)],
                   &updates = call.operands[static_cast<size_t>(inputs) + 1];
  IndexMap map = common_map(kScatterNames, call.attributes, x, indices, updates.rank());
  map.window = updates.shape;
  for (int d = 0; d < x.rank(); ++d) {
    IndexMap::Dim& dim = map.dims[static_cast<size_t>(d)];
    if (dim.window_dim >= 0) dim.size = updates.shape[dim.window_dim];
    // A shard may be smaller than a window: what falls outside is dropped.
    require(dim.component >= 0 || dim.size <= x.shape[d], "scatter: windows of updates ", updates,
            " do not fit ", x);
  }
  for (size_t i = 0; i < map.window_batch_dims.size(); ++i)
    require(updates.shape[map.window_batch_dims[i]] == indices.shape[map.indices_batch_dims[i]],
            "scatter: batch dims of updates ", updates, " and of indices ", indices, " differ");
  return map;
}

std::vector<int64_t> index_vectors(const IndexMap& map, const HostTensor& indices) {
  const Shape batch = map.batch_shape();
  const std::vector<int64_t> strides = indices.shape().strides();
  const int64_t components = map.components();
  const int64_t step =
      map.vector_dim < indices.shape().rank() ? strides[static_cast<size_t>(map.vector_dim)] : 0;
  std::vector<int64_t> batch_strides;
  for (int d : map.indices_batch_dims) batch_strides.push_back(strides[static_cast<size_t>(d)]);
  std::vector<int64_t> vectors;
  walk(batch, batch_strides, batch_strides, [&](int64_t at, int64_t) {
    for (int64_t k = 0; k < components; ++k) {
      const int64_t value = indices.get_int(at + k * step);
      const bool is_huge = indices.dtype() == DType::u64 && value < 0;
      // Far outside of every tensor, and sums of it with positions do not overflow.
      vectors.push_back(is_huge
                            ? int64_t{1} << 60
                            : std::clamp<int64_t>(value, -(int64_t{1} << 60), int64_t{1} << 60));
    }
  });
  return vectors;
}

Value by_component(Builder& b, const std::vector<int64_t>& values, const IndexMap& map,
                   const Shape& indices) {
  if (map.vector_dim >= indices.rank())
    return constant(b, static_cast<double>(values[0]), {DType::s64, indices});
  const HostTensor line = HostTensor::of<int64_t>({static_cast<int64_t>(values.size())}, values);
  return broadcast_in_dim(b, constant(b, line), indices, {map.vector_dim});
}

Value clamped_indices(Builder& b, Value indices, const IndexMap& map) {
  indices = as_s64(b, indices);
  std::vector<int64_t> high(static_cast<size_t>(map.components()), 0);
  for (size_t d = 0; d < map.dims.size(); ++d)
    if (map.dims[d].component >= 0)
      high[static_cast<size_t>(map.dims[d].component)] =
          map.operand[static_cast<int>(d)] - map.dims[d].size;
  const Value low = constant_like(b, indices, 0);
  return minimum(b, maximum(b, indices, low), by_component(b, high, map, b.shape(indices)));
}

Value only_where(Builder& b, Value windows, Value is_own, const IndexMap& map) {
  if (map.vector_dim < b.shape(is_own).rank())
    is_own = reduce(b, is_own, {map.vector_dim}, ReduceKind::logical_and);
  const Value mask =
      broadcast_in_dim(b, is_own, b.shape(windows),
                       Ints(map.window_batch_dims.begin(), map.window_batch_dims.end()));
  return select(b, mask, windows, zeros_like(b, windows));
}

Value localized_indices(PartitionContext& c, Value indices, const IndexMap& map) {
  Builder& b = c.builder();
  for (size_t d = 0; d < map.dims.size(); ++d) {
    const CutDim cut = cut_dim(c, 0, static_cast<int>(d));
    if (map.dims[d].component < 0 || !cut.is_cut()) continue;
    std::vector<int64_t> one_hot(static_cast<size_t>(map.components()), 0);
    one_hot[static_cast<size_t>(map.dims[d].component)] = 1;
    const Value start = broadcast_scalar(b, local_start(b, cut), b.shape(indices));
    indices =
        subtract(b, indices, multiply(b, start, by_component(b, one_hot, map, b.shape(indices))));
  }
  return indices;
}

}  // namespace tessera::ops

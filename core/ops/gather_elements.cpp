#include "core/ops/gather_elements.h"

#include <algorithm>

#include "core/ops/elementwise.h"
#include "core/ops/structure.h"

namespace tessera::ops {
namespace {

// A dim of the new indices, by the dim of the result that it is.
struct Place {
  int result = -1;
  int batch = -1;    // which batch dim of the old indices
  int operand = -1;  // or which dim of the operand
};

std::vector<Place> places_of(const IndexMap& map, const std::vector<int>& dims) {
  std::vector<Place> places;
  for (size_t i = 0; i < map.window_batch_dims.size(); ++i)
    places.push_back({map.window_batch_dims[i], static_cast<int>(i), -1});
  for (int d : dims) places.push_back({map.dims[static_cast<size_t>(d)].window_dim, -1, d});
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return a.result < b.result; });
  return places;
}

// The vector dim last; there is one.
Value vectors_last(Builder& b, Value indices, const IndexMap& map) {
  Shape shape = b.shape(indices);
  if (map.vector_dim >= shape.rank()) {
    shape.push_back(1);
    return reshape(b, indices, shape);
  }
  Ints order(map.indices_batch_dims.begin(), map.indices_batch_dims.end());
  order.push_back(map.vector_dim);
  return transpose(b, indices, order);
}

}  // namespace

ElementGather by_elements(Builder& b, Value indices, const IndexMap& map,
                          const Attributes& attributes, const std::vector<int>& dims) {
  const std::vector<Place> places = places_of(map, dims);
  indices = vectors_last(b, indices, map);
  Shape shape;
  Ints from_old(map.indices_batch_dims.size());
  for (size_t p = 0; p < places.size(); ++p) {
    const Place& place = places[p];
    shape.push_back(place.operand >= 0 ? map.dims[static_cast<size_t>(place.operand)].size
                                       : b.shape(indices)[place.batch]);
    if (place.batch >= 0)
      from_old[static_cast<size_t>(place.batch)] = static_cast<int64_t>(p);
  }
  const int vector_dim = shape.rank();
  shape.push_back(map.components());
  from_old.push_back(vector_dim);

  ElementGather made{broadcast_in_dim(b, indices, shape, from_old), attributes};
  GatherDims named = gather_dims(attributes);
  Ints sizes = attributes.ints(Attr::slice_sizes);
  for (size_t p = 0; p < places.size(); ++p) {
    if (places[p].operand < 0) continue;
    const auto d = static_cast<size_t>(places[p].operand);
    HostTensor one_hot(TensorType{DType::s64, {map.components()}});
    one_hot.set_int(map.dims[d].component, 1);
    const Value step = broadcast_in_dim(b, constant(b, one_hot), shape, {vector_dim});
    made.indices = add(b, made.indices,
                       multiply(b, iota(b, {DType::s64, shape}, static_cast<int64_t>(p)), step));
    std::erase(named.offset_dims, places[p].result);
    named.collapsed_slice_dims.push_back(places[p].operand);
    sizes[d] = 1;
  }
  std::sort(named.collapsed_slice_dims.begin(), named.collapsed_slice_dims.end());
  for (int64_t& dim : named.start_indices_batching_dims) {
    const auto batch = std::find(map.indices_batch_dims.begin(), map.indices_batch_dims.end(), dim);
    dim = from_old[static_cast<size_t>(batch - map.indices_batch_dims.begin())];
  }
  named.index_vector_dim = vector_dim;
  const Attributes renamed = gather_attributes(named);
  for (const auto& [key, value] : renamed.entries()) made.attributes.set(key, value);
  made.attributes.set(Attr::slice_sizes, std::move(sizes));
  return made;
}

}  // namespace tessera::ops

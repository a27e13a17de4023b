// Elements at positions that are data: dynamic_slice, dynamic_update_slice and gather. The positions stay on the
// device and are clamped there.
#include <algorithm>

#include "core/ops/dynamic_slice.h"
#include "core/ops/gather.h"
#include "core/ops/index_map.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/indexing/gather.h"
#include "kernels/cuda/movement/box.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// ---- Dynamic slices -------------------------------------------------------------------------------

// The starts behind the `own` operands of a block of `sizes` in operand 0. Dims that are whole start at 0.
DeviceStarts starts_of(const KernelArgs& args, size_t own, const Shape& sizes, bool moves_target) {
  const Shape& whole = args.operands[0].type.shape;
  const std::vector<int64_t> strides = whole.strides();
  DeviceStarts starts;
  starts.moves_target = moves_target;
  for (int d = 0; d < whole.rank(); ++d) {
    if (sizes[d] == whole[d]) continue;
    const auto at = static_cast<size_t>(d);
    const TensorView& start = args.operands[own + at];
    starts.bytes = static_cast<int>(size_of(start.type.dtype));
    starts.is_signed = is_signed_integer(start.type.dtype);
    starts.start[starts.count] = start.data;
    starts.last[starts.count] = whole[d] - sizes[d];
    starts.stride[starts.count++] = strides[at];
  }
  return starts;
}

Refusal refuse_starts(const Shape& whole, const Shape& sizes) {
  int count = 0;
  for (int d = 0; d < whole.rank(); ++d) count += sizes[d] != whole[d];
  if (count <= kMaxCopyRank) return std::nullopt;
  return cat("slices ", count, " dims, more than ", kMaxCopyRank);
}

Box slice_box(const TensorType& x, const TensorType& y) { return Box(y, x.shape.strides()); }
Box update_box(const TensorType& x, const TensorType& update) {
  return Box(update, update.shape.strides(), x.shape.strides());
}

Refusal accept_slice(const OpCall& call, Results results) {
  return first_of({refuse_starts(call.operands[0].shape, results[0].shape),
                   refuse_box(slice_box(call.operands[0], results[0]))});
}

void run_slice(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &y = args.results[0];
  copy_box(slice_box(x.type, y.type), x.data, y.data, stream_of(args), starts_of(args, 1, y.type.shape, false));
}

Refusal accept_update(const OpCall& call, Results) {
  return first_of({refuse_starts(call.operands[0].shape, call.operands[1].shape),
                   refuse_box(update_box(call.operands[0], call.operands[1]))});
}

void run_update(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &update = args.operands[1], &y = args.results[0];
  begin_as(x, args);
  copy_box(update_box(x.type, update.type), update.data, y.data, stream_of(args),
           starts_of(args, 2, update.type.shape, true));
}

// ---- gather ---------------------------------------------------------------------------------------

// Per element of the result.
struct GatherDim {
  int64_t size, from, index;
};

std::vector<GatherDim> gather_dims(const ops::IndexMap& map) {
  const std::vector<int64_t> operand = map.operand.strides(), indices = map.indices.strides();
  std::vector<GatherDim> dims;
  for (int64_t size : map.window) dims.push_back({size, 0, 0});
  for (size_t d = 0; d < map.dims.size(); ++d) {
    const ops::IndexMap::Dim& dim = map.dims[d];
    if (dim.window_dim >= 0) dims[static_cast<size_t>(dim.window_dim)].from = operand[d];
    if (dim.batching >= 0)
      dims[static_cast<size_t>(map.window_batch_dims[static_cast<size_t>(dim.batching)])].from = operand[d];
  }
  for (size_t b = 0; b < map.window_batch_dims.size(); ++b)
    dims[static_cast<size_t>(map.window_batch_dims[b])].index =
        indices[static_cast<size_t>(map.indices_batch_dims[b])];
  std::vector<GatherDim> merged;  // innermost first
  for (size_t d = dims.size(); d-- > 0;) {
    if (dims[d].size == 1) continue;
    if (!merged.empty() && dims[d].from == merged.back().from * merged.back().size &&
        dims[d].index == merged.back().index * merged.back().size)
      merged.back().size *= dims[d].size;
    else
      merged.push_back(dims[d]);
  }
  if (merged.empty()) merged.push_back({1, 0, 0});
  std::reverse(merged.begin(), merged.end());
  return merged;
}

Refusal accept_gather(const OpCall& call, Results) {
  const ops::IndexMap map = ops::gather_map(call);
  const size_t rank = gather_dims(map).size();
  if (rank > kMaxIndexRank) return cat("a result of ", rank, " dims that cannot be merged, more than ", kMaxIndexRank);
  if (map.components() > kMaxIndexRank)
    return cat("index vectors of ", map.components(), ", more than ", kMaxIndexRank);
  return std::nullopt;
}

GatherShape gather_shape(const ops::IndexMap& map, const TensorView& indices) {
  GatherShape shape;
  const std::vector<GatherDim> dims = gather_dims(map);
  shape.rank = static_cast<int>(dims.size());
  for (size_t d = 0; d < dims.size(); ++d) {
    shape.size[d] = dims[d].size;
    shape.from[d] = dims[d].from;
    shape.index[d] = dims[d].index;
  }
  const std::vector<int64_t> operand = map.operand.strides(), steps = map.indices.strides();
  shape.vectors = {indices.data, static_cast<int>(size_of(indices.type.dtype)),
                   is_signed_integer(indices.type.dtype), static_cast<int>(map.components()), 1};
  if (map.vector_dim < map.indices.rank()) shape.vectors.component_step = steps[static_cast<size_t>(map.vector_dim)];
  for (size_t d = 0; d < map.dims.size(); ++d) {
    const int k = map.dims[d].component;
    if (k < 0) continue;
    shape.last[k] = map.operand[static_cast<int>(d)] - map.dims[d].size;
    shape.stride[k] = operand[d];
  }
  return shape;
}

// Elements that one access takes.
int64_t pack_of(const GatherShape& s, int64_t width, const void* from, const void* to) {
  const int inner = s.rank - 1;
  if (s.from[inner] != 1 || s.index[inner] != 0) return 1;
  const auto fits = [&](int64_t pack) {
    bool fit = s.size[inner] % pack == 0 && are_aligned(pack * width, from, to);
    for (int d = 0; d < inner; ++d) fit = fit && s.from[d] % pack == 0;
    for (int k = 0; k < s.vectors.components; ++k) fit = fit && (s.stride[k] % pack == 0 || s.last[k] == 0);
    return fit;
  };
  int64_t pack = 16 / width;
  while (!fits(pack)) pack /= 2;
  return pack;
}

void run_gather(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &indices = args.operands[1], &y = args.results[0];
  if (y.type.elements() == 0) return;
  const TensorType types[] = {x.type, indices.type};
  GatherShape shape = gather_shape(ops::gather_map({types, args.instruction.attributes}), indices);
  const int64_t width = size_of(y.type.dtype), pack = pack_of(shape, width, x.data, y.data);
  for (int d = 0; d + 1 < shape.rank; ++d) shape.from[d] /= pack;
  shape.size[shape.rank - 1] /= pack;
  for (int k = 0; k < shape.vectors.components; ++k) shape.stride[k] /= pack;
  gather(static_cast<int>(width * pack), shape, x.data, y.data, stream_of(args));
}

}  // namespace

void register_indexing(KernelTable& table) {
  table.add(ops::kDynamicSlice, make_kernel("cuda.dynamic_slice", accept_slice, run_slice));
  // In place by the op's own alias.
  table.add(ops::kDynamicUpdateSlice, make_kernel("cuda.dynamic_update_slice", accept_update, run_update));
  table.add(ops::kGather, make_kernel("cuda.gather", accept_gather, run_gather));
  register_scatter(table);
}

}  // namespace tessera::cuda

#include "kernels/cuda/movement/box.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/movement/transpose.h"

namespace tessera::cuda {
namespace {

// Below that, tiles of a transpose stay empty for the most part.
constexpr int64_t kLeastTile = 16;

CopyShape shape_of(const std::vector<Box::Dim>& dims) {
  CopyShape shape;
  shape.rank = std::max<int>(1, static_cast<int>(dims.size()));
  for (size_t d = 0; d < dims.size(); ++d) {
    shape.size[d] = dims[d].size;
    shape.from[d] = dims[d].from;
    shape.to[d] = dims[d].to;
  }
  return shape;
}

// Whether the box is one of tiles: the index of the dim along which the source runs; else nothing.
std::optional<size_t> tiled_dim(const Box& box, const DeviceStarts& starts) {
  const Box::Dim& inner = box.dims.back();
  if (starts.count > 0 || inner.to != 1 || inner.from == 0 || inner.from == 1 || inner.size < kLeastTile)
    return std::nullopt;
  for (size_t d = 0; d + 1 < box.dims.size(); ++d)
    if (box.dims[d].from == 1 && box.dims[d].size >= kLeastTile) return d;
  return std::nullopt;
}

// Elements that the widest access takes, where the innermost dim has the step `from` in the source (1: copied;
// 0: spread, so that only the target counts) and 1 in the target.
int64_t pack_of(const Box& box, const void* from, const void* to, const DeviceStarts& starts) {
  const Box::Dim& inner = box.dims.back();
  const bool is_spread = inner.from == 0;
  if (inner.to != 1 || (inner.from != 0 && inner.from != 1)) return 1;
  const auto fits = [&](int64_t pack) {
    bool fit = inner.size % pack == 0 && are_aligned(pack * box.width, to) &&
               (is_spread || are_aligned(pack * box.width, from));
    for (size_t d = 0; d + 1 < box.dims.size(); ++d)
      fit = fit && box.dims[d].to % pack == 0 && (is_spread || box.dims[d].from % pack == 0);
    for (int i = 0; i < starts.count; ++i)
      fit = fit && (starts.stride[i] % pack == 0 || (is_spread && !starts.moves_target));
    return fit;
  };
  int64_t pack = 16 / box.width;
  if (is_spread) return fits(pack) ? pack : 1;
  while (!fits(pack)) pack /= 2;
  return pack;
}

}  // namespace

Box::Box(const TensorType& type, const std::vector<int64_t>& from, const std::vector<int64_t>& to)
    : width(size_of(type.dtype)) {
  TESSERA_CHECK(from.size() == to.size() && static_cast<int>(from.size()) == type.rank());
  for (size_t d = 0; d < from.size(); ++d) dims.push_back({type.shape[static_cast<int>(d)], from[d], to[d]});
}

int64_t Box::elements() const {
  int64_t count = 1;
  for (const Dim& dim : dims) count *= dim.size;
  return count;
}

Box Box::merged() const {
  Box result = *this;
  result.dims.clear();
  for (size_t d = dims.size(); d-- > 0;) {  // innermost first
    if (dims[d].size == 1) continue;
    if (!result.dims.empty()) {
      Dim& inner = result.dims.back();
      if (dims[d].from == inner.from * inner.size && dims[d].to == inner.to * inner.size) {
        inner.size *= dims[d].size;
        continue;
      }
    }
    result.dims.push_back(dims[d]);
  }
  std::reverse(result.dims.begin(), result.dims.end());
  return result;
}

std::optional<std::string> refuse_box(const Box& box) {
  const size_t rank = box.merged().dims.size();
  if (rank <= kMaxCopyRank) return std::nullopt;
  return cat("moves along ", rank, " dims that cannot be merged, more than ", kMaxCopyRank);
}

void copy_box(const Box& wanted, const void* from, void* to, cudaStream_t stream, const DeviceStarts& starts) {
  if (wanted.elements() == 0) return;
  Box box = wanted.merged();
  if (box.dims.empty()) box.dims.push_back({1, 1, 1});
  const Box::Dim& inner = box.dims.back();
  // The copy engine's own kernels are as fast, at any size and alignment.
  if (box.dims.size() == 1 && inner.from == 1 && inner.to == 1 && starts.count == 0)
    return check(cudaMemcpyAsync(to, from, static_cast<size_t>(inner.size * box.width), cudaMemcpyDeviceToDevice, stream),
                 "a copy on the device");
  const int width = static_cast<int>(box.width);
  if (const auto along = tiled_dim(box, starts)) {
    TileShape tiles;
    tiles.rows = box.dims[*along].size;
    tiles.to_pitch = box.dims[*along].to;
    tiles.columns = inner.size;
    tiles.from_pitch = inner.from;
    box.dims.pop_back();
    box.dims.erase(box.dims.begin() + static_cast<int64_t>(*along));
    tiles.batch = shape_of(box.dims);
    return transpose_tiles(width, tiles, from, to, stream);
  }
  const int64_t pack = pack_of(box, from, to, starts);
  const bool is_spread = inner.from == 0 && pack > 1;
  DeviceStarts moved = starts;
  for (int i = 0; i < starts.count; ++i)
    if (!is_spread || starts.moves_target) moved.stride[i] /= pack;
  for (size_t d = 0; d < box.dims.size(); ++d) {
    if (d + 1 == box.dims.size()) {
      box.dims[d].size /= pack;
      continue;
    }
    box.dims[d].to /= pack;
    if (!is_spread) box.dims[d].from /= pack;
  }
  if (is_spread)
    splat_copy(width, shape_of(box.dims), from, to, moved, stream);
  else
    strided_copy(width * static_cast<int>(pack), shape_of(box.dims), from, to, moved, stream);
}

}  // namespace tessera::cuda

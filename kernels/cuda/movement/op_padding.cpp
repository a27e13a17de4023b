// pad, and the two ops that exist for padding alone: resize_padding and mask_padding, which works in place.
#include "core/ops/padding.h"

#include <algorithm>

#include "core/ops/structure.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/movement/bits.h"
#include "kernels/cuda/movement/make.h"
#include "kernels/cuda/movement/pad.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

struct PadDim {
  int64_t size, extent, low, step, from;
};

// Dims that are not padded are one with the dim around them, where that has its elements side by side.
std::vector<PadDim> merged_dims(const Shape& x, const Shape& y, const Ints& low, const Ints& interior) {
  std::vector<PadDim> dims;  // innermost first
  const std::vector<int64_t> strides = x.strides();
  for (int d = x.rank() - 1; d >= 0; --d) {
    const auto at = static_cast<size_t>(d);
    PadDim dim{y[d], x[d], low[at], interior[at] + 1, strides[at]};
    if (dim.size == 1 && dim.extent == 1 && dim.low == 0) continue;
    if (!dims.empty() && dim.step == 1) {
      const PadDim& inner = dims.back();
      if (inner.size == inner.extent && inner.low == 0 && inner.step == 1) {
        dims.back() = {dim.size * inner.size, dim.extent * inner.size, dim.low * inner.size, 1, inner.from};
        continue;
      }
    }
    dims.push_back(dim);
  }
  if (dims.empty()) dims.push_back({1, 1, 0, 1, 1});
  std::reverse(dims.begin(), dims.end());
  return dims;
}

Ints low_of(const Attributes& attributes, int rank) {
  return attributes.has(Attr::edge_low) ? attributes.ints(Attr::edge_low) : Ints(static_cast<size_t>(rank), 0);
}
Ints interior_of(const Attributes& attributes, int rank) {
  return attributes.has(Attr::interior) ? attributes.ints(Attr::interior) : Ints(static_cast<size_t>(rank), 0);
}

Refusal accept_pad(const OpCall& call, Results results) {
  const Shape &x = call.operands[0].shape, &y = results[0].shape;
  const size_t rank = merged_dims(x, y, low_of(call.attributes, x.rank()), interior_of(call.attributes, x.rank())).size();
  if (rank <= kMaxPadRank) return std::nullopt;
  return cat("pads ", rank, " dims that cannot be merged, more than ", kMaxPadRank);
}

// pad, and resize_padding, which pads with zeros behind the last element or cuts off there.
void run_pad(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &y = args.results[0];
  const Attributes& attributes = args.instruction.attributes;
  const int rank = x.type.rank();
  if (y.type.elements() == 0) return;
  std::vector<PadDim> dims =
      merged_dims(x.type.shape, y.type.shape, low_of(attributes, rank), interior_of(attributes, rank));
  const int width = static_cast<int>(size_of(y.type.dtype)), pack = 16 / width;
  const PadDim& last = dims.back();
  bool is_wide = last.step == 1 && last.size % pack == 0 && last.extent % pack == 0 && last.low % pack == 0 &&
                 are_aligned(16, x.data, y.data);
  for (size_t d = 0; d + 1 < dims.size(); ++d) is_wide = is_wide && dims[d].from % pack == 0;
  PadShape shape;
  shape.rank = static_cast<int>(dims.size());
  for (size_t d = 0; d < dims.size(); ++d) {
    const bool is_last = d + 1 == dims.size();
    const int64_t unit = is_wide ? pack : 1, own = is_last ? unit : 1;
    shape.size[d] = dims[d].size / own;
    shape.extent[d] = dims[d].extent / own;
    shape.low[d] = dims[d].low / own;
    shape.step[d] = dims[d].step;
    shape.from[d] = is_last ? dims[d].from : dims[d].from / unit;
  }
  const void* value = args.operands.size() > 1 ? args.operands[1].data : nullptr;
  pad(width, is_wide ? pack : 1, shape, x.data, value, y.data, stream_of(args));
}

void run_mask(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &y = args.results[0];
  begin_as(x, args);
  const Attributes& attributes = args.instruction.attributes;
  const Ints &dims = attributes.ints(Attr::dimensions), &limits = attributes.ints(Attr::limit_indices);
  for (size_t i = 0; i < dims.size(); ++i) {
    const auto d = static_cast<int>(dims[i]);
    int64_t outer = 1, inner = 1;
    for (int o = 0; o < d; ++o) outer *= y.type.shape[o];
    for (int k = d + 1; k < y.type.rank(); ++k) inner *= y.type.shape[k];
    const int64_t* start = args.operands.size() > 1 ? args.operands[1 + i].as<const int64_t>() : nullptr;
    if (start == nullptr && limits[i] >= y.type.shape[d]) continue;
    mask_from(static_cast<int>(size_of(y.type.dtype)), outer, y.type.shape[d], inner, start, limits[i],
              bits_of(attributes.number(Attr::scalar), y.type.dtype), y.data, context_of(args.stream).multiprocessors,
              stream_of(args));
  }
}

}  // namespace

void register_padding(KernelTable& table) {
  table.add(ops::kPad, make_kernel("cuda.pad", accept_pad, run_pad));
  table.add(ops::kResizePadding, make_kernel("cuda.resize_padding", accept_pad, run_pad));
  Kernel mask = make_kernel("cuda.mask_padding", nullptr, run_mask);
  mask.in_place = [](const OpCall&, int) { return 0; };
  table.add(ops::kMaskPadding, mask);
}

}  // namespace tessera::cuda

// scatter: replaced, or combined by sum, product, max or min (and, or of pred), in a fixed order.
#include <algorithm>

#include "core/ops/combiner.h"
#include "core/ops/gather.h"
#include "core/ops/index_map.h"
#include "kernels/cuda/indexing/scatter.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// Windows that may overlap are launched one by one, as long as they are few.
constexpr int64_t kMaxLaunches = 64;

struct Dims {
  std::vector<ScatterShape::BatchDim> batch;
  std::vector<ScatterShape::WindowDim> window;
};

Dims dims_of(const ops::IndexMap& map) {
  const std::vector<int64_t> operand = map.operand.strides(), indices = map.indices.strides(),
                             updates = map.window.strides();
  std::vector<ScatterShape::BatchDim> batch;
  for (size_t b = 0; b < map.window_batch_dims.size(); ++b) {
    const auto update = static_cast<size_t>(map.window_batch_dims[b]);
    batch.push_back({map.window[static_cast<int>(update)], updates[update],
                     indices[static_cast<size_t>(map.indices_batch_dims[b])], 0});
  }
  std::vector<ScatterShape::WindowDim> window;
  for (size_t d = 0; d < map.dims.size(); ++d) {
    const ops::IndexMap::Dim& dim = map.dims[d];
    if (dim.batching >= 0) batch[static_cast<size_t>(dim.batching)].operand = operand[d];
    if (dim.size != 1)
      window.push_back({dim.size, updates[static_cast<size_t>(dim.window_dim)], operand[d], dim.component,
                        map.operand[static_cast<int>(d)]});
  }
  // Innermost first while they are merged.
  Dims dims;
  for (size_t b = batch.size(); b-- > 0;) {
    if (batch[b].size == 1) continue;
    if (!dims.batch.empty()) {
      ScatterShape::BatchDim& inner = dims.batch.back();
      if (batch[b].update == inner.update * inner.size && batch[b].index == inner.index * inner.size &&
          batch[b].operand == inner.operand * inner.size) {
        inner.size *= batch[b].size;
        continue;
      }
    }
    dims.batch.push_back(batch[b]);
  }
  for (size_t d = window.size(); d-- > 0;) {
    if (!dims.window.empty()) {
      ScatterShape::WindowDim& inner = dims.window.back();
      if (window[d].component < 0 && inner.component < 0 && window[d].update == inner.update * inner.size &&
          window[d].operand == inner.operand * inner.size) {
        inner.size *= window[d].size;
        continue;
      }
    }
    dims.window.push_back(window[d]);
  }
  std::reverse(dims.batch.begin(), dims.batch.end());
  std::reverse(dims.window.begin(), dims.window.end());
  return dims;
}

bool is_single(const ops::IndexMap& map) {
  return std::all_of(map.dims.begin(), map.dims.end(),
                     [](const ops::IndexMap::Dim& dim) { return dim.component < 0 || dim.size == 1; });
}

// Whether no two updates meet.
bool is_unique(const Attributes& attributes, const ops::IndexMap& map) {
  return map.batch_shape().elements() <= 1 ||
         (attributes.has(Attr::unique_indices) && attributes.flag(Attr::unique_indices));
}

ScatterShape scatter_shape(const ops::IndexMap& map, const TensorView& indices) {
  ScatterShape shape;
  shape.windows = map.batch_shape().elements();
  const Dims dims = dims_of(map);
  shape.batch_rank = static_cast<int>(dims.batch.size());
  std::copy(dims.batch.begin(), dims.batch.end(), shape.batch);
  shape.window_rank = static_cast<int>(dims.window.size());
  std::copy(dims.window.begin(), dims.window.end(), shape.window);
  for (const auto& dim : dims.window) shape.elements *= dim.size;
  const std::vector<int64_t> operand = map.operand.strides(), steps = map.indices.strides();
  shape.vectors = {indices.data, static_cast<int>(size_of(indices.type.dtype)),
                   is_signed_integer(indices.type.dtype), static_cast<int>(map.components()), 1};
  if (map.vector_dim < map.indices.rank()) shape.vectors.component_step = steps[static_cast<size_t>(map.vector_dim)];
  for (size_t d = 0; d < map.dims.size(); ++d) {
    const int k = map.dims[d].component;
    if (k < 0) continue;
    shape.stride[k] = operand[d];
    shape.extent[k] = map.dims[d].size == 1 ? map.operand[static_cast<int>(d)] : -1;
  }
  shape.is_single = is_single(map);
  return shape;
}

Refusal refuse_combiner(const OpCall& call) {
  if (call.operands.size() != 3) return "several inputs";
  if (ops::is_replacement(call.attributes)) return std::nullopt;
  if (!ops::Combiner(call.attributes).kind()) return "a combiner region, which is not compiled for the device";
  const DType dtype = call.operands[0].dtype;
  for (DType accepted : {DType::f32, DType::bf16, DType::s32, DType::s64, DType::pred})
    if (dtype == accepted) return std::nullopt;
  return cat("compiled for f32, bf16, s32, s64 and pred, not ", dtype);
}

Refusal refuse_order(const OpCall& call, const ops::IndexMap& map) {
  if (is_unique(call.attributes, map)) return std::nullopt;
  const int64_t windows = map.batch_shape().elements();
  if (is_single(map)) {
    const double keys = static_cast<double>(scatter_keys(windows)) * static_cast<double>(map.operand.elements());
    if (keys < 0x1p63) return std::nullopt;
    return cat(windows, " windows in ", map.operand.elements(), " elements do not fit in one key");
  }
  if (windows > kMaxLaunches)
    return cat(windows, " windows that may overlap, in an order that must be kept (unique_indices are not)");
  for (size_t i = 0; i < map.window_batch_dims.size(); ++i)
    if (map.window_batch_dims[i] != static_cast<int>(i)) return "windows that may overlap, in an order of their own";
  const std::optional<ReduceKind> kind = ops::Combiner(call.attributes).kind();
  if (call.operands[0].dtype == DType::bf16 && (kind == ReduceKind::sum || kind == ReduceKind::product))
    return "bf16 windows that may overlap, which would be rounded one after the other";
  return std::nullopt;
}

Refusal accept_scatter(const OpCall& call, Results) {
  if (Refusal refusal = refuse_combiner(call)) return refusal;
  const ops::IndexMap map = ops::scatter_map(call);
  const Dims dims = dims_of(map);
  if (dims.batch.size() > kMaxIndexRank || dims.window.size() > kMaxIndexRank || map.components() > kMaxIndexRank)
    return cat("more than ", kMaxIndexRank, " dims that cannot be merged");
  return refuse_order(call, map);
}

int64_t scatter_workspace(const OpCall& call, Results) {
  const ops::IndexMap map = ops::scatter_map(call);
  if (is_unique(call.attributes, map) || !is_single(map)) return 0;
  return scatter_keys(map.batch_shape().elements()) * static_cast<int64_t>(sizeof(uint64_t));
}

// Calls body<T>(): numbers for a kind, anything of the width where updates replace.
template <typename Body>
void dispatch_element(DType dtype, bool replaces, Body body) {
  if (!replaces) {
    switch (dtype) {
      case DType::f32: return body.template operator()<float>();
      case DType::bf16: return body.template operator()<bf16>();
      case DType::s32: return body.template operator()<int32_t>();
      case DType::s64: return body.template operator()<int64_t>();
      default: return body.template operator()<uint8_t>();
    }
  }
  switch (size_of(dtype)) {
    case 1: return body.template operator()<uint8_t>();
    case 2: return body.template operator()<uint16_t>();
    case 4: return body.template operator()<uint32_t>();
    default: return body.template operator()<uint64_t>();
  }
}

void run_scatter(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &indices = args.operands[1], &updates = args.operands[2],
                   &y = args.results[0];
  const cudaStream_t stream = stream_of(args);
  if (y.type.elements() == 0) return;
  begin_as(x, args);
  const Attributes& attributes = args.instruction.attributes;
  const TensorType types[] = {x.type, indices.type, updates.type};
  const ops::IndexMap map = ops::scatter_map({types, attributes});
  const ScatterShape shape = scatter_shape(map, indices);
  const bool replaces = ops::is_replacement(attributes);
  const std::optional<ReduceKind> kind = replaces ? std::nullopt : ops::Combiner(attributes).kind();
  dispatch_element(y.type.dtype, replaces, [&]<typename T>() {
    const T* from = updates.as<const T>();
    if (is_unique(attributes, map)) return scatter_unique(kind, shape, 0, shape.windows, from, y.as<T>(), stream);
    if (shape.is_single)
      return scatter_sorted(kind, shape, from, y.as<T>(), reinterpret_cast<uint64_t*>(args.workspace), stream);
    for (int64_t w = 0; w < shape.windows; ++w) scatter_unique(kind, shape, w, w + 1, from, y.as<T>(), stream);
  });
}

}  // namespace

void register_scatter(KernelTable& table) {
  // In place by the op's own alias.
  Kernel kernel = make_kernel("cuda.scatter", accept_scatter, run_scatter);
  kernel.workspace_bytes = scatter_workspace;
  table.add(ops::kScatter, kernel);
}

}  // namespace tessera::cuda

// Convolutions with the features last: [batch, space..., features] and kernels [space..., in, out]
// (or, for gradients of inputs, [space..., out, in]). Others are brought into that order first.
//
// For one row of outputs and one window element, the inputs that are read stand at equal distances:
// a product of matrices with the features, strides and dilations being leading dims. So all of it
// is gemm (oneDNN for f32), nothing is copied, and what one row or one kernel element sums is
// summed by one thread in a fixed order.
#include <algorithm>
#include <array>
#include <numeric>

#include "core/ops/convolution.h"
#include "core/ops/convolution_geometry.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/strided_copy.h"

namespace tessera::cpu {
namespace {

using ops::ConvolutionDims;
using ops::ConvolutionSizes;
using ops::WindowDim;

constexpr int kMaxSpatial = 6;
using Position = std::array<int64_t, kMaxSpatial>;

struct Layout {
  ConvolutionDims dims;
  ConvolutionSizes sizes;
  bool is_swapped;    // kernels are [out, in]
  bool is_depthwise;  // one feature a group, in and out
  int64_t in, out;    // features of the inputs and outputs, those of all groups
  int spatial() const { return dims.spatial(); }
  const WindowDim& last() const { return sizes.windows.back(); }
};

Layout layout_of(std::string_view op, const Attributes& attributes, const Shape& input,
                 const Shape& kernel) {
  Layout layout{ops::convolution_dims(attributes),
                ops::convolution_sizes(op, attributes, input, kernel),
                false,
                false,
                0,
                0};
  layout.is_swapped = layout.dims.kernel_in > layout.dims.kernel_out;
  layout.is_depthwise =
      layout.sizes.feature_groups > 1 && layout.sizes.in == 1 && layout.sizes.out == 1;
  layout.in = layout.sizes.feature_groups * layout.sizes.in;
  layout.out = layout.sizes.feature_groups * layout.sizes.out;
  return layout;
}

Refusal accept_any_layout(const OpCall& call, Results results) {
  const TensorType& x = call.operands[0];
  if (Refusal refusal = refuse_float(x)) return refusal;
  if (results[0].dtype != x.dtype && (x.dtype != DType::bf16 || results[0].dtype != DType::f32))
    return cat(results[0].dtype, " from ", x.dtype);
  const ConvolutionDims dims = ops::convolution_dims(call.attributes);
  if (dims.batch_groups != 1) return "batch groups";
  if (dims.spatial() < 1 || dims.spatial() > kMaxSpatial)
    return cat("over ", dims.spatial(), " dims of space");
  return std::nullopt;
}

Refusal accept_layout(const OpCall& call, Results results) {
  if (Refusal refusal = accept_any_layout(call, results)) return refusal;
  const ConvolutionDims dims = ops::convolution_dims(call.attributes);
  const int rank = dims.spatial() + 2;
  bool fits = dims.input_batch == 0 && dims.output_batch == 0 && dims.input_feature == rank - 1 &&
              dims.output_feature == rank - 1 && dims.kernel_in + dims.kernel_out == 2 * rank - 3;
  for (int s = 0; fits && s < dims.spatial(); ++s) {
    const auto at = static_cast<size_t>(s);
    fits = dims.input[at] == s + 1 && dims.output[at] == s + 1 && dims.kernel[at] == s;
  }
  if (!fits) return "features are not the last dim";
  return std::nullopt;
}

// The outputs first, first + step, ... (count of them) along the last dim that window element k
// makes from inputs source, source + source_step, ...
struct Run {
  int64_t first = 0, step = 1, count = 0;
  int64_t source = 0, source_step = 1;
};

Run run_of(const WindowDim& dim, int64_t outputs, int64_t k) {
  const int64_t common = std::gcd(dim.stride, dim.base_dilation);
  Run run{0, dim.base_dilation / common, 0, 0, dim.stride / common};
  while (run.first < outputs && dim.source(run.first, k) < 0) ++run.first;
  if (run.first >= outputs) return run;
  run.source = dim.source(run.first, k);
  run.count = std::min((outputs - 1 - run.first) / run.step,
                       (dim.size - 1 - run.source) / run.source_step) +
              1;
  return run;
}

// Index `flat` in the extents of all spatial dims but the last.
template <typename Extent>
Position outer_position(int64_t flat, int spatial, Extent extent) {
  Position position{};
  for (int s = spatial - 2; s >= 0; --s) {
    position[static_cast<size_t>(s)] = flat % extent(s);
    flat /= extent(s);
  }
  return position;
}

// The input row that output row q and window row k meet in, or -1.
int64_t source_row(const Layout& layout, const Position& q, const Position& k) {
  int64_t row = 0;
  for (int s = 0; s + 1 < layout.spatial(); ++s) {
    const auto at = static_cast<size_t>(s);
    const int64_t p = layout.sizes.windows[at].source(q[at], k[at]);
    if (p < 0) return -1;
    row = row * layout.sizes.windows[at].size + p;
  }
  return row;
}

// All rows: extents but the last, multiplied.
struct Rows {
  int64_t output = 1, window = 1, input = 1;
  explicit Rows(const Layout& layout) {
    for (int s = 0; s + 1 < layout.spatial(); ++s) {
      const auto at = static_cast<size_t>(s);
      output *= layout.sizes.output[at];
      window *= layout.sizes.windows[at].window;
      input *= layout.sizes.windows[at].size;
    }
  }
};

Position output_position(const Layout& layout, int64_t row) {
  return outer_position(row, layout.spatial(),
                        [&](int s) { return layout.sizes.output[static_cast<size_t>(s)]; });
}
Position window_position(const Layout& layout, int64_t row) {
  return outer_position(row, layout.spatial(),
                        [&](int s) { return layout.sizes.windows[static_cast<size_t>(s)].window; });
}

// The sums of a task: at `out` itself, or in scratch where they are rounded (bf16) in the end.
template <typename A, typename Out, typename Body>
void with_sums(int64_t count, Out* out, const Body& body) {
  A* sums = nullptr;
  if constexpr (std::is_same_v<A, Out>)
    sums = out;
  else
    sums = scratch_array<A>(3, static_cast<size_t>(count));  // products have the slots before
  std::fill(sums, sums + count, A(0));
  body(sums);
  if constexpr (!std::is_same_v<A, Out>)
    for (int64_t i = 0; i < count; ++i) out[i] = Out(sums[i]);
}

template <typename T, typename Out>
void forward(const Layout& layout, const T* x, const T* w, Out* y) {
  using A = simd::Accumulator<T>;
  const ConvolutionSizes& sizes = layout.sizes;
  const Rows rows(layout);
  const int64_t in = layout.in, out = layout.out;
  const int64_t width = sizes.output.back(), taps = layout.last().window;
  parallel_for(sizes.batch * rows.output, [&](int64_t task) {
    const Position q = output_position(layout, task % rows.output);
    with_sums<A>(width * out, y + task * width * out, [&](A* to) {
      for (int64_t kr = 0; kr < rows.window; ++kr) {
        const int64_t row = source_row(layout, q, window_position(layout, kr));
        if (row < 0) continue;
        const T* from = x + (task / rows.output * rows.input + row) * layout.last().size * in;
        for (int64_t k = 0; k < taps; ++k) {
          const Run run = run_of(layout.last(), width, k);
          if (run.count == 0) continue;
          const T* kernel = w + (kr * taps + k) * sizes.in * out;
          if (layout.is_depthwise) {
            for (int64_t i = 0; i < run.count; ++i) {
              const T* a = from + (run.source + i * run.source_step) * in;
              A* c = to + (run.first + i * run.step) * out;
              for (int64_t f = 0; f < in; ++f) c[f] += A(a[f]) * A(kernel[f]);
            }
            continue;
          }
          GemmShape gemm_shape;
          gemm_shape.m = run.count;
          gemm_shape.n = sizes.out;
          gemm_shape.k = sizes.in;
          gemm_shape.transpose_b = layout.is_swapped;
          gemm_shape.lda = run.source_step * in;
          gemm_shape.ldb = layout.is_swapped ? sizes.in : out;
          gemm_shape.ldc = run.step * out;
          const int64_t next_kernel = layout.is_swapped ? sizes.out * sizes.in : sizes.out;
          for (int64_t g = 0; g < sizes.feature_groups; ++g)
            gemm<T, A>(gemm_shape, 1, from + run.source * in + g * sizes.in,
                       kernel + g * next_kernel, 1, to + run.first * out + g * sizes.out);
        }
      }
    });
  });
}

template <typename T, typename Out>
void kernel_gradient(const Layout& layout, const T* x, const T* dy, Out* dw) {
  using A = simd::Accumulator<T>;
  const ConvolutionSizes& sizes = layout.sizes;
  const Rows rows(layout);
  const int64_t in = layout.in, out = layout.out;
  const int64_t width = sizes.output.back(), taps = layout.last().window;
  const int64_t block = sizes.in * out;
  parallel_for(rows.window * taps, [&](int64_t task) {
    const Position window = window_position(layout, task / taps);
    const Run run = run_of(layout.last(), width, task % taps);
    with_sums<A>(block, dw + task * block, [&](A* to) {
      for (int64_t r = 0; run.count > 0 && r < sizes.batch * rows.output; ++r) {
        const int64_t row = source_row(layout, output_position(layout, r % rows.output), window);
        if (row < 0) continue;
        const T* a =
            x + ((r / rows.output * rows.input + row) * layout.last().size + run.source) * in;
        const T* b = dy + (r * width + run.first) * out;
        if (layout.is_depthwise) {
          for (int64_t i = 0; i < run.count; ++i)
            for (int64_t f = 0; f < in; ++f)
              to[f] += A(a[i * run.source_step * in + f]) * A(b[i * run.step * out + f]);
          continue;
        }
        GemmShape gemm_shape;
        gemm_shape.transpose_a = true;
        gemm_shape.m = sizes.in;
        gemm_shape.n = sizes.out;
        gemm_shape.k = run.count;
        gemm_shape.lda = run.source_step * in;
        gemm_shape.ldb = run.step * out;
        gemm_shape.ldc = out;
        for (int64_t g = 0; g < sizes.feature_groups; ++g)
          gemm<T, A>(gemm_shape, 1, a + g * sizes.in, b + g * sizes.out, 1, to + g * sizes.out);
      }
    });
  });
}

// body<T, Out>() with the operands' type and the result's: theirs, or f32 for bf16.
template <typename Body>
void dispatch_types(DType operand, DType result, Body body) {
  dispatch_kernel_float(operand, [&]<typename T>() {
    if (operand == result)
      body.template operator()<T, T>();
    else
      body.template operator()<T, simd::Accumulator<T>>();
  });
}

void run_forward(const Layout& layout, DType operand, DType result, const void* x, const void* w,
                 void* y) {
  dispatch_types(operand, result, [&]<typename T, typename Out>() {
    forward<T, Out>(layout, static_cast<const T*>(x), static_cast<const T*>(w),
                    static_cast<Out*>(y));
  });
}

void run_convolution(const KernelArgs& args) {
  const Layout layout = layout_of("convolution", args.instruction.attributes,
                                  args.operands[0].type.shape, args.operands[1].type.shape);
  run_forward(layout, args.operands[0].type.dtype, args.results[0].type.dtype,
              args.operands[0].data, args.operands[1].data, args.results[0].data);
}

// ---- Dims in other orders -----------------------------------------------------------------------

// A tensor whose dim number i is dim order[i] of another.
struct Turned {
  std::vector<int> order;
  Shape shape;

  Turned(std::vector<int> dims, const Shape& own) : order(std::move(dims)) {
    for (int d : order) shape.push_back(own[d]);
  }
  bool is_same() const { return std::is_sorted(order.begin(), order.end()); }
  int64_t bytes(int64_t width) const {
    return is_same() ? 0 : (shape.elements() * width + 63) / 64 * 64;
  }
};

// x, w and y as a convolution with the features last has them.
struct TurnedConvolution {
  Turned x, w, y;
  Attributes attributes;
};
TurnedConvolution turned_convolution(const Attributes& attributes, const Shape& x, const Shape& w,
                                     const Shape& y) {
  const ConvolutionDims dims = ops::convolution_dims(attributes);
  const auto around = [](int first, std::vector<int> middle, int last) {
    middle.insert(middle.begin(), first);
    middle.push_back(last);
    return middle;
  };
  std::vector<int> kernel = dims.kernel;
  kernel.insert(kernel.end(), {dims.kernel_in, dims.kernel_out});
  TurnedConvolution turned{{around(dims.input_batch, dims.input, dims.input_feature), x},
                           {kernel, w},
                           {around(dims.output_batch, dims.output, dims.output_feature), y},
                           attributes};
  const int64_t spatial = dims.spatial();
  Ints behind_batch, first;
  for (int64_t s = 0; s < spatial; ++s) {
    behind_batch.push_back(s + 1);
    first.push_back(s);
  }
  turned.attributes.set(Attr::input_batch_dimension, int64_t{0});
  turned.attributes.set(Attr::input_feature_dimension, spatial + 1);
  turned.attributes.set(Attr::input_spatial_dimensions, behind_batch);
  turned.attributes.set(Attr::kernel_input_feature_dimension, spatial);
  turned.attributes.set(Attr::kernel_output_feature_dimension, spatial + 1);
  turned.attributes.set(Attr::kernel_spatial_dimensions, first);
  turned.attributes.set(Attr::output_batch_dimension, int64_t{0});
  turned.attributes.set(Attr::output_feature_dimension, spatial + 1);
  turned.attributes.set(Attr::output_spatial_dimensions, behind_batch);
  return turned;
}

// `from` in its own order, at `to` in that of `turned`; `from` itself where the orders are one.
const void* turn(const Turned& turned, const TensorView& from, std::byte* to) {
  if (turned.is_same()) return from.data;
  const std::vector<int64_t> own = from.type.shape.strides();
  std::vector<int64_t> strides;
  for (int d : turned.order) strides.push_back(own[static_cast<size_t>(d)]);
  strided_copy(size_of(from.type.dtype), turned.shape.dims(), strides, from.data, to);
  return to;
}

void turn_back(const Turned& turned, const void* from, const TensorView& to) {
  if (turned.is_same()) return;
  const std::vector<int64_t> own = turned.shape.strides();
  std::vector<int64_t> strides(own.size());
  for (size_t i = 0; i < own.size(); ++i) strides[static_cast<size_t>(turned.order[i])] = own[i];
  strided_copy(size_of(to.type.dtype), to.type.shape.dims(), strides, from, to.data);
}

void run_turned(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &w = args.operands[1], &y = args.results[0];
  const int64_t width = size_of(x.type.dtype);
  const TurnedConvolution turned =
      turned_convolution(args.instruction.attributes, x.type.shape, w.type.shape, y.type.shape);
  std::byte* at = args.workspace;
  const void* own_x = turn(turned.x, x, at);
  at += turned.x.bytes(width);
  const void* own_w = turn(turned.w, w, at);
  at += turned.w.bytes(width);
  void* own_y = turned.y.is_same() ? y.data : at;
  run_forward(layout_of("convolution", turned.attributes, turned.x.shape, turned.w.shape),
              x.type.dtype, y.type.dtype, own_x, own_w, own_y);
  turn_back(turned.y, own_y, y);
}

int64_t turned_workspace(const OpCall& call, Results results) {
  const TurnedConvolution turned = turned_convolution(call.attributes, call.operands[0].shape,
                                                      call.operands[1].shape, results[0].shape);
  const int64_t width = size_of(call.operands[0].dtype);
  return turned.x.bytes(width) + turned.w.bytes(width) + turned.y.bytes(size_of(results[0].dtype));
}

// ---- The kernel's gradient ----------------------------------------------------------------------

Refusal accept_kernel_grad(const OpCall& call, Results results) {
  const ConvolutionDims dims = ops::convolution_dims(call.attributes);
  if (dims.kernel_in > dims.kernel_out) return "kernels are not [space, in, out]";
  return accept_layout(call, results);
}

void run_kernel_grad(const KernelArgs& args) {
  const Layout layout = layout_of("convolution_kernel_grad", args.instruction.attributes,
                                  args.operands[0].type.shape, args.results[0].type.shape);
  dispatch_types(
      args.operands[0].type.dtype, args.results[0].type.dtype, [&]<typename T, typename Out>() {
        kernel_gradient<T, Out>(layout, args.operands[0].as<const T>(),
                                args.operands[1].as<const T>(), args.results[0].as<Out>());
      });
}

}  // namespace

void register_convolution(KernelTable& table) {
  table.add(ops::kConvolution, make_kernel("cpu.convolution", accept_layout, run_convolution));
  Kernel turned = make_kernel("cpu.convolution_turned", accept_any_layout, run_turned);
  turned.workspace_bytes = turned_workspace;
  table.add(ops::kConvolution, turned);
  table.add(ops::kConvolutionKernelGrad,
            make_kernel("cpu.convolution_kernel_grad", accept_kernel_grad, run_kernel_grad));
}

}  // namespace tessera::cpu

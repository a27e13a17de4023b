// Convolutions with the features last: [batch, space..., features] and kernels [space..., in, out]
// (or, for gradients of inputs, [space..., out, in]).
//
// For one row of outputs and one window element, the inputs that are read stand at equal distances:
// a product of matrices with the features, strides and dilations being leading dims. So all of it
// is gemm (oneDNN for f32), nothing is copied, and what one row or one kernel element sums is
// summed by one thread in a fixed order.
#include <array>
#include <numeric>

#include "core/ops/convolution.h"
#include "core/ops/convolution_geometry.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"

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
  bool is_depthwise;  // one feature a group
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
  layout.is_depthwise = layout.sizes.feature_groups > 1;
  layout.in = layout.sizes.feature_groups * layout.sizes.in;
  layout.out = layout.sizes.feature_groups * layout.sizes.out;
  return layout;
}

Refusal accept_layout(const OpCall& call, Results results) {
  const TensorType& x = call.operands[0];
  if (x.dtype != DType::f32 && x.dtype != DType::f64) return cat("compiled for f32 and f64");
  if (results[0].dtype != x.dtype) return "mixed dtypes";
  const ConvolutionDims dims = ops::convolution_dims(call.attributes);
  const int rank = dims.spatial() + 2;
  bool fits = rank > 2 && dims.spatial() <= kMaxSpatial && dims.batch_groups == 1 &&
              dims.input_batch == 0 && dims.output_batch == 0 && dims.input_feature == rank - 1 &&
              dims.output_feature == rank - 1 && dims.kernel_in + dims.kernel_out == 2 * rank - 3;
  for (int s = 0; fits && s < dims.spatial(); ++s) {
    const auto at = static_cast<size_t>(s);
    fits = dims.input[at] == s + 1 && dims.output[at] == s + 1 && dims.kernel[at] == s;
  }
  if (!fits) return "features are not the last dim";
  if (dims.feature_groups == 1) return std::nullopt;
  // Depthwise: kernels [space..., 1, features].
  const int64_t features = x.shape[rank - 1];
  if (dims.feature_groups == features && results[0].shape[rank - 1] == features &&
      dims.kernel_out == rank - 1)
    return std::nullopt;
  return "feature groups of more than one feature";
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

template <typename T>
void forward(const Layout& layout, const T* x, const T* w, T* y) {
  const ConvolutionSizes& sizes = layout.sizes;
  const Rows rows(layout);
  const int64_t in = layout.in, out = layout.out;
  const int64_t width = sizes.output.back(), taps = layout.last().window;
  parallel_for(sizes.batch * rows.output, [&](int64_t task) {
    const Position q = output_position(layout, task % rows.output);
    T* to = y + task * width * out;
    std::fill(to, to + width * out, T(0));
    for (int64_t kr = 0; kr < rows.window; ++kr) {
      const int64_t row = source_row(layout, q, window_position(layout, kr));
      if (row < 0) continue;
      const T* from = x + (task / rows.output * rows.input + row) * layout.last().size * in;
      for (int64_t k = 0; k < taps; ++k) {
        const Run run = run_of(layout.last(), width, k);
        if (run.count == 0) continue;
        const T* kernel = w + (kr * taps + k) * (layout.is_depthwise ? in : in * out);
        if (layout.is_depthwise) {
          for (int64_t i = 0; i < run.count; ++i) {
            const T* a = from + (run.source + i * run.source_step) * in;
            T* c = to + (run.first + i * run.step) * out;
            for (int64_t f = 0; f < in; ++f) c[f] += a[f] * kernel[f];
          }
          continue;
        }
        GemmShape gemm_shape;
        gemm_shape.m = run.count;
        gemm_shape.n = out;
        gemm_shape.k = in;
        gemm_shape.transpose_b = layout.is_swapped;
        gemm_shape.lda = run.source_step * in;
        gemm_shape.ldb = layout.is_swapped ? in : out;
        gemm_shape.ldc = run.step * out;
        gemm<T, T>(gemm_shape, 1, from + run.source * in, kernel, 1, to + run.first * out);
      }
    }
  });
}

template <typename T>
void kernel_gradient(const Layout& layout, const T* x, const T* dy, T* dw) {
  const ConvolutionSizes& sizes = layout.sizes;
  const Rows rows(layout);
  const int64_t in = layout.in, out = layout.out;
  const int64_t width = sizes.output.back(), taps = layout.last().window;
  const int64_t block = layout.is_depthwise ? in : in * out;
  parallel_for(rows.window * taps, [&](int64_t task) {
    const Position window = window_position(layout, task / taps);
    const Run run = run_of(layout.last(), width, task % taps);
    T* to = dw + task * block;
    std::fill(to, to + block, T(0));
    for (int64_t r = 0; run.count > 0 && r < sizes.batch * rows.output; ++r) {
      const int64_t row = source_row(layout, output_position(layout, r % rows.output), window);
      if (row < 0) continue;
      const T* a =
          x + ((r / rows.output * rows.input + row) * layout.last().size + run.source) * in;
      const T* b = dy + (r * width + run.first) * out;
      if (layout.is_depthwise) {
        for (int64_t i = 0; i < run.count; ++i)
          for (int64_t f = 0; f < in; ++f)
            to[f] += a[i * run.source_step * in + f] * b[i * run.step * out + f];
        continue;
      }
      GemmShape gemm_shape;
      gemm_shape.transpose_a = true;
      gemm_shape.m = in;
      gemm_shape.n = out;
      gemm_shape.k = run.count;
      gemm_shape.lda = run.source_step * in;
      gemm_shape.ldb = run.step * out;
      gemm_shape.ldc = out;
      gemm<T, T>(gemm_shape, 1, a, b, 1, to);
    }
  });
}

void run_convolution(const KernelArgs& args) {
  const Layout layout = layout_of("convolution", args.instruction.attributes,
                                  args.operands[0].type.shape, args.operands[1].type.shape);
  dispatch_kernel_float(args.results[0].type.dtype, [&]<typename T>() {
    if constexpr (!std::is_same_v<T, bfloat16>)
      forward<T>(layout, args.operands[0].as<const T>(), args.operands[1].as<const T>(),
                 args.results[0].as<T>());
  });
}

Refusal accept_kernel_grad(const OpCall& call, Results results) {
  const ConvolutionDims dims = ops::convolution_dims(call.attributes);
  if (dims.kernel_in > dims.kernel_out) return "kernels are not [space, in, out]";
  const OpCall forward{call.operands, call.attributes};
  const TensorType dy = call.operands[1];
  if (Refusal refusal = accept_layout(forward, std::span(&dy, 1))) return refusal;
  if (results[0].dtype != dy.dtype) return "mixed dtypes";
  return std::nullopt;
}

void run_kernel_grad(const KernelArgs& args) {
  const Layout layout = layout_of("convolution_kernel_grad", args.instruction.attributes,
                                  args.operands[0].type.shape, args.results[0].type.shape);
  dispatch_kernel_float(args.results[0].type.dtype, [&]<typename T>() {
    if constexpr (!std::is_same_v<T, bfloat16>)
      kernel_gradient<T>(layout, args.operands[0].as<const T>(), args.operands[1].as<const T>(),
                         args.results[0].as<T>());
  });
}

}  // namespace

void register_convolution(KernelTable& table) {
  table.add(ops::kConvolution, make_kernel("cpu.convolution", accept_layout, run_convolution));
  table.add(ops::kConvolutionKernelGrad,
            make_kernel("cpu.convolution_kernel_grad", accept_kernel_grad, run_kernel_grad));
}

}  // namespace tessera::cpu

// Ops that make and move elements without arithmetic on them, for any dtype: transpose, broadcast, slice, reshape,
// bitcast, concatenate, reverse, rotate, iota, constants. Each is one box, or a few, with strides of its own.
#include <algorithm>

#include "core/ops/elementwise_bits.h"
#include "core/ops/structure.h"
#include "kernels/cuda/movement/bits.h"
#include "kernels/cuda/movement/box.h"
#include "kernels/cuda/movement/make.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// The elements of `y`, `offset` elements into the operand.
struct View {
  Box box;
  int64_t offset = 0;
};

void copy_view(const KernelArgs& args, const View& view) {
  copy_box(view.box, args.operands[0].as<const std::byte>() + view.offset * view.box.width, args.results[0].data,
           stream_of(args));
}

// Of ops whose result is a view of their operand, made dense.
template <View (*kView)(const Attributes&, const TensorType& x, const TensorType& y)>
Kernel view_kernel(std::string name) {
  return make_kernel(
      std::move(name),
      [](const OpCall& call, Results results) -> Refusal {
        return refuse_box(kView(call.attributes, call.operands[0], results[0]).box);
      },
      [](const KernelArgs& args) {
        copy_view(args, kView(args.instruction.attributes, args.operands[0].type, args.results[0].type));
      });
}

View view_transpose(const Attributes& attributes, const TensorType& x, const TensorType& y) {
  const std::vector<int64_t> own = x.shape.strides();
  std::vector<int64_t> strides;
  for (int64_t d : attributes.ints(Attr::dimensions)) strides.push_back(own[static_cast<size_t>(d)]);
  return {Box(y, strides)};
}

View view_broadcast(const Attributes& attributes, const TensorType& x, const TensorType& y) {
  const std::vector<int64_t> own = x.shape.strides();
  const Ints& dimensions = attributes.ints(Attr::dimensions);
  std::vector<int64_t> strides(static_cast<size_t>(y.rank()), 0);
  for (int d = 0; d < x.rank(); ++d) {
    const auto at = static_cast<size_t>(d);
    if (x.shape[d] != 1) strides[static_cast<size_t>(dimensions[at])] = own[at];
  }
  return {Box(y, strides)};
}

View view_slice(const Attributes& attributes, const TensorType& x, const TensorType& y) {
  std::vector<int64_t> strides = x.shape.strides();
  int64_t offset = 0;
  for (size_t d = 0; d < strides.size(); ++d) {
    offset += attributes.ints(Attr::start_indices)[d] * strides[d];
    strides[d] *= attributes.ints(Attr::strides)[d];
  }
  return {Box(y, strides), offset};
}

View view_reverse(const Attributes& attributes, const TensorType& x, const TensorType& y) {
  std::vector<int64_t> strides = x.shape.strides();
  int64_t offset = 0;
  for (int64_t d : attributes.ints(Attr::dimensions)) {
    const auto at = static_cast<size_t>(d);
    offset += std::max<int64_t>(0, x.shape[static_cast<int>(d)] - 1) * strides[at];
    strides[at] = -strides[at];
  }
  return {Box(y, strides), offset};
}

void run_reshape(const KernelArgs& args) { begin_as(args.operands[0], args); }

// [rows, run] as a part of wider rows: steps in elements.
Box rows_box(DType dtype, int64_t rows, int64_t run, int64_t from_step, int64_t to_step) {
  return Box({dtype, {rows, run}}, {from_step, 1}, {to_step, 1});
}

// Rows of dims before `dimension`, and elements of one index of it.
struct Slabs {
  int64_t rows = 1, inner = 1;
  Slabs(const Shape& shape, int dimension) {
    for (int d = 0; d < dimension; ++d) rows *= shape[d];
    for (int d = dimension + 1; d < shape.rank(); ++d) inner *= shape[d];
  }
};

void run_concatenate(const KernelArgs& args) {
  const auto dimension = static_cast<int>(args.instruction.attributes.integer(Attr::dimension));
  const TensorType& type = args.results[0].type;
  const Slabs slabs(type.shape, dimension);
  std::byte* to = args.results[0].as<std::byte>();
  for (const TensorView& operand : args.operands) {
    const int64_t run = operand.type.shape[dimension] * slabs.inner;
    copy_box(rows_box(type.dtype, slabs.rows, run, run, type.shape[dimension] * slabs.inner), operand.data, to,
             stream_of(args));
    to += run * size_of(type.dtype);
  }
}

// Two blocks change places in every slab of the dims from `dimension` on.
void run_rotate(const KernelArgs& args) {
  const TensorType& type = args.results[0].type;
  if (type.elements() == 0) return;
  const auto dimension = static_cast<int>(args.instruction.attributes.integer(Attr::dimension));
  const Slabs slabs(type.shape, dimension);
  const int64_t size = type.shape[dimension], width = size_of(type.dtype);
  const int64_t places = args.instruction.attributes.integer(Attr::shift) % size;
  const int64_t slab = size * slabs.inner, cut = (places < 0 ? places + size : places) * slabs.inner;
  const auto* from = args.operands[0].as<const std::byte>();
  auto* to = args.results[0].as<std::byte>();
  copy_box(rows_box(type.dtype, slabs.rows, slab - cut, slab, slab), from + cut * width, to, stream_of(args));
  copy_box(rows_box(type.dtype, slabs.rows, cut, slab, slab), from, to + (slab - cut) * width, stream_of(args));
}

Refusal accept_constant(const OpCall& call, Results results) {
  if (!call.attributes.has(Attr::value) || results[0].bytes() <= kMaxTableBytes) return std::nullopt;
  return cat("a table of ", results[0].bytes(), " bytes, of which at most ", kMaxTableBytes, " travel with a launch");
}

void run_constant(const KernelArgs& args) {
  const Attributes& attributes = args.instruction.attributes;
  const TensorView& y = args.results[0];
  if (attributes.has(Attr::value)) {
    const auto bytes = attributes.get<ConstTensor>(Attr::value)->bytes();
    return write_table(bytes.data(), static_cast<int64_t>(bytes.size()), y.data, stream_of(args));
  }
  fill_elements(static_cast<int>(size_of(y.type.dtype)), bits_of(attributes.number(Attr::scalar), y.type.dtype),
                y.type.elements(), y.data, stream_of(args));
}

// Calls body<T>() with what iota knows the dtype as.
template <typename Body>
void dispatch_iota(DType dtype, Body body) {
  if (dtype == DType::bf16) return body.template operator()<bf16>();
  if (dtype == DType::f32) return body.template operator()<float>();
  if (dtype == DType::f64) return body.template operator()<double>();
  switch (size_of(dtype)) {
    case 1: return body.template operator()<uint8_t>();
    case 2: return body.template operator()<uint16_t>();
    case 4: return body.template operator()<uint32_t>();
    default: return body.template operator()<uint64_t>();
  }
}

Refusal accept_iota(const OpCall&, Results results) {
  const DType dtype = results[0].dtype;
  if (is_integer(dtype) || dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16) return std::nullopt;
  return cat("compiled for integers, f32, f64 and bf16, not ", dtype);
}

void run_iota(const KernelArgs& args) {
  const auto dimension = static_cast<int>(args.instruction.attributes.integer(Attr::dimension));
  const TensorView& y = args.results[0];
  const Slabs slabs(y.type.shape, dimension);
  const int64_t* start = args.operands.empty() ? nullptr : args.operands[0].as<const int64_t>();
  dispatch_iota(y.type.dtype, [&]<typename T>() {
    iota(slabs.rows, y.type.shape[dimension], slabs.inner, start, y.as<T>(), stream_of(args));
  });
}

}  // namespace

void register_movement(KernelTable& table) {
  table.add(ops::kTranspose, view_kernel<view_transpose>("cuda.transpose"));
  table.add(ops::kBroadcastInDim, view_kernel<view_broadcast>("cuda.broadcast"));
  table.add(ops::kSlice, view_kernel<view_slice>("cuda.slice"));
  table.add(ops::kReverse, view_kernel<view_reverse>("cuda.reverse"));
  Kernel reshape = make_kernel("cuda.reshape", nullptr, run_reshape);
  reshape.in_place = [](const OpCall&, int) { return 0; };
  table.add(ops::kReshape, reshape);
  reshape.name = "cuda.bitcast_convert";
  table.add(ops::kBitcastConvert, reshape);
  table.add(ops::kConcatenate, make_kernel("cuda.concatenate", nullptr, run_concatenate));
  table.add(ops::kRotate, make_kernel("cuda.rotate", nullptr, run_rotate));
  table.add(ops::kIota, make_kernel("cuda.iota", accept_iota, run_iota));
  table.add(ops::kConstant, make_kernel("cuda.constant", accept_constant, run_constant));
  register_padding(table);
}

}  // namespace tessera::cuda

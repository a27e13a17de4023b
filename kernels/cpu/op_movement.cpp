// Ops that move elements: transpose, broadcast, slice, reshape, bitcast, concatenate, pad, and
// constants.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/ops/elementwise_bits.h"
#include "core/ops/structure.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/strided_copy.h"

namespace tessera::cpu {
namespace {

void copy_view(const KernelArgs& args, const std::vector<int64_t>& strides, int64_t offset = 0) {
  const TensorType& type = args.results[0].type;
  const int64_t width = size_of(type.dtype);
  strided_copy(width, type.shape.dims(), strides,
               args.operands[0].as<const std::byte>() + offset * width, args.results[0].data);
}

void run_transpose(const KernelArgs& args) {
  const std::vector<int64_t> own = args.operands[0].type.shape.strides();
  std::vector<int64_t> strides;
  for (int64_t d : args.instruction.attributes.ints(Attr::dimensions)) {
    strides.push_back(own[static_cast<size_t>(d)]);
  }
  copy_view(args, strides);
}

void run_broadcast(const KernelArgs& args) {
  const Shape& x = args.operands[0].type.shape;
  const std::vector<int64_t> own = x.strides();
  const Ints& dimensions = args.instruction.attributes.ints(Attr::dimensions);
  std::vector<int64_t> strides(static_cast<size_t>(args.results[0].type.rank()), 0);
  for (int d = 0; d < x.rank(); ++d) {
    const auto at = static_cast<size_t>(d);
    if (x[d] != 1) strides[static_cast<size_t>(dimensions[at])] = own[at];
  }
  copy_view(args, strides);
}

void run_slice(const KernelArgs& args) {
  std::vector<int64_t> strides = args.operands[0].type.shape.strides();
  const Attributes& attributes = args.instruction.attributes;
  int64_t offset = 0;
  for (size_t d = 0; d < strides.size(); ++d) {
    offset += attributes.ints(Attr::start_indices)[d] * strides[d];
    strides[d] *= attributes.ints(Attr::strides)[d];
  }
  copy_view(args, strides, offset);
}

void run_reshape(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &y = args.results[0];
  if (x.data == y.data) return;
  const int64_t dims[] = {x.type.bytes()}, strides[] = {1};
  strided_copy(1, dims, strides, x.data, y.data);
}

// `rows` runs of `bytes`, `from_step` and `to_step` bytes apart.
void copy_runs(int64_t rows, int64_t bytes, const std::byte* from, int64_t from_step, std::byte* to,
               int64_t to_step) {
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(bytes, 1));
  parallel_ranges(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(to + row * to_step, from + row * from_step, static_cast<size_t>(bytes));
    }
  });
}

void run_concatenate(const KernelArgs& args) {
  const auto dimension = static_cast<int>(args.instruction.attributes.integer(Attr::dimension));
  const TensorType& type = args.results[0].type;
  int64_t rows = 1, inner = size_of(type.dtype);
  for (int d = 0; d < dimension; ++d) rows *= type.shape[d];
  for (int d = dimension + 1; d < type.rank(); ++d) inner *= type.shape[d];
  const int64_t to_step = type.shape[dimension] * inner;
  std::byte* to = args.results[0].as<std::byte>();
  for (const TensorView& operand : args.operands) {
    const int64_t bytes = operand.type.shape[dimension] * inner;
    if (bytes > 0) copy_runs(rows, bytes, operand.as<const std::byte>(), bytes, to, to_step);
    to += bytes;
  }
}

// Fills `count` elements with the one at `element`.
void fill(int64_t width, int64_t count, const void* element, void* to) {
  const int64_t dims[] = {count}, strides[] = {0};
  strided_copy(width, dims, strides, element, to);
}

// Of one dim: the elements that stay, and where the first of them goes.
struct PaddedDim {
  int64_t first = 0, count = 0, target = 0, step = 1;
};

PaddedDim padded_dim(int64_t size, int64_t padded, int64_t low, int64_t interior) {
  PaddedDim dim;
  dim.step = interior + 1;
  dim.first = low < 0 ? (-low + dim.step - 1) / dim.step : 0;
  dim.target = low + dim.first * dim.step;
  if (dim.target < padded)
    dim.count = std::max<int64_t>(
        0, std::min(size - dim.first, (padded - 1 - dim.target) / dim.step + 1));
  return dim;
}

void run_pad(const KernelArgs& args) {
  const Shape &x = args.operands[0].type.shape, &y = args.results[0].type.shape;
  const int64_t width = size_of(args.results[0].type.dtype);
  fill(width, y.elements(), args.operands[1].data, args.results[0].data);
  const Attributes& attributes = args.instruction.attributes;
  const std::vector<int64_t> from_strides = x.strides(), to_strides = y.strides();
  const int rank = x.rank();
  std::vector<PaddedDim> dims;
  int64_t rows = 1;
  for (int d = 0; d < rank; ++d) {
    const auto at = static_cast<size_t>(d);
    dims.push_back(padded_dim(x[d], y[d], attributes.ints(Attr::edge_low)[at],
                              attributes.ints(Attr::interior)[at]));
    if (dims[at].count == 0) return;
    if (d + 1 < rank) rows *= dims[at].count;
  }
  const PaddedDim last = rank == 0 ? PaddedDim{0, 1, 0, 1} : dims.back();
  parallel_ranges(rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      int64_t rest = row, source = last.first, target = last.target;
      for (int d = rank - 1; d-- > 0; rest /= dims[static_cast<size_t>(d)].count) {
        const auto at = static_cast<size_t>(d);
        const int64_t i = rest % dims[at].count;
        source += (dims[at].first + i) * from_strides[at];
        target += (dims[at].target + i * dims[at].step) * to_strides[at];
      }
      const std::byte* from = args.operands[0].as<const std::byte>() + source * width;
      std::byte* to = args.results[0].as<std::byte>() + target * width;
      if (last.step == 1) {
        std::memcpy(to, from, static_cast<size_t>(last.count * width));
        continue;
      }
      for (int64_t i = 0; i < last.count; ++i)
        std::memcpy(to + i * last.step * width, from + i * width, static_cast<size_t>(width));
    }
  });
}

void run_reverse(const KernelArgs& args) {
  const Shape& x = args.operands[0].type.shape;
  std::vector<int64_t> strides = x.strides();
  int64_t offset = 0;
  for (int64_t d : args.instruction.attributes.ints(Attr::dimensions)) {
    const auto at = static_cast<size_t>(d);
    offset += std::max<int64_t>(0, x[static_cast<int>(d)] - 1) * strides[at];
    strides[at] = -strides[at];
  }
  copy_view(args, strides, offset);
}

// Two blocks change places in every slab of the dims from `dimension` on.
void run_rotate(const KernelArgs& args) {
  const Shape& x = args.operands[0].type.shape;
  const auto dim = static_cast<int>(args.instruction.attributes.integer(Attr::dimension));
  if (x.elements() == 0) return;
  const int64_t size = x[dim], places = args.instruction.attributes.integer(Attr::shift) % size;
  const int64_t row = x.strides()[static_cast<size_t>(dim)] * size_of(args.results[0].type.dtype);
  const int64_t slab = size * row, cut = (places < 0 ? places + size : places) * row;
  parallel_ranges(x.elements() * size_of(args.results[0].type.dtype) / slab, 16,
                  [&](int64_t begin, int64_t end) {
                    for (int64_t s = begin; s < end; ++s) {
                      const std::byte* from = args.operands[0].as<const std::byte>() + s * slab;
                      std::byte* to = args.results[0].as<std::byte>() + s * slab;
                      std::memcpy(to, from + cut, static_cast<size_t>(slab - cut));
                      std::memcpy(to + slab - cut, from, static_cast<size_t>(cut));
                    }
                  });
}

void run_constant(const KernelArgs& args) {
  const Attributes& attributes = args.instruction.attributes;
  const TensorView& y = args.results[0];
  if (attributes.has(Attr::value)) {
    const auto bytes = attributes.get<ConstTensor>(Attr::value)->bytes();
    std::memcpy(y.data, bytes.data(), bytes.size());
    return;
  }
  const HostTensor one = HostTensor::filled({y.type.dtype, {}}, attributes.number(Attr::scalar));
  fill(size_of(y.type.dtype), y.type.elements(), one.bytes().data(), y.data);
}

Refusal accept_iota(const OpCall&, Results results) {
  if (is_integer(results[0].dtype)) return std::nullopt;
  return refuse_float(results[0]);
}

template <typename T>
void iota_elements(const Shape& shape, int dimension, int64_t start, T* to) {
  const int64_t inner = shape.strides()[static_cast<size_t>(dimension)], size = shape[dimension];
  if (inner == 0 || size == 0) return;
  parallel_ranges(shape.elements() / inner, std::max<int64_t>(1, 16384 / inner),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t row = begin; row < end; ++row) {
                      std::fill_n(to + row * inner, inner, static_cast<T>(start + row % size));
                    }
                  });
}

void run_iota(const KernelArgs& args) {
  const auto dimension = static_cast<int>(args.instruction.attributes.integer(Attr::dimension));
  const TensorView& y = args.results[0];
  const int64_t start = start_operand(args, 0);
  dispatch_dtype(y.type.dtype, [&]<typename T>() {
    if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, bfloat16>)
      iota_elements(y.type.shape, dimension, start, y.as<T>());
  });
}

}  // namespace

void register_movement(KernelTable& table) {
  table.add(ops::kTranspose, make_kernel("cpu.transpose", nullptr, run_transpose));
  table.add(ops::kBroadcastInDim, make_kernel("cpu.broadcast", nullptr, run_broadcast));
  table.add(ops::kSlice, make_kernel("cpu.slice", nullptr, run_slice));
  Kernel reshape = make_kernel("cpu.reshape", nullptr, run_reshape);
  reshape.in_place = [](const OpCall&, int) { return 0; };
  table.add(ops::kReshape, reshape);
  reshape.name = "cpu.bitcast_convert";
  table.add(ops::kBitcastConvert, reshape);
  table.add(ops::kConcatenate, make_kernel("cpu.concatenate", nullptr, run_concatenate));
  table.add(ops::kPad, make_kernel("cpu.pad", nullptr, run_pad));
  table.add(ops::kReverse, make_kernel("cpu.reverse", nullptr, run_reverse));
  table.add(ops::kRotate, make_kernel("cpu.rotate", nullptr, run_rotate));
  table.add(ops::kIota, make_kernel("cpu.iota", accept_iota, run_iota));
  table.add(ops::kConstant, make_kernel("cpu.constant", nullptr, run_constant));
}

}  // namespace tessera::cpu

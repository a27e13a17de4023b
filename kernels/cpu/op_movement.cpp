// Ops that move elements: transpose, broadcast, slice, reshape, concatenate, pad, and constants.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/ops/structure.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/strided_copy.h"

namespace tessera::cpu {
namespace {

// Copies of c64 are refused here, and so fall to the reference.
Refusal accept_width(const OpCall& call, Results results) {
  const DType dtype = call.operands.empty() ? results[0].dtype : call.operands[0].dtype;
  if (dtype != DType::c64) return std::nullopt;
  return "no kernel for c64";
}

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

Refusal accept_pad(const OpCall& call, Results results) {
  const Ints& interior = call.attributes.ints(Attr::interior);
  if (std::any_of(interior.begin(), interior.end(), [](int64_t gap) { return gap != 0; })) {
    return "interior padding";
  }
  return accept_width(call, results);
}

void run_pad(const KernelArgs& args) {
  const Shape &x = args.operands[0].type.shape, &y = args.results[0].type.shape;
  const int64_t width = size_of(args.results[0].type.dtype);
  fill(width, y.elements(), args.operands[1].data, args.results[0].data);
  if (x.elements() == 0) return;
  const Ints& low = args.instruction.attributes.ints(Attr::edge_low);
  const std::vector<int64_t> strides = y.strides();
  const int rank = x.rank();
  const int64_t run = rank == 0 ? 1 : x[rank - 1];
  parallel_ranges(x.elements() / run, 256, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      int64_t rest = row, offset = rank == 0 ? 0 : low[static_cast<size_t>(rank - 1)];
      for (int d = rank - 1; d-- > 0; rest /= x[d]) {
        const auto at = static_cast<size_t>(d);
        offset += (rest % x[d] + low[at]) * strides[at];
      }
      std::memcpy(args.results[0].as<std::byte>() + offset * width,
                  args.operands[0].as<const std::byte>() + row * run * width,
                  static_cast<size_t>(run * width));
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
  const DType dtype = results[0].dtype;
  if (is_kernel_float(dtype) || dtype == DType::s32 || dtype == DType::s64) return std::nullopt;
  return cat("compiled for s32, s64, f32, f64 and bf16, not ", dtype);
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
  const auto run_as = [&]<typename T>() {
    iota_elements(y.type.shape, dimension, start, y.as<T>());
  };
  if (is_kernel_float(y.type.dtype))
    dispatch_kernel_float(y.type.dtype, run_as);
  else
    dispatch_id(y.type.dtype, run_as);
}

}  // namespace

void register_movement(KernelTable& table) {
  table.add(ops::kTranspose, make_kernel("cpu.transpose", accept_width, run_transpose));
  table.add(ops::kBroadcastInDim, make_kernel("cpu.broadcast", accept_width, run_broadcast));
  table.add(ops::kSlice, make_kernel("cpu.slice", accept_width, run_slice));
  Kernel reshape = make_kernel("cpu.reshape", nullptr, run_reshape);
  reshape.in_place = [](const OpCall&, int) { return 0; };
  table.add(ops::kReshape, reshape);
  table.add(ops::kConcatenate, make_kernel("cpu.concatenate", nullptr, run_concatenate));
  table.add(ops::kPad, make_kernel("cpu.pad", accept_pad, run_pad));
  table.add(ops::kIota, make_kernel("cpu.iota", accept_iota, run_iota));
  table.add(ops::kConstant, make_kernel("cpu.constant", accept_width, run_constant));
}

}  // namespace tessera::cpu

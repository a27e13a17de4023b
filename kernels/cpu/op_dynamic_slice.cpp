// Slices at starts that are data: one block each. dynamic_update_slice writes over its operand, so
// that a row written into a stack that a loop carries costs the row.
#include <algorithm>

#include "core/ops/dynamic_slice.h"
#include "kernels/cpu/block_copy.h"
#include "kernels/cpu/index_windows.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

// The element at which a block of `sizes` begins: the starts behind the `own` operands, clamped so
// that it lies inside.
int64_t block_start(const KernelArgs& args, size_t own, const Shape& sizes) {
  const Shape& whole = args.operands[0].type.shape;
  const std::vector<int64_t> strides = whole.strides();
  int64_t start = 0;
  for (int d = 0; d < whole.rank(); ++d) {
    const auto at = static_cast<size_t>(d);
    start += strides[at] *
             std::clamp<int64_t>(index_at(args.operands[own + at], 0), 0, whole[d] - sizes[d]);
  }
  return start;
}

void run_slice(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &y = args.results[0];
  const int64_t width = size_of(y.type.dtype);
  const Block block(width, y.type.shape, x.type.shape.strides(), y.type.shape.strides());
  block.copy(x.as<const std::byte>() + block_start(args, 1, y.type.shape) * width,
             y.as<std::byte>());
}

void run_update(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &update = args.operands[1], &y = args.results[0];
  copy_bytes(y.type.bytes(), x.data, y.data);
  const int64_t width = size_of(y.type.dtype);
  const Block block(width, update.type.shape, update.type.shape.strides(), y.type.shape.strides());
  block.copy(update.as<const std::byte>(),
             y.as<std::byte>() + block_start(args, 2, update.type.shape) * width);
}

}  // namespace

void register_dynamic_slices(KernelTable& table) {
  table.add(ops::kDynamicSlice, make_kernel("cpu.dynamic_slice", nullptr, run_slice));
  table.add(ops::kDynamicUpdateSlice, make_kernel("cpu.dynamic_update_slice", nullptr, run_update));
}

}  // namespace tessera::cpu

// gather: a block of the operand per index vector.
#include <cstring>

#include "core/ops/gather.h"
#include "kernels/cpu/index_windows.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

// Windows of one run, whose targets stand at equal distances.
template <size_t kBytes>
void copy_windows(int64_t begin, int64_t end, const int64_t* starts, const std::byte* from,
                  std::byte* to, int64_t step) {
  for (int64_t w = begin; w < end; ++w)
    std::memcpy(to + w * step, from + starts[w] * static_cast<int64_t>(kBytes), kBytes);
}

// Whether the windows [begin, end) are single elements, and copied.
bool copy_elements(int64_t width, const Block& block, const Places<1>& targets, int64_t begin,
                   int64_t end, const int64_t* starts, const std::byte* from, std::byte* to) {
  if (block.bytes() != width || !targets.is_line()) return false;
  const int64_t step = targets.step()[0] * width;
  switch (width) {
    case 1:
      return copy_windows<1>(begin, end, starts, from, to, step), true;
    case 2:
      return copy_windows<2>(begin, end, starts, from, to, step), true;
    case 4:
      return copy_windows<4>(begin, end, starts, from, to, step), true;
    default:
      return copy_windows<8>(begin, end, starts, from, to, step), true;
  }
}

void run_gather(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &indices = args.operands[1], &y = args.results[0];
  const TensorType types[] = {x.type, indices.type};
  const ops::IndexMap map = ops::gather_map({types, args.instruction.attributes});
  if (y.type.elements() == 0) return;
  const int64_t width = size_of(y.type.dtype);
  const std::vector<int64_t> from = x.type.shape.strides(), to = y.type.shape.strides();
  Shape extent;
  std::vector<int64_t> from_strides, to_strides, batch_strides;
  for (size_t d = 0; d < map.dims.size(); ++d) {
    if (map.dims[d].window_dim < 0) continue;
    extent.push_back(map.dims[d].size);
    from_strides.push_back(from[d]);
    to_strides.push_back(to[static_cast<size_t>(map.dims[d].window_dim)]);
  }
  for (int d : map.window_batch_dims) batch_strides.push_back(to[static_cast<size_t>(d)]);
  const Block block(width, extent, from_strides, to_strides);
  const Places<1> targets(map.batch_shape(), {batch_strides});
  const IndexWindows windows(map, indices);
  auto* starts = reinterpret_cast<int64_t*>(args.workspace);
  windows.clamped_starts(starts);
  // All runs of all windows, so that few large windows are shared as well as many small ones.
  const int64_t runs = block.runs();
  parallel_ranges(windows.count() * runs, runs_per_task(block), [&](int64_t begin, int64_t end) {
    if (copy_elements(width, block, targets, begin, end, starts, x.as<const std::byte>(),
                      y.as<std::byte>()))
      return;
    while (begin < end) {
      const int64_t w = begin / runs, first = begin - w * runs;
      const int64_t last = std::min(runs, first + end - begin);
      block.copy(first, last, x.as<const std::byte>() + starts[w] * width,
                 y.as<std::byte>() + targets.at(w)[0] * width);
      begin += last - first;
    }
  });
}

int64_t gather_workspace(const OpCall& call, Results) {
  return ops::gather_map(call).batch_shape().elements() * static_cast<int64_t>(sizeof(int64_t));
}

}  // namespace

void register_gather(KernelTable& table) {
  Kernel kernel = make_kernel("cpu.gather", nullptr, run_gather);
  kernel.workspace_bytes = gather_workspace;
  table.add(ops::kGather, kernel);
}

}  // namespace tessera::cpu

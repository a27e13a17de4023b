// Products of rows in groups (core/ops/ragged.h): one product per group on the tiles of matmul.h.
//
// Floor: 2 m n k operations, as dense products of the same rows. Groups differ in size and may be smaller
// than a tile, so the tasks are tiles of all groups together, cut by the sizes alone and never by the
// number of threads: bits do not depend on it.
#include <algorithm>
#include <cstring>
#include <vector>

#include "core/ops/ragged.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

// What one task of gemm computes without cutting it further (kernels/cpu/matmul.cpp).
constexpr int64_t kRows = 128, kColumns = 192;

struct Group {
  int64_t index, begin, end;  // rows
};

// `count` groups from `start`; those that do not exist are empty. Sizes beyond the last row are cut, negative
// ones are 0.
std::vector<Group> groups_of(const TensorView& sizes, int64_t rows, int64_t start, int64_t count) {
  std::vector<Group> groups;
  int64_t row = 0;
  for (int64_t g = 0; g < start + count; ++g) {
    const int64_t size = g < sizes.type.elements()
                             ? std::clamp<int64_t>(sizes.as<const int32_t>()[g], 0, rows - row)
                             : 0;
    if (g >= start) groups.push_back({g - start, row, row + size});
    row += size;
  }
  return groups;
}

// Rows [begin, end) of a result become zeros.
void clear_rows(const TensorView& result, int64_t begin, int64_t end) {
  const int64_t row_bytes = result.type.shape[1] * size_of(result.type.dtype);
  std::memset(result.as<std::byte>() + begin * row_bytes, 0,
              static_cast<size_t>((end - begin) * row_bytes));
}

// A tile of the result, and where its operands begin.
struct Task {
  GemmShape shape;
  int64_t a, b, c;
};

void add_tiles(const GemmShape& whole, int64_t a, int64_t b, int64_t c, std::vector<Task>& tasks) {
  for (int64_t j = 0; j < whole.n; j += kColumns)
    for (int64_t i = 0; i < whole.m; i += kRows) {
      Task task{whole, a + (whole.transpose_a ? i : i * whole.lda),
                b + (whole.transpose_b ? j * whole.ldb : j), c + i * whole.ldc + j};
      task.shape.m = std::min(kRows, whole.m - i);
      task.shape.n = std::min(kColumns, whole.n - j);
      tasks.push_back(task);
    }
}

std::vector<Task> tasks_of(const ops::RaggedSizes& s, const std::vector<Group>& groups) {
  std::vector<Task> tasks;
  for (const Group& group : groups) {
    const int64_t rows = group.end - group.begin, matrix = group.index * s.k * s.n;
    GemmShape shape;
    if (s.is_contraction) {
      shape = dense_gemm(true, false, s.k, s.n, rows);
      add_tiles(shape, group.begin * s.k, group.begin * s.n, matrix, tasks);
    } else {
      shape = dense_gemm(false, s.rhs_by_columns, rows, s.n, s.k);
      add_tiles(shape, group.begin * s.k, matrix, group.begin * s.n, tasks);
    }
  }
  return tasks;
}

template <typename In, typename Out>
void multiply(const KernelArgs& args, const std::vector<Task>& tasks) {
  parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t t) {
    const Task& task = tasks[static_cast<size_t>(t)];
    gemm<In, Out>(task.shape, 1, args.operands[0].as<In>() + task.a,
                  args.operands[1].as<In>() + task.b, 0, args.results[0].as<Out>() + task.c);
  });
}

void run(const KernelArgs& args) {
  const TensorType types[] = {args.operands[0].type, args.operands[1].type, args.operands[2].type};
  const ops::RaggedSizes s =
      ops::ragged_sizes(*args.instruction.op, {types, args.instruction.attributes});
  const std::vector<Group> groups =
      groups_of(args.operands[2], s.m, start_operand(args, 3), s.groups);
  const std::vector<Task> tasks = tasks_of(s, groups);
  const TensorView& result = args.results[0];
  const DType in = types[0].dtype, out = result.type.dtype;
  if (in == DType::f64)
    multiply<double, double>(args, tasks);
  else if (in == DType::f32)
    multiply<float, float>(args, tasks);
  else if (out == DType::f32)
    multiply<bfloat16, float>(args, tasks);
  else
    multiply<bfloat16, bfloat16>(args, tasks);
  if (s.is_contraction) return;
  clear_rows(result, 0, groups.empty() ? s.m : groups.front().begin);
  clear_rows(result, groups.empty() ? s.m : groups.back().end, s.m);
}

Refusal accept(const OpCall& call, Results results) {
  const DType in = call.operands[0].dtype, out = results[0].dtype;
  Refusal widths;
  if (in != out && !(in == DType::bf16 && out == DType::f32))
    widths = cat("no product of ", in, " into ", out);
  return first_of({refuse_float(call.operands[0]), widths});
}

}  // namespace

void register_ragged(KernelTable& table) {
  table.add(ops::kRaggedDot, make_kernel("cpu.ragged_dot", accept, run));
  table.add(ops::kRaggedContraction, make_kernel("cpu.ragged_contraction", accept, run));
}

}  // namespace tessera::cpu

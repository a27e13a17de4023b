#include "core/ops/gather.h"
#include "core/ops/index_map.h"
#include "tests/gpu/indexing/random_windows.h"

namespace tessera {
namespace {

using CudaScatter = OpTest;
using CudaScatterLong = OpTest;

GraphRef replacing(DType dtype) {
  auto region = std::make_shared<Graph>();
  region->name = "replace";
  Builder b(*region);
  b.input(InputKind::data, "old", {dtype, {}});
  b.output(b.input(InputKind::data, "new", {dtype, {}}), "kept");
  return region;
}

// [rows, 3], of which `count` are added to.
Attributes row_attributes() {
  Attributes attributes = ops::scatter_attributes({{1}, {0}, {0}, 1});
  attributes.set(Attr::reduce_kind, ReduceKind::sum);
  return attributes;
}

TEST_F(CudaScatter, ReplacesInOrder) {
  EXPECT_TRUE(rc::check([] {
    const RandomWindows w = pick_windows(true, false);
    const DType dtype = pick_width();
    Attributes attributes = ops::scatter_attributes(w.dims);
    attributes.set(Attr::combiner, replacing(dtype));
    RC_ASSERT(moves(
        ops::kScatter,
        {pick_tensor(dtype, w.operand), pick_indices(w.indices, 8), pick_tensor(dtype, w.window)},
        attributes, "cuda.scatter"));
  }));
}

TEST_F(CudaScatter, CombinesWindowsThatAreTheSame) {
  EXPECT_TRUE(rc::check([] {
    const RandomWindows w = pick_windows(true, false);
    const DType dtype =
        pick_of<DType>({DType::f32, DType::bf16, DType::s32, DType::s64, DType::pred});
    const ReduceKind kind =
        dtype == DType::pred
            ? pick_of<ReduceKind>({ReduceKind::logical_and, ReduceKind::logical_or})
            : pick_of<ReduceKind>(
                  {ReduceKind::sum, ReduceKind::product, ReduceKind::max, ReduceKind::min});
    Attributes attributes = ops::scatter_attributes(w.dims);
    attributes.set(Attr::reduce_kind, kind);
    const bool is_product = kind == ReduceKind::product && is_float(dtype);
    const double low = is_product ? 0.9 : -3, high = is_product ? 1.1 : 3;
    RC_ASSERT(computes(ops::kScatter,
                       {pick_tensor(dtype, w.operand, low, high), pick_indices(w.indices, 8),
                        pick_tensor(dtype, w.window, low, high)},
                       attributes, "cuda.scatter"));
  }));
}

TEST_F(CudaScatter, DropsWhatLiesOutsideOfWideWindows) {
  EXPECT_TRUE(rc::check([] {
    const RandomWindows w = pick_windows(false, true);
    Attributes attributes = ops::scatter_attributes(w.dims);
    attributes.set(Attr::reduce_kind, ReduceKind::sum);
    const std::vector<HostTensor> operands = {pick_tensor(DType::f32, w.operand, -3, 3),
                                              pick_indices(w.indices, 8),
                                              pick_tensor(DType::f32, w.window, -3, 3)};
    RC_PRE(!is_refused(ops::kScatter, operands, attributes, "may overlap"));
    RC_ASSERT(computes(ops::kScatter, operands, attributes, "cuda.scatter"));
  }));
}

// Through one block's sort and through several.
TEST_F(CudaScatter, SortsManyWindows) {
  for (int64_t count : {2, 1024, 1500, 5000})
    EXPECT_TRUE(computes(ops::kScatter,
                         {uniform_tensor({DType::f32, {50, 3}}, -1, 1),
                          uniform_tensor({DType::s32, {count, 1}}, -2, 51),
                          uniform_tensor({DType::f32, {count, 3}}, -1, 1, 5)},
                         row_attributes(), "cuda.scatter"));
}

TEST_F(CudaScatter, NeedsNoSortWhereIndicesAreUnique) {
  HostTensor indices({DType::s64, {20, 1}});
  for (int64_t i = 0; i < 20; ++i) indices.set_int(i, (i * 7) % 20);
  Attributes attributes = row_attributes();
  attributes.set(Attr::unique_indices, true);
  EXPECT_TRUE(computes(ops::kScatter,
                       {uniform_tensor({DType::bf16, {20, 3}}, -1, 1), indices,
                        uniform_tensor({DType::bf16, {20, 3}}, -1, 1, 5)},
                       attributes, "cuda.scatter"));
}

TEST_F(CudaScatter, RefusesManyWindowsThatMayOverlap) {
  Attributes attributes = ops::scatter_attributes({{1}, {}, {0}, 1});
  attributes.set(Attr::reduce_kind, ReduceKind::sum);
  EXPECT_TRUE(is_refused(
      ops::kScatter,
      {uniform_tensor({DType::f32, {50}}, -1, 1), uniform_tensor({DType::s32, {100, 1}}, 0, 49),
       uniform_tensor({DType::f32, {100, 4}}, -1, 1)},
      attributes, "may overlap"));
}

TEST_F(CudaScatterLong, ManyRows) {
  EXPECT_TRUE(computes(ops::kScatter,
                       {uniform_tensor({DType::f32, {3000, 3}}, -1, 1),
                        uniform_tensor({DType::s32, {300000, 1}}, -2, 3001),
                        uniform_tensor({DType::f32, {300000, 3}}, -1, 1, 5)},
                       row_attributes(), "cuda.scatter"));
}

}  // namespace
}  // namespace tessera

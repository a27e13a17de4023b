#include "core/ops/dynamic_slice.h"
#include "core/ops/gather.h"
#include "core/ops/index_map.h"
#include "tests/gpu/indexing/random_windows.h"

namespace tessera {
namespace {

using CudaDynamicSlice = OpTest;
using CudaGather = OpTest;

TEST_F(CudaDynamicSlice, ReadsAndWritesClampedBlocks) {
  EXPECT_TRUE(rc::check([] {
    const Shape shape = pick_shape(pick(0, 5), 3000);
    Shape sizes = shape;
    for (int d = 0; d < shape.rank(); ++d)
      if (pick(0, 1)) sizes[d] = pick(0, shape[d]);
    const DType dtype = pick_width();
    std::vector<HostTensor> slice = {pick_tensor(dtype, shape)},
                            update = {slice[0], pick_tensor(dtype, sizes)};
    const DType index =
        pick_of<DType>({DType::s8, DType::u16, DType::s32, DType::u32, DType::s64, DType::u64});
    for (int64_t size : shape) {
      slice.push_back(
          pick_tensor(index, {}, is_signed_integer(index) ? -3 : 0, static_cast<double>(size) + 2));
      update.push_back(slice.back());
    }
    RC_ASSERT(moves(ops::kDynamicSlice, slice, {{Attr::slice_sizes, ints_of_shape(sizes)}},
                    "cuda.dynamic_slice"));
    RC_ASSERT(moves(ops::kDynamicUpdateSlice, update, {}, "cuda.dynamic_update_slice"));
  }));
}

TEST_F(CudaDynamicSlice, TakesStartsBeyondEveryIndex) {
  HostTensor far({DType::u64, {}});
  far.set_int(0, -1);  // 2^64 - 1
  EXPECT_TRUE(moves(ops::kDynamicSlice, {uniform_tensor({DType::f32, {10}}, -1, 1), far},
                    {{Attr::slice_sizes, Ints{4}}}, "cuda.dynamic_slice"));
}

TEST_F(CudaGather, MovesClampedWindows) {
  EXPECT_TRUE(rc::check([] {
    const bool single = pick(0, 1);
    const RandomWindows w = pick_windows(single, false);
    Attributes attributes = ops::gather_attributes(w.dims);
    attributes.set(Attr::slice_sizes, w.sizes);
    RC_ASSERT(moves(ops::kGather,
                    {pick_tensor(pick_width(), w.operand), pick_indices(w.indices, 8)}, attributes,
                    "cuda.gather"));
  }));
}

}  // namespace
}  // namespace tessera

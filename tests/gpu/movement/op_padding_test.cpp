#include "core/ops/padding.h"

#include "core/ops/structure.h"
#include "tests/gpu/op_testing.h"

namespace tessera {
namespace {

using CudaPadding = OpTest;

TEST_F(CudaPadding, PadsAndCuts) {
  EXPECT_TRUE(rc::check([] {
    const Shape shape = pick_shape(pick(0, 5), 600);
    Ints low, high, interior;
    for (int64_t size : shape) {
      const bool is_padded = pick(0, 1);
      interior.push_back(pick(0, 3) == 0 ? pick(0, 2) : 0);
      const int64_t wide = size + std::max<int64_t>(0, size - 1) * interior.back();
      low.push_back(is_padded ? pick(-std::min<int64_t>(wide, 4), 8) : 0);
      high.push_back(is_padded ? pick(-std::min<int64_t>(wide + low.back(), 4), 8) : 0);
    }
    const DType dtype = pick_width();
    RC_ASSERT(moves(ops::kPad, {pick_tensor(dtype, shape), pick_tensor(dtype, {})},
                    {{Attr::edge_low, low}, {Attr::edge_high, high}, {Attr::interior, interior}},
                    "cuda.pad"));
  }));
}

TEST_F(CudaPadding, Resizes) {
  EXPECT_TRUE(rc::check([] {
    const Shape shape = pick_shape(pick(0, 5), 600);
    Ints stored;
    for (int64_t size : shape) stored.push_back(std::max<int64_t>(0, size + pick(-3, 3)));
    RC_ASSERT(moves(ops::kResizePadding, {pick_tensor(pick_width(), shape)},
                    {{Attr::shape, stored}}, "cuda.resize_padding"));
  }));
}

TEST_F(CudaPadding, MasksInPlaceAndNot) {
  EXPECT_TRUE(rc::check([] {
    const int64_t rank = pick(1, 5);
    const Shape shape = pick_shape(rank, 2000);
    std::vector<HostTensor> operands = {pick_tensor(pick_width(), shape)};
    const bool has_starts = pick(0, 1);
    Ints dims, limits;
    for (int d = 0; d < rank; ++d) {
      if (d + 1 < rank && pick(0, 1) == 0) continue;
      dims.push_back(d);
      limits.push_back(pick(0, shape[d] + 5));
      if (has_starts) operands.push_back(pick_tensor(DType::s64, {}, -2, 6));
    }
    RC_ASSERT(moves(ops::kMaskPadding, operands,
                    {{Attr::dimensions, dims}, {Attr::limit_indices, limits}, {Attr::scalar, 1.0}},
                    "cuda.mask_padding"));
  }));
}

}  // namespace
}  // namespace tessera

#include "core/ops/elementwise_bits.h"
#include "core/ops/structure.h"
#include "tests/gpu/op_testing.h"

namespace tessera {
namespace {

using CudaMovement = OpTest;
using CudaMovementLong = OpTest;

TEST_F(CudaMovement, Transposes) {
  EXPECT_TRUE(rc::check([] {
    const int64_t rank = pick(0, 6);
    const HostTensor x = pick_tensor(pick_width(), pick_shape(rank, 3000));
    RC_ASSERT(
        moves(ops::kTranspose, {x}, {{Attr::dimensions, pick_order(rank)}}, "cuda.transpose"));
  }));
}

TEST_F(CudaMovement, TransposesThroughTiles) {
  for (const Shape& shape :
       {Shape{64, 96}, Shape{65, 33}, Shape{130, 70}, Shape{3, 40, 66}, Shape{2, 17, 16}})
    for (DType dtype : {DType::pred, DType::bf16, DType::f32, DType::f64}) {
      const Ints order = shape.rank() == 2 ? Ints{1, 0} : Ints{0, 2, 1};
      EXPECT_TRUE(moves(ops::kTranspose, {uniform_tensor({dtype, shape}, -9, 9)},
                        {{Attr::dimensions, order}}, "cuda.transpose"));
    }
}

TEST_F(CudaMovement, Broadcasts) {
  EXPECT_TRUE(rc::check([] {
    const int64_t rank = pick(0, 6);
    const Shape shape = pick_shape(rank, 3000);
    Shape own;
    Ints dims;
    for (int d = 0; d < rank; ++d) {
      if (pick(0, 1) == 0) continue;
      dims.push_back(d);
      own.push_back(pick(0, 2) == 0 ? 1 : shape[d]);
    }
    RC_ASSERT(moves(ops::kBroadcastInDim, {pick_tensor(pick_width(), own)},
                    {{Attr::shape, ints_of_shape(shape)}, {Attr::dimensions, dims}},
                    "cuda.broadcast"));
  }));
}

TEST_F(CudaMovement, Slices) {
  EXPECT_TRUE(rc::check([] {
    const Shape shape = pick_shape(pick(0, 6), 3000);
    Ints start, limit, strides;
    for (int64_t size : shape) {
      const bool is_whole = pick(0, 3) == 0;
      start.push_back(is_whole ? 0 : pick(0, size));
      limit.push_back(is_whole ? size : pick(start.back(), size));
      strides.push_back(pick(0, 2) == 0 ? pick(1, 3) : 1);
    }
    RC_ASSERT(moves(
        ops::kSlice, {pick_tensor(pick_width(), shape)},
        {{Attr::start_indices, start}, {Attr::limit_indices, limit}, {Attr::strides, strides}},
        "cuda.slice"));
  }));
}

TEST_F(CudaMovement, ReversesAndRotates) {
  EXPECT_TRUE(rc::check([] {
    const int64_t rank = pick(1, 6);
    const HostTensor x = pick_tensor(pick_width(), pick_shape(rank, 3000));
    Ints dims;
    for (int64_t d = 0; d < rank; ++d)
      if (pick(0, 1)) dims.push_back(d);
    RC_ASSERT(moves(ops::kReverse, {x}, {{Attr::dimensions, dims}}, "cuda.reverse"));
    const Attributes turn{{Attr::dimension, pick(0, rank - 1)}, {Attr::shift, pick(-20, 20)}};
    RC_ASSERT(moves(ops::kRotate, {x}, turn, "cuda.rotate"));
  }));
}

TEST_F(CudaMovement, Concatenates) {
  EXPECT_TRUE(rc::check([] {
    const int64_t rank = pick(1, 6), dimension = pick(0, rank - 1);
    Shape shape = pick_shape(rank, 1000);
    const DType dtype = pick_width();
    std::vector<HostTensor> operands;
    for (int64_t i = pick(1, 4); i > 0; --i) {
      shape[static_cast<int>(dimension)] = pick(0, 8);
      operands.push_back(pick_tensor(dtype, shape));
    }
    RC_ASSERT(
        moves(ops::kConcatenate, operands, {{Attr::dimension, dimension}}, "cuda.concatenate"));
  }));
}

TEST_F(CudaMovement, ReshapesAndCastsBits) {
  const HostTensor x = uniform_tensor({DType::f32, {6, 7}}, -1, 1);
  EXPECT_TRUE(moves(ops::kReshape, {x}, {{Attr::shape, Ints{2, 21}}}, "cuda.reshape"));
  EXPECT_TRUE(
      moves(ops::kBitcastConvert, {x}, {{Attr::dtype, DType::s32}}, "cuda.bitcast_convert"));
}

TEST_F(CudaMovement, Counts) {
  EXPECT_TRUE(rc::check([] {
    const int64_t rank = pick(1, 5);
    const DType dtype = pick_of<DType>(
        {DType::s8, DType::u16, DType::s32, DType::u64, DType::f32, DType::f64, DType::bf16});
    std::vector<HostTensor> start;
    if (pick(0, 1)) start.push_back(pick_tensor(DType::s64, {}, -3, 99));
    RC_ASSERT(moves(ops::kIota, start,
                    {{Attr::dimension, pick(0, rank - 1)},
                     {Attr::shape, ints_of_shape(pick_shape(rank, 3000))},
                     {Attr::dtype, dtype}},
                    "cuda.iota"));
  }));
}

TEST_F(CudaMovement, MakesConstants) {
  EXPECT_TRUE(rc::check([] {
    const Shape shape = pick_shape(pick(0, 4), 3000);
    const DType dtype = pick_width();
    const Attributes number{{Attr::scalar, static_cast<double>(pick(-1, 1))},
                            {Attr::shape, ints_of_shape(shape)},
                            {Attr::dtype, dtype}};
    RC_ASSERT(moves(ops::kConstant, {}, number, "cuda.constant"));
    const auto table = std::make_shared<const HostTensor>(pick_tensor(dtype, shape));
    RC_ASSERT(moves(ops::kConstant, {}, {{Attr::value, table}}, "cuda.constant"));
  }));
}

TEST_F(CudaMovementLong, LargeCopies) {
  for (DType dtype : {DType::bf16, DType::f32}) {
    const HostTensor x = uniform_tensor({dtype, {16, 1024, 12, 64}}, -1, 1);
    for (const Ints& order : {Ints{0, 2, 1, 3}, Ints{3, 2, 1, 0}, Ints{0, 2, 3, 1}})
      EXPECT_TRUE(moves(ops::kTranspose, {x}, {{Attr::dimensions, order}}, "cuda.transpose"));
  }
}

}  // namespace
}  // namespace tessera

// dynamic slices, gather, scatter, rng-bit-generator.
#include "tests/hlo/run_module.h"

namespace tessera::hlo {
namespace {

using namespace testing;

TEST(ImportIndex, DynamicSlicesClampTheirStarts) {
  const auto slice = [](int32_t start) {
    return reals(
        run_entry("x = s32[8] iota(), iota_dimension=0\ni = s32[] parameter(0)\n"
                  "ROOT y = s32[3] dynamic-slice(x, i), dynamic_slice_sizes={3}",
                  {tensor<int32_t>({}, {start})}));
  };
  EXPECT_EQ(slice(2), (Reals{2, 3, 4}));
  EXPECT_EQ(slice(7), (Reals{5, 6, 7}));
  EXPECT_EQ(slice(-3), (Reals{0, 1, 2}));
  EXPECT_EQ(reals(run_entry("x = s32[8] iota(), iota_dimension=0\ni = s32[] parameter(0)\n"
                            "u = s32[3] parameter(1)\n"
                            "ROOT y = s32[8] dynamic-update-slice(x, u, i)",
                            {tensor<int32_t>({}, {7}), integers({9, 9, 9})})),
            (Reals{0, 1, 2, 3, 4, 9, 9, 9}));
}

TEST(ImportIndex, StartsOfMixedTypesAndAsAVector) {
  EXPECT_EQ(reals(run_entry(R"(
    x = f32[2,3] parameter(0)
    i = s32[] constant(1)
    j = s64[] constant(2)
    ROOT y = f32[1,1] dynamic-slice(x, i, j), dynamic_slice_sizes={1,1})",
                            {counting(DType::f32, {2, 3})})),
            (Reals{5}));
  EXPECT_EQ(reals(run_entry(R"(
    x = f32[2,3] parameter(0)
    i = s32[2] constant({1, 1})
    ROOT y = f32[1,2] dynamic-slice(x, i), dynamic_slice_sizes={1,2})",
                            {counting(DType::f32, {2, 3})})),
            (Reals{4, 5}));
  expect_error(module_of("x = f32[2,3] parameter(0)\ni = s32[] constant(1)\n"
                         "ROOT y = f32[1,1] dynamic-slice(x, i), dynamic_slice_sizes={1,1}"),
               {"1 start indices for a rank of 2"});
  expect_error(module_of("x = f32[2] parameter(0)\ni = f32[] constant(1)\n"
                         "ROOT y = f32[1] dynamic-slice(x, i), dynamic_slice_sizes={1}"),
               {"the start index f32[] is no scalar of integers"});
}

TEST(ImportIndex, GatherRowsAndWithBatchingDims) {
  EXPECT_EQ(reals(run_entry(R"(
    x = f32[4,2] parameter(0)
    i = s32[3,1] parameter(1)
    ROOT y = f32[3,2] gather(x, i), offset_dims={1}, collapsed_slice_dims={0}, start_index_map={0}, index_vector_dim=1, slice_sizes={1,2})",
                            {counting(DType::f32, {4, 2}), tensor<int32_t>({3, 1}, {3, 0, 9})})),
            (Reals{6, 7, 0, 1, 6, 7}));
  // take_along_axis
  EXPECT_EQ(
      reals(run_entry(R"(
    x = f32[2,3] parameter(0)
    i = s32[2,2,1] parameter(1)
    ROOT y = f32[2,2] gather(x, i), offset_dims={}, collapsed_slice_dims={1}, start_index_map={1}, operand_batching_dims={0}, start_indices_batching_dims={0}, index_vector_dim=2, slice_sizes={1,1})",
                      {counting(DType::f32, {2, 3}), tensor<int32_t>({2, 2, 1}, {2, 0, 1, 1})})),
      (Reals{2, 0, 4, 4}));
  expect_error(module_of(R"(
    x = f32[4,2] parameter(0)
    i = s32[3,1] parameter(1)
    ROOT y = f32[3,2] gather(x, i), offset_dims={1}, collapsed_slice_dims={0}, start_index_map={0,1}, index_vector_dim=1, slice_sizes={1,2})"),
               {"line 6", "gather: start_index_map [0,1]"});
}

TEST(ImportIndex, ADimIsCollapsedOrBatchingButNotBoth) {
  expect_error(module_of(R"(
    x = f32[4,4] parameter(0)
    i = s32[4,3,1] parameter(1)
    ROOT y = f32[4,3] gather(x, i), offset_dims={}, collapsed_slice_dims={1}, start_index_map={1}, operand_batching_dims={1}, start_indices_batching_dims={0}, index_vector_dim=2, slice_sizes={1,1})"),
               {"gather: dim 1 of operand f32[4,4] is both in collapsed_slice_dims and in"});
}

const char kCombiners[] = R"(
  add {
    x = f32[] parameter(0)
    y = f32[] parameter(1)
    ROOT r = f32[] add(x, y)
  }
  second {
    x = f32[] parameter(0)
    ROOT y = f32[] parameter(1)
  })";

std::string scatter_text(std::string_view region) {
  return module_of(cat(R"(
    x = f32[4,2] parameter(0)
    i = s32[3,1] parameter(1)
    u = f32[3,2] parameter(2)
    ROOT y = f32[4,2] scatter(x, i, u), update_window_dims={1}, inserted_window_dims={0}, scatter_dims_to_operand_dims={0}, index_vector_dim=1, to_apply=)",
                       region),
                   kCombiners);
}

TEST(ImportIndex, ScatterAddsAndReplaces) {
  const std::vector<HostTensor> inputs = {counting(DType::f32, {4, 2}),
                                          tensor<int32_t>({3, 1}, {1, 4, 1}),
                                          tensor<float>({3, 2}, {10, 20, 30, 40, 50, 60})};
  EXPECT_EQ(reals(run_module(scatter_text("add"), inputs)[0]), (Reals{0, 1, 62, 83, 4, 5, 6, 7}));
  EXPECT_EQ(reals(run_module(scatter_text("second"), inputs)[0]),
            (Reals{0, 1, 50, 60, 4, 5, 6, 7}));
  EXPECT_TRUE(find_op(import_text(scatter_text("add")).graph, "scatter")
                  ->attributes.has(Attr::reduce_kind));
}

// XLA leaves out a window that reaches beyond the operand, and so JAX's outputs have it.
TEST(ImportIndex, ScatterLeavesOutWholeWindows) {
  HostTensor updates = counting(DType::f32, {4, 2, 3});
  for (int64_t i = 0; i < updates.elements(); ++i) updates.set_real(i, static_cast<double>(i + 1));
  const HostTensor y = run_entry(R"(
    x = f32[] constant(0)
    z = f32[5,3] broadcast(x), dimensions={}
    i = s32[4,1] parameter(0)
    u = f32[4,2,3] parameter(1)
    ROOT y = f32[5,3] scatter(z, i, u), update_window_dims={1,2}, inserted_window_dims={}, scatter_dims_to_operand_dims={0}, index_vector_dim=1, to_apply=add)",
                                 {tensor<int32_t>({4, 1}, {3, 4, -1, 2}), updates}, kCombiners);
  EXPECT_EQ(reals(y), (Reals{0, 0, 0, 0, 0, 0, 19, 20, 21, 23, 25, 27, 4, 5, 6}));
}

TEST(ImportIndex, ScatterOfSeveralAndWithBatchingDims) {
  const std::vector<HostTensor> y =
      run_module(module_of(R"(
    x = f32[2,3] parameter(0)
    n = s32[2,3] parameter(1)
    i = s32[2,1] parameter(2)
    u = f32[2] parameter(3)
    v = s32[2] parameter(4)
    ROOT y = (f32[2,3], s32[2,3]) scatter(x, n, i, u, v), update_window_dims={}, inserted_window_dims={1}, scatter_dims_to_operand_dims={1}, input_batching_dims={0}, scatter_indices_batching_dims={0}, index_vector_dim=1, indices_are_sorted=true, unique_indices=true, to_apply=f)",
                           pair_region("f", "add", "maximum")),
                 {counting(DType::f32, {2, 3}), tensor<int32_t>({2, 3}, {0, 0, 0, 9, 9, 9}),
                  tensor<int32_t>({2, 1}, {1, 2}), floats({10, 20}), integers({5, 5})});
  EXPECT_EQ(reals(y[0]), (Reals{0, 11, 2, 3, 4, 25}));
  EXPECT_EQ(reals(y[1]), (Reals{0, 5, 0, 9, 9, 9}));
}

// As XLA draws them on CPUs.
TEST(ImportIndex, RandomBits) {
  const auto drawn = [](std::string_view algorithm) {
    return run_module(module_of(cat("k = u64[2] parameter(0)\n"
                                    "ROOT r = (u64[2], u32[12]) rng-bit-generator(k), algorithm=",
                                    algorithm)),
                      {tensor<uint64_t>({2}, {1, 2})});
  };
  for (const char* algorithm : {"rng_default", "rng_philox"}) {
    const std::vector<HostTensor> y = drawn(algorithm);
    EXPECT_EQ(reals(y[0]), (Reals{1, 5}));
    EXPECT_EQ(y[1], tensor<uint32_t>({12}, {0x7d34a749, 0xa9b8bbe8, 0x7ba423d7, 0x2fb324d9,
                                            0x6cf923fe, 0xbadf79c3, 0xeccae2d7, 0x8175e74c,
                                            0x19d83063, 0x95b31c34, 0xcb24ad21, 0xc91c5370}));
  }
  const std::vector<HostTensor> y = drawn("rng_three_fry");
  EXPECT_EQ(reals(y[0]), (Reals{1, 8}));
  EXPECT_EQ(y[1], tensor<uint32_t>({12}, {0x296e954, 0x802fd53b, 0xed3492d3, 0xdf435003, 0x63b40bd3,
                                          0xfcc0f261, 0x7dbb1d60, 0x24e4d334, 0x9718c0ad,
                                          0xe3f04ce5, 0xaafe5a17, 0xdfbf5831}));
  expect_error(module_of("k = u64[2] parameter(0)\n"
                         "ROOT r = (u64[2], u32[4]) rng-bit-generator(k), algorithm=rng_magic"),
               {"algorithm=rng_magic is none of rng_default"});
  EXPECT_EQ(unsupported_of(module_of("a = f32[] constant(0)\n"
                                     "ROOT r = f32[4] rng(a, a), distribution=rng_uniform")),
            (std::vector<std::string>{"opcode rng"}));
}

}  // namespace
}  // namespace tessera::hlo

// What handlers refuse: each message, and each entry of the list of what is not there.
#include "tests/hlo/run_module.h"

namespace tessera::hlo {
namespace {

using namespace testing;

const char kRegions[] = R"(
  add {
    x = f32[] parameter(0)
    y = f32[] parameter(1)
    ROOT r = f32[] add(x, y)
  }
  ge {
    x = f32[] parameter(0)
    y = f32[] parameter(1)
    ROOT r = pred[] compare(x, y), direction=GE
  }
  wide {
    x = f32[] parameter(0)
    b = f32[2] broadcast(x), dimensions={}
    z = f32[] constant(0)
    ROOT r = f32[] reduce(b, z), dimensions={0}, to_apply=add
  })";

// The entry has x f32[4,3], i s32[3], k u64[2], s f32[], and one more line.
std::string with_line(std::string_view line) {
  return module_of(
      cat("x = f32[4,3] parameter(0)\ni = s32[3] parameter(1)\nk = u64[2] parameter(2)\n"
          "s = f32[] parameter(3)\nROOT y = ",
          line),
      kRegions);
}

struct Refused {
  const char* line;
  const char* message;
};

TEST(ImportErrors, Messages) {
  const std::vector<Refused> cases = {
      {"f32[4,2] topk(x), k=2", "topk has the result f32[4,2], but must have at least 2 of them"},
      {"(f32[4,9], s32[4,9]) topk(x), k=9", "top_k: 9 of the last dim of f32[4,3]"},
      {"f32[4,3] broadcast(x), dimensions={0,0}",
       "dimensions={0,0} must be different dims below 2"},
      {"f32[4,3] reverse(x), dimensions={2}", "dimensions={2} must be different dims below 2"},
      {"f32[8,3] concatenate(x, x), dimensions={0,1}", "dimensions={0,1} must be one dim"},
      {"f32[9,3] pad(x, s), padding=0_0_4611686018427387904x0_0",
       "padding puts 4611686018427387904 elements between those of dim 0"},
      {"f32[9,3] pad(x, s), padding=0_0_-1x0_0", "padding"},
      {"f32[2,3] slice(x), slice={[0:4:9223372036854775807], [0:3]}", "is no extent"},
      {"s32[] get-dimension-size(x), dimensions={0,1}", "dimensions={0,1} must be one dim"},
      {"s32[] get-dimension-size(x), dimensions={5}", "dimensions={5} must be different dims"},
      {"f32[1,1] dynamic-slice(x, i), dynamic_slice_sizes={1,1}",
       "start indices s32[3] for a rank of 2"},
      {"f32[1] dynamic-slice(x, i), dynamic_slice_sizes={1}",
       "dynamic_slice_sizes={1} of f32[4,3]"},
      {"f32[4,3] dynamic-update-slice(x, x, i)", "start indices s32[3] for a rank of 2"},
      {"f32[3,3] gather(x, i), offset_dims={1}, collapsed_slice_dims={0}, start_index_map={0}, "
       "index_vector_dim=1, slice_sizes={1,3}, operand_batching_dims={1}",
       "1 batching dims of the operand, but 0 of the indices"},
      {"f32[3,3] gather(x, i), offset_dims={1}, collapsed_slice_dims={0}, start_index_map={0}, "
       "slice_sizes={1,3}",
       "gather needs the attribute index_vector_dim"},
      {"f32[3,3] gather(x, s), offset_dims={1}, collapsed_slice_dims={0}, start_index_map={0}, "
       "index_vector_dim=1, slice_sizes={1,3}",
       "gather: indices must be integers, not f32[]"},
      {"f32[4,3] scatter(x, i), update_window_dims={1}, inserted_window_dims={0}, "
       "scatter_dims_to_operand_dims={0}, index_vector_dim=1, to_apply=add",
       "scatter takes"},
      {"f32[4] reduce(x, s), dimensions={-1}, to_apply=add", "dimensions={-1} of a rank of 2"},
      {"f32[4,3] reduce-window(x, x), window={size=1x1}, to_apply=add",
       "reduce-window: f32[4,3] cannot start from f32[4,3]"},
      {"f32[4,3] reduce-window(x, s), window={size=1x0}, to_apply=add",
       "size=1x0 must be positive"},
      {"f32[4,3] reduce-window(x, s), window={size=1}, to_apply=add",
       "window has 1 entries of size for 2 dims"},
      {"f32[4,3] select-and-scatter(x, x, s), window={size=2x1}, select=ge, scatter=add",
       "select_and_scatter: the windows of f32[4,3] give f32[3,3], not the source f32[4,3]"},
      {"f32[4,3] sort(x), dimensions={0,1}, to_apply=ge", "dimensions={0,1} must be one dim"},
      {"f32[4,3] map(x, i), dimensions={0,1}, to_apply=add",
       "operand 1 is s32[3], but to_apply takes f32[] of operands of one shape"},
      {"u32[4] rng-bit-generator(k), algorithm=rng_default",
       "rng-bit-generator has two results, the next state and the bits"},
      {"(s32[3], u32[4]) rng-bit-generator(i), algorithm=rng_default",
       "rng_bit_generator: the state"},
      {"f32[4,3] remainder(x, s)",
       "remainder: operands must have one type, got f32[4,3] and f32[]"},
      {"s32[3] tanh(i)", "tanh: not defined for s32[3]"},
      {"f32[4,3] reduce-precision(x), exponent_bits=5",
       "reduce-precision needs the attribute mantissa_bits"},
      {"f32[4,3] custom-call(x)", "custom_call_target"},
  };
  for (const Refused& each : cases) {
    SCOPED_TRACE(each.line);
    expect_error(with_line(each.line), {each.message, "(%y)"});
  }
}

TEST(ImportErrors, ConvolutionsOfOddLabels) {
  const auto module = [](std::string_view labels) {
    return module_of(
        cat("x = f32[2,5,2] parameter(0)\nk = f32[3,2,4] parameter(1)\n"
            "ROOT c = f32[2,3,4] convolution(x, k), window={size=3}, dim_labels=",
            labels));
  };
  EXPECT_EQ(import_error(module("b0f_0io->b0f")), "");
  for (const char* labels : {"bbf_0io->b0f", "b1f_0io->b0f", "b0f_00o->b0f", "b0f_0io->b?f",
                             "b0f_01io->b0f", "b0_0io->b0f"})
    expect_error(module(labels), {"dim_labels"});
}

TEST(ImportErrors, Unsupported) {
  const std::vector<Refused> cases = {
      {"(u64[2], f32[4]) rng-bit-generator(k), algorithm=rng_default",
       "opcode rng-bit-generator of f32"},
      {"f32[4,3] select-and-scatter(x, x, s), window={size=1x1 rhs_dilate=2x1}, select=ge, "
       "scatter=add",
       "opcode select-and-scatter with dilated windows"},
      {"f32[4,3] map(x), dimensions={0,1}, to_apply=wide",
       "opcode map with broadcast_in_dim in its region"},
      {"u8[4,3,4] bitcast(x)", "opcode bitcast to another type and shape"},
      {"f32[] dot(s, s), sparsity=L.0@2:4", "attribute sparsity of dot"},
      {"f32[4,3] stochastic-convert(x, x)", "opcode stochastic-convert"},
      {"f32[4,3] fusion(x), kind=kLoop, calls=add", "opcode fusion"},
  };
  for (const Refused& each : cases)
    EXPECT_EQ(unsupported_of(with_line(each.line)), (std::vector<std::string>{each.message}))
        << each.line;
}

}  // namespace
}  // namespace tessera::hlo

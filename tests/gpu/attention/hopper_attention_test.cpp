// Attention by warpgroup products, which a device of compute capability 9.0 takes for bf16 heads of 64 and 128, at the
// borders of its tiles: 128 queries by 128 keys forward, 128 rows by 64 backward. Other devices run these cases by
// mma.sync (ctest gpu_soft_80). No element is off by more than 1/64 of the largest. op_attention_test.cpp has more of
// windows, segments and biases.
#include <cmath>
#include <optional>

#include "core/base/strings.h"
#include "core/ops/attention.h"
#include "tests/gpu/device_testing.h"
#include "tests/support/random_tensor.h"

namespace tessera {
namespace {

struct Sizes {
  int64_t batch = 1, queries = 0, keys = 0, heads = 1, kv_heads = 1, head_dim = 0;
  bool causal = true;
  std::optional<int64_t> start = std::nullopt;
  double range = 1.0;  // of q
  int64_t window = 0;
  int64_t document = 0;  // positions of a segment; 0: no segments
  int64_t bias = 0;      // columns of a distance_bias
};
std::ostream& operator<<(std::ostream& to, const Sizes& c) {
  return to << cat("b", c.batch, " lq", c.queries, " lk", c.keys, " h", c.heads, " kv", c.kv_heads, " d", c.head_dim,
                   c.causal ? " causal" : "", c.start ? cat(" start ", *c.start) : std::string(), " window ", c.window,
                   " document ", c.document, " bias ", c.bias);
}

class HopperAttention : public DeviceTest, public ::testing::WithParamInterface<Sizes> {
 protected:
  static bool is_hopper() {
    const cuda::DeviceInfo device = plugin().devices().front();
    return device.major == 9 && device.minor == 0;
  }
  // Both passes; the backward pass on the results of the forward pass.
  static void check(const Sizes& c, bool takes) {
    const TensorType q{DType::bf16, {c.batch, c.queries, c.heads, c.head_dim}},
        k{DType::bf16, {c.batch, c.keys, c.kv_heads, c.head_dim}};
    Attributes attributes{{Attr::causal, c.causal}, {Attr::scale, 1.0 / std::sqrt(double(c.head_dim))}};
    if (c.window > 0) attributes.set(Attr::window, c.window);
    std::vector<HostTensor> operands{random_operand_tensor(q, 1, {-c.range, c.range}),
                                     random_operand_tensor(k, 2, {-2.0, 2.0}),
                                     random_operand_tensor(k, 3, {-1.0, 1.0})};
    std::vector<HostTensor> extras;
    if (c.bias > 0) extras.push_back(random_operand_tensor({DType::f32, {c.heads, c.bias}}, 5, {-2.0, 2.0}));
    for (const int64_t length : {c.queries, c.keys}) {
      if (c.document == 0) continue;
      HostTensor& segments = extras.emplace_back(TensorType{DType::s32, {c.batch, length}});
      for (int64_t i = 0; i < segments.elements(); ++i) segments.set_int(i, i % length / c.document);
    }
    if (c.start) extras.emplace_back(TensorType{DType::s64, Shape{}}).set_int(0, *c.start);
    const auto with_extras = [&](std::vector<HostTensor> all) {
      all.insert(all.end(), extras.begin(), extras.end());
      return all;
    };
    const char* const kernels[] = {"hopper_forward_kernel", "hopper_key_kernel", "hopper_query_kernel"};
    std::vector<std::optional<long>> before;
    for (const char* kernel : kernels) before.push_back(kernel_launches(kernel));

    const auto forward = check_kernel(ops::kAttention, attributes, with_extras(operands),
                                      {.kernel = "cuda.attention", .tolerance = 1.0 / 64});
    operands.push_back(forward.results[0]);
    operands.push_back(forward.results[1]);
    operands.push_back(random_operand_tensor(q, 4, {-1.0, 1.0}));
    check_kernel(ops::kAttentionGrad, attributes, with_extras(operands),
                 {.kernel = "cuda.attention_grad", .tolerance = 1.0 / 64});

    for (size_t i = 0; i < before.size() && before[i]; ++i)
      EXPECT_EQ(*kernel_launches(kernels[i]) > *before[i], takes && is_hopper()) << kernels[i];
  }
};

TEST_P(HopperAttention, BothPassesAreTheirEvaluation) { check(GetParam(), true); }

INSTANTIATE_TEST_SUITE_P(
    Sizes, HopperAttention,
    ::testing::Values(
        // Whole tiles, of several turns of the rings of stages, and lengths on both sides of tiles.
        Sizes{1, 128, 128, 1, 1, 64}, Sizes{1, 128, 128, 1, 1, 128, false}, Sizes{1, 128, 640, 1, 1, 64, false},
        Sizes{1, 256, 256, 1, 1, 64}, Sizes{1, 129, 127, 1, 1, 128, false}, Sizes{1, 127, 129, 1, 1, 64, false},
        Sizes{2, 65, 63, 2, 2, 128}, Sizes{1, 64, 65, 1, 1, 64}, Sizes{1, 2, 2, 1, 1, 64},
        Sizes{1, 300, 2, 1, 1, 64, false}, Sizes{3, 7, 9, 1, 1, 64, false},
        // Grouped heads.
        Sizes{1, 70, 70, 4, 2, 64}, Sizes{1, 130, 40, 3, 1, 128},
        // Queries behind keys, and before the first one.
        Sizes{1, 1, 150, 2, 1, 128, true, 149}, Sizes{1, 40, 200, 1, 1, 64, true, 100},
        Sizes{1, 140, 150, 1, 1, 128, true, -9},
        Sizes{1, 140, 270, 1, 1, 64, true, -135}, Sizes{1, 5, 9, 1, 1, 128, true, int64_t{1} << 40},
        Sizes{1, 5, 9, 1, 1, 64, true, -(int64_t{1} << 40)},
        // Scores far apart: the softmax's reference moves.
        Sizes{1, 20, 400, 1, 1, 64, false, std::nullopt, 30.0},
        // Windows that begin in a later tile, and documents that leave tiles out.
        Sizes{.queries = 400, .keys = 400, .head_dim = 64, .window = 100},
        Sizes{.queries = 140, .keys = 300, .heads = 2, .kv_heads = 1, .head_dim = 128, .start = 150, .window = 7},
        Sizes{.batch = 2, .queries = 300, .keys = 300, .head_dim = 64, .document = 77},
        Sizes{.queries = 270, .keys = 390, .heads = 2, .kv_heads = 1, .head_dim = 128, .causal = false, .document = 140},
        Sizes{.queries = 150, .keys = 150, .heads = 2, .kv_heads = 2, .head_dim = 128, .bias = 160},
        Sizes{.queries = 140, .keys = 140, .head_dim = 64, .window = 90, .document = 64,
             .bias = 20}));

// What was not written yet behind the last key that is seen may be anything.
TEST_F(HopperAttention, KeysBehindTheLastSeenOneMayBeNaN) {
  constexpr int64_t kQueries = 20, kKeys = 90, kStart = 30;
  const Attributes attributes{{Attr::causal, true}, {Attr::scale, 0.125}};
  const TensorType q{DType::bf16, {1, kQueries, 1, 64}}, k{DType::bf16, {1, kKeys, 1, 64}};
  std::vector<HostTensor> operands{random_operand_tensor(q, 1, {-1.0, 1.0}), random_operand_tensor(k, 2, {-1.0, 1.0}),
                                   random_operand_tensor(k, 3, {-1.0, 1.0}), HostTensor({DType::s64, Shape{}})};
  operands[3].set_int(0, kStart);
  const auto want = check_kernel(ops::kAttention, attributes, operands, {.tolerance = 1.0 / 64}).results;
  for (int64_t i = (kStart + kQueries) * 64; i < kKeys * 64; ++i)
    for (int operand : {1, 2}) operands[operand].set_real(i, NAN);
  const auto got = check_kernel(ops::kAttention, attributes, operands, {.tolerance = INFINITY}).results;
  EXPECT_TRUE(got == want);
}

TEST_F(HopperAttention, LeavesOtherHeadSizesToMmaSync) { check({1, 20, 30, 1, 1, 80}, false); }

}  // namespace
}  // namespace tessera

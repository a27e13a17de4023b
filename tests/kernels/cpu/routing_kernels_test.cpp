// The router of experts and the moves of tokens against the reference: ties, infinities, experts that do
// not exist, tokens without an expert.
#include <algorithm>
#include <array>

#include "core/ops/permute_tokens.h"
#include "core/ops/routing.h"
#include "tests/kernels/cpu/check_call.h"

namespace tessera {
namespace {

Attributes routing_attributes(const std::string& function, bool normalize, double scale) {
  return {{Attr::score_function, function}, {Attr::normalize, normalize}, {Attr::scale, scale}};
}

DType statistics_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

TEST(RoutingKernels, EveryKind) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const char* function : {"softmax", "sigmoid"})
      for (const bool normalize : {false, true})
        for (const auto& [tokens, experts, k] :
             {std::array<int64_t, 3>{70, 8, 2}, {3, 37, 5}, {5, 4, 4}, {2, 1, 1}, {0, 8, 2}}) {
          Attributes attributes = routing_attributes(function, normalize, 1.5);
          const TensorType logits{dtype, {tokens, experts}}, chosen{DType::s32, {tokens, k}};
          const OpSample grad{{logits, chosen, {statistics_of(dtype), {tokens, k}}},
                              attributes,
                              {{-3, 3}, {-1, static_cast<double>(experts)}, {-1, 1}}};
          EXPECT_TRUE(check_call(ops::kTopKRoutingGrad, grad).accepted);
          attributes.set(Attr::k, k);
          EXPECT_TRUE(check_call(ops::kTopKRouting, {{logits}, attributes, {{-3, 3}}}).accepted);
          for (const Shape& bias : {Shape{experts}, Shape{tokens, experts}}) {
            const OpSample biased{
                {logits, {statistics_of(dtype), bias}}, attributes, {{-3, 3}, {-1, 1}}};
            EXPECT_TRUE(check_call(ops::kTopKRouting, biased).accepted);
          }
        }
}

TEST(RoutingKernels, TiesInfinitiesAndNaN) {
  constexpr float kInf = INFINITY;
  const std::vector<float> values = {1,     2, 2,     1,     2,     0,      //
                                     0,     -0.0f, 0, -0.0f, 0,     -1,     //
                                     1,     1, 1,     -kInf, 1,     -kInf,  //
                                     -kInf, 3, -kInf, -kInf, -kInf, -kInf,  //
                                     1,     kInf, 2,  NAN,   0,     0};
  const HostTensor logits = HostTensor::of<float>({5, 6}, values);
  for (const char* function : {"softmax", "sigmoid"})
    for (const bool normalize : {false, true}) {
      Attributes attributes = routing_attributes(function, normalize, 1);
      attributes.set(Attr::k, int64_t{3});
      EXPECT_TRUE(check_call(ops::kTopKRouting, {{logits.type()}, attributes}, {logits}).accepted);
    }
}

TEST(RoutingKernels, ExpertOrder) {
  for (const auto& [tokens, k, groups] :
       {std::array<int64_t, 3>{50, 2, 8}, {7, 3, 300}, {1, 1, 1}, {0, 2, 4}, {5, 2, 0}}) {
    const OpSample sample{{{DType::s32, {tokens, k}}},
                          {{Attr::group_count, groups}},
                          {{-1, static_cast<double>(groups)}}};
    EXPECT_TRUE(check_call(ops::kExpertOrder, sample).accepted);
  }
}

// A random permutation of `count` numbers, as places [count / k, k].
HostTensor random_places(int64_t tokens, int64_t k, unsigned seed) {
  std::vector<int32_t> places(static_cast<size_t>(tokens * k));
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<int32_t>(i);
  std::shuffle(places.begin(), places.end(), std::mt19937(seed));
  return HostTensor::of<int32_t>({tokens, k}, places);
}

TEST(RoutingKernels, TokensThereAndBack) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const auto& [tokens, k, width] :
         {std::array<int64_t, 3>{33, 2, 130}, {5, 3, 7}, {1, 1, 1}, {0, 2, 8}, {4, 2, 0}}) {
      const TensorType x{dtype, {tokens, width}}, rows{dtype, {tokens * k, width}},
          places{DType::s32, {tokens, k}}, weights{statistics_of(dtype), {tokens, k}};
      std::vector<HostTensor> of_tokens = {random_operand_tensor(x, 1, {-1, 1}),
                                           random_places(tokens, k, 2)},
                              of_rows = {random_operand_tensor(rows, 3, {-1, 1}), of_tokens[1]};
      EXPECT_TRUE(check_call(ops::kPermuteTokens, {{x, places}, {}}, of_tokens).accepted);
      EXPECT_TRUE(check_call(ops::kUnpermuteTokens, {{rows, places}, {}}, of_rows).accepted);
      EXPECT_TRUE(check_call(ops::kTokenDots, {{rows, places, x}, {}}, of_rows).accepted);
      EXPECT_TRUE(check_call(ops::kPermuteTokens, {{x, places, weights}, {}}, of_tokens).accepted);
      EXPECT_TRUE(
          check_call(ops::kUnpermuteTokens, {{rows, places, weights}, {}}, of_rows).accepted);
    }
}

// Places that are no permutation: equal ones, and some outside of the rows.
TEST(RoutingKernels, AnyPlaces) {
  const TensorType x{DType::f64, {6, 5}}, rows{DType::f64, {12, 5}}, places{DType::s32, {6, 2}},
      weights{DType::f64, {6, 2}};
  const std::vector<std::pair<double, double>> ranges = {{-1, 1}, {-2, 13}};
  EXPECT_TRUE(check_call(ops::kPermuteTokens, {{x, places, weights}, {}, ranges}).accepted);
  EXPECT_TRUE(check_call(ops::kUnpermuteTokens, {{rows, places, weights}, {}, ranges}).accepted);
  EXPECT_TRUE(check_call(ops::kTokenDots, {{rows, places, x}, {}, ranges}).accepted);
}

}  // namespace
}  // namespace tessera

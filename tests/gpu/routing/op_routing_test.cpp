#include "core/ops/routing.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include "tests/gpu/op_testing.h"

namespace tessera {
namespace {

using CudaRouting = OpTest;

Attributes routing_attributes(const std::string& function, bool normalize) {
  return {{Attr::score_function, function}, {Attr::normalize, normalize}, {Attr::scale, 1.5}};
}

void for_each_kind(const std::function<void(Attributes, DType)>& body) {
  for (const char* function : {"softmax", "sigmoid"})
    for (const bool normalize : {false, true})
      for (const DType dtype : {DType::f32, DType::bf16}) body(routing_attributes(function, normalize), dtype);
}

TEST_F(CudaRouting, EveryKind) {
  for_each_kind([](Attributes attributes, DType dtype) {
    for (const auto& [tokens, experts, k] :  // k of a token
         {std::array<int64_t, 3>{11, 8, 2}, {3, 37, 5}, {2, 130, 8}, {2, 300, 32}, {2, 512, 3}, {1, 1, 1}, {0, 4, 2}}) {
      const TensorType logits{dtype, {tokens, experts}};
      check_kernel(ops::kTopKRoutingGrad,
                   {{logits, {DType::s32, {tokens, k}}, {DType::f32, {tokens, k}}},
                    attributes,
                    {{-3, 3}, {-1, static_cast<double>(experts)}}},
                   check_of("cuda.top_k_routing_grad", dtype));
      attributes.set(Attr::k, k);
      check_kernel(ops::kTopKRouting, {{logits}, attributes, {{-3, 3}}}, check_of("cuda.top_k_routing", DType::f32));
      for (const Shape& bias : {Shape{experts}, Shape{tokens, experts}})
        check_kernel(ops::kTopKRouting, {{logits, {DType::f32, bias}}, attributes, {{-3, 3}}},
                     check_of("cuda.top_k_routing", DType::f32));
    }
  });
}

TEST_F(CudaRouting, TiesInfinitiesAndNaN) {
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {1,     2, 2,     1,     2,     0,      //
                                     0,     -0.0f, 0, -0.0f, 0,     -1,     //
                                     1,     1, 1,     -kInf, 1,     -kInf,  //
                                     -kInf, 3, -kInf, -kInf, -kInf, -kInf,  //
                                     1,     kInf, 2,  kNaN,  0,     -kNaN};
  for_each_kind([&](Attributes attributes, DType dtype) {
    attributes.set(Attr::k, int64_t{3});
    check_kernel(ops::kTopKRouting, attributes, {HostTensor::of<float>({5, 6}, values).cast(dtype)},
                 check_of("cuda.top_k_routing", DType::f32));
  });
}

TEST_F(CudaRouting, RefusesWhatAWarpCannotHold) {
  Attributes attributes = routing_attributes("softmax", true);
  attributes.set(Attr::k, int64_t{2});
  EXPECT_TRUE(is_refused(ops::kTopKRouting, {uniform_tensor({DType::f32, {1, 513}}, -1, 1)}, attributes, "512"));
  attributes.set(Attr::k, int64_t{33});
  EXPECT_TRUE(is_refused(ops::kTopKRouting, {uniform_tensor({DType::f32, {1, 64}}, -1, 1)}, attributes, "32"));
}

}  // namespace
}  // namespace tessera

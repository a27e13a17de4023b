#include "kernels/cpu/step_bits.h"

#include "core/ops/dropout.h"
#include "core/ops/optimizer.h"
#include "core/ops/philox.h"
#include "tests/kernels/cpu/check_call.h"

namespace tessera::cpu {
namespace {

TEST(StepBits, AreThoseOfThePlainFunction) {
  const StepDraw draw{0x123456789abcdef, static_cast<uint64_t>(kDropoutSites) + 3, 41};
  for (int64_t first : {int64_t{0}, int64_t{5}, int64_t{8}, (int64_t{1} << 35) - 3})
    for (int64_t count : {1, 8, 127, 128, 1000, 1024}) {
      StepBits room;
      const bfloat16* bits = step_bits(draw, first, count, room);
      for (int64_t i = 0; i < count; ++i)
        ASSERT_EQ(bits[i].bits, step_bits_of(draw.seed, draw.site, draw.step, static_cast<uint64_t>(first + i)));
    }
}

// [3, 5] at (2, 10) of [8, 100], and the whole.
TEST(ShardRuns, CutPiecesAtRows) {
  std::vector<std::array<int64_t, 3>> found;
  const auto note = [&](int64_t local, int64_t index, int64_t count) { found.push_back({local, index, count}); };
  ShardRuns({3, 5}, {100, 1}, 210).each(2, 12, note);
  EXPECT_EQ(found, (std::vector<std::array<int64_t, 3>>{{2, 212, 3}, {5, 310, 5}, {10, 410, 2}}));
  found.clear();
  ShardRuns({30, 100}, {100, 1}, 0).each(0, 3000, note);
  EXPECT_EQ(found, (std::vector<std::array<int64_t, 3>>{{0, 0, 1024}, {1024, 1024, 1024}, {2048, 2048, 952}}));
}

HostTensor counter(int64_t value) { return HostTensor::filled({DType::s64, {}}, static_cast<double>(value)); }

// Of a shard at odd places: the same elements dropped, the others scaled.
TEST(Dropout, KernelsDrawWhatTheReferenceDraws) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const TensorType type{dtype, {3, 7, 37}};
    OpSample sample{.operands = {type, {DType::s64, {}}, {DType::s64, {}}, {DType::s64, {}}, {DType::s64, {}}, {DType::s64, {}}},
                    .attributes = {{Attr::rate, 0.3}, {Attr::seed, int64_t{1} << 40}, {Attr::seed_site, int64_t{9}},
                                   {Attr::strides, Ints{14 * 74, 74, 1}}}};
    EXPECT_TRUE(check_call(ops::kDropout, sample,
                           {random_operand_tensor(type, 1, {0.5, 1}), counter(12), counter(4), counter(1), counter(7), counter(37)})
                    .accepted);
  }
}

// Bitwise, but where f32 and f64 round to different sides of a draw.
TEST(AdamW, StochasticRoundingDrawsWhatTheReferenceDraws) {
  const Shape shape{40, 61};
  for (const auto& [param, moments] : {std::pair{DType::f32, DType::bf16}, {DType::bf16, DType::f32}, {DType::bf16, DType::bf16}}) {
    std::vector<HostTensor> operands = {random_operand_tensor({param, shape}, 1, {-1, 1}),
                                        random_operand_tensor({moments, shape}, 2, {-1, 1}),
                                        random_operand_tensor({moments, shape}, 3, {0, 1}),
                                        random_operand_tensor({DType::f32, shape}, 4, {-1, 1})};
    for (double value : {0.01, 0.5, 0.3, 0.2}) operands.push_back(HostTensor::filled({DType::f32, {}}, value));
    for (int64_t value : {12345, 40, 61}) operands.push_back(counter(value));
    const Attributes attributes = {{Attr::beta1, 0.9}, {Attr::beta2, 0.999}, {Attr::epsilon, 1e-8}, {Attr::weight_decay, 0.1},
                                   {Attr::seed, int64_t{3}}, {Attr::seed_site, kRoundingSites}, {Attr::strides, Ints{122, 1}}};
    std::vector<TensorType> types;
    std::vector<const HostTensor*> pointers;
    std::vector<TensorView> views, result_views;
    for (HostTensor& operand : operands) {
      types.push_back(operand.type());
      pointers.push_back(&operand);
      views.push_back({operand.type(), operand.bytes().data()});
    }
    const OpCall call{types, attributes};
    std::vector<HostTensor> want, got;
    for (const TensorType& type : infer_types(ops::kAdamW, call)) want.emplace_back(type);
    got = want;
    for (HostTensor& result : got) result_views.push_back({result.type(), result.bytes().data()});
    ops::kAdamW.eval(call, pointers, want);
    const auto choice = cpu_table().choose(ops::kAdamW, call, infer_types(ops::kAdamW, call));
    ASSERT_FALSE(choice.kernel->is_reference);
    Instruction instruction;
    instruction.op = &ops::kAdamW;
    instruction.attributes = attributes;
    choice.kernel->run({instruction, views, result_views});
    for (size_t r = 0; r < got.size(); ++r) {
      int64_t differing = 0;
      for (int64_t i = 0; i < shape.elements(); ++i) {
        differing += got[r].get_real(i) != want[r].get_real(i);
        EXPECT_NEAR(got[r].get_real(i), want[r].get_real(i), 0.01 * std::abs(want[r].get_real(i)) + 1e-6);
      }
      EXPECT_LE(differing, got[r].dtype() == DType::bf16 ? 3 : shape.elements()) << "result " << r;
    }
  }
}

}  // namespace
}  // namespace tessera::cpu

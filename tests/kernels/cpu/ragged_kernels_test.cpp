// Products of rows in groups against the reference: groups of any size, none, and rows in no group.
#include <rapidcheck.h>

#include "core/ops/ragged.h"
#include "tests/kernels/cpu/check_call.h"

namespace tessera {
namespace {

HostTensor sizes_of(const std::vector<int32_t>& sizes) {
  return HostTensor::of<int32_t>({static_cast<int64_t>(sizes.size())}, sizes);
}

// Both forms of ragged_dot and ragged_contraction, on rows of these sizes.
void check_ragged(DType dtype, DType result, int64_t m, int64_t k, int64_t n,
                  const std::vector<int32_t>& sizes) {
  const auto groups = static_cast<int64_t>(sizes.size());
  SCOPED_TRACE(testing::Message() << dtype << " -> " << result << " m " << m << " k " << k << " n "
                                  << n << " sizes " << join(sizes));
  const TensorType lhs{dtype, {m, k}}, type_of_sizes{DType::s32, {groups}};
  const auto check = [&](const OpDef& op, const TensorType& rhs, Attributes attributes) {
    if (dtype != result) attributes.set(Attr::dtype, result);
    const OpSample sample{{lhs, rhs, type_of_sizes}, attributes};
    EXPECT_TRUE(check_call(op, sample,
                           {random_operand_tensor(lhs, 1, {-1, 1}),
                            random_operand_tensor(rhs, 2, {-1, 1}), sizes_of(sizes)})
                    .accepted);
  };
  check(ops::kRaggedDot, {dtype, {groups, k, n}}, {{Attr::rhs_contracting, Ints{1}}});
  check(ops::kRaggedDot, {dtype, {groups, n, k}}, {{Attr::rhs_contracting, Ints{2}}});
  check(ops::kRaggedContraction, {dtype, {m, n}}, {});
}

TEST(RaggedKernels, GroupsOfAnySize) {
  for (const auto& [dtype, result] : {std::pair{DType::f64, DType::f64},
                                      {DType::f32, DType::f32},
                                      {DType::bf16, DType::bf16},
                                      {DType::bf16, DType::f32}}) {
    check_ragged(dtype, result, 17, 5, 7, {3, 0, 10, 1});
    check_ragged(dtype, result, 300, 33, 200, {0, 290, 0});  // more than a tile
    check_ragged(dtype, result, 4, 3, 2, {0, 0});
    check_ragged(dtype, result, 4, 3, 2, {4});
  }
  check_ragged(DType::f32, DType::f32, 0, 3, 2, {0, 0});
  check_ragged(DType::f32, DType::f32, 5, 0, 2, {2, 2});
}

TEST(RaggedKernels, RandomGroups) {
  EXPECT_TRUE(rc::check([] {
    const auto pick = [](int64_t low, int64_t high) {
      return *rc::gen::inRange<int64_t>(low, high + 1);
    };
    const int64_t m = pick(0, 150), groups = pick(1, 9);
    std::vector<int32_t> sizes;
    int64_t left = m;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t size = pick(0, 2) == 0 ? 0 : pick(0, left);
      sizes.push_back(static_cast<int32_t>(size));
      left -= size;
    }
    check_ragged(DType::f64, DType::f64, m, pick(1, 40), pick(1, 40), sizes);
    RC_ASSERT(!testing::Test::HasFailure());
  }));
}

// A device that has some of the groups, up to ones that do not exist.
TEST(RaggedKernels, ShardOfTheGroups) {
  const TensorType lhs{DType::f64, {30, 6}}, rhs{DType::f64, {3, 6, 5}}, dy{DType::f64, {30, 5}},
      sizes{DType::s32, {5}}, scalar{DType::s64, {}};
  for (const int64_t start : {0, 1, 3, 5}) {
    std::vector<HostTensor> operands = {random_operand_tensor(lhs, 1, {-1, 1}),
                                        random_operand_tensor(rhs, 2, {-1, 1}),
                                        sizes_of({3, 14, 0, 9, 2}), HostTensor(scalar)};
    operands[3].set_int(0, start);
    EXPECT_TRUE(check_call(ops::kRaggedDot,
                           {{lhs, rhs, sizes, scalar}, {{Attr::rhs_contracting, Ints{1}}}}, operands)
                    .accepted);
    operands[1] = random_operand_tensor(dy, 3, {-1, 1});
    EXPECT_TRUE(check_call(ops::kRaggedContraction,
                           {{lhs, dy, sizes, scalar}, {{Attr::group_count, int64_t{3}}}}, operands)
                    .accepted);
  }
}

// What the reference refuses, kernels cut: a negative size is none, rows beyond the last are none.
TEST(RaggedKernels, CutsSizesThatTheReferenceRefuses) {
  const TensorType lhs{DType::f32, {3, 2}}, rhs{DType::f32, {3, 2, 2}}, sizes{DType::s32, {3}};
  const OpSample sample{{lhs, rhs, sizes}, {{Attr::rhs_contracting, Ints{1}}}};
  for (const auto& bad : {std::vector<int32_t>{2, 5, 1}, std::vector<int32_t>{2, -1, 1}})
    EXPECT_THROW(check_call(ops::kRaggedDot, sample,
                            {random_operand_tensor(lhs, 1, {-1, 1}),
                             random_operand_tensor(rhs, 2, {-1, 1}), sizes_of(bad)}),
                 UserError);
  Instruction instruction;
  instruction.op = &ops::kRaggedDot;
  instruction.attributes = sample.attributes;
  HostTensor x = random_operand_tensor(lhs, 1, {-1, 1}), w = random_operand_tensor(rhs, 2, {-1, 1});
  const auto run = [&](const std::vector<int32_t>& values) {
    HostTensor s = sizes_of(values), y({DType::f32, {3, 2}});
    const TensorView operands[] = {{lhs, x.bytes().data()}, {rhs, w.bytes().data()},
                                   {sizes, s.bytes().data()}};
    const TensorView results[] = {{y.type(), y.bytes().data()}};
    const TensorType types[] = {y.type()};
    cpu_table()
        .choose(ops::kRaggedDot, {sample.operands, sample.attributes}, types)
        .kernel->run({instruction, operands, results, nullptr, nullptr});
    return y;
  };
  EXPECT_EQ(run({2, 5, 1}), run({2, 1, 0}));
  EXPECT_EQ(run({2, -1, 1}), run({2, 0, 1}));
}

}  // namespace
}  // namespace tessera

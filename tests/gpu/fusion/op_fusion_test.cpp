#include "kernels/cuda/plugin/plugin.h"
#include "tests/gpu/fusion/kernel_batch.h"
#include "tests/gpu/fusion/random_fusion.h"

namespace tessera {
namespace {

using testing::KernelBatch;

// Bits, but that every NaN is as good as another.
bool is_same(const HostTensor& a, const HostTensor& b) {
  if (a == b) return true;
  for (int64_t i = 0; i < a.elements(); ++i) {
    if (!is_float(a.dtype()) ? a.get_int(i) != b.get_int(i)
                             : a.get_real(i) != b.get_real(i) &&
                                   !(std::isnan(a.get_real(i)) && std::isnan(b.get_real(i))))
      return false;
  }
  return true;
}

struct FusedProgram {
  Attributes attributes;
  std::vector<HostTensor> operands;
  int in_place = -1;
  std::string what;
};

void check_programs(const std::vector<FusedProgram>& programs) {
  const testing::TemporaryFolder folder;
  const auto backend = testing::backend_with_cache(folder.path());
  KernelBatch batch(*backend);
  for (const FusedProgram& program : programs)
    batch.add(ops::kFusion, program.attributes, program.operands, 0, program.in_place);
  batch.finish();
  for (size_t p = 0; p < programs.size(); ++p) {
    const auto got = batch.run(static_cast<int>(p));
    const auto want = testing::evaluated(ops::kFusion, programs[p].attributes, programs[p].operands);
    for (size_t r = 0; r < got.size(); ++r)
      EXPECT_TRUE(is_same(got[r], want[r])) << programs[p].what << ", result " << r << " " << got[r].type();
  }
}

std::vector<FusedProgram> random_programs(int bodies, int operations, unsigned seed) {
  std::vector<FusedProgram> programs;
  std::mt19937 random(seed);
  for (const testing::BroadcastShapes& shapes : testing::broadcast_shapes())
    for (int i = 0; i < bodies; ++i) {
      testing::RandomFusion fusion(random, shapes.shape, shapes.narrow);
      const int results = 1 + static_cast<int>(random() % 3);
      FusedProgram program;
      program.attributes.set(Attr::body, fusion.body(operations, results));
      for (const TensorType& type : fusion.operands())
        program.operands.push_back(testing::random_tensor(type, random, -9, 9));
      const auto types = infer_types(ops::kFusion, {fusion.operands(), program.attributes});
      if (types[0].bytes() == program.operands[0].type().bytes() && random() % 2) program.in_place = 0;
      program.what = cat("body ", i, " on ", shapes.shape, " of seed ", seed);
      programs.push_back(std::move(program));
    }
  return programs;
}

TEST(GeneratedFusion, RandomBodies) {
  if (const std::string why = testing::no_device(); !why.empty()) GTEST_SKIP() << why;
  check_programs(random_programs(6, 12, 1));
}
TEST(GeneratedFusionLong, RandomBodies) {
  if (const std::string why = testing::no_device(); !why.empty()) GTEST_SKIP() << why;
  for (unsigned seed = 2; seed < 22; ++seed) check_programs(random_programs(8, 30, seed));
}

// Many operands of many widths, which packs must not fill the registers with.
TEST(GeneratedFusion, ManyOperands) {
  if (const std::string why = testing::no_device(); !why.empty()) GTEST_SKIP() << why;
  std::mt19937 random(5);
  std::vector<FusedProgram> programs;
  for (int count : {20, 70}) {
    auto body = std::make_shared<Graph>();
    Builder b(*body);
    FusedProgram program;
    Value sum;
    for (int i = 0; i < count; ++i) {
      const TensorType type{i % 3 == 0 ? DType::f32 : i % 3 == 1 ? DType::bf16 : DType::s32, {3, 67}};
      const Value x = ops::convert(b, b.input(InputKind::data, cat("x", i), type), DType::f32);
      sum = i == 0 ? x : ops::add(b, sum, x);
      program.operands.push_back(testing::random_tensor(type, random, -9, 9));
      if (i % 7 == 0) b.output(sum, cat("y", i));
    }
    b.output(sum, "y");
    program.attributes.set(Attr::body, GraphRef(body));
    program.what = cat(count, " operands");
    programs.push_back(std::move(program));
  }
  check_programs(programs);
}

TEST(GeneratedFusion, EmptyTensors) {
  if (const std::string why = testing::no_device(); !why.empty()) GTEST_SKIP() << why;
  auto body = std::make_shared<Graph>();
  Builder b(*body);
  b.output(ops::tanh(b, b.input(InputKind::data, "x", {DType::f32, {0, 5}})), "y");
  FusedProgram program;
  program.attributes.set(Attr::body, GraphRef(body));
  program.operands.emplace_back(TensorType{DType::f32, {0, 5}});
  check_programs({program});
}

// A table refuses what generated kernels do not compute in, with the reason.
TEST(GeneratedFusion, ComplexNumbersAreRefused) {
  if (const std::string why = testing::no_device(); !why.empty()) GTEST_SKIP() << why;
  auto body = std::make_shared<Graph>();
  Builder b(*body);
  const TensorType type{DType::c64, {4}};
  b.output(ops::negate(b, b.input(InputKind::data, "x", type)), "y");
  const Attributes attributes{{Attr::body, GraphRef(body)}};
  const std::vector<TensorType> types = {type};
  const auto choice = cuda::open_plugin().kernels().choose(ops::kFusion, {types, attributes}, types);
  EXPECT_TRUE(choice.kernel->is_reference);
  EXPECT_NE(join(choice.refusals).find("no generated kernels of c64"), std::string::npos) << join(choice.refusals);
}

}  // namespace
}  // namespace tessera

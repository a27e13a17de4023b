// sort with comparators as JAX emits them, and topk.
#include "tests/hlo/run_module.h"

namespace tessera::hlo {
namespace {

using namespace testing;

// One canonical float key, as lax.sort has it: parameters 0 and 1 of `count` pairs.
std::string canonical_comparator(std::string_view direction, int pairs) {
  std::string text = "cmp {\n";
  for (int i = 2; i < 2 * pairs; ++i) text += cat("  q", i, " = s32[] parameter(", i, ")\n");
  return text + cat(R"(
  sort.2 = f32[] parameter(0)
  ne.2 = pred[] compare(sort.2, sort.2), direction=NE
  constant.2 = f32[] constant(nan)
  constant.3 = f32[] constant(0)
  eq.2 = pred[] compare(sort.2, constant.3), direction=EQ
  select_n.4 = f32[] select(eq.2, constant.3, sort.2)
  select_n.5 = f32[] select(ne.2, constant.2, select_n.4)
  sort.3 = f32[] parameter(1)
  ne.3 = pred[] compare(sort.3, sort.3), direction=NE
  eq.3 = pred[] compare(sort.3, constant.3), direction=EQ
  select_n.6 = f32[] select(eq.3, constant.3, sort.3)
  select_n.7 = f32[] select(ne.3, constant.2, select_n.6)
  ROOT lt_to.1 = pred[] compare(select_n.5, select_n.7), direction=)",
                    direction, ", type=TOTALORDER\n}\n");
}

bool has_region(const Graph& graph) {
  for (const Instruction& instruction : graph.instructions)
    if (instruction.attributes.has(Attr::combiner)) return true;
  return false;
}

TEST(ImportSort, FloatsAsJaxOrdersThem) {
  const std::string text = module_of(R"(
    x = f32[6] parameter(0)
    i = s32[6] iota(), iota_dimension=0
    ROOT s = (f32[6], s32[6]) sort(x, i), dimensions={0}, is_stable=true, to_apply=cmp)",
                                     canonical_comparator("LT", 2));
  // -0 and +0 are equal, so their order stays; NaN of either sign are last.
  const std::vector<HostTensor> y =
      run_module(text, {floats({NAN, 0.f, -0.f, -INFINITY, -NAN, 1})});
  EXPECT_EQ(reals(y[1]), (Reals{3, 1, 2, 5, 0, 4}));
  EXPECT_FALSE(std::signbit(y[0].get_real(1)));
  EXPECT_TRUE(std::signbit(y[0].get_real(2)));
  EXPECT_FALSE(has_region(import_text(text).graph));
  const std::vector<HostTensor> down =
      run_module(module_of("x = f32[6] parameter(0)\n"
                           "ROOT s = f32[6] sort(x), dimensions={0}, to_apply=cmp",
                           canonical_comparator("GT", 1)),
                 {floats({3, 0, -1, INFINITY, 2, 1})});
  EXPECT_EQ(reals(down[0]), (Reals{INFINITY, 3, 2, 1, 0, -1}));
}

TEST(ImportSort, IntegersAndTotalOrder) {
  const auto text = [](std::string_view type, std::string_view compare) {
    return module_of(cat("x = ", type, "[4] parameter(0)\nROOT s = ", type,
                         "[4] sort(x), dimensions={0}, to_apply=cmp"),
                     cat("cmp {\n x = ", type, "[] parameter(0)\n y = ", type,
                         "[] parameter(1)\n ROOT r = pred[] ", compare, "\n}\n"));
  };
  EXPECT_EQ(
      reals(run_module(text("s32", "compare(x, y), direction=LT"), {integers({3, -1, 2, 0})})[0]),
      (Reals{-1, 0, 2, 3}));
  EXPECT_EQ(
      reals(run_module(text("s32", "compare(y, x), direction=LT"), {integers({3, -1, 2, 0})})[0]),
      (Reals{3, 2, 0, -1}));
  for (const char* compare :
       {"compare(x, y), direction=LT", "compare(x, y), direction=LT, type=TOTALORDER"})
    EXPECT_EQ(reals(run_module(text("f32", compare), {floats({3, -1, 2, 0})})[0]),
              (Reals{-1, 0, 2, 3}));
  EXPECT_FALSE(
      has_region(import_text(text("f32", "compare(x, y), direction=LT, type=TOTALORDER")).graph));
}

TEST(ImportSort, SeveralKeysOneAfterTheOther) {
  const std::string text = module_of(R"(
    a = s32[5] parameter(0)
    b = f32[5] parameter(1)
    i = s32[5] iota(), iota_dimension=0
    ROOT s = (s32[5], f32[5], s32[5]) sort(a, b, i), dimensions={0}, to_apply=cmp)",
                                     R"(
  cmp {
    a0 = s32[] parameter(0)
    a1 = s32[] parameter(1)
    b0 = f32[] parameter(2)
    b1 = f32[] parameter(3)
    i0 = s32[] parameter(4)
    i1 = s32[] parameter(5)
    lt = pred[] compare(a0, a1), direction=LT
    eq = pred[] compare(a0, a1), direction=EQ
    gt = pred[] compare(b0, b1), direction=GT, type=TOTALORDER
    and = pred[] and(eq, gt)
    ROOT r = pred[] or(lt, and)
  })");
  const std::vector<HostTensor> y =
      run_module(text, {integers({2, 1, 2, 1, 2}), floats({5, 6, 7, 8, 7})});
  EXPECT_EQ(reals(y[0]), (Reals{1, 1, 2, 2, 2}));
  EXPECT_EQ(reals(y[1]), (Reals{8, 6, 7, 7, 5}));
  EXPECT_EQ(reals(y[2]), (Reals{3, 1, 2, 4, 0}));
  EXPECT_FALSE(has_region(import_text(text).graph));
}

TEST(ImportSort, AnyOtherComparatorIsARegion) {
  const std::string text = module_of(
      "x = s32[4] parameter(0)\nROOT s = s32[4] sort(x), dimensions={0}, to_apply=cmp", R"(
  cmp {
    x = s32[] parameter(0)
    y = s32[] parameter(1)
    a = s32[] abs(x)
    b = s32[] abs(y)
    ROOT r = pred[] compare(a, b), direction=LT
  })");
  EXPECT_EQ(reals(run_module(text, {integers({-3, 1, -2, 0})})[0]), (Reals{0, 1, -2, -3}));
  EXPECT_TRUE(has_region(import_text(text).graph));
}

TEST(ImportSort, Errors) {
  const std::string cmp = canonical_comparator("LT", 1);
  expect_error(
      module_of("x = f32[4] parameter(0)\nROOT s = f32[4] sort(x), dimensions={1}, to_apply=cmp",
                cmp),
      {"sort: dimension 1 of f32[4]"});
  expect_error(
      module_of("x = s32[4] parameter(0)\nROOT s = s32[4] sort(x), dimensions={0}, to_apply=cmp",
                cmp),
      {"sort: the region", "must be"});
}

TEST(ImportSort, TopK) {
  const auto text = [](std::string_view largest) {
    return module_of(
        cat("x = f32[2,4] parameter(0)\nROOT t = (f32[2,2], s32[2,2]) topk(x), k=2", largest));
  };
  const HostTensor x = tensor<float>({2, 4}, {3, 1, 7, 5, 0, -1, 4, 4});
  std::vector<HostTensor> y = run_module(text(", largest=true"), {x});
  EXPECT_EQ(reals(y[0]), (Reals{7, 5, 4, 4}));
  EXPECT_EQ(reals(y[1]), (Reals{2, 3, 2, 3}));
  y = run_module(text(", largest=false"), {x});
  EXPECT_EQ(reals(y[0]), (Reals{1, 3, -1, 0}));
  // +0 comes before -0, NaN before infinity.
  y = run_module(text(", largest=true"),
                 {tensor<float>({2, 4}, {-1, -0.f, 0.f, -2, 1, NAN, 3, INFINITY})});
  EXPECT_EQ(reals(y[1]), (Reals{2, 1, 1, 3}));
}

}  // namespace
}  // namespace tessera::hlo

#include "core/mesh/mesh.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "core/base/error.h"

namespace tessera {
namespace {

// Splits {axis 0 of size 16} at random into consecutive parts, and keeps a random order of them.
AxisList random_parts(int axis, int64_t size) {
  AxisList parts;
  int64_t pre = 1;
  while (pre < size) {
    int64_t step = 2;
    while (pre * step < size && *rc::gen::arbitrary<bool>()) step *= 2;
    parts.push_back({axis, pre, step});
    pre *= step;
  }
  return parts;
}

AxisList random_list() {
  AxisList all = random_parts(0, 16);
  for (AxisRef ref : random_parts(1, 8)) all.push_back(ref);
  for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[*rc::gen::inRange<size_t>(0, i)]);
  all.resize(*rc::gen::inRange<size_t>(0, all.size() + 1));
  return canonical(all);
}

const Mesh kMesh({{"x", 16}, {"y", 8}});

TEST(Mesh, LastAxisVariesFastest) {
  const Mesh mesh({{"data", 2}, {"model", 4}});
  EXPECT_EQ(mesh.devices(), 8);
  EXPECT_EQ(mesh.coordinate(5, mesh.axis("data")), 1);
  EXPECT_EQ(mesh.coordinate(5, mesh.axis("model")), 1);
  EXPECT_EQ(mesh.group(5, {mesh.axis("model")}), (std::vector<int64_t>{4, 5, 6, 7}));
  EXPECT_EQ(mesh.group(5, {mesh.axis("data")}), (std::vector<int64_t>{1, 5}));
}

TEST(Mesh, SubAxisCoordinates) {
  const Mesh mesh({{"model", 8}});
  const AxisRef major{0, 1, 2}, minor{0, 2, 4};
  for (int64_t device = 0; device < 8; ++device) {
    EXPECT_EQ(mesh.coordinate(device, major), device / 4);
    EXPECT_EQ(mesh.coordinate(device, minor), device % 4);
  }
  EXPECT_EQ(mesh.group(6, {minor}), (std::vector<int64_t>{4, 5, 6, 7}));
  EXPECT_EQ(mesh.group(6, {major}), (std::vector<int64_t>{2, 6}));
}

TEST(Mesh, DeviceOrder) {
  const Mesh mesh({{"a", 2}, {"b", 2}}, {3, 1, 2, 0});
  EXPECT_EQ(mesh.coordinate(3, mesh.axis("a")), 0);
  EXPECT_EQ(mesh.coordinate(0, mesh.axis("b")), 1);
  EXPECT_EQ(mesh.group(2, {mesh.axis("b")}), (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(parse_mesh(cat(mesh)), mesh);
}

TEST(Mesh, PrintsAndParses) {
  EXPECT_EQ(cat(parse_mesh("data=2,model=4")), "<data=2, model=4>");
  EXPECT_EQ(parse_mesh("<data=2, model=4>"), parse_mesh(" data = 2 , model = 4"));
  EXPECT_EQ(parse_axis(kMesh, "x:(2)4"), (AxisRef{0, 2, 4}));
  EXPECT_EQ(print_axis(kMesh, {0, 2, 4}), "x:(2)4");
}

TEST(Mesh, Errors) {
  EXPECT_THROW(parse_mesh("data"), ConfigError);
  EXPECT_THROW(parse_mesh("data=two"), ConfigError);
  EXPECT_THROW(parse_mesh("data=2,data=3"), ConfigError);
  EXPECT_THROW(parse_mesh("data=0"), ConfigError);
  EXPECT_THROW(parse_axis(kMesh, "x:(3)4"), ConfigError);
  try {
    kMesh.axis("xx");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "mesh <x=16, y=8> has no axis \"xx\"; did you mean \"x\"?");
  }
}

TEST(AxisList, PrefixSplitsAxes) {
  const AxisList whole{{0, 1, 16}}, part{{0, 1, 4}, {1, 1, 8}};
  EXPECT_EQ(common_prefix(whole, part), (AxisList{{0, 1, 4}}));
  EXPECT_EQ(suffix_after(whole, {{0, 1, 4}}), (AxisList{{0, 4, 4}}));
  EXPECT_EQ(prefix_without(whole, {{0, 4, 2}}), (AxisList{{0, 1, 4}}));
  EXPECT_EQ(without(whole, {{0, 4, 2}}), (AxisList{{0, 1, 4}, {0, 8, 2}}));
  EXPECT_EQ(canonical({{0, 1, 4}, {0, 4, 4}}), whole);
}

// The major half of 6 and its minor 2 are digits of different factorings.
TEST(AxisList, PartsThatCrossOverlap) {
  const AxisRef half{0, 1, 2}, third{0, 1, 3}, minor_pair{0, 3, 2}, minor_three{0, 2, 3};
  EXPECT_TRUE(overlaps(half, minor_pair));
  EXPECT_TRUE(overlaps(third, minor_three));
  EXPECT_FALSE(overlaps(half, minor_three));
  EXPECT_FALSE(overlaps(minor_pair, third));
  EXPECT_TRUE(overlaps(half, half));
}

RC_GTEST_PROP(AxisList, GroupsPartitionTheDevices, ()) {
  const AxisList axes = random_list();
  std::set<int64_t> seen;
  for (int64_t device = 0; device < kMesh.devices(); ++device) {
    const auto group = kMesh.group(device, axes);
    RC_ASSERT(static_cast<int64_t>(group.size()) == size_of(axes));
    RC_ASSERT(group[kMesh.coordinate(device, axes)] == device);
    for (size_t i = 0; i < group.size(); ++i)
      RC_ASSERT(kMesh.coordinate(group[i], axes) == static_cast<int64_t>(i));
    if (kMesh.coordinate(device, axes) == 0) seen.insert(group.begin(), group.end());
  }
  RC_ASSERT(static_cast<int64_t>(seen.size()) == kMesh.devices());
}

RC_GTEST_PROP(AxisList, CommonPrefixIsTheLongest, ()) {
  const AxisList a = random_list(), b = random_list();
  const AxisList prefix = common_prefix(a, b);
  RC_ASSERT(is_prefix(prefix, a));
  RC_ASSERT(is_prefix(prefix, b));
  RC_ASSERT(concat(prefix, suffix_after(a, prefix)) == a);
  const AxisList rest_a = suffix_after(a, prefix), rest_b = suffix_after(b, prefix);
  RC_ASSERT(rest_a.empty() || rest_b.empty() || common_prefix(rest_a, rest_b).empty());
}

RC_GTEST_PROP(AxisList, WithoutRemovesExactlyTheOverlap, ()) {
  const AxisList a = random_list(), b = random_list();
  const AxisList kept = without(a, b);
  RC_ASSERT(!overlaps(kept, b));
  RC_ASSERT(size_of(kept) * size_of(without(a, kept)) == size_of(a));
  RC_ASSERT(is_prefix(prefix_without(a, b), a));
  RC_ASSERT(!overlaps(prefix_without(a, b), b));
}

}  // namespace
}  // namespace tessera

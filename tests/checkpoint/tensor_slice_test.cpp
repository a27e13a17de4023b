#include "launch/checkpoint/tensor_slice.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tessera {
namespace {

TEST(TensorSlice, IntersectAndClip) {
  const Box common = intersect({{0, 2}, {4, 4}}, {{3, 0}, {5, 3}});
  EXPECT_EQ(common.start, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(common.shape, (Shape{1, 1}));
  EXPECT_TRUE(intersect({{0}, {3}}, {{3}, {3}}).empty());
  EXPECT_EQ(clip({{192}, {192}}, {259}).shape, (Shape{67}));
  EXPECT_TRUE(clip({{384}, {192}}, {259}).empty());
  EXPECT_FALSE(clip({{}, {}}, {}).empty());  // a scalar is one element
}

RC_GTEST_PROP(TensorSliceProperty, CutBoxesTileTheBox, ()) {
  Box box;
  for (int d = *rc::gen::inRange(0, 4); d > 0; --d) {
    box.start.push_back(*rc::gen::inRange<int64_t>(0, 5));
    box.shape.push_back(*rc::gen::inRange<int64_t>(0, 9));
  }
  const auto most = *rc::gen::inRange<int64_t>(1, 400);
  int64_t elements = 0;
  const std::vector<Box> pieces = cut_box(box, 4, most);
  for (size_t i = 0; i < pieces.size(); ++i) {
    elements += pieces[i].shape.elements();
    RC_ASSERT(intersect(pieces[i], box).shape == pieces[i].shape);
    for (size_t j = 0; j < i; ++j) RC_ASSERT(intersect(pieces[i], pieces[j]).empty());
    // Too large only where a single row is.
    int dim = 0;
    while (dim < box.shape.rank() && box.shape[dim] == 1) ++dim;
    const bool fits = pieces[i].shape.elements() * 4 <= most || dim == box.shape.rank() ||
                      pieces[i].shape[dim] == 1;
    RC_ASSERT(fits);
  }
  RC_ASSERT(elements == box.shape.elements());
}

}  // namespace
}  // namespace tessera

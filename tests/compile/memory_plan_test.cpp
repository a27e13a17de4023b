// The memory plan: checked by replay, close to its lower bound, in place where it can be.
#include "core/compile/memory_plan.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/base/error.h"
#include "core/compile/best_fit.h"
#include "core/compile/compile.h"
#include "core/compile/plan_checker.h"
#include "core/ops/sharding.h"
#include "tests/compile/test_steps.h"

namespace tessera {
namespace {

using testing::kLayouts;
using testing::mlp_step;
using testing::partitioned;
using testing::random_graph;

const TensorType kVector{DType::f64, {64}};

RC_GTEST_PROP(BestFit, NoTwoLiveIntervalsOverlap, ()) {
  const auto count = *rc::gen::inRange<size_t>(1, 60);
  std::vector<Interval> intervals;
  for (size_t i = 0; i < count; ++i) {
    const int first = *rc::gen::inRange(0, 40);
    intervals.push_back(
        {first, first + *rc::gen::inRange(0, 12), 64 * *rc::gen::inRange<int64_t>(0, 20), -1});
  }
  const int64_t total = place_intervals(intervals);
  RC_ASSERT(total >= live_lower_bound(intervals));
  for (size_t a = 0; a < count; ++a) {
    RC_ASSERT(intervals[a].offset >= 0);
    RC_ASSERT(intervals[a].offset + intervals[a].bytes <= total);
    for (size_t b = a + 1; b < count; ++b) {
      const bool in_time =
          intervals[a].first <= intervals[b].last && intervals[b].first <= intervals[a].last;
      const bool in_space = intervals[a].offset < intervals[b].offset + intervals[b].bytes &&
                            intervals[b].offset < intervals[a].offset + intervals[a].bytes;
      RC_ASSERT(!(in_time && in_space));
    }
  }
}

TEST(MemoryPlan, TrainingStepsLieWithinTenPercentOfTheLowerBound) {
  const Graph graph = mlp_step(6, 16, 32, 128);
  std::vector<Graph> graphs{graph};
  for (const auto& layout : kLayouts) graphs.push_back(partitioned(graph, layout));
  for (const Graph& each : graphs) {
    const MemoryReport memory = compile(each, KernelTable()).memory;
    EXPECT_GE(memory.symmetric_bytes + memory.scratch_bytes, memory.live_lower_bound);
    EXPECT_LE(static_cast<double>(memory.symmetric_bytes + memory.scratch_bytes),
              1.1 * static_cast<double>(memory.live_lower_bound))
        << (each.mesh ? cat(*each.mesh) : "one device");
  }
}

// compile() runs the checker itself; here it must find what is wrong.
TEST(PlanChecker, FindsABufferThatWasMovedOntoALiveOne) {
  const Graph graph = mlp_step(2, 8, 8, 16);
  Executable executable = compile(graph, KernelTable());
  int found = 0, moved = 0;
  auto root = [&](int buffer) {
    while (executable.buffers[static_cast<size_t>(buffer)].alias_of >= 0)
      buffer = executable.buffers[static_cast<size_t>(buffer)].alias_of;
    return buffer;
  };
  auto move_class = [&](size_t of, int64_t by) {
    for (size_t i = 0; i < executable.buffers.size(); ++i)
      if (root(static_cast<int>(i)) == static_cast<int>(of)) executable.buffers[i].offset += by;
  };
  for (size_t a = 0; a < executable.buffers.size(); ++a) {
    const BufferPlan& victim = executable.buffers[a];
    if (victim.arena != Arena::scratch || victim.alias_of >= 0 || victim.first_step < 0) continue;
    for (size_t b = 0; b < executable.buffers.size(); ++b) {
      const BufferPlan& other = executable.buffers[b];
      if (a == b || other.arena != Arena::scratch || other.alias_of >= 0 || other.first_step < 0)
        continue;
      // `other` is written while `victim` waits for a later reader.
      if (!(victim.first_step < other.first_step && other.first_step < victim.last_step)) continue;
      const int64_t by = other.offset - victim.offset;
      move_class(a, by);
      ++moved;
      try {
        check_plan(executable);
      } catch (const InternalError&) {
        ++found;
      }
      move_class(a, -by);
    }
  }
  EXPECT_GT(moved, 10);
  EXPECT_EQ(found, moved);
}

TEST(PlanChecker, FindsACollectiveThatIsReadBeforeItIsDone) {
  const Graph local = partitioned(mlp_step(1, 8, 8, 16), kLayouts[0]);
  Executable executable = compile(local, KernelTable());
  const auto done =
      std::find_if(executable.steps.begin(), executable.steps.end(),
                   [](const Step& step) { return std::holds_alternative<CollectiveDone>(step); });
  ASSERT_NE(done, executable.steps.end());
  std::rotate(done, done + 1, executable.steps.end());
  EXPECT_THROW(check_plan(executable), InternalError);
}

RC_GTEST_PROP(MemoryPlan, RandomGraphsPassTheChecker, ()) {
  const auto seed = *rc::gen::inRange<uint64_t>(0, 1 << 30);
  const Graph graph = random_graph(seed, *rc::gen::inRange(1, 120));
  const MemoryReport memory = compile(graph, KernelTable()).memory;
  RC_ASSERT(memory.scratch_bytes >= memory.live_lower_bound);
  RC_ASSERT(memory.scratch_bytes <= memory.live_lower_bound + memory.live_lower_bound / 10 + 256);
}

TEST(MemoryPlan, AChainOfElementwiseOpsTakesOneBuffer) {
  Graph graph;
  Builder b(graph);
  Value x = ops::tanh(b, b.input(InputKind::data, "x", kVector));
  for (int i = 0; i < 5; ++i) x = ops::negate(b, x);
  b.output(x, "y");
  EXPECT_EQ(compile(graph, KernelTable()).memory.scratch_bytes, kVector.bytes());
}

TEST(MemoryPlan, ViewsAndMembersOfABucketAreNotCopied) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kVector);
  const Value first = ops::tanh(b, x), second = ops::negate(b, x);
  const Value bucket = ops::concatenate(b, {ops::reshape(b, first, {64}), second}, 0);
  const Value doubled = ops::scale(b, bucket, 2);
  b.output(ops::slice_dim(b, doubled, 0, 0, 64), "first");
  b.output(ops::reshape(b, ops::slice_dim(b, doubled, 0, 64, 128), {8, 8}), "second");
  const Executable executable = compile(graph, KernelTable());
  EXPECT_EQ(executable.steps.size(), 3u);  // tanh, negate, multiply
  EXPECT_EQ(executable.memory.scratch_bytes, 2 * kVector.bytes());
  const auto& one = executable.buffers[static_cast<size_t>(first.instruction)];
  const auto& two = executable.buffers[static_cast<size_t>(second.instruction)];
  EXPECT_EQ(two.offset - one.offset, kVector.bytes());
}

// A member that has its own place already, or would not be aligned, is copied; the others are not.
TEST(MemoryPlan, OddMembersOfABucketAreCopiedAlone) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kVector);
  const Value small = b.input(InputKind::data, "small", {DType::f64, {3}});
  const Value first = ops::tanh(b, x), odd = ops::negate(b, small), last = ops::negate(b, first);
  b.output(ops::tanh(b, ops::concatenate(b, {first, small, odd, last}, 0)), "y");
  b.output(ops::tanh(b, ops::concatenate(b, {first, last}, 0)), "z");
  const Executable executable = compile(graph, KernelTable());
  int copies = 0;
  for (const Step& step : executable.steps) copies += std::holds_alternative<CopyStep>(step);
  EXPECT_EQ(copies, 0) << "less than half could be placed";
  Graph better;
  Builder c(better);
  const Value y = c.input(InputKind::data, "x", kVector);
  const Value little = c.input(InputKind::data, "small", {DType::f64, {3}});
  c.output(
      ops::tanh(c, ops::concatenate(
                       c, {ops::tanh(c, y), ops::negate(c, y), little, ops::negate(c, little)}, 0)),
      "y");
  const Executable placed = compile(better, KernelTable());
  for (const Step& step : placed.steps) copies += std::holds_alternative<CopyStep>(step);
  EXPECT_EQ(copies, 2);
  EXPECT_EQ(placed.copies, 0) << "only lost aliases are counted";
}

TEST(MemoryPlan, WhatCollectivesTouchIsSymmetric) {
  const Graph local = partitioned(mlp_step(2, 8, 8, 16), kLayouts[2]);
  const Executable executable = compile(local, KernelTable());
  EXPECT_GT(executable.memory.symmetric_bytes, 0);
  for (const Step& step : executable.steps) {
    const auto* start = std::get_if<CollectiveStart>(&step);
    if (!start) continue;
    for (int number : {start->input, start->output}) {
      const BufferPlan& plan = executable.buffers[static_cast<size_t>(number)];
      EXPECT_TRUE(plan.arena == Arena::symmetric || plan.arena == Arena::persistent) << plan.tensor;
      if (plan.arena == Arena::persistent) {
        const int input = executable.input_buffers[static_cast<size_t>(plan.input)];
        EXPECT_TRUE(executable.buffers[static_cast<size_t>(input)].collective) << plan.tensor;
      }
      EXPECT_EQ(plan.offset % 64, 0);
    }
  }
}

}  // namespace
}  // namespace tessera

// The CUDA backend by itself: copies, fills, recordings, and what its errors say.
#include <cstring>

#include "core/base/error.h"
#include "core/compile/compile.h"
#include "core/ir/interpreter.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/runtime/executor.h"
#include "core/runtime/timeline.h"
#include "tests/gpu/device_testing.h"
#include "tests/support/random_tensor.h"

namespace tessera {
namespace {

class CudaBackendTest : public DeviceTest {};

std::vector<std::byte> numbered(int64_t count) {
  std::vector<std::byte> bytes(static_cast<size_t>(count));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  return bytes;
}

HostTensor bytes_of(const GuardedBuffer& buffer) { return buffer.get({DType::u8, {buffer.bytes()}}, "the buffer"); }

TEST_F(CudaBackendTest, CopiesToTheDeviceAndBack) {
  for (int64_t count : {1, 3, 64, 1000, 70001}) {
    const std::vector<std::byte> bytes = numbered(count);
    GuardedBuffer first(backend(), count), second(backend(), count);
    std::vector<std::byte> source = bytes;
    backend().copy_to_device(first.data(), source.data(), count);
    std::fill(source.begin(), source.end(), std::byte{0});  // may be reused at once
    backend().copy(second.data(), first.data(), count);
    const HostTensor got = bytes_of(second);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), got.bytes().begin())) << count;
  }
}

TEST_F(CudaBackendTest, CopiesOfNothingAndOntoItself) {
  GuardedBuffer buffer(backend(), 16);
  buffer.put(numbered(16));
  backend().copy(buffer.data(), buffer.data(), 16);
  backend().copy(buffer.data(), buffer.data() + 16, 0);
  backend().copy_rows(buffer.data(), 16, buffer.data(), 16, 0, 3);
  backend().copy_to_device(buffer.data(), nullptr, 0);
  EXPECT_EQ(bytes_of(buffer).bytes()[5], numbered(16)[5]);
}

TEST_F(CudaBackendTest, CopiesRowsOfDifferentPitch) {
  constexpr int64_t kFrom = 13, kTo = 7, kWidth = 5, kRows = 9;
  GuardedBuffer from(backend(), kFrom * kRows), to(backend(), kTo * kRows);
  const std::vector<std::byte> bytes = numbered(kFrom * kRows);
  from.put(bytes);
  backend().copy_rows(to.data(), kTo, from.data(), kFrom, kWidth, kRows);
  const HostTensor got = bytes_of(to);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kTo; ++column)
      EXPECT_EQ(got.bytes()[static_cast<size_t>(row * kTo + column)],
                column < kWidth ? bytes[static_cast<size_t>(row * kFrom + column)] : std::byte{0xff})
          << row << ", " << column;
}

TEST_F(CudaBackendTest, FillsEveryWidth) {
  const uint64_t element = 0x1122334455667788;
  for (int64_t width : {1, 2, 4, 8})
    for (int64_t count : {0, 1, 255, 257, 3001}) {
      GuardedBuffer buffer(backend(), width * count);
      backend().fill(buffer.data(), &element, width, count);
      const HostTensor got = bytes_of(buffer);
      for (int64_t i = 0; i < count; ++i)
        ASSERT_EQ(std::memcmp(got.bytes().data() + i * width, &element, static_cast<size_t>(width)), 0)
            << width << ", " << i;
    }
}

TEST_F(CudaBackendTest, AReplayDoesWhatWasRecorded) {
  if (!backend().can_capture()) GTEST_SKIP();
  GuardedBuffer a(backend(), 8), b(backend(), 8), c(backend(), 8);
  const uint64_t element = 42;
  backend().synchronize();
  backend().begin_capture();
  backend().copy(b.data(), a.data(), 8);
  backend().fill(a.data(), &element, 8, 1);
  backend().copy(c.data(), a.data(), 8);
  const int recording = backend().end_capture();
  const uint64_t first = 7;
  backend().copy_to_device(a.data(), &first, 8);
  backend().replay(recording);
  uint64_t b_value, c_value;
  backend().copy_to_host(&b_value, b.data(), 8);
  backend().copy_to_host(&c_value, c.data(), 8);
  EXPECT_EQ(b_value, 7u);
  EXPECT_EQ(c_value, 42u);
  backend().replay(recording);
  backend().copy_to_host(&b_value, b.data(), 8);
  EXPECT_EQ(b_value, 42u);
  backend().drop(recording);
}

// x -> x w, slices and concatenations, for steps that are copies and fills at least.
struct SmallProgram {
  Graph graph;
  SmallProgram() {
    Builder b(graph);
    const Value x = b.input(InputKind::data, "x", {DType::f32, {6, 8}});
    const Value w = b.input(InputKind::parameter, "w", {DType::f32, {8, 4}});
    const Value y = ops::matmul(b, x, w);
    const Value turned = ops::transpose(b, y, {1, 0});
    const Value all = ops::concatenate(b, {turned, turned}, 1);
    b.output(ops::tanh(b, ops::add(b, all, all)), "y");
    b.output(all, "all");
  }
};

TEST_F(CudaBackendTest, AnExecutorWithRecordingsComputesTheSame) {
  SmallProgram program;
  const Executable executable = compile(program.graph, backend().kernels());
  const auto run = [&](bool capture) {
    BufferStore store(backend(), nullptr);
    Executor executor(executable, backend(), nullptr, 0, store, {.capture = capture});
    std::vector<std::vector<HostTensor>> all;
    for (unsigned step = 0; step < 5; ++step) {
      std::vector<HostTensor> inputs;
      for (int i = 0; i < 2; ++i) {
        inputs.push_back(random_operand_tensor(executor.input(i).type, 10 * step + static_cast<unsigned>(i), {-1, 1}));
        backend().copy_to_device(executor.input(i).data, inputs.back().bytes().data(), inputs.back().type().bytes());
      }
      executor.run();
      const std::vector<HostTensor> want = interpret(program.graph, inputs);
      for (int o = 0; o < 2; ++o) {
        HostTensor got(executor.output(o).type);
        backend().copy_to_host(got.bytes().data(), executor.output(o).data, got.type().bytes());
        EXPECT_LT(max_relative_error(got, want[static_cast<size_t>(o)], 1.0), 1e-5) << "step " << step;
        all.push_back({got});
      }
    }
    if (!capture) {
      EXPECT_EQ(executor.captured().recordings, 0);
    }
    return all;
  };
  EXPECT_TRUE(run(false) == run(true));
}

TEST_F(CudaBackendTest, MarksPassInTheOrderOfTheWork) {
  GuardedBuffer buffer(backend(), 1 << 16);
  const uint64_t element = 3;
  for (int round = 0; round < 3; ++round) {
    const double before = steady_seconds();
    backend().begin_times();
    std::vector<int> marks = {backend().mark_time()};
    EXPECT_EQ(marks[0], 0);
    for (int i = 0; i < 20; ++i) {
      backend().fill(buffer.data(), &element, 8, buffer.bytes() / 8);
      marks.push_back(backend().mark_time());
    }
    backend().synchronize();
    const double after = steady_seconds();
    // The device's clock and the host's agree to well within a millisecond.
    EXPECT_GT(backend().time_of(marks.front()), before - 1e-3);
    EXPECT_LT(backend().time_of(marks.back()), after + 1e-3);
    for (size_t i = 1; i < marks.size(); ++i)
      EXPECT_LE(backend().time_of(marks[i - 1]), backend().time_of(marks[i])) << i;
  }
}

TEST_F(CudaBackendTest, ATimelineChangesNothingAndKnowsEveryStep) {
  SmallProgram program;
  const Executable executable = compile(program.graph, backend().kernels());
  BufferStore store(backend(), nullptr);
  Executor executor(executable, backend(), nullptr, 0, store);
  for (int i = 0; i < 2; ++i) {
    const HostTensor input = random_operand_tensor(executor.input(i).type, 5 + static_cast<unsigned>(i), {-1, 1});
    backend().copy_to_device(executor.input(i).data, input.bytes().data(), input.type().bytes());
  }
  const auto run = [&] {
    executor.run();
    HostTensor got(executor.output(0).type);
    backend().copy_to_host(got.bytes().data(), executor.output(0).data, got.type().bytes());
    return got;
  };
  const HostTensor first = run(), recorded = run();
  Timeline timeline;
  backend().begin_times();
  executor.set_timeline(&timeline);
  EXPECT_EQ(run(), first);
  executor.set_timeline(nullptr);
  EXPECT_EQ(run(), recorded);
  ASSERT_EQ(timeline.steps.size(), executable.steps.size() + 1);
  const Timeline::Step& whole = timeline.steps[0];
  EXPECT_EQ(whole.step, Timeline::kRun);
  double last = backend().time_of(whole.begin);
  for (size_t s = 1; s < timeline.steps.size(); ++s) {
    EXPECT_EQ(timeline.steps[s].step, static_cast<int>(s) - 1);
    EXPECT_LE(last, backend().time_of(timeline.steps[s].begin));
    last = backend().time_of(timeline.steps[s].end);
    EXPECT_LE(backend().time_of(timeline.steps[s].begin), last);
  }
  EXPECT_LE(last, backend().time_of(whole.end));
}

TEST_F(CudaBackendTest, RangesNest) {
  ASSERT_TRUE(backend().has_ranges());
  backend().begin_range("outer");
  backend().begin_range("inner");
  backend().end_range();
  backend().end_range();
}

TEST_F(CudaBackendTest, OutOfMemorySaysWhatIsFree) {
  const int64_t total = plugin().devices().at(0).memory_bytes;
  try {
    std::byte* const memory = backend().allocate(total + (int64_t{1} << 30));
    backend().release(memory);
    FAIL() << "it had the memory";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("out of memory on GPU 0"), std::string::npos) << text;
    EXPECT_NE(text.find("are free"), std::string::npos) << text;
  }
  // The error is not seen again.
  GuardedBuffer buffer(backend(), 64);
  buffer.put(numbered(64));
  EXPECT_EQ(bytes_of(buffer).bytes()[9], numbered(64)[9]);
}

TEST_F(CudaBackendTest, AnAbsentDeviceIsNamed) {
  try {
    (void)plugin().create_backend({.device = 99});
    FAIL() << "there are 100 devices";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("device 99 was asked for"), std::string::npos) << text;
  }
  EXPECT_THROW((void)plugin().create_backend({.device = -1}), UserError);
}

TEST_F(CudaBackendTest, DevicesAreDescribed) {
  const std::vector<cuda::DeviceInfo> devices = plugin().devices();
  ASSERT_FALSE(devices.empty());
  EXPECT_FALSE(devices[0].name.empty());
  EXPECT_EQ(devices[0].uuid.size(), 32u);
  EXPECT_GE(devices[0].major, 8);
  EXPECT_GT(devices[0].memory_bytes, 0);
  EXPECT_GT(devices[0].multiprocessors, 0);
  EXPECT_FALSE(plugin().versions().empty());
}

}  // namespace
}  // namespace tessera

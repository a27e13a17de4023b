// The executor computes what the interpreter computes; it works in place, allocates nothing in
// run(), and says where an error happened.
#include "core/runtime/executor.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/compile/compile.h"
#include "core/ir/interpreter.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/optimizer.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/runtime/thread_world.h"
#include "tests/runtime/heap_count.h"

namespace tessera {
namespace {

// Counts what is asked of it.
class CountingBackend final : public Backend {
 public:
  const std::string& name() const override { return cpu_->name(); }
  std::byte* allocate(int64_t bytes) override {
    ++allocations;
    return cpu_->allocate(bytes);
  }
  void release(std::byte* memory) noexcept override {
    ++releases;
    cpu_->release(memory);
  }
  void copy(void* to, const void* from, int64_t bytes) override { cpu_->copy(to, from, bytes); }
  void copy_rows(void* to, int64_t to_pitch, const void* from, int64_t from_pitch, int64_t width,
                 int64_t rows) override {
    cpu_->copy_rows(to, to_pitch, from, from_pitch, width, rows);
  }
  void fill(void* to, const void* element, int64_t element_bytes, int64_t count) override {
    cpu_->fill(to, element, element_bytes, count);
  }
  void copy_to_device(void* device, const void* host, int64_t bytes) override {
    cpu_->copy_to_device(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, int64_t bytes) override {
    cpu_->copy_to_host(host, device, bytes);
  }
  const KernelTable& kernels() const override { return cpu_->kernels(); }
  int allocations = 0, releases = 0;

 private:
  std::unique_ptr<Backend> cpu_ = create_cpu_backend(KernelTable());
};

HostTensor values_from(const TensorType& type, double first = 0.1) {
  HostTensor tensor(type);
  for (int64_t i = 0; i < tensor.elements(); ++i)
    tensor.set_real(i,
                    first + 0.03 * static_cast<double>(i % 13) - 0.02 * static_cast<double>(i % 5));
  return tensor;
}

void put(const TensorView& view, const HostTensor& tensor) {
  ASSERT_EQ(view.type, tensor.type());
  std::memcpy(view.data, tensor.bytes().data(), tensor.bytes().size());
}
HostTensor get(const TensorView& view) {
  HostTensor tensor(view.type);
  std::memcpy(tensor.bytes().data(), view.data, tensor.bytes().size());
  return tensor;
}

// x -> x w -> tanh -> sum, and one AdamW step with x^T as a stand-in for the gradient.
struct Step {
  Graph graph;
  Builder b{graph};
  Value x = b.input(InputKind::data, "x", {DType::f64, {4, 4}});
  Value w = b.input(InputKind::parameter, "w", {DType::f64, {4, 4}});
  Value m = b.input(InputKind::optimizer, "m", {DType::f64, {4, 4}});
  Value v = b.input(InputKind::optimizer, "v", {DType::f64, {4, 4}});
  Step() {
    const Value hidden = ops::tanh(b, ops::matmul(b, x, w));
    b.output(ops::reduce_all(b, hidden), "loss");
    const Value one = ops::constant(b, 1.0, {DType::f64, {}});
    const ops::AdamWResult step =
        ops::adamw(b, {w, m, v, ops::transpose(b, hidden, {1, 0}), one, one, one, one}, {});
    b.output(step.param, "w", 1);
    b.output(step.m, "m", 2);
    b.output(step.v, "v", 3);
  }
};

TEST(Executor, EqualsTheInterpreterAndUpdatesInPlace) {
  Step step;
  const Executable executable = compile(step.graph, KernelTable());
  EXPECT_EQ(executable.copies, 0);
  CountingBackend backend;
  BufferStore store(backend, nullptr);
  Executor executor(executable, backend, nullptr, 0, store,
                    {.poison_freed = true, .profile = true});
  std::vector<HostTensor> inputs;
  for (int i = 0; i < 4; ++i) {
    inputs.push_back(values_from(executor.input(i).type, 0.1 * (i + 1)));
    put(executor.input(i), inputs.back());
  }
  const int allocations = backend.allocations;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const std::vector<HostTensor> expected = interpret(step.graph, inputs);
    executor.run();
    for (int o = 0; o < 4; ++o)
      EXPECT_EQ(get(executor.output(o)), expected[static_cast<size_t>(o)]) << o;
    for (int i = 1; i < 4; ++i) {
      EXPECT_EQ(executor.output(i).data, executor.input(i).data);
      inputs[static_cast<size_t>(i)] = expected[static_cast<size_t>(i)];
    }
  }
  EXPECT_EQ(backend.allocations, allocations);
  EXPECT_EQ(executor.output("w").data, store.get("w").data);
  EXPECT_GT(executor.profile().at("adamw"), 0);
}

TEST(Executor, ReleasesWhatItTook) {
  CountingBackend backend;
  {
    Step step;
    const Executable executable = compile(step.graph, KernelTable());
    BufferStore store(backend, nullptr);
    Executor executor(executable, backend, nullptr, 0, store);
  }
  EXPECT_GT(backend.allocations, 0);
  EXPECT_EQ(backend.allocations, backend.releases);
}

// Kernels of our own, so that only the executor and the communicators are looked at.
TEST(Executor, RunAsksNothingOfTheHeapOnceWarm) {
  Graph graph;
  graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=2"));
  graph.is_local = true;
  Builder b(graph);
  const AxisList data{graph.mesh->axis("data")};
  const Value x = b.input(InputKind::data, "x", {DType::f32, {64, 64}});
  const Value sum = b.emit(
      ops::kAllReduce, {x},
      {{Attr::axes, data}, {Attr::reduce_kind, ReduceKind::sum}, {Attr::shape, Ints{64, 64}}});
  const Value half =
      b.emit(ops::kAllSlice, {sum},
             {{Attr::axes, data}, {Attr::dimension, int64_t{1}}, {Attr::shape, Ints{64, 32}}});
  const Value whole =
      b.emit(ops::kAllGather, {half},
             {{Attr::axes, data}, {Attr::dimension, int64_t{1}}, {Attr::shape, Ints{64, 64}}});
  b.output(ops::negate(b, whole), "y");
  b.output(ops::axis_index(b, data), "place");
  KernelTable table;
  Kernel kernel;
  kernel.name = "negate";
  kernel.run = [](const KernelArgs& args) {
    for (int64_t i = 0; i < args.results[0].type.elements(); ++i)
      args.results[0].as<float>()[i] = -args.operands[0].as<float>()[i];
  };
  table.add(ops::kNegate, kernel);
  const Executable executable = compile(graph, table);
  run_thread_ranks(2, [&](World& world) {
    const auto backend = create_cpu_backend(KernelTable());
    BufferStore store(*backend, &world);
    Executor executor(executable, *backend, &world, world.rank(), store);
    for (int i = 0; i < 64 * 64; ++i)
      executor.input(0).as<float>()[i] = static_cast<float>(i + world.rank());
    // Enough collectives that the group has used each of its slots, as any real step has.
    for (int repeat = 0; repeat < 100; ++repeat) executor.run();
    const int64_t before = testing::heap_requests();
    for (int repeat = 0; repeat < 5; ++repeat) executor.run();
    EXPECT_EQ(testing::heap_requests(), before);
    EXPECT_EQ(executor.output(0).as<float>()[70], -141.0f);
    EXPECT_EQ(*executor.output(1).as<int64_t>(), world.rank());
  });
}

TEST(Executor, GraphsShareThePersistentTensorsOfAStore) {
  Step step;
  Graph evaluate;
  Builder b(evaluate);
  const Value w = b.input(InputKind::parameter, "w", {DType::f64, {4, 4}});
  b.output(ops::reduce_all(b, w), "sum");
  const Executable first = compile(step.graph, KernelTable()),
                   second = compile(evaluate, KernelTable());
  CountingBackend backend;
  BufferStore store(backend, nullptr);
  const Executable* const both[] = {&first, &second};
  store.add_inputs(both);
  Executor train(first, backend, nullptr, 0, store), test(second, backend, nullptr, 0, store);
  EXPECT_EQ(train.input(1).data, test.input(0).data);
  EXPECT_EQ(store.names().size(), 4u);
  put(test.input(0), HostTensor::filled({DType::f64, {4, 4}}, 0.5));
  test.run();
  EXPECT_EQ(get(test.output(0)).get_real(0), 8.0);
}

TEST(Executor, AnInputOfAnotherTypeUnderTheSameNameIsRefused) {
  Step step;
  const Executable executable = compile(step.graph, KernelTable());
  CountingBackend backend;
  BufferStore store(backend, nullptr);
  store.add("w", {DType::f32, {4, 4}});
  EXPECT_THROW(Executor(executable, backend, nullptr, 0, store), InternalError);
}

TEST(Executor, ObserverSeesEveryResultAndErrorsSayWhere) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {4}});
  ScopeGuard scope(b, "block.3");
  const Value y = b.annotate(ops::tanh(b, x), {}, "hidden");
  b.output(ops::exponential(b, y), "y");
  KernelTable table;
  Kernel failing;
  failing.name = "failing";
  failing.run = [](const KernelArgs&) { throw_user_error("the disk is on fire"); };
  table.add(ops::kExponential, failing);
  const Executable executable = compile(graph, table);
  CountingBackend backend;
  BufferStore store(backend, nullptr);
  Executor executor(executable, backend, nullptr, 0, store);
  std::vector<Value> seen;
  executor.set_observer([&](const Graph&, Value value, const TensorView& view) {
    EXPECT_EQ(view.type, graph.type(value));
    seen.push_back(value);
  });
  try {
    executor.run();
    FAIL();
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("block.3"), std::string::npos) << message;
    EXPECT_NE(message.find("exponential"), std::string::npos) << message;
    EXPECT_NE(message.find("the disk is on fire"), std::string::npos) << message;
  }
  EXPECT_EQ(seen, std::vector<Value>{y});
}

TEST(Executor, PoisonShowsInScratchThatWasFreed) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {16}});
  b.output(ops::reduce_all(b, ops::tanh(b, x)), "y");
  const Executable executable = compile(graph, KernelTable());
  CountingBackend backend;
  BufferStore store(backend, nullptr);
  Executor executor(executable, backend, nullptr, 0, store, {.poison_freed = true});
  const float* hidden = nullptr;
  executor.set_observer([&](const Graph&, Value value, const TensorView& view) {
    if (graph.at(value).is(ops::kTanh)) hidden = view.as<float>();
  });
  executor.run();
  ASSERT_NE(hidden, nullptr);
  EXPECT_TRUE(std::isnan(hidden[3]));
}

}  // namespace
}  // namespace tessera

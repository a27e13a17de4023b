// A partitioned program on four GPUs: recorded where NCCL carries it, with the host's help where it is staged.
#include <numeric>

#include "core/compile/compile.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/runtime/executor.h"
#include "tests/gpu/comm/comm_testing.h"

namespace tessera::cuda {
namespace {

class ExecutorCommPrograms : public ::testing::TestWithParam<Transport> {};

// y = the rows of x, summed over "data", with their neighbours' along "model" beside them; z = y cut and exchanged.
Graph collective_program() {
  Graph graph;
  graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=2,model=2"));
  graph.is_local = true;
  Builder b(graph);
  const AxisList data{graph.mesh->axis("data")}, model{graph.mesh->axis("model")};
  const Value x = b.input(InputKind::data, "x", {DType::f32, {8, 12}});
  const Value sum = b.emit(ops::kAllReduce, {x},
                           {{Attr::axes, data}, {Attr::reduce_kind, ReduceKind::sum}, {Attr::shape, Ints{8, 12}}});
  const Value whole = b.emit(ops::kAllGather, {x},
                             {{Attr::axes, model}, {Attr::dimension, int64_t{1}}, {Attr::shape, Ints{8, 24}}});
  const Value part = b.emit(ops::kReduceScatter, {whole},
                            {{Attr::axes, data},
                             {Attr::dimension, int64_t{1}},
                             {Attr::reduce_kind, ReduceKind::sum},
                             {Attr::shape, Ints{8, 12}}});
  const Value turned = b.emit(ops::kAllToAll, {part},
                              {{Attr::axes, model},
                               {Attr::split_dimension, int64_t{0}},
                               {Attr::concat_dimension, int64_t{1}},
                               {Attr::shape, Ints{4, 24}}});
  b.output(sum, "sum");
  b.output(turned, "turned");
  return graph;
}

HostTensor input_of(int rank, int step) {
  HostTensor x({DType::f32, {8, 12}});
  for (int64_t i = 0; i < x.elements(); ++i) x.set_real(i, static_cast<double>(i % 17 + 31 * rank + 7 * step));
  return x;
}

// On the CPU, with the inner world itself.
std::vector<HostTensor> on_the_host(World& world, const Graph& graph, int step) {
  const Executable executable = compile(graph, KernelTable());
  const auto backend = create_cpu_backend(KernelTable());
  BufferStore store(*backend, &world);
  Executor executor(executable, *backend, &world, world.rank(), store);
  put(*backend, executor.input(0).data, input_of(world.rank(), step));
  executor.run();
  std::vector<HostTensor> outputs;
  for (int o = 0; o < 2; ++o) outputs.push_back(fetch(*backend, executor.output(o).data, executor.output(o).type));
  return outputs;
}

TEST_P(ExecutorCommPrograms, AProgramGivesWhatItGivesOnTheHost) {
  GpuRanksOptions options;
  options.transport = GetParam();
  if (const std::string why = why_not(4, options); !why.empty()) GTEST_SKIP() << why;
  const Graph graph = collective_program();
  const Executable executable = compile(graph, open_plugin().kernels());
  constexpr int kSteps = 5;
  run_gpu_ranks(4, options, [&](GpuRank& rank) {
    std::vector<std::vector<HostTensor>> expected;
    for (int step = 0; step < kSteps; ++step) expected.push_back(on_the_host(rank.inner, graph, step));
    for (int executors = 0; executors < 2; ++executors) {
      BufferStore store(rank.backend, &rank.world);
      Executor executor(executable, rank.backend, &rank.world, rank.world.rank(), store);
      for (int step = 0; step < kSteps; ++step) {
        put(rank.backend, executor.input(0).data, input_of(rank.world.rank(), step));
        executor.run();
        for (int o = 0; o < 2; ++o)
          EXPECT_TRUE(same_bytes(fetch(rank.backend, executor.output(o).data, executor.output(o).type),
                                 expected[static_cast<size_t>(step)][static_cast<size_t>(o)]))
              << "step " << step << " output " << o << " on rank " << rank.world.rank();
      }
      const bool is_nccl = GetParam() == Transport::nccl;
      EXPECT_EQ(executor.captured().recordings > 0, is_nccl);
      EXPECT_EQ(executor.host_steps().empty(), is_nccl);
    }
  });
}

// Work for the host between two collectives of a communicator, with a third one in flight all along: what is
// recorded keeps its order with what is not.
TEST(ExecutorComm, RecordedAndOtherCollectivesKeepTheirOrder) {
  GpuRanksOptions options;
  options.transport = Transport::nccl;
  if (const std::string why = why_not(2, options); !why.empty()) GTEST_SKIP() << why;
  Graph graph;
  graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=2"));
  graph.is_local = true;
  Builder b(graph);
  const AxisList data{graph.mesh->axis("data")};
  const auto sum = [&](Value x) {
    return b.emit(ops::kAllReduce, {x},
                  {{Attr::axes, data}, {Attr::reduce_kind, ReduceKind::sum}, {Attr::shape, Ints{b.type(x).shape[0]}}});
  };
  const auto on_host = [&](Value x) { return ops::negate(b, x); };
  const Value large = b.input(InputKind::data, "large", {DType::f32, {1 << 14}});
  Value x = b.input(InputKind::data, "x", {DType::f64, {16}});
  b.output(sum(large), "large_sum");
  for (int i = 0; i < 3; ++i) x = sum(sum(on_host(x)));
  b.output(x, "x_sum");
  static thread_local Backend* backend = nullptr;
  Kernel negate;
  negate.name = "negate_on_host";
  negate.needs_host = true;
  negate.run = [](const KernelArgs& args) {
    HostTensor x = fetch(*backend, args.operands[0].data, args.operands[0].type);
    for (int64_t i = 0; i < x.elements(); ++i) x.set_real(i, -x.get_real(i));
    put(*backend, args.results[0].data, x);
  };
  KernelTable kernels;
  kernels.add(ops::kNegate, negate);
  const Executable executable = compile(graph, kernels);
  run_gpu_ranks(2, options, [&](GpuRank& rank) {
    backend = &rank.backend;
    BufferStore store(rank.backend, &rank.world);
    Executor executor(executable, rank.backend, &rank.world, rank.world.rank(), store);
    for (int step = 0; step < 6; ++step) {
      put(rank.backend, executor.input(0).data, HostTensor::filled({DType::f32, {1 << 14}}, rank.world.rank() + step));
      put(rank.backend, executor.input(1).data, HostTensor::filled({DType::f64, {16}}, rank.world.rank() + step));
      executor.run();
      const TensorView first = executor.output(0), second = executor.output(1);
      EXPECT_EQ(fetch(rank.backend, first.data, first.type).get_real(77), 1 + 2 * step);
      EXPECT_EQ(fetch(rank.backend, second.data, second.type).get_real(7), -32 * (1 + 2 * step));
    }
    EXPECT_EQ(executor.host_steps(), (std::map<std::string, int64_t>{{"negate", 3}}));
  });
}

INSTANTIATE_TEST_SUITE_P(Gpu, ExecutorCommPrograms, ::testing::Values(Transport::nccl, Transport::staged),
                         [](const auto& info) { return info.param == Transport::nccl ? "Nccl" : "Staged"; });

}  // namespace
}  // namespace tessera::cuda

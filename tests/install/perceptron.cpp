// A model of one's own on an installed Tessera: a small network learns y = x0 x1 on any mesh.
//
//     mpirun -np 4 perceptron 2        four ranks, <data=2, model=2>; prints the last loss
#include <cmath>
#include <cstdio>
#include <cstring>

#include "core/autodiff/autodiff.h"
#include "core/compile/compile.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/runtime/executor.h"
#include "kernels/comm/mpi_world.h"
#include "kernels/cpu/register.h"
#include "models/parameters.h"
#include "partitioner/partition.h"

using namespace tessera;

// The whole training step as if for one device: forward, gradients, and an update in place.
Graph training_step(std::vector<models::ParameterSpec>& specs, int64_t batch, int64_t hidden) {
  Graph graph;
  Builder b(graph);
  models::ParameterScope scope(b, DType::f32);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {batch, 2}}, {"batch", "in"});
  const Value y = b.input(InputKind::data, "y", {DType::f32, {batch, 1}}, {"batch", "out"});
  const Value w1 = scope.weight("w1", {2, hidden}, {"in", "hidden"}, {.std = 1.0});
  const Value bias = scope.weight("bias", {hidden}, {"hidden"}, {.std = 0.5});
  const Value w2 = scope.weight("w2", {hidden, 1}, {"hidden", "out"}, {.std = 0.1});
  const Value sum = ops::matmul(b, x, w1);
  const Value h = ops::tanh(b, ops::add(b, sum, ops::broadcast_last(b, bias, b.shape(sum))));
  const Value error = ops::subtract(b, ops::matmul(b, b.annotate(h, {"batch", "hidden"}), w2), y);
  const Value squares = ops::reduce_all(b, ops::multiply(b, error, error));
  const Value loss = ops::scale(b, squares, 1.0 / static_cast<double>(batch));
  const std::vector<Value> weights = {w1, bias, w2}, slopes = gradients(b, loss, weights);
  for (size_t i = 0; i < weights.size(); ++i)  // plain gradient descent
    b.output(ops::subtract(b, weights[i], ops::scale(b, slopes[i], 0.1)), scope.specs()[i].name,
             graph.find_input(scope.specs()[i].name));
  b.output(loss, "loss");
  specs = scope.specs();
  return graph;
}

int main(int argc, char** argv) {
  constexpr int64_t kBatch = 64, kHidden = 32, kSteps = 400;
  const auto world = create_mpi_world();
  const int64_t model = argc > 1 ? std::atoll(argv[1]) : 1;
  const auto mesh = std::make_shared<const Mesh>(
      std::vector<MeshAxis>{{"data", world->size() / model}, {"model", model}});
  ShardingConfig sharding;  // which dims lie on which axis of the mesh
  sharding.parameter_rules = {{"hidden", {"model"}}};
  sharding.activation_rules = {{"batch", {"data"}}, {"hidden", {"model"}}};

  KernelTable kernels;
  register_cpu_kernels(kernels);
  const auto backend = create_cpu_backend(kernels);
  std::vector<models::ParameterSpec> specs;
  const Graph graph = training_step(specs, kBatch, kHidden);
  const Executable step = compile(partition(graph, mesh, sharding), backend->kernels());
  BufferStore store(*backend, world.get());
  Executor executor(step, *backend, world.get(), world->rank(), store);

  // Where this rank's shard of a tensor starts, in the whole tensor.
  const auto start_of = [&](const std::string& name) {
    const int input = graph.find_input(name);
    return step.graph.sharding(step.graph.inputs[input].value)
        .shard_start(graph.type(graph.inputs[input].value).shape, world->rank());
  };
  for (const auto& spec : specs) {
    const TensorView shard = store.get(spec.name);
    const HostTensor values = initial_values(spec, /*seed=*/7, start_of(spec.name), shard.type.shape);
    std::memcpy(shard.data, values.bytes().data(), values.bytes().size());
  }
  const TensorView x = store.get("x"), y = store.get("y");
  const int64_t first_row = start_of("x")[0];
  for (int64_t iteration = 0; iteration < kSteps; ++iteration) {
    for (int64_t row = 0; row < x.type.shape[0]; ++row) {  // a sample depends on its global number
      const double n = static_cast<double>(iteration * kBatch + first_row + row);
      const float x0 = static_cast<float>(std::sin(1.3 * n)), x1 = static_cast<float>(std::cos(2.7 * n));
      x.as<float>()[2 * row] = x0;
      x.as<float>()[2 * row + 1] = x1;
      y.as<float>()[row] = x0 * x1;
    }
    executor.run();
  }
  if (world->rank() == 0) std::printf("%.6f\n", executor.output("loss").as<float>()[0]);
}

#include "core/runtime/thread_run.h"

#include <cstring>

#include "core/base/error.h"
#include "core/runtime/pad_regions.h"
#include "core/runtime/sharded_interpreter.h"
#include "core/runtime/thread_world.h"

namespace tessera {
namespace {

int64_t device_count(const Graph& graph) { return graph.mesh ? graph.mesh->devices() : 1; }

std::optional<Sharding> sharding_of(const Graph& graph, Value value) {
  return graph.mesh ? graph.info(value).sharding : std::nullopt;
}

// What each device starts with; partial inputs are split into random addends.
std::vector<HostTensor> cut(const Graph& local, Value value, const HostTensor& global,
                            uint64_t seed) {
  if (const auto sharding = sharding_of(local, value)) {
    std::vector<HostTensor> shards = shard(global, *sharding, seed);
    // Inputs are kept with zeros in their padding; garbage is the interpreter's affair.
    for (size_t device = 0; device < shards.size(); ++device)
      fill_padding(shards[device], *sharding, global.shape(), static_cast<int64_t>(device), 0);
    return shards;
  }
  return std::vector<HostTensor>(static_cast<size_t>(device_count(local)), global);
}

}  // namespace

TensorType global_type(const Graph& local, Value value) {
  TensorType type = local.type(value);
  const auto sharding = sharding_of(local, value);
  if (!sharding || !local.is_local) return type;
  if (const auto& logical = local.info(value).logical_shape) return {type.dtype, *logical};
  for (int d = 0; d < type.rank(); ++d)
    type.shape[d] *= size_of(sharding->dims[static_cast<size_t>(d)].axes);
  return type;
}

std::vector<HostTensor> run_on_threads(const Graph& local, const KernelTable& kernels,
                                       std::span<const HostTensor> inputs,
                                       const ThreadRunOptions& options) {
  if (inputs.size() != local.inputs.size())
    throw_user_error("graph \"", local.name, "\" takes ", local.inputs.size(), " inputs, got ",
                     inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorType wanted = global_type(local, local.inputs[i].value);
    if (inputs[i].type() != wanted)
      throw_user_error("graph \"", local.name, "\": input ", describe(local, local.inputs[i].value),
                       " is ", wanted, ", got ", inputs[i].type());
  }
  const Executable executable = compile(local, kernels, options.compile);
  const int64_t devices = device_count(local);
  std::vector<std::vector<HostTensor>> outputs(local.outputs.size());
  for (size_t o = 0; o < outputs.size(); ++o)
    outputs[o].resize(static_cast<size_t>(devices), HostTensor(local.type(local.outputs[o].value)));
  std::vector<std::vector<HostTensor>> shards;
  for (size_t i = 0; i < inputs.size(); ++i)
    shards.push_back(cut(local, local.inputs[i].value, inputs[i], i + 1));
  auto body = [&](World* world, int64_t device) {
    const auto backend = create_cpu_backend(KernelTable());
    BufferStore store(*backend, world);
    ExecutorOptions executor_options;
    executor_options.poison_freed = executor_options.check_uniform = options.poison_freed;
    Executor executor(executable, *backend, world, device, store, executor_options);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const HostTensor& shard = shards[i][static_cast<size_t>(device)];
      const TensorView view = executor.input(static_cast<int>(i));
      TESSERA_CHECK(view.type == shard.type(), "input ", i, " is ", view.type, ", its shard ",
                    shard.type());
      if (!shard.bytes().empty())
        std::memcpy(view.data, shard.bytes().data(), shard.bytes().size());
    }
    for (int step = 0; step < options.steps; ++step) executor.run();
    for (size_t o = 0; o < outputs.size(); ++o) {
      HostTensor& shard = outputs[o][static_cast<size_t>(device)];
      if (!shard.bytes().empty())
        std::memcpy(shard.bytes().data(), executor.output(static_cast<int>(o)).data,
                    shard.bytes().size());
    }
  };
  if (devices == 1)
    body(nullptr, 0);
  else
    run_thread_ranks(static_cast<int>(devices), [&](World& world) { body(&world, world.rank()); });
  std::vector<HostTensor> assembled;
  for (size_t o = 0; o < outputs.size(); ++o) {
    const auto sharding = sharding_of(local, local.outputs[o].value);
    assembled.push_back(
        sharding ? cut_to(assemble(outputs[o], *sharding),
                          global_type(local, local.outputs[o].value).shape)
                 : outputs[o][0]);
  }
  return assembled;
}

}  // namespace tessera

// Runs a localized graph on ranks as threads, from global tensors to global tensors: how tests (and
// anything that wants the answer of a partitioned program in one call) execute it for real.
#pragma once

#include <span>
#include <vector>

#include "core/compile/compile.h"
#include "core/runtime/executor.h"

namespace tessera {

struct ThreadRunOptions {
  CompileOptions compile;
  bool poison_freed = true;
  int steps = 1;  // runs of the executable; outputs that overwrite inputs feed the next one
};

// The logical tensor's type of a value of a local graph, by its sharding.
TensorType global_type(const Graph& local, Value value);

// Cuts `inputs` (one per graph input, logical tensors) by the inputs' shardings, runs one thread
// per device of the graph's mesh with the kernels of `kernels`, and puts the outputs together by
// theirs; a partial output is combined. A graph without a mesh runs on one device. Throws
// InternalError where replicas of an output differ in a bit.
std::vector<HostTensor> run_on_threads(const Graph& local, const KernelTable& kernels,
                                       std::span<const HostTensor> inputs,
                                       const ThreadRunOptions& options = {});

}  // namespace tessera

// From a graph to what runs on every rank: one pipeline for the graphs of a job and for imported HLO.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/compile/executable.h"
#include "core/runtime/kernel_table.h"
#include "partitioner/partition.h"

namespace tessera {

struct CompiledGraph {
  std::shared_ptr<const Executable> executable;
  PartitionReport partition;
  // Ops of weight that the reference interpreter computes, with the kernels' refusals.
  std::vector<std::string> slow_ops;
};

struct LowerOptions {
  ShardingConfig sharding = {};
  std::string machine_profile = "cpu-shm";
  int64_t bucket_bytes = PartitionOptions().bucket_bytes;
  int64_t memory_bytes = 0;  // see CompileOptions
  // An op of weight that falls to a reference kernel is a ConfigError, and so are an implicit reshard
  // above sharding.max_implicit_reshard_bytes and much padding.
  bool strict = false;
  bool verify = true;  // after every pass; what it costs grows with the graph
  // Sees the graph named `graph` after each pass.
  std::function<void(const std::string& graph, const std::string& pass, const Graph&)> observe = nullptr;
  // See PartitionOptions::propagated.
  std::function<void(const Graph&, const Origins&, const std::vector<Conflict>&)> propagated = nullptr;
};

// What the model builders wrote plainly becomes smaller. (For imported graphs: hlo::simplify_imported.)
Graph simplify_built(const Graph& graph, const LowerOptions& options = {});

// Partitions and compiles a simplified graph. The order of all passes outside the partitioner stands
// here and in simplify_built. Throws ConfigError for what `strict` refuses; slow ops are warned of.
CompiledGraph lower(const Graph& graph, const MeshPtr& mesh, const KernelTable& kernels,
                    const LowerOptions& options = {});

}  // namespace tessera

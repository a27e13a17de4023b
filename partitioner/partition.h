// The partitioner: from a graph as if for one device to the program of every device of a mesh.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/ir/graph.h"
#include "partitioner/machine_model.h"
#include "partitioner/origins.h"
#include "partitioner/pad_dims.h"
#include "partitioner/sharding_rules.h"

namespace tessera {

struct PartitionOptions {
  MachineModel machine = machine_model("cpu-shm");
  int64_t bucket_bytes =
      32 << 20;        // gradient reductions are combined up to this size; 0: not at all
  // Implicit reshards above ShardingConfig::max_implicit_reshard_bytes, and much padding (pad_dims.h), are
  // refused rather than warned of.
  bool strict = false;
  bool verify = true;  // the verifier and the sharding checker after every pass
  // Sees the graph after every pass.
  std::function<void(std::string_view pass, const Graph& graph)> observe = nullptr;
  // Sees what propagation found, to answer questions (see explain.h).
  std::function<void(const Graph& propagated, const Origins&, const std::vector<Conflict>&)>
      propagated = nullptr;
};

struct CollectiveSummary {
  std::string op;    // "all_reduce"
  std::string axes;  // "data" or "data,model"
  int64_t count = 0;
  int64_t bytes = 0;  // of the operands on one device, all together
  bool crosses_hosts = false;
};

struct ShardingReason {
  std::string tensor;  // name, with its type
  std::string sharding;
  std::string reason;  // "dim 1 {model} because parameter rule mlp -> model"
};

struct PartitionReport {
  std::vector<ShardingReason> shardings;                           // inputs, activations with logical axes
  std::vector<CollectiveSummary> collectives;                      // by op and axes
  std::vector<std::pair<std::string, int64_t>> memory_per_device;  // bytes of inputs by kind
  std::vector<Conflict> conflicts;                                 // largest first
  std::vector<PaddedTensor> padded;  // named tensors that are stored larger than they are
  std::vector<std::string> warnings;
  std::vector<std::pair<std::string, double>> pass_seconds;
  double seconds = 0;
  double wire_bytes = 0;  // that one device sends in a run of the graph
  int64_t reshard_searches = 0;
  int64_t reshard_fallbacks = 0;  // plans found greedily because the search was cut off
};

// The names of the passes, in order.
std::vector<std::string> partition_passes();

// Runs all passes. The result is local: the same program for every device. Throws ConfigError for
// what the user can mend (see annotate.h, propagate.h and localize.h), UserError for a program that
// cannot be partitioned (check_program.h). A graph without mesh axes of size above 1
// goes the same way.
Graph partition(const Graph& graph, const MeshPtr& mesh, const ShardingConfig& config,
                const PartitionOptions& options = {}, PartitionReport* report = nullptr);

}  // namespace tessera

// What `tessera plan` tells of a job on a mesh, as plain data. Everything comes from what would run:
// the Executable and the partitioner's report. Bytes and times are those of one device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch/engine/compiled_job.h"

namespace tessera {

// The collectives of one graph that have op and axes in common.
struct CollectivePlan {
  std::string op;          // "all_reduce"
  std::string axes;        // "data" or "data,model"
  int64_t count = 0;       // in one run of the graph
  int64_t bytes = 0;       // of the operands
  double wire_bytes = 0;   // that the device sends
  double seconds = 0;      // on the wire
  double exposed_seconds = 0;  // not hidden behind kernels
  bool crosses_hosts = false;
  // The same of the middle block of the model; 0 where it has none.
  int64_t layer_count = 0, layer_bytes = 0;
};

// One collective that kernels wait for.
struct ExposedCollective {
  std::string op, axes, type, scope;
  double seconds = 0, exposed_seconds = 0;
};

struct GraphPlan {
  std::string graph;
  int64_t runs = 1;        // in one training step
  int64_t instructions = 0, steps = 0;
  std::vector<CollectivePlan> collectives;
  std::vector<ExposedCollective> most_exposed;  // the worst first, at most ten
  double seconds = 0, compute_seconds = 0, exposed_seconds = 0;
};

struct AxisPlan {
  std::string name;
  int64_t size = 1;
  bool crosses_hosts = false;
  bool is_tensor_parallel = false;  // cuts activations along something else than the batch
};

struct LayerActivations {
  std::string block;   // "block.0"
  int64_t bytes = 0;   // kept from its forward pass for its backward pass
};

// Kernels of one op that fall to the reference interpreter.
struct FallbackPlan {
  std::string op, reason;
  int64_t count = 0;
};

struct PlanReport {
  std::string job, mesh, profile;
  int64_t devices = 1, devices_per_host = 1;
  std::vector<AxisPlan> axes;

  int64_t parameters = 0;
  double flops_per_token = 0;
  int64_t tokens_per_step = 0;

  GraphPlan graph;
  // Of the graph that runs before `graph`, where gradients are accumulated over microbatches.
  std::optional<GraphPlan> accumulate;
  double predicted_step_seconds = 0;  // of a training step: all microbatches
  double exposed_seconds = 0;         // the same
  double mfu = 0;                     // share of the profile's FLOPs; 0 where nothing is trained

  std::vector<ShardingReason> shardings;
  // parameters, gradients, optimizer, activations, data, constants; their sum is what a rank allocates.
  std::vector<std::pair<std::string, int64_t>> memory_per_device;
  std::vector<LayerActivations> saved_activations;

  std::vector<Conflict> conflicts;
  std::vector<PaddedTensor> padded;  // named tensors stored larger than they are, largest waste first
  std::vector<std::string> warnings;
  std::vector<FallbackPlan> fallbacks;
  double partition_seconds = 0;       // of the slowest graph; they are partitioned side by side
  double plan_seconds = 0;            // all of it
};

struct PlanOptions {
  std::string graph = "step";
  std::string profile;  // "": default_machine_profile of the job's device
  bool strict = false;  // as in CompileJobOptions
};

// Partitions and compiles, for all graphs that a step runs. Nothing of the size of a tensor is
// allocated. Throws ConfigError where the job cannot be laid on its mesh.
PlanReport make_plan(const JobConfig& job, const PlanOptions& options);

// The text of the graph after a pass, as soon as it is reached. Throws ConfigError naming all passes
// where there is no such one.
std::string graph_after(const JobConfig& job, const PlanOptions& options, const std::string& pass);

// Why tensors lie as they do: `question` is a name, a regular expression for names, or "%12" (see
// partitioner/explain.h). Throws ConfigError with the nearest name.
std::string explain_tensors(const JobConfig& job, const PlanOptions& options,
                            const std::string& question);

// "mlp.up.weight f32[160,640]" -> name and type.
std::pair<std::string, std::string> split_tensor(const std::string& tensor);

}  // namespace tessera

// What the partitioner's tests share: small training steps, and the check that a graph computes the
// same after every pass, on the virtual devices of any mesh.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/ir/builder.h"
#include "partitioner/partition.h"

namespace tessera::testing {

MeshPtr mesh_of(std::string_view text);

// "batch=data embed=model,data mlp=" as rules in that order.
std::vector<AxisRule> rules_of(std::string_view text);
ShardingConfig config_of(std::string_view parameter_rules, std::string_view activation_rules,
                         std::string_view optimizer_rules = "");

// Random inputs for a graph: floats in [-1, 1], integers in [0, `integer_limit`).
std::vector<HostTensor> random_inputs(const Graph& graph, uint64_t seed, int64_t integer_limit = 4);

// max |a - b| over max(1, max |a|); inf where types differ or only one has NaN.
double error_between(const HostTensor& a, const HostTensor& b);

// Partitions, and after every pass runs the graph in the interpreter that fits (global before
// insert_reshards, sharded from there on) and compares its outputs with those of `graph`. Returns
// "" or what went wrong, with the IR text of the pass. `inputs`: random ones where not given.
std::string check_every_pass(const Graph& graph, const MeshPtr& mesh, const ShardingConfig& config,
                             const PartitionOptions& options = {}, double tolerance = 1e-10,
                             uint64_t seed = 1, PartitionReport* report = nullptr,
                             const std::vector<HostTensor>* inputs = nullptr);

// Partitioned, compiled and run with real messages, one thread per device; "" or what differs from
// the interpreter.
std::string check_on_threads(const Graph& graph, const MeshPtr& mesh,
                             const std::vector<HostTensor>& inputs, double tolerance = 1e-9);

// "all_reduce{data} x2 1024 B; ..." in a fixed order.
std::string collectives_of(const PartitionReport& report);

// A program under construction on a mesh, whose inputs and outputs lie as written.
struct MeshProgram {
  explicit MeshProgram(std::string_view mesh_text, DType dtype = DType::f32)
      : mesh(mesh_of(mesh_text)), dtype(dtype), b(graph) {
    graph.mesh = mesh;
  }

  Value input(const std::string& name, TensorType type, const char* sharding,
              InputKind kind = InputKind::data);
  // Of `dtype`.
  Value input(const std::string& name, Shape shape, const char* sharding,
              InputKind kind = InputKind::data) {
    return input(name, TensorType{dtype, std::move(shape)}, sharding, kind);
  }
  // Without a sharding it lies as the partitioner likes.
  void output(Value value, const char* sharding = nullptr);

  MeshPtr mesh;
  DType dtype;
  Graph graph;
  Builder b;
};

// A region for a control-flow op: `write` gets its inputs and gives its outputs.
using RegionWriter = std::function<std::vector<Value>(Builder&, std::vector<Value>)>;
GraphRef region(const MeshPtr& mesh, const std::vector<TensorType>& inputs,
                const RegionWriter& write);

struct PerceptronOptions {
  int64_t batch = 8, embed = 8, hidden = 16;
  DType dtype = DType::f64;
  bool is_trained = true;  // with backward pass and update
};
// x -> gelu(x w1 + b1) w2 -> squared error against y; AdamW on w1, b1 and w2.
Graph perceptron(const PerceptronOptions& options = {});

}  // namespace tessera::testing

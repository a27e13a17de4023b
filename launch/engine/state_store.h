// The persistent tensors of one rank: its shards of parameters, moments and accumulators, by name,
// and how they map to the logical tensors of checkpoints.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/compile/executable.h"
#include "core/runtime/backend.h"
#include "core/runtime/buffer_store.h"
#include "core/runtime/communicator.h"
#include "launch/checkpoint/tensor_slice.h"
#include "models/parameters.h"

namespace tessera {

class StateStore {
 public:
  // Makes room for all inputs of `executables`, shared by name. `world`'s rank is the place in the
  // mesh. Collective over the world.
  StateStore(Backend& backend, World& world, std::vector<models::ParameterSpec> parameters,
             std::span<const Executable* const> executables);

  // The buffers to hand to executors.
  BufferStore& buffers() { return buffers_; }

  void initialise_parameters(int64_t seed);
  void zero_moments() { zero(InputKind::optimizer); }
  void zero_accumulators() { zero(InputKind::accumulator); }

  // The first tensor of which two ranks that hold the same shard hold other bytes, with both ranks;
  // "" where all replicas agree bitwise. Collective.
  std::string differing_replica(World& world) const;

  // Parameters and moments as logical tensors (without vocabulary padding), and this rank's boxes.
  // Of replicas the device at coordinate 0 of all unused axes owns the box.
  std::vector<TensorSpec> specs() const;
  std::vector<TensorTarget> targets();
  std::vector<TensorSlice> owned_slices();

 private:
  struct Tensor {
    std::string name;
    InputKind kind;
    TensorSpec logical;       // what a checkpoint sees
    TensorType global;        // with padding
    Sharding sharding;
    TensorView view;          // this rank's shard
  };

  TensorTarget target_of(const Tensor& tensor);
  TensorSlice slice_of(const Tensor& tensor);
  void add_state(const Graph& graph);
  void zero(InputKind kind);
  const models::ParameterSpec& parameter_of(const std::string& name) const;
  bool owns(const Tensor& tensor) const;

  Backend& backend_;
  int64_t device_;
  std::vector<models::ParameterSpec> parameters_;
  std::map<std::string, size_t> by_name_;
  std::vector<Tensor> tensors_;  // in the order of their first appearance
  BufferStore buffers_;
};

}  // namespace tessera

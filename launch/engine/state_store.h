// The persistent tensors of one rank: its shards of parameters, moments and accumulators, by name,
// and how they map to the logical tensors of checkpoints.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/compile/executable.h"
#include "core/runtime/backend.h"
#include "core/runtime/executor.h"
#include "launch/checkpoint/tensor_slice.h"
#include "models/parameters.h"

namespace tessera {

class StateStore {
 public:
  // `device` is this rank's place in the mesh.
  StateStore(Backend& backend, int64_t device, std::vector<models::ParameterSpec> parameters);

  // Makes room for the state among the inputs of `executable` that is not there yet. A tensor must
  // lie alike in all executables (TESSERA_CHECK).
  void add(const Executable& executable);

  // The buffers to hand to executors.
  BufferStore& buffers() { return buffers_; }

  void initialise_parameters(int64_t seed);
  void zero_moments() { zero(InputKind::optimizer); }
  void zero_accumulators() { zero(InputKind::accumulator); }

  // Parameters and moments as logical tensors (without vocabulary padding), and this rank's boxes.
  // Of replicas the device at coordinate 0 of all unused axes owns the box.
  std::vector<TensorSpec> specs() const;
  std::vector<TensorTarget> targets();
  std::vector<TensorSlice> owned_slices();

 private:
  struct Tensor {
    InputKind kind;
    TensorSpec logical;       // what a checkpoint sees
    TensorType global;        // with padding
    Sharding sharding;
    TensorView view;          // this rank's shard
  };

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

// One rank's run of a program: its shards of inputs and outputs, and the way between these and
// logical tensors.
#pragma once

#include <memory>

#include "core/runtime/buffer_store.h"
#include "core/runtime/executor.h"
#include "launch/hlo/hlo_program.h"
#include "launch/hlo/program_inputs.h"

namespace tessera {

class HloRank {
 public:
  // Collective; all arguments outlive it. The world's rank is the device.
  HloRank(const HloProgram& program, Backend& backend, World& world);

  // Fills this rank's shards of all inputs; padding is zero.
  void feed(const ProgramInputs& inputs);
  // The same for those that a step has overwritten and the next one is to find as they were.
  void feed_overwritten(const ProgramInputs& inputs);

  // One run of the program; returns the seconds until all ranks are done. Collective. Carried outputs
  // are the inputs of the next one, without leaving the device.
  double step();

  // A scalar output of the last step.
  HostTensor scalar(int output) const;
  // The logical tensor of output `index`, on rank 0; elsewhere one without elements. Collective.
  HostTensor gather(int index);

 private:
  void feed(const ProgramInputs& inputs, int index);
  void receive(int from, const TensorView& mine, HostTensor& shard);

  const HloProgram& program_;
  Backend& backend_;
  World& world_;
  BufferStore store_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Communicator> everyone_;  // made where a shard has to travel to rank 0
};

}  // namespace tessera

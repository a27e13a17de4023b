// What the machine can do at best, to set a step's speed beside it.
#pragma once

#include <memory>

#include "core/compile/executable.h"
#include "core/runtime/backend.h"
#include "core/runtime/communicator.h"
#include "core/runtime/executor.h"

namespace tessera {

// Products of `size` x `size` matrices of `dtype` by the backend's kernels.
class PeakProbe {
 public:
  // `backend` must outlive the probe.
  PeakProbe(Backend& backend, DType dtype, int64_t size);

  // FLOP/s: the best of a few rounds on all ranks of `world` at once, summed over them. Collective.
  double measure(World& world);

 private:
  Backend& backend_;
  int64_t size_;
  Executable executable_;
  BufferStore store_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace tessera

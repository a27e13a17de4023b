// Times kernels as a step runs them, but with a cold L2 cache: what is measured is device memory, not the cache.
//
// A recording runs a kernel many times, and before each run reads a buffer larger than any cache (a write would leave
// the cache full of what must still go to memory); another recording only reads the buffer. The difference of their
// times is the kernel's, start included, without the host's part.
#pragma once

#include <functional>
#include <string>

#include "core/runtime/backend.h"
#include "tests/gpu/bench/cases.h"

namespace tessera::bench {

struct MeasureOptions {
  int runs = 10;     // of a kernel in a recording
  int replays = 15;  // of both recordings in turn, after two that do not count
  int64_t flush_bytes = int64_t{256} << 20;
};

struct Timing {
  double median = 0, best = 0;  // seconds
};

struct Measured {
  std::string kernel;   // what the table chose
  std::string skipped;  // why there is no time; "" where there is one
  Timing time;
};

class Measurer {
 public:
  Measurer(Backend& backend, const MeasureOptions& options);
  ~Measurer();
  Measurer(const Measurer&) = delete;

  // Of what `submit` brings to the device.
  Timing time(const std::function<void()>& submit);
  // The kernel that the backend's table chooses, on random operands. Results beforehand are NaN bits; a result that is
  // not written is an InternalError.
  Measured run(const Case& one);
  // Bytes read and written per second, by a copy of `bytes`.
  double copy_rate(int64_t bytes);

 private:
  void flush();
  int record(const std::function<void()>& submit);
  double replay(int recording);  // seconds

  Backend& backend_;
  const MeasureOptions options_;
  std::byte *flushed_, *sum_, *workspace_;
  Instruction reading_;
  TensorView read_, result_;
  const Kernel* reader_;
  int only_flushes_ = -1;
};

}  // namespace tessera::bench

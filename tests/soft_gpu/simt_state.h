// The state of the block that a host thread runs: see simt.h.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tests/soft_gpu/fiber.h"
#include "tests/soft_gpu/random.h"
#include "tests/soft_gpu/shared_variables.h"
#include "tests/soft_gpu/simt.h"

namespace soft_gpu {

struct Fiber : Thread {
  enum class State : uint8_t { fresh, running, waiting, ended };
  State state = State::fresh;
  int result = 0;                // of the barrier it waited at
  char* stack = nullptr;
  void* pointer = nullptr;       // into the stack, while it waits
  const char* waits_for = "";
  bool (*is_ready)(const void*) = nullptr;
  const void* context = nullptr;
};

struct Barrier {
  unsigned arrived = 0, expected = 0;
  int count = 0;
  std::vector<Fiber*> waiting;
  void reset() {
    arrived = expected = 0;
    count = 0;
    waiting.clear();
  }
};

struct Meeting {
  uint32_t mask = 0;
  unsigned count = 0, wanted = 0, arrived = 0;
  const char* operation = "";
  ComputeCollective compute = nullptr;
  const void* inputs[128] = {};
  void* outputs[128] = {};
  Fiber* waiting[128] = {};
};

struct BlockRunner {
  static constexpr int kBarriers = 16;

  const KernelRun* run = nullptr;
  Fiber* now = nullptr;
  BlockView view;
  Random random{1};
  std::vector<Fiber> fibers;
  size_t fibers_used = 0, ended = 0;
  std::vector<Fiber*> ready, polling;
  Barrier barriers[kBarriers];
  std::vector<std::vector<Meeting>> meetings;  // by first warp
  Stacks stacks;
  SharedVariables shared_variables;
  void* outside = nullptr;
  unsigned char *shared_memory = nullptr, *shared_base = nullptr, *shared_end = nullptr;

  const char* kernel_name() const;
  void run_kernel(const KernelRun& what);
  void run_block(uint3 index);
  void place_shared(uint64_t bytes);
  Fiber* choose();
  void resume(Fiber* fiber, void** save);
  void park(const char* what);
  void wake(Fiber* fiber);
  void leave(Fiber* fiber);
  [[noreturn]] void report_deadlock();
  static void enter();
  Barrier& arrive(int id, unsigned threads, const char* name);
  int sync(int id, unsigned threads, int value, const char* name);
  void meet(const char* operation, unsigned first, unsigned count, uint32_t mask, const void* input,
            void* output, ComputeCollective compute, void* context);
};

// Set while this thread runs a kernel.
extern thread_local BlockRunner* runner;

// " (in kernel K, block B, thread T)", or "".
std::string where_now();

}  // namespace soft_gpu

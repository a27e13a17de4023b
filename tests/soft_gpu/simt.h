// A block's threads as fibers of one thread of the host: what stand-ins of CUDA's device functions are made of.
//
// Threads run one at a time until they wait for others (a barrier, a collective, wait_until) or end; then a
// random one of those that can run goes on. So the order between barriers is any order, and memory is
// sequentially consistent: a missing barrier shows in some seeds, a missing fence never.
//
// Stricter than hardware, each an error that names kernel, block and thread, and ends the program:
//   - a thread leaves the kernel, and others wait for it in __syncthreads, then or later;
//   - a lane calls a warp's operation whose mask does not name it, or names a lane that is absent or gone;
//   - lanes with one mask meet in different operations;
//   - nothing can run any more.
#pragma once

#include <cstdint>

#include "tests/soft_gpu/vector_types.h"

namespace soft_gpu {

struct Block;

// One thread of the block that runs.
struct Thread {
  uint3 index = {};       // threadIdx
  unsigned number = 0;    // x fastest
  unsigned lane = 0, warp = 0;
  Block* block = nullptr;
};
struct BlockView {
  uint3 index = {};
  dim3 threads, grid;
  unsigned char* dynamic_shared = nullptr;  // aligned to 1024 bytes, NaN bits at first
  uint64_t dynamic_shared_bytes = 0;
};

// The thread that runs, and its block. In device code only.
__attribute__((const)) const Thread& current_thread();
__attribute__((const)) const BlockView& current_block();

// __syncthreads; with sums over the block's threads of `value != 0`.
void sync_threads();
int sync_threads_count(int value);

// PTX barrier.sync and barrier.arrive: `id` 0 to 15, `threads` that take part (a multiple of 32; 0: all).
void barrier_sync(int id, int threads);
void barrier_arrive(int id, int threads);

// Lets others run until ready(context), which is asked from time to time and must have no effect. For spins.
void wait_until(const char* what, bool (*ready)(const void* context), const void* context);
template <typename Ready>
void wait_until(const char* what, const Ready& ready) {
  wait_until(what, [](const void* context) { return (*static_cast<const Ready*>(context))(); }, &ready);
}

// The lanes of `mask` meet; when the last one is there compute(inputs, outputs, mask) runs once, and all go on.
// `inputs[l]` and `outputs[l]` are lane l's (null for lanes not named). `operation` is for messages, and two
// calls meet only where it is the same pointer's text.
using ComputeCollective = void (*)(const void* const* inputs, void* const* outputs, uint32_t mask, void* context);
void meet_in_warp(const char* operation, uint32_t mask, const void* input, void* output,
                  ComputeCollective compute, void* context = nullptr);
// The same for the 128 threads of an aligned group of four warps (wgmma); arrays of 128.
void meet_in_warp_group(const char* operation, const void* input, void* output, ComputeCollective compute,
                        void* context = nullptr);

// Typed: compute(const In* const* inputs, Out* const* outputs, uint32_t mask) is a callable without state.
//   return warp_collective<int>("__ballot_sync", mask, predicate, [](auto in, auto out, uint32_t mask) {...});
template <typename Out, typename In, typename Compute>
Out warp_collective(const char* operation, uint32_t mask, const In& input, Compute) {
  static_assert(__is_empty(Compute));
  Out output;
  meet_in_warp(
      operation, mask, &input, &output,
      [](const void* const* inputs, void* const* outputs, uint32_t all, void*) {
        // Empty, so any object of the type will do.
        alignas(Compute) static char empty[sizeof(Compute)];
        (*reinterpret_cast<Compute*>(empty))(reinterpret_cast<const In* const*>(inputs),
                                             reinterpret_cast<Out* const*>(outputs), all);
      });
  return output;
}
template <typename Out, typename In, typename Compute>
Out warp_group_collective(const char* operation, const In& input, Compute) {
  static_assert(__is_empty(Compute));
  Out output;
  meet_in_warp_group(operation, &input, &output,
                     [](const void* const* inputs, void* const* outputs, uint32_t, void*) {
                       alignas(Compute) static char empty[sizeof(Compute)];
                       (*reinterpret_cast<Compute*>(empty))(reinterpret_cast<const In* const*>(inputs),
                                                            reinterpret_cast<Out* const*>(outputs));
                     });
  return output;
}

// Ends the program with "soft_gpu: TEXT" and, in device code, the kernel, block and thread.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);

// A kernel's run: invoke(arguments) once per thread.
struct KernelRun {
  const void* function = nullptr;  // for its name
  const char* name = nullptr;      // null: looked up by `function`
  dim3 grid, threads;
  uint64_t dynamic_shared_bytes = 0;
  void (*invoke)(void* arguments) = nullptr;
  void* arguments = nullptr;
  uint64_t seed = 0;
};
void run_kernel(const KernelRun& run);

// "tessera::cuda::(anonymous namespace)::fill_kernel<...>"; the address where there is no symbol. Never fails.
const char* function_name(const void* function);

}  // namespace soft_gpu

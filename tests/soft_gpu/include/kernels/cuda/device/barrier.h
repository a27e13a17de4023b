// Stands in for kernels/cuda/device/barrier.h. Copies that a barrier counts (bulk_copy.h) end its phase when they are
// asked for, and arrive when somebody waits for that phase: a missing wait shows.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/cuda/device/shared_address.h"

namespace tessera::cuda {

inline void barrier_sync(int id, int threads) {
  if (id == 0) ::soft_gpu::fail("barrier 0 is __syncthreads");
  ::soft_gpu::barrier_sync(id, threads);
}
inline void barrier_arrive(int id, int threads) {
  if (id == 0) ::soft_gpu::fail("barrier 0 is __syncthreads");
  ::soft_gpu::barrier_arrive(id, threads);
}

struct alignas(8) Mbarrier {
  uint64_t state;
};

namespace soft {

// What the eight bytes hold here. Nothing else is as memory is at first.
struct MbarrierState {
  static constexpr uint16_t kMark = 0x6ba1;
  uint16_t mark;
  uint8_t phase, expected;  // arrivals
  int32_t pending : 9;      // arrivals
  int32_t bytes : 23;       // asked for and not expected (negative), or the other way round
};
static_assert(sizeof(MbarrierState) == sizeof(Mbarrier));

inline MbarrierState mbarrier_state(const Mbarrier* barrier, const char* by) {
  MbarrierState state;
  std::memcpy(&state, barrier, sizeof(state));
  if (state.mark != MbarrierState::kMark)
    ::soft_gpu::fail("%s: the barrier %p is not initialised", by, static_cast<const void*>(barrier));
  return state;
}
inline void set_mbarrier(Mbarrier* barrier, MbarrierState state) {
  if (state.pending == 0 && state.bytes == 0) {
    state.phase ^= 1;
    state.pending = state.expected;
  }
  std::memcpy(barrier, &state, sizeof(state));
}

// Copies on their way to this block.
struct PendingCopy {
  const Mbarrier* barrier;
  int phase;
  std::function<void()> arrive;
};
struct PendingCopies {
  std::vector<PendingCopy> all;
  uint3 block = {};
};
inline std::vector<PendingCopy>& pending_copies() {
  static thread_local PendingCopies copies;
  const uint3 now = ::soft_gpu::current_block().index, then = copies.block;
  if (!copies.all.empty() && (now.x != then.x || now.y != then.y || now.z != then.z))
    ::soft_gpu::fail("block (%u, %u, %u) ended while copies to it were on their way", then.x, then.y, then.z);
  copies.block = now;
  return copies.all;
}
inline void count_copy(Mbarrier* barrier, int bytes, std::function<void()> arrive) {
  MbarrierState state = mbarrier_state(barrier, "a copy");
  pending_copies().push_back({barrier, state.phase, std::move(arrive)});
  state.bytes -= bytes;
  set_mbarrier(barrier, state);
}

}  // namespace soft

inline void mbarrier_init(Mbarrier* barrier, int arrivals) {
  if (arrivals < 1 || arrivals > 255) ::soft_gpu::fail("mbarrier.init: %d arrivals", arrivals);
  shared_address(barrier);
  soft::MbarrierState state = {};
  state.mark = soft::MbarrierState::kMark;
  state.expected = static_cast<uint8_t>(arrivals);
  state.pending = arrivals;
  std::memcpy(barrier, &state, sizeof(state));
  // Of a kernel before that never waited for them.
  std::erase_if(soft::pending_copies(), [&](const soft::PendingCopy& copy) { return copy.barrier == barrier; });
}
inline void mbarrier_init_fence() {}

inline void mbarrier_arrive_expect(Mbarrier* barrier, int bytes) {
  soft::MbarrierState state = soft::mbarrier_state(barrier, "mbarrier.arrive");
  if (state.pending == 0) ::soft_gpu::fail("mbarrier.arrive: more than %d arrivals in a phase", state.expected);
  if (bytes < 0 || bytes >= 1 << 20) ::soft_gpu::fail("mbarrier.arrive.expect_tx: %d bytes", bytes);
  state.bytes += bytes;
  --state.pending;
  soft::set_mbarrier(barrier, state);
}
inline void mbarrier_arrive(Mbarrier* barrier) { mbarrier_arrive_expect(barrier, 0); }

inline void mbarrier_wait(Mbarrier* barrier, int parity) {
  if (parity != 0 && parity != 1) ::soft_gpu::fail("mbarrier.try_wait.parity: parity %d", parity);
  soft::mbarrier_state(barrier, "mbarrier.try_wait");
  ::soft_gpu::wait_until("mbarrier.try_wait", [barrier, parity] {
    return soft::mbarrier_state(barrier, "mbarrier.try_wait").phase != parity;
  });
  std::vector<soft::PendingCopy>& copies = soft::pending_copies();
  for (size_t i = 0; i < copies.size();) {
    if (copies[i].barrier == barrier && copies[i].phase == parity) {
      copies[i].arrive();
      copies.erase(copies.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
}

}  // namespace tessera::cuda

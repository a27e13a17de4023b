#include "tests/soft_gpu/simt.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <numeric>
#include <string>
#include <vector>

#include "tests/soft_gpu/device_code.h"
#include "tests/soft_gpu/fiber.h"
#include "tests/soft_gpu/random.h"
#include "tests/soft_gpu/simt_state.h"

thread_local constinit uint3 threadIdx, blockIdx;
thread_local constinit dim3 blockDim, gridDim;

namespace soft_gpu {

thread_local BlockRunner* runner = nullptr;

BlockRunner& this_runner() {
  // Leaked: fibers of a thread that ends have ended before.
  thread_local BlockRunner* const kRunner = new BlockRunner;
  return *kRunner;
}

const Thread& current_thread() { return *runner->now; }
const BlockView& current_block() { return runner->view; }

std::string where_now() {
  if (!runner || !runner->run) return "";
  std::string where = " (in kernel ";
  where += runner->kernel_name();
  char text[200];
  const uint3 b = runner->view.index;
  std::snprintf(text, sizeof(text), ", block (%u, %u, %u)", b.x, b.y, b.z);
  where += text;
  if (runner->now) {
    const uint3 t = runner->now->index;
    std::snprintf(text, sizeof(text), ", thread (%u, %u, %u)", t.x, t.y, t.z);
    where += text;
  }
  return where + ")";
}

void fail(const char* format, ...) {
  char text[4000];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "soft_gpu: %s%s\n", text, where_now().c_str());
  std::fflush(stderr);
  std::abort();
}

// --- The schedule of a block ---------------------------------------------------------------------

const char* BlockRunner::kernel_name() const { return run->name ? run->name : function_name(run->function); }

Fiber* BlockRunner::choose() {
  for (;;) {
    // A spinner is asked now and then, so that it sees what happens between two of its looks.
    if (!polling.empty() && (ready.empty() || random.below(8) == 0)) {
      for (size_t i = 0; i < polling.size();) {
        Fiber* const fiber = polling[i];
        if (fiber->is_ready(fiber->context)) {
          polling[i] = polling.back();
          polling.pop_back();
          ready.push_back(fiber);
        } else {
          ++i;
        }
      }
    }
    if (!ready.empty()) {
      const size_t at = random.below(ready.size());
      Fiber* const fiber = ready[at];
      ready[at] = ready.back();
      ready.pop_back();
      return fiber;
    }
    if (ended == fibers_used) return nullptr;
    report_deadlock();
  }
}

void BlockRunner::report_deadlock() {
  now = nullptr;
  std::string text;
  for (size_t f = 0; f < fibers_used; ++f) {
    const Fiber& fiber = fibers[f];
    size_t same = f;
    while (same + 1 < fibers_used && fibers[same + 1].state == fiber.state &&
           (fiber.state == Fiber::State::ended || std::strcmp(fibers[same + 1].waits_for, fiber.waits_for) == 0))
      ++same;
    char line[200];
    std::snprintf(line, sizeof(line), "%s%zu to %zu %s%s", text.empty() ? "" : "; ", f, same,
                  fiber.state == Fiber::State::ended ? "have left" : "wait in ",
                  fiber.state == Fiber::State::ended ? "" : fiber.waits_for);
    text += line;
    f = same;
  }
  fail("deadlock: nothing can go on. Threads %s", text.c_str());
}

// Goes on with `fiber`; returns where it runs on a stack of its own, else when the caller goes on.
void BlockRunner::resume(Fiber* fiber, void** save) {
  now = fiber;
  threadIdx = fiber->index;
  if (fiber->state == Fiber::State::fresh) {
    fiber->stack = stacks.take();
    fiber->pointer = Stacks::prepare(fiber->stack, &BlockRunner::enter);
  }
  fiber->state = Fiber::State::running;
  soft_gpu_switch(save, fiber->pointer);
}

void BlockRunner::park(const char* what) {
  Fiber* const self = now;
  self->state = Fiber::State::waiting;
  self->waits_for = what;
  Fiber* const next = choose();
  if (next == self) {
    self->state = Fiber::State::running;
    return;
  }
  resume(next, &self->pointer);
}

void BlockRunner::wake(Fiber* fiber) { ready.push_back(fiber); }

// Runs one thread after the other as long as none of them waits: most kernels need one stack a block.
void BlockRunner::enter() {
  BlockRunner& self = *runner;
  for (;;) {
    try {
      self.run->invoke(self.run->arguments);
    } catch (const std::exception& error) {
      fail("an exception: %s", error.what());
    }
    Fiber* const done = self.now;
    self.leave(done);
    Fiber* const next = self.choose();
    if (!next) {
      self.stacks.give(done->stack);
      soft_gpu_switch(&done->pointer, self.outside);
    }
    if (next->state == Fiber::State::fresh) {
      next->stack = done->stack;
      next->state = Fiber::State::running;
      self.now = next;
      threadIdx = next->index;
      continue;
    }
    self.stacks.give(done->stack);
    self.resume(next, &done->pointer);
  }
}

void BlockRunner::leave(Fiber* fiber) {
  fiber->state = Fiber::State::ended;
  ++ended;
  if (barriers[0].arrived > 0 && barriers[0].expected == fibers_used)
    fail("this thread left the kernel, and %u others wait for it in __syncthreads", barriers[0].arrived);
}

void BlockRunner::run_block(uint3 index) {
  blockIdx = view.index = index;
  ended = 0;
  ready.clear();
  polling.clear();
  for (size_t f = 0; f < fibers_used; ++f) {
    fibers[f].state = Fiber::State::fresh;
    ready.push_back(&fibers[f]);
  }
  for (Barrier& barrier : barriers) barrier.reset();
  for (auto& warp : meetings) warp.clear();
  std::memset(shared_base, 0xff, static_cast<size_t>(shared_end - shared_base));
  shared_variables.begin_block();
  resume(choose(), &outside);
  now = nullptr;
  shared_variables.end_block();
  for (const unsigned char* p = view.dynamic_shared + view.dynamic_shared_bytes; p < shared_end; ++p)
    if (*p != 0xff)
      fail("dynamic shared memory has %llu bytes, and byte %td was written",
           static_cast<unsigned long long>(view.dynamic_shared_bytes), p - view.dynamic_shared);
  if (!polling.empty()) fail("threads still wait");
}

// Dynamic shared memory ends (but for the last KiB) where a page that faults begins.
void BlockRunner::place_shared(uint64_t bytes) {
  constexpr size_t kMost = 256 * 1024, kPage = 4096;
  if (!shared_memory) {
    void* const memory =
        mmap(nullptr, kMost + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for shared memory");
    shared_memory = static_cast<unsigned char*>(memory) + kPage;
    if (mprotect(shared_memory, kMost, PROT_READ | PROT_WRITE) != 0) fail("no memory for shared memory");
  }
  if (bytes > kMost) fail("%llu bytes of dynamic shared memory", static_cast<unsigned long long>(bytes));
  shared_end = shared_memory + kMost;
  shared_base = shared_end - (bytes + 1023) / 1024 * 1024;
  view.dynamic_shared = shared_base;
  view.dynamic_shared_bytes = bytes;
}

void BlockRunner::run_kernel(const KernelRun& what) {
  if (run) fail("a kernel starts another one");
  runner = this;
  run = &what;
  random = Random(what.seed);
  blockDim = view.threads = what.threads;
  gridDim = view.grid = what.grid;
  fibers_used = size_t{what.threads.x} * what.threads.y * what.threads.z;
  if (fibers.size() < fibers_used) fibers.resize(fibers_used);
  if (meetings.size() < (fibers_used + 31) / 32) meetings.resize((fibers_used + 31) / 32);
  for (size_t f = 0; f < fibers_used; ++f) {
    const auto n = static_cast<unsigned>(f);
    fibers[f].number = n;
    fibers[f].lane = n % 32;
    fibers[f].warp = n / 32;
    fibers[f].index = {n % what.threads.x, n / what.threads.x % what.threads.y,
                       n / (what.threads.x * what.threads.y)};
  }
  place_shared(what.dynamic_shared_bytes);
  shared_variables.begin_kernel(what.function);
  // Blocks in the order of a random affine map, a permutation without a table.
  const uint64_t blocks = uint64_t{what.grid.x} * what.grid.y * what.grid.z;
  const uint64_t limit = std::min<uint64_t>(blocks, uint64_t{1} << 31);
  uint64_t step = 1 + random.below(limit);
  while (std::gcd(step, blocks) != 1) ++step;
  uint64_t at = random.below(limit);
  for (uint64_t b = 0; b < blocks; ++b) {
    at = static_cast<uint64_t>((static_cast<unsigned __int128>(at) + step) % blocks);
    run_block({static_cast<unsigned>(at % what.grid.x), static_cast<unsigned>(at / what.grid.x % what.grid.y),
               static_cast<unsigned>(at / what.grid.x / what.grid.y)});
  }
  run = nullptr;
  runner = nullptr;
}

void run_kernel(const KernelRun& run) { this_runner().run_kernel(run); }

// --- Waiting for others ---------------------------------------------------------------------------

Barrier& BlockRunner::arrive(int id, unsigned threads, const char* name) {
  if (id < 0 || id >= kBarriers) fail("barrier %d: there are %d", id, kBarriers);
  if (threads == 0) threads = static_cast<unsigned>(fibers_used);
  if (threads > fibers_used) fail("barrier %d waits for %u threads, the block has %zu", id, threads, fibers_used);
  Barrier& barrier = barriers[id];
  if (barrier.arrived > 0 && barrier.expected != threads)
    fail("barrier %d is for %u threads here and for %u elsewhere", id, threads, barrier.expected);
  if (threads == fibers_used && ended > 0)
    fail("%zu threads of the block have left the kernel before this %s", ended, name);
  barrier.expected = threads;
  ++barrier.arrived;
  return barrier;
}

int BlockRunner::sync(int id, unsigned threads, int value, const char* name) {
  Fiber* const self = now;
  Barrier& barrier = arrive(id, threads, name);
  barrier.count += value != 0;
  if (barrier.arrived < barrier.expected) {
    barrier.waiting.push_back(self);
    park(name);
    return self->result;
  }
  const int count = barrier.count;
  for (Fiber* fiber : barrier.waiting) {
    fiber->result = count;
    wake(fiber);
  }
  barrier.reset();
  self->result = count;
  wake(self);  // it need not be the first to go on
  park(name);
  return count;
}

void sync_threads() { runner->sync(0, 0, 0, "__syncthreads"); }
int sync_threads_count(int value) { return runner->sync(0, 0, value, "__syncthreads_count"); }
void barrier_sync(int id, int threads) {
  runner->sync(id, static_cast<unsigned>(threads), 0, "barrier.sync");
}
void barrier_arrive(int id, int threads) {
  Barrier& barrier = runner->arrive(id, static_cast<unsigned>(threads), "barrier.arrive");
  if (barrier.arrived < barrier.expected) return;
  for (Fiber* fiber : barrier.waiting) {
    fiber->result = barrier.count;
    runner->wake(fiber);
  }
  barrier.reset();
}

void wait_until(const char* what, bool (*is_ready)(const void*), const void* context) {
  Fiber* const self = runner->now;
  self->is_ready = is_ready;
  self->context = context;
  runner->polling.push_back(self);
  runner->park(what);
}

void BlockRunner::meet(const char* operation, unsigned first, unsigned count, uint32_t mask, const void* input,
                       void* output, ComputeCollective compute, void* context) {
  Fiber* const self = now;
  auto& pending = meetings[first / 32];
  size_t at = 0;
  while (at < pending.size() && (pending[at].mask != mask || pending[at].count != count)) ++at;
  if (at == pending.size()) {
    pending.emplace_back();
    pending[at].mask = mask;
    pending[at].count = count;
    pending[at].operation = operation;
    pending[at].compute = compute;
    pending[at].wanted = count == 32 ? static_cast<unsigned>(__builtin_popcount(mask)) : count;
  }
  Meeting& meeting = pending[at];
  if (meeting.operation != operation && std::strcmp(meeting.operation, operation) != 0)
    fail("%s: other lanes of the warp with the same mask 0x%08x are in %s", operation, mask, meeting.operation);
  meeting.inputs[self->number - first] = input;
  meeting.outputs[self->number - first] = output;
  meeting.waiting[meeting.arrived++] = self;
  if (meeting.arrived == meeting.wanted) {
    // Taken out first: `compute` may find faults, and the vector may move.
    Meeting full = meeting;
    pending.erase(pending.begin() + static_cast<std::ptrdiff_t>(at));
    full.compute(full.inputs, full.outputs, mask, context);
    for (unsigned w = 0; w < full.wanted; ++w) wake(full.waiting[w]);
  }
  park(operation);
}

void meet_in_warp(const char* operation, uint32_t mask, const void* input, void* output,
                  ComputeCollective compute, void* context) {
  BlockRunner& self = *runner;
  const unsigned lane = self.now->lane, first = self.now->number - lane;
  if (!(mask >> lane & 1)) fail("%s: the mask 0x%08x does not name its lane %u", operation, mask, lane);
  const bool has_all = self.ended == 0 && first + 32 <= self.fibers_used;
  for (unsigned l = 0; l < 32 && !has_all; ++l) {
    if (!(mask >> l & 1)) continue;
    if (first + l >= self.fibers_used) fail("%s: the mask 0x%08x names lane %u, which the block lacks", operation, mask, l);
    if (self.fibers[first + l].state == Fiber::State::ended)
      fail("%s: the mask 0x%08x names lane %u, which has left the kernel", operation, mask, l);
  }
  self.meet(operation, first, 32, mask, input, output, compute, context);
}

void meet_in_warp_group(const char* operation, const void* input, void* output, ComputeCollective compute,
                        void* context) {
  BlockRunner& self = *runner;
  const unsigned first = self.now->number / 128 * 128;
  if (first + 128 > self.fibers_used) fail("%s: a group of four warps is needed", operation);
  self.meet(operation, first, 128, 0xffffffffu, input, output, compute, context);
}

uint64_t seed() {
  const char* const text = std::getenv("TESSERA_SOFT_GPU_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 1;
}

}  // namespace soft_gpu

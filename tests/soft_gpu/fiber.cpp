#include "tests/soft_gpu/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace soft_gpu {
namespace {
constexpr size_t kPage = 4096;
}

// swapcontext would do, and asks the kernel for the signal mask twice each time.
#if defined(__x86_64__)
asm(R"(
.text
.globl soft_gpu_switch
.type soft_gpu_switch, @function
soft_gpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size soft_gpu_switch, .-soft_gpu_switch
)");
void* Stacks::prepare(char* stack, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(stack + kStackBytes);
  *--top = nullptr;  // as after a call: rsp is 8 beyond a multiple of 16, and there is no caller
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  return top;
}
#elif defined(__aarch64__)
asm(R"(
.text
.globl soft_gpu_switch
.type soft_gpu_switch, %function
soft_gpu_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size soft_gpu_switch, .-soft_gpu_switch
)");
void* Stacks::prepare(char* stack, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(stack + kStackBytes - 160);
  for (int i = 0; i < 20; ++i) top[i] = nullptr;
  top[11] = reinterpret_cast<void*>(entry);
  return top;
}
#else
#error "soft_gpu_switch is written for x86-64 and aarch64"
#endif

char* Stacks::take() {
  if (!free_.empty()) {
    char* const stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void* const memory = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) {
    std::perror("soft_gpu: a thread's stack");
    std::abort();
  }
  char* const stack = static_cast<char*>(memory) + kPage;
  all_.push_back(stack);
  return stack;
}

bool Stacks::is_guard(const void* address) const {
  const auto where = reinterpret_cast<uintptr_t>(address);
  for (const char* stack : all_) {
    const auto begin = reinterpret_cast<uintptr_t>(stack);
    if (where < begin && where >= begin - kPage) return true;
  }
  return false;
}

}  // namespace soft_gpu

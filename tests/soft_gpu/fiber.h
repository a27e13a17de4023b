// Stacks and the switch between them.
#pragma once

#include <cstddef>
#include <vector>

namespace soft_gpu {

// Saves the callee-saved registers on this stack, its pointer in *from, and goes on where `to` was saved.
extern "C" void soft_gpu_switch(void** from, void* to);

inline constexpr size_t kStackBytes = 128 * 1024;

// Stacks with a page behind that faults. For one thread of the host.
class Stacks {
 public:
  char* take();
  void give(char* stack) { free_.push_back(stack); }
  // What soft_gpu_switch goes to: entry() on an empty stack. It must not return.
  static void* prepare(char* stack, void (*entry)());
  // Whether `address` is in the page that faults of one of these.
  bool is_guard(const void* address) const;

 private:
  std::vector<char*> free_, all_;
};

}  // namespace soft_gpu

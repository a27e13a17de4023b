// Kernels' __shared__ variables, which are the host thread's: to fill them with NaN before each block.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <vector>

namespace soft_gpu {

struct Variable {
  unsigned char* begin;
  size_t bytes;
};

// For one thread of the host. There are many variables, of which a kernel uses a few: those that its first blocks
// change. A kernel that touches others in later blocks only finds what was there.
class SharedVariables {
 public:
  void begin_kernel(const void* function);
  void begin_block();
  void end_block();

 private:
  struct Module;
  struct Used {
    const Module* module = nullptr;  // null: the function is in none (it was compiled at run time)
    int studies = 0;
    std::vector<size_t> variables;   // of the module's
  };
  const Module* module_of(const void* function);

  std::unordered_map<const void*, const Module*> modules_;  // by where they are loaded
  std::unordered_map<const void*, Used> used_;              // by function
  Used* now_ = nullptr;
  bool studies_ = false;
};

}  // namespace soft_gpu

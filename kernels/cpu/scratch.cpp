#include "kernels/cpu/scratch.h"

#include <cstdlib>
#include <new>

namespace tessera::cpu {
namespace {

struct HeldBlock {
  std::byte* memory = nullptr;
  size_t bytes = 0;
  ~HeldBlock() { std::free(memory); }
};

}  // namespace

std::byte* thread_scratch(int slot, size_t bytes) {
  thread_local HeldBlock blocks[4];
  HeldBlock& block = blocks[slot];
  if (block.bytes < bytes) {
    std::free(block.memory);
    block.bytes = 0;
    const size_t rounded = (bytes + 4095) / 4096 * 4096;
    block.memory = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
    if (block.memory == nullptr) throw std::bad_alloc();
    block.bytes = rounded;
  }
  return block.memory;
}

}  // namespace tessera::cpu

// Names of functions, exported or not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace soft_gpu {

// "void tessera::cuda::(anonymous namespace)::fill_kernel<float>(float*, float, long)", or "at ADDRESS".
void symbol_name(const void* function, char* text, size_t size);

struct Symbol {
  std::string name;
  uint64_t value;
  size_t bytes;
};
// The variables of `file` that each thread has its own of; `value` is the offset among them.
std::vector<Symbol> tls_symbols(const char* file);

}  // namespace soft_gpu

// Names of functions, exported or not.
#pragma once

#include <cstddef>

namespace soft_gpu {

// "void tessera::cuda::(anonymous namespace)::fill_kernel<float>(float*, float, long)", or "at ADDRESS".
void symbol_name(const void* function, char* text, size_t size);

}  // namespace soft_gpu

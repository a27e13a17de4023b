// Finds and opens the CUDA plugin.
#pragma once

#include <string>

#include "kernels/cuda/plugin/plugin.h"

namespace tessera::cuda {

// The plugin, opened once: the file named by TESSERA_CUDA_PLUGIN, else libtessera_cuda.so beside the
// program, in ../lib from there, or where the loader looks. Throws UserError that names what was tried and
// what the loader said (a build without CUDA, a CUDA library that is not there, another version).
const Plugin& open_plugin();

// Where the opened plugin lies; "" while there is none.
std::string plugin_path();

}  // namespace tessera::cuda

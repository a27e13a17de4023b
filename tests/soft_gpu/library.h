// Kernels compiled at run time: what the stand-in of NVRTC and cudaLibraryLoadData agree on.
//
// The "machine code" is the text "SOFT_GPU_LIBRARY:" and the path of a shared object, with a final 0. For
// each kernel NAME it exports, with C linkage,
//   void NAME_soft_thread(void** arguments)    one thread: arguments[i] points to parameter i, as in
//                                              cudaLaunchKernel;
//   const size_t NAME_soft_parameters[]        the parameters' sizes in bytes (at most 16-byte aligned), then 0.
// The object is compiled with the headers here (device_code.h is all that device code needs) and uses simt.h's
// functions of libsoft_gpu.so, which is in the process: link it with soft_gpu_path(), or leave them undefined
// and let kLibraryMagic's loader resolve them (libsoft_gpu.so is made global before it opens the object).
#pragma once

#include <string>

namespace soft_gpu {

inline constexpr const char* kLibraryMagic = "SOFT_GPU_LIBRARY:";

// The file of libsoft_gpu.so.
std::string soft_gpu_path();

}  // namespace soft_gpu

// One program through NVRTC.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace tessera::cuda {

struct NvrtcTarget {
  std::vector<std::string> options;
  bool is_machine_code = true;  // else PTX, which the driver compiles: the device is newer than NVRTC
  std::string description;      // all that decides what comes out, for the cache: "sm_90, NVRTC 13.0, OPTIONS"
};

// For a device of compute capability `major`.`minor`.
NvrtcTarget nvrtc_target(int major, int minor);

// The compiled program. Where NVRTC finds an error in it, an InternalError with its log and the text of the kernel
// that the log names (`kernels`: name -> text; a #line names each).
std::string compile_program(const std::string& source, const NvrtcTarget& target,
                            const std::map<std::string, std::string>& kernels);

}  // namespace tessera::cuda

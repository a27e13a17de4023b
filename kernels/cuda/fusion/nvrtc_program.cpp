#include "kernels/cuda/fusion/nvrtc_program.h"

#include <nvrtc.h>

#include <algorithm>
#include <memory>

#include "core/base/error.h"

namespace tessera::cuda {
namespace {

void check_nvrtc(nvrtcResult result, const char* what) {
  if (result != NVRTC_SUCCESS) throw_user_error("NVRTC: ", what, ": ", nvrtcGetErrorString(result));
}

class Program {
 public:
  explicit Program(const std::string& source) {
    check_nvrtc(nvrtcCreateProgram(&program_, source.c_str(), "tessera_kernels.cu", 0, nullptr, nullptr),
                "making a program");
  }
  ~Program() { (void)nvrtcDestroyProgram(&program_); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  nvrtcResult compile(const std::vector<std::string>& options) {
    std::vector<const char*> texts;
    for (const std::string& option : options) texts.push_back(option.c_str());
    return nvrtcCompileProgram(program_, static_cast<int>(texts.size()), texts.data());
  }
  std::string log() const {
    size_t size = 0;
    if (nvrtcGetProgramLogSize(program_, &size) != NVRTC_SUCCESS || size == 0) return "";
    std::string text(size, '\0');
    if (nvrtcGetProgramLog(program_, text.data()) != NVRTC_SUCCESS) return "";
    text.resize(size - 1);  // without the final 0
    return text;
  }
  std::string image(bool is_machine_code) const {
    size_t size = 0;
    check_nvrtc(is_machine_code ? nvrtcGetCUBINSize(program_, &size) : nvrtcGetPTXSize(program_, &size),
                "the program's size");
    std::string bytes(size, '\0');
    check_nvrtc(is_machine_code ? nvrtcGetCUBIN(program_, bytes.data()) : nvrtcGetPTX(program_, bytes.data()),
                "the program");
    return bytes;
  }

 private:
  nvrtcProgram program_ = nullptr;
};

}  // namespace

NvrtcTarget nvrtc_target(int major, int minor) {
  int count = 0;
  check_nvrtc(nvrtcGetNumSupportedArchs(&count), "the architectures");
  std::vector<int> known(static_cast<size_t>(count));
  check_nvrtc(nvrtcGetSupportedArchs(known.data()), "the architectures");
  const int wanted = 10 * major + minor;
  int best = 0;
  for (int arch : known)
    if (arch <= wanted) best = std::max(best, arch);
  if (best == 0) throw_user_error("NVRTC: it compiles nothing for compute capability ", major, ".", minor);
  NvrtcTarget target;
  // Machine code serves later devices of the same major version too.
  target.is_machine_code = best / 10 == major;
  const std::string name = cat(target.is_machine_code ? "sm_" : "compute_", best);
  // Without contraction to fused multiply-adds a fusion computes, to the bit, what its instructions would alone.
  target.options = {cat("--gpu-architecture=", name), "--std=c++17", "--fmad=false"};
  int version[2] = {};
  check_nvrtc(nvrtcVersion(&version[0], &version[1]), "its version");
  target.description = cat(name, ", NVRTC ", version[0], ".", version[1], ", ", join(target.options, " "));
  return target;
}

std::string compile_program(const std::string& source, const NvrtcTarget& target,
                            const std::map<std::string, std::string>& kernels) {
  Program program(source);
  const nvrtcResult result = program.compile(target.options);
  if (result == NVRTC_SUCCESS) return program.image(target.is_machine_code);
  const std::string log = program.log();
  const auto named = std::find_if(kernels.begin(), kernels.end(), [&](const auto& kernel) {
    return log.find(kernel.first) != std::string::npos;
  });
  TESSERA_CHECK(false, "NVRTC: ", nvrtcGetErrorString(result), " (", target.description, ")\n", log,
                named == kernels.end() ? "" : cat("The kernel is\n", named->second));
}

}  // namespace tessera::cuda

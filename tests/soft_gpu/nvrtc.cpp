// The stand-in of NVRTC. A program becomes a shared object by the host's compiler, from the same text: kernels are
// extern "C", in the global namespace or in `tessera`. What has been compiled before is found again by its content
// in a folder under the system's for temporary files.
#include <nvrtc.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/soft_gpu/library.h"

struct _nvrtcProgram {
  std::string source, log, image;
};

namespace {

// What each kernel needs beside itself: see library.h.
constexpr const char* kCalls = R"(
#line 1 "soft_gpu_calls"
namespace tessera {}
namespace soft_gpu_calls {
template <size_t kCount>
struct Sizes {
  size_t bytes[kCount + 1];
};
template <typename... Parameters>
constexpr Sizes<sizeof...(Parameters)> sizes_of(void (*)(Parameters...)) {
  return {{sizeof(Parameters)..., 0}};
}
template <typename... Parameters, size_t... kIndices>
void call(void (*kernel)(Parameters...), void** arguments, std::index_sequence<kIndices...>) {
  kernel(*static_cast<Parameters*>(arguments[kIndices])...);
}
template <typename... Parameters>
void call(void (*kernel)(Parameters...), void** arguments) {
  call(kernel, arguments, std::index_sequence_for<Parameters...>());
}
}  // namespace soft_gpu_calls
using namespace tessera;
)";

bool is_name_letter(char letter) { return std::isalnum(static_cast<unsigned char>(letter)) || letter == '_'; }

// The names that stand before "(" after each `extern "C" __global__`.
std::vector<std::string> kernels_of(const std::string& source) {
  static const std::string kStart = "extern \"C\" __global__";
  std::vector<std::string> names;
  for (size_t at = source.find(kStart); at != std::string::npos; at = source.find(kStart, at)) {
    at += kStart.size();
    for (std::string name; names.empty() || names.back() != name;) {
      while (!is_name_letter(source[at])) ++at;
      const size_t begin = at;
      while (is_name_letter(source[at])) ++at;
      name = source.substr(begin, at - begin);
      if (name == "__launch_bounds__") at = source.find(')', at);
      if (source[at] == '(') names.push_back(name);
    }
  }
  return names;
}

std::string text_of(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return std::move(text).str();
}

}  // namespace

const char* nvrtcGetErrorString(nvrtcResult result) {
  switch (result) {
    case NVRTC_SUCCESS: return "NVRTC_SUCCESS";
    case NVRTC_ERROR_COMPILATION: return "NVRTC_ERROR_COMPILATION";
    case NVRTC_ERROR_INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    default: return "NVRTC_ERROR";
  }
}

nvrtcResult nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 0;
  return NVRTC_SUCCESS;
}

static constexpr int kArchs[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
nvrtcResult nvrtcGetNumSupportedArchs(int* count) {
  *count = static_cast<int>(std::size(kArchs));
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcGetSupportedArchs(int* archs) {
  std::copy(std::begin(kArchs), std::end(kArchs), archs);
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char* source, const char*, int headers, const char* const*,
                               const char* const*) {
  if (headers != 0) return NVRTC_ERROR_INVALID_INPUT;
  *program = new _nvrtcProgram{source, "", ""};
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram* program) {
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int options, const char* const* texts) {
  namespace fs = std::filesystem;
  for (int i = 0; i < options; ++i)
    if (std::strncmp(texts[i], "--", 2) != 0) return NVRTC_ERROR_INVALID_OPTION;
  std::string source = "#include <utility>\n#include \"tests/soft_gpu/device_code.h\"\n" + program->source + kCalls;
  for (const std::string& name : kernels_of(program->source))
    source += "extern \"C\" const auto " + name + "_soft_parameters = soft_gpu_calls::sizes_of(&" + name +
              ");\nextern \"C\" void " + name + "_soft_thread(void** arguments) { soft_gpu_calls::call(&" + name +
              ", arguments); }\n";

  std::error_code ignored;
  const fs::path folder =
      fs::temp_directory_path() / ("tessera-soft-gpu-" + std::to_string(geteuid()));
  fs::create_directories(folder, ignored);
  const fs::path object = folder / (std::to_string(std::hash<std::string>()(source)) + "-" +
                                    std::to_string(source.size()) + ".so");
  program->image = soft_gpu::kLibraryMagic + object.string();
  program->log.clear();
  if (fs::exists(object, ignored)) return NVRTC_SUCCESS;

  std::string temporary = (folder / "XXXXXX").string();
  const int descriptor = mkstemp(temporary.data());
  if (descriptor < 0) return NVRTC_ERROR_OUT_OF_MEMORY;
  close(descriptor);
  std::ofstream(temporary + ".cpp") << source;
  // As NVRTC is asked to: without contraction of products and sums.
  const std::string command = std::string("c++ -std=c++20 -O0 -w -ffp-contract=off -fPIC -shared -I ") +
                              SOFT_GPU_SOURCE_DIR + " -o " + temporary + " " + temporary + ".cpp 2> " + temporary +
                              ".log";
  const int status = std::system(command.c_str());
  program->log = text_of(temporary + ".log");
  if (status == 0)
    fs::rename(temporary, object);
  else
    fs::remove(temporary, ignored);
  fs::remove(temporary + ".cpp", ignored);
  fs::remove(temporary + ".log", ignored);
  return status == 0 ? NVRTC_SUCCESS : NVRTC_ERROR_COMPILATION;
}

// Sizes count the final 0.
nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t* bytes) {
  *bytes = program->log.size() + 1;
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char* log) {
  std::memcpy(log, program->log.c_str(), program->log.size() + 1);
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t* bytes) {
  *bytes = program->image.size() + 1;
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char* image) {
  std::memcpy(image, program->image.c_str(), program->image.size() + 1);
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, size_t* bytes) { return nvrtcGetCUBINSize(program, bytes); }
nvrtcResult nvrtcGetPTX(nvrtcProgram program, char* image) { return nvrtcGetCUBIN(program, image); }

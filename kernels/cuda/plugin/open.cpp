#include "kernels/cuda/plugin/open.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <vector>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/base/version.h"

namespace tessera::cuda {
namespace {

constexpr const char* kLibrary = "libtessera_cuda.so";

struct Opened {
  const Plugin* plugin = nullptr;
  std::string path;
};
std::mutex opening;
Opened opened;

std::vector<std::string> candidates() {
  if (const char* named = std::getenv("TESSERA_CUDA_PLUGIN")) return {named};
  std::error_code ignored;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const std::filesystem::path folder = program.parent_path();
  return {folder / kLibrary, folder.parent_path() / "lib" / kLibrary, kLibrary};
}

Opened open_first() {
  std::vector<std::string> tried;
  bool needs_library = false;
  for (const std::string& path : candidates()) {
    const bool is_path = path.find('/') != std::string::npos;
    if (is_path && access(path.c_str(), F_OK) != 0) {
      tried.push_back(cat(path, ": there is no such file"));
      continue;
    }
    void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      const char* const why = dlerror();
      tried.push_back(why ? why : path);
      needs_library = is_path;  // the plugin is here, and something it needs is not
      continue;
    }
    const auto* build = static_cast<const char* const*>(dlsym(library, kBuildSymbol));
    const auto entry = reinterpret_cast<EntryPoint>(dlsym(library, kEntryPoint));
    if (!build || !entry) {
      tried.push_back(cat(path, ": is no CUDA plugin of Tessera"));
    } else if (std::string_view(*build) != version()) {
      tried.push_back(cat(path, ": was built for Tessera ", *build, ", this is ", version()));
    } else {
      return {entry(), path};
    }
    dlclose(library);
  }
  throw_user_error("the CUDA backend cannot be used: ", join(tried, "; "), ". ",
                   needs_library ? "CUDA 13's libraries must be where the loader looks (LD_LIBRARY_PATH, or "
                                   "/usr/local/cuda/lib64 in ld.so.conf)"
                                 : "Build it where the CUDA Toolkit is (cmake --build build --target tessera_cuda), "
                                   "or name the file in TESSERA_CUDA_PLUGIN",
                   "; device.backend = cpu needs none of it");
}

}  // namespace

const Plugin& open_plugin() {
  const std::lock_guard lock(opening);
  if (!opened.plugin) opened = open_first();
  return *opened.plugin;
}

std::string plugin_path() {
  const std::lock_guard lock(opening);
  return opened.path;
}

}  // namespace tessera::cuda

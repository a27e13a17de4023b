#include "kernels/cuda/comm/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "core/base/strings.h"

namespace tessera::cuda {
namespace {

constexpr const char* kLibrary = "libnccl.so.2";
constexpr int kOldest = 21800;

struct Found {
  std::unique_ptr<NcclLibrary> library;
  std::string why;
};

std::string loader_error() {
  const char* error = dlerror();
  return error ? error : "unknown error";
}

// Where this code lies, with the libraries it was linked with.
void* own_module() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&own_module), &info) == 0 || !info.dli_fname) return nullptr;
  return dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
}

template <typename Function>
bool load(void* library, const char* name, Function& function, std::string& missing) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (!function) missing = name;
  return function != nullptr;
}

Found open(void* handle, const std::string& path) {
  auto library = std::make_unique<NcclLibrary>();
  library->path = path;
  std::string missing;
  decltype(&::ncclGetVersion) get_version = nullptr;
  NcclLibrary& nccl = *library;
  const bool whole = load(handle, "ncclGetVersion", get_version, missing) &&
                     load(handle, "ncclGetUniqueId", nccl.get_unique_id, missing) &&
                     load(handle, "ncclCommInitRankConfig", nccl.init_rank_config, missing) &&
                     load(handle, "ncclCommSplit", nccl.split, missing) &&
                     load(handle, "ncclCommFinalize", nccl.finalize, missing) &&
                     load(handle, "ncclCommDestroy", nccl.destroy, missing) &&
                     load(handle, "ncclCommAbort", nccl.abort, missing) &&
                     load(handle, "ncclCommGetAsyncError", nccl.get_async_error, missing) &&
                     load(handle, "ncclGetErrorString", nccl.error_string, missing) &&
                     load(handle, "ncclGetLastError", nccl.last_error, missing) &&
                     load(handle, "ncclAllReduce", nccl.all_reduce, missing) &&
                     load(handle, "ncclAllGather", nccl.all_gather, missing) &&
                     load(handle, "ncclReduceScatter", nccl.reduce_scatter, missing) &&
                     load(handle, "ncclBroadcast", nccl.broadcast, missing) &&
                     load(handle, "ncclSend", nccl.send, missing) && load(handle, "ncclRecv", nccl.receive, missing) &&
                     load(handle, "ncclGroupStart", nccl.group_start, missing) &&
                     load(handle, "ncclGroupEnd", nccl.group_end, missing);
  if (!whole) return {nullptr, cat(path, " has no ", missing)};
  const bool registers = load(handle, "ncclMemAlloc", nccl.allocate, missing) &&
                         load(handle, "ncclMemFree", nccl.release, missing) &&
                         load(handle, "ncclCommRegister", nccl.register_memory, missing) &&
                         load(handle, "ncclCommDeregister", nccl.deregister_memory, missing);
  if (!registers) nccl.deregister_memory = nullptr;
  if (get_version(&nccl.version) != ncclSuccess) return {nullptr, cat(path, " does not tell its version")};
  if (nccl.version < kOldest)
    return {nullptr, cat(path, " is NCCL ", nccl.version_text(), ", 2.18 or later is needed")};
  return {std::move(library), ""};
}

Found search(const std::string& named) {
  if (named.empty()) {
    void* own = own_module();
    if (own && dlsym(own, "ncclGetVersion")) return open(own, "the program's own");
  }
  const std::string path = named.empty() ? kLibrary : named;
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    return {nullptr, cat(loader_error(), named.empty() ? " (TESSERA_NCCL may name the file)"
                                                       : " (named by TESSERA_NCCL)")};
  return open(handle, path);
}

}  // namespace

std::string NcclLibrary::version_text() const {
  return cat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

const NcclLibrary* find_nccl(std::string* why) {
  static std::mutex mutex;
  static std::map<std::string, Found> found;
  const char* named = std::getenv("TESSERA_NCCL");
  const std::lock_guard lock(mutex);
  const std::string key = named ? named : "";
  auto entry = found.find(key);
  // What was not found is looked for again: another name may be tried meanwhile.
  if (entry == found.end() || !entry->second.library) entry = found.insert_or_assign(key, search(key)).first;
  if (why) *why = entry->second.why;
  return entry->second.library.get();
}

}  // namespace tessera::cuda

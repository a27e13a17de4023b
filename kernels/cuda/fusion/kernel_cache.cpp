// An entry is one file: a line with the version of the layout, the size and the hash of the rest, then the bytes.
// It appears by a rename, so nobody reads half a file, and a lock file beside it makes others wait for it.
#include "kernels/cuda/fusion/kernel_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/log.h"
#include "kernels/cuda/fusion/fusion_source.h"

namespace tessera::cuda {
namespace {

std::string header_of(const std::string& bytes) {
  return cat("tessera-kernels-1 ", bytes.size(), " ", text_hash(bytes), "\n");
}

std::string default_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) return cat(cache, "/tessera");
  if (const char* home = std::getenv("HOME"); home && *home) return cat(home, "/.cache/tessera");
  return "";
}

// Held by one thread of all processes. Where the file system has no locks, everybody holds it.
class FileLock {
 public:
  explicit FileLock(std::string path) : path_(std::move(path)) {
    while (true) {
      descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
      if (descriptor_ < 0) return;
      while (::flock(descriptor_, LOCK_EX) != 0)
        if (errno != EINTR) return;
      // Who held it before may have removed the file: then others lock a new one.
      struct stat mine = {}, current = {};
      if (::fstat(descriptor_, &mine) == 0 && ::stat(path_.c_str(), &current) == 0 && mine.st_ino == current.st_ino)
        return;
      ::close(descriptor_);
    }
  }
  ~FileLock() {
    if (descriptor_ < 0) return;
    ::unlink(path_.c_str());
    ::close(descriptor_);
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace

KernelCache::KernelCache(std::string folder) : folder_(folder.empty() ? default_folder() : std::move(folder)) {
  if (folder_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (!error && ::access(folder_.c_str(), W_OK | X_OK) != 0) error.assign(errno, std::generic_category());
  if (!error) return;
  log_warning("CUDA: compiled kernels cannot be kept in ", folder_, " (", error.message(),
              "): every start compiles them anew");
  folder_.clear();
}

std::optional<std::string> KernelCache::read(const std::string& key) const {
  std::ifstream file(path_of(key), std::ios::binary);
  if (!file) return std::nullopt;
  std::string header;
  std::getline(file, header);
  std::ostringstream rest;
  rest << file.rdbuf();
  std::string bytes = std::move(rest).str();
  if (header + "\n" == header_of(bytes)) return bytes;
  log_warning("CUDA: the compiled kernels in ", path_of(key), " are damaged, they are compiled anew");
  return std::nullopt;
}

void KernelCache::write(const std::string& key, const std::string& bytes) const {
  const std::string path = path_of(key);
  std::string temporary = path + ".XXXXXX";
  const int descriptor = ::mkstemp(temporary.data());
  bool is_written = descriptor >= 0;
  if (is_written) {
    const std::string all = header_of(bytes) + bytes;
    for (size_t done = 0; done < all.size() && is_written;) {
      const ssize_t part = ::write(descriptor, all.data() + done, all.size() - done);
      if (part > 0) done += static_cast<size_t>(part);
      is_written = part > 0 || (part < 0 && errno == EINTR);
    }
    (void)::fchmod(descriptor, 0644);
    is_written = ::close(descriptor) == 0 && is_written && ::rename(temporary.c_str(), path.c_str()) == 0;
  }
  if (is_written) return;
  const int error = errno;
  if (descriptor >= 0) ::unlink(temporary.c_str());
  log_warning("CUDA: compiled kernels cannot be kept in ", path, " (", std::strerror(error), ")");
}

std::string KernelCache::find_or_make(const std::string& key, const std::function<std::string()>& make) const {
  if (folder_.empty()) return make();
  if (auto found = read(key)) return *std::move(found);
  const FileLock lock(path_of(key) + ".lock");
  if (auto found = read(key)) return *std::move(found);
  std::string bytes = make();
  write(key, bytes);
  return bytes;
}

void KernelCache::forget(const std::string& key) const {
  if (!folder_.empty()) ::unlink(path_of(key).c_str());
}

}  // namespace tessera::cuda

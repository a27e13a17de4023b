// Compiled kernels on disk, by content: a run that starts again, and the other ranks of a host, compile nothing.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace tessera::cuda {

// A cache that cannot be read or written is a warning, never a failure: then everything is compiled.
class KernelCache {
 public:
  // "": $XDG_CACHE_HOME/tessera, else $HOME/.cache/tessera, else nothing is kept.
  explicit KernelCache(std::string folder);

  // The bytes under `key`; where there are none, those that `make` returns, which are kept. Of all threads and
  // processes that ask at the same time one makes them, while the others wait. What `make` throws passes through.
  std::string find_or_make(const std::string& key, const std::function<std::string()>& make) const;
  void forget(const std::string& key) const;
  std::string path_of(const std::string& key) const { return folder_ + "/" + key + ".kernels"; }

 private:
  std::optional<std::string> read(const std::string& key) const;
  void write(const std::string& key, const std::string& bytes) const;

  std::string folder_;
};

}  // namespace tessera::cuda

// A whole file, readable as memory. Pages are read on first touch, so a rank that uses a part of a
// corpus or of a checkpoint reads only that part.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tessera {

class MappedFile {
 public:
  MappedFile() = default;
  // Throws UserError "PATH cannot be read: ..." with the system's reason. An empty file is fine.
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tessera

// The few operations on files that a checkpoint is made of, behind an interface so that tests can
// stop the world between any two of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/base/error.h"

namespace tessera {

// A refusal of the operating system; `code` is the errno, and its text is part of the message.
class IoError : public UserError {
 public:
  IoError(const std::string& what, int code);
  int code() const { return code_; }

 private:
  int code_;
};

// A file being written from its start. Every member but the destructor throws IoError.
class OutputFile {
 public:
  virtual ~OutputFile() = default;
  virtual void append(std::span<const std::byte> bytes) = 0;
  // Returns when the bytes are on the disk, and closes the file.
  virtual void sync_and_close() = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual void create_folders(const std::string& path) = 0;  // and its parents; may exist
  virtual std::unique_ptr<OutputFile> create_file(const std::string& path) = 0;  // truncates
  virtual void sync_folder(const std::string& path) = 0;  // its entries are on the disk
  virtual void rename(const std::string& from, const std::string& to) = 0;
  // Swaps two paths in one step; false where the file system cannot.
  virtual bool exchange(const std::string& a, const std::string& b) = 0;
  virtual void remove_all(const std::string& path) = 0;  // need not exist
};

// The real one; without state.
FileSystem& posix_file_system();

// Writes, syncs and closes a small file.
void write_file(FileSystem& files, const std::string& path, const std::string& text);

// Throws IoError. At most `most` bytes are taken.
std::string read_file(const std::string& path, int64_t most = int64_t{1} << 40);

// Room for an unprivileged user on the file system of `path`; -1 where it cannot be told.
int64_t free_bytes(const std::string& path);

}  // namespace tessera

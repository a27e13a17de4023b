#include "launch/checkpoint/file_system.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace tessera {
namespace {

[[noreturn]] void fail(const std::string& path, const char* what) {
  const int code = errno;
  throw IoError(cat(path, " cannot be ", what), code);
}

class PosixFile final : public OutputFile {
 public:
  explicit PosixFile(std::string path) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail(path_, "created");
  }
  ~PosixFile() override {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  void append(std::span<const std::byte> bytes) override {
    constexpr size_t kMost = size_t{1} << 30;  // Linux writes at most 2 GiB at once
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kMost));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(path_, "written");
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
  }

  void sync_and_close() override {
    if (::fsync(descriptor_) != 0) fail(path_, "brought to the disk");
    // Network file systems report a full quota only here.
    if (::close(std::exchange(descriptor_, -1)) != 0) fail(path_, "closed");
  }

 private:
  std::string path_;
  int descriptor_ = -1;
};

class PosixFileSystem final : public FileSystem {
 public:
  void create_folders(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) throw IoError(cat("folder ", path, " cannot be made"), error.value());
  }

  std::unique_ptr<OutputFile> create_file(const std::string& path) override {
    return std::make_unique<PosixFile>(path);
  }

  void sync_folder(const std::string& path) override {
    const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) fail(path, "opened");
    // Some network file systems know no fsync of folders; their renames are synchronous.
    if (::fsync(folder) != 0 && errno != EINVAL && errno != ENOTSUP) {
      const int code = errno;
      ::close(folder);
      errno = code;
      fail(path, "brought to the disk");
    }
    ::close(folder);
  }

  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail(from, cat("renamed to ", to).c_str());
  }

  bool exchange(const std::string& a, const std::string& b) override {
    if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
    if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return false;
    fail(a, cat("exchanged with ", b).c_str());
  }

  void remove_all(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) throw IoError(cat(path, " cannot be removed"), error.value());
  }
};

}  // namespace

IoError::IoError(const std::string& what, int code)
    : UserError(cat(what, ": ", std::strerror(code))), code_(code) {}

FileSystem& posix_file_system() {
  static PosixFileSystem files;
  return files;
}

void write_file(FileSystem& files, const std::string& path, const std::string& text) {
  const std::unique_ptr<OutputFile> file = files.create_file(path);
  file->append(std::as_bytes(std::span(text)));
  file->sync_and_close();
}

std::string read_file(const std::string& path, int64_t most) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(path, "opened");
  std::string text;
  char block[1 << 16];
  while (static_cast<int64_t>(text.size()) < most) {
    const ssize_t count = ::read(file, block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int code = errno;
      ::close(file);
      errno = code;
      fail(path, "read");
    }
    if (count == 0) break;
    text.append(block, static_cast<size_t>(count));
  }
  ::close(file);
  if (static_cast<int64_t>(text.size()) > most) text.resize(static_cast<size_t>(most));
  return text;
}

int64_t free_bytes(const std::string& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) return -1;
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

}  // namespace tessera

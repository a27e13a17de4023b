#include "launch/checkpoint/output_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "core/base/log.h"
#include "launch/checkpoint/agreement.h"
#include "launch/checkpoint/file_system.h"

namespace tessera {
namespace {

std::string this_host() {
  char name[256] = "unknown";
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::string holder_text() {
  char when[32] = "";
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  std::strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", ::localtime_r(&now, &local));
  return cat("process ", ::getpid(), " on host ", this_host(), ", since ", when, "\n");
}

}  // namespace

void prepare_output_folder(const std::string& path) {
  FileSystem& files = posix_file_system();
  const std::string probe = cat(path, "/.probe-", this_host(), "-", ::getpid());
  try {
    files.create_folders(path);
    write_file(files, probe, "tessera");
    files.remove_all(probe);
  } catch (const IoError& error) {
    ::unlink(probe.c_str());  // an empty one, on a full disk
    throw_user_error("output folder ", path, " cannot be written: ", error.what(),
                     ". Give a folder with write permission and room: --set output_dir='\"DIR\"'");
  }
}

OutputLock::OutputLock(const std::string& output_folder) {
  const std::string path = output_folder + "/.lock";
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0)
    throw_user_error("lock file ", path, " cannot be opened: ", std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int code = errno;
    if (code != EWOULDBLOCK) {
      log_warning("output folder ", output_folder, " cannot be locked: ", std::strerror(code),
                  ". Take care that no other run writes to it");
      return;
    }
    std::string holder;
    try {
      holder = trim(read_file(path, 1000));
    } catch (const IoError&) {
    }
    ::close(std::exchange(descriptor_, -1));
    throw_user_error("output folder ", output_folder, " is in use by another run: ",
                     holder.empty() ? "its process is unknown" : holder,
                     ". Wait for it, stop it, or give another folder: --set output_dir='\"DIR\"'");
  }
  const std::string text = holder_text();
  if (::ftruncate(descriptor_, 0) != 0 ||
      ::pwrite(descriptor_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    log_debug("the holder of ", path, " could not be noted: ", std::strerror(errno));
}

OutputLock::OutputLock(OutputLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputLock::~OutputLock() {
  // The file stays: to remove it would let two processes lock two files of one name.
  if (descriptor_ >= 0) ::close(descriptor_);
}

void check_shared_folder(const std::string& output_folder, World& world) {
  const std::string path = output_folder + "/.nonce";
  std::random_device device;
  const std::string mine = cat(std::hex, device(), device());
  const Outcome written = run_on_first(&world, [&] {
    write_file(posix_file_system(), path, mine);
    return mine;
  });
  if (written.failed()) throw_failure(written.failure, written.error);
  const std::vector<Outcome> outcomes = run_on_all(&world, [&] {
    std::string seen, reason;
    // A network file system may show a new file a moment late.
    for (int attempt = 0; attempt < 20; ++attempt) {
      try {
        seen = read_file(path, 100);
        reason = "reads '" + seen + "'";
      } catch (const IoError& error) {
        reason = error.what();
      }
      if (seen == written.payload) return world.host_name();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    throw UserError(cat(world.host_name(), ": ", reason));
  });
  world.barrier();
  if (world.rank() == 0) ::unlink(path.c_str());
  std::set<std::string> lost;
  for (const Outcome& outcome : outcomes)
    if (outcome.failed()) lost.insert(outcome.error);
  if (lost.empty()) return;
  throw AgreedError(cat("output folder ", output_folder, " is not shared by all hosts: rank 0 wrote '",
                        written.payload, "' to ", path, ", but\n  ", join(lost, "\n  "),
                        "\nGive a folder on a file system that every host mounts: "
                        "--set output_dir='\"DIR\"'"));
}

}  // namespace tessera

// The folder that a run writes to: made, locked against a second writer, and shared by all hosts.
#pragma once

#include <string>

#include "core/runtime/communicator.h"

namespace tessera {

// Makes `path` and its parents and proves that a file can be written there. Throws UserError with
// the system's reason.
void prepare_output_folder(const std::string& path);

// Held by the one process that writes to an output folder: an flock on PATH/.lock, which the system
// lets go however the process ends, so that a lock never needs to be cleaned up. The file's text
// says who holds it.
class OutputLock {
 public:
  // Throws UserError where another process holds it, naming that process and its host. Where the
  // file system has no locks it warns and goes on.
  explicit OutputLock(const std::string& output_folder);
  OutputLock(OutputLock&& other) noexcept;
  OutputLock& operator=(OutputLock&&) = delete;
  ~OutputLock();

 private:
  int descriptor_ = -1;
};

// Collective: rank 0 writes a word of the moment into the folder, and every rank must read it back.
// Throws UserError on every rank, naming the hosts that see another folder under this path.
void check_shared_folder(const std::string& output_folder, World& world);

}  // namespace tessera

// The MPI library's life in this process.
#pragma once

namespace tessera {

// MPI, from its initialisation to its finalisation; left alone where the program did these itself.
class MpiLibrary {
 public:
  MpiLibrary();
  ~MpiLibrary();
  MpiLibrary(const MpiLibrary&) = delete;

  // Peers may be gone: MPI_Finalize would wait for them, so it is left out.
  void abandon() { in_order_ = false; }

 private:
  bool owned_ = false;
  bool in_order_ = true;
};

// Ends this process and the job with an exit code, also where MPI_Abort itself gets stuck. Any
// thread.
[[noreturn]] void terminate_job(int code);

}  // namespace tessera

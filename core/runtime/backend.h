// Where buffers live and kernels run. The CPU backend is core's own; CUDA is a plugin.
//
// A device works in the order of submission on one compute stream, and the host runs ahead of it:
// `copy`, `copy_rows`, `fill`, `set_bytes` and the kernels only submit. What must be seen on the host
// (copy_to_host, synchronize) waits. On the CPU all of it is done when the call returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/runtime/kernel_table.h"

namespace tessera {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const std::string& name() const = 0;
  // The device itself, for people: "GPU 0, NVIDIA H200".
  virtual std::string device_name() const { return name(); }
  virtual std::byte* allocate(int64_t bytes) = 0;  // 64-byte aligned; UserError when out of memory
  virtual void release(std::byte* memory) noexcept = 0;
  virtual const KernelTable& kernels() const = 0;
  // Whether the host may read and write the buffers itself.
  virtual bool is_host() const { return false; }
  // Handed to kernels and collectives as `stream`; null on the CPU.
  virtual void* stream() { return nullptr; }

  // The host's memory may be reused when these return; copy_to_host waits for all work before it.
  virtual void copy_to_device(void* device, const void* host, int64_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* device, int64_t bytes) = 0;

  // Between buffers of the device, which are the same or lie apart.
  virtual void copy(void* to, const void* from, int64_t bytes) = 0;
  // `rows` pieces of `width` bytes, `pitch` bytes apart.
  virtual void copy_rows(void* to, int64_t to_pitch, const void* from, int64_t from_pitch,
                         int64_t width, int64_t rows) = 0;
  // `count` times the element of 1, 2, 4 or 8 bytes that lies in the host's memory at `element`.
  virtual void fill(void* to, const void* element, int64_t element_bytes, int64_t count) = 0;
  void set_bytes(void* to, int value, int64_t bytes);
  void zero(void* device, int64_t bytes) { set_bytes(device, 0, bytes); }

  // All that was submitted is done. Throws UserError with what failed on the device since.
  virtual void synchronize() {}

  // Called once every kernel of an executable has been prepared (Kernel::prepare).
  virtual void finish_preparing() {}

  // Work recorded once and submitted as one piece after: what is submitted between begin_capture and
  // end_capture is not done then, but at every replay(). Only where can_capture().
  virtual bool can_capture() const { return false; }
  virtual void begin_capture() {}
  virtual int end_capture() { return -1; }  // the recording's number
  virtual void replay(int /*recording*/) {}
  // The recording is not replayed any more. What it uses (memory, communicators) must outlive it.
  virtual void drop(int /*recording*/) {}

  // Times, for profiles. mark_time() submits a mark and returns its number, from 0; it passes when all that was
  // submitted before it is done, on the compute stream or on that of a communicator (Communicator::stream).
  // Never between begin_capture and end_capture. begin_times() waits for the device and forgets all marks.
  // time_of() is when a mark passed, in seconds of the host's steady clock; it waits for that.
  virtual void begin_times() { times_.clear(); }
  virtual int mark_time(void* stream = nullptr);
  virtual double time_of(int mark) { return times_[static_cast<size_t>(mark)]; }

  // Names what this thread submits from here to end_range, for a profiler that watches the process (NVTX).
  // Ranges nest. They cost little where nobody watches, and mean nothing unless has_ranges().
  virtual bool has_ranges() const { return false; }
  virtual void begin_range(const char* /*name*/) {}
  virtual void end_range() noexcept {}

 private:
  std::vector<double> times_;  // where all is done when a call returns
};

// Host memory, with the kernels of `table`.
std::unique_ptr<Backend> create_cpu_backend(KernelTable table);

}  // namespace tessera

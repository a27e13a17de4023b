#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "core/base/error.h"
#include "core/base/steady_clock.h"
#include "core/base/strings.h"
#include "core/runtime/backend.h"

namespace tessera {
namespace {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(KernelTable table) : table_(std::move(table)) {}

  const std::string& name() const override {
    static const std::string kName = "cpu";
    return kName;
  }
  bool is_host() const override { return true; }
  std::byte* allocate(int64_t bytes) override {
    // Large arenas are aligned to huge pages, and ask for them: fewer misses of the TLB.
    constexpr int64_t kHuge = int64_t{2} << 20;
    const int64_t alignment = bytes >= 4 * kHuge ? kHuge : 64;
    const int64_t rounded = (std::max<int64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(rounded));
    if (memory == nullptr)
      throw_user_error("out of memory: cannot allocate ", human_bytes(static_cast<double>(bytes)),
                       " on the host; use a smaller microbatch or more devices");
    if (alignment == kHuge)
      madvise(memory, static_cast<size_t>(rounded), MADV_HUGEPAGE);  // best effort
    return static_cast<std::byte*>(memory);
  }
  void release(std::byte* memory) noexcept override { std::free(memory); }
  void copy_to_device(void* device, const void* host, int64_t bytes) override {
    std::memcpy(device, host, static_cast<size_t>(bytes));
  }
  void copy_to_host(void* host, const void* device, int64_t bytes) override {
    std::memcpy(host, device, static_cast<size_t>(bytes));
  }
  void copy(void* to, const void* from, int64_t bytes) override {
    std::memmove(to, from, static_cast<size_t>(bytes));
  }
  void copy_rows(void* to, int64_t to_pitch, const void* from, int64_t from_pitch, int64_t width,
                 int64_t rows) override {
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(static_cast<std::byte*>(to) + row * to_pitch,
                  static_cast<const std::byte*>(from) + row * from_pitch,
                  static_cast<size_t>(width));
  }
  void fill(void* to, const void* element, int64_t element_bytes, int64_t count) override {
    if (count == 0) return;
    const auto bytes = static_cast<size_t>(element_bytes * count);
    auto* const begin = static_cast<std::byte*>(to);
    if (element_bytes == 1) {
      std::memset(begin, *static_cast<const unsigned char*>(element), bytes);
      return;
    }
    std::memcpy(begin, element, static_cast<size_t>(element_bytes));
    for (size_t done = static_cast<size_t>(element_bytes), next; done < bytes; done += next) {
      next = std::min(done, bytes - done);
      std::memcpy(begin + done, begin, next);
    }
  }
  const KernelTable& kernels() const override { return table_; }

 private:
  KernelTable table_;
};

}  // namespace

void Backend::set_bytes(void* to, int value, int64_t bytes) {
  const auto byte = static_cast<unsigned char>(value);
  fill(to, &byte, 1, bytes);
}

int Backend::mark_time(void* /*stream*/) {
  times_.push_back(steady_seconds());
  return static_cast<int>(times_.size()) - 1;
}

std::unique_ptr<Backend> create_cpu_backend(KernelTable table) {
  return std::make_unique<CpuBackend>(std::move(table));
}

}  // namespace tessera

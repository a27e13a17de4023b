#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "core/base/error.h"
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
  void zero(void* device, int64_t bytes) override {
    std::memset(device, 0, static_cast<size_t>(bytes));
  }
  const KernelTable& kernels() const override { return table_; }

 private:
  KernelTable table_;
};

}  // namespace

std::unique_ptr<Backend> create_cpu_backend(KernelTable table) {
  return std::make_unique<CpuBackend>(std::move(table));
}

}  // namespace tessera

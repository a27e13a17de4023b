// Stands in for kernels/cuda/device/wgmma.h, element by element as the PTX ISA describes descriptors, layouts and
// fragments. A product is computed when its group is waited for: until then its sums hold NaN, what is written to
// them is lost, and shared memory is read as it is at that time; a left operand in registers may not have changed.
// Not shown: a missing fence_async_shared().
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/shared_address.h"

namespace tessera::cuda {

inline constexpr bool kHasWarpgroups = true;

namespace soft {

// One thread's part of a product of [64, 16] and [16, 8 tiles].
struct WarpgroupProduct {
  float (*sum)[4];
  int tiles;
  bool add, rows;  // rows: b is summed over its rows (transposed)
  std::vector<float> before;       // the sums, unless another product on its way has them
  const uint32_t* left = nullptr;  // four registers, or a's descriptor
  uint32_t left_then[4] = {};
  uint64_t a = 0, b = 0;
};
struct WarpgroupThread {
  std::vector<WarpgroupProduct> open;
  std::deque<std::vector<WarpgroupProduct>> groups;
  bool fenced = false;
  uint3 block = {};
};
inline WarpgroupThread& warpgroup_thread() {
  static thread_local std::vector<WarpgroupThread> threads(1024);
  WarpgroupThread& thread = threads[::soft_gpu::current_thread().number];
  const uint3 block = ::soft_gpu::current_block().index;
  if (block.x != thread.block.x || block.y != thread.block.y || block.z != thread.block.z) {
    if (!thread.open.empty() || !thread.groups.empty())
      ::soft_gpu::fail("block (%u, %u, %u) ended without waiting for its wgmma", thread.block.x, thread.block.y,
                       thread.block.z);
    thread.fenced = false;
    thread.block = block;
  }
  return thread;
}

// "Matrix Descriptor Format", and "Strides" with the layouts of "Shared Memory Matrix Layout".
class DescribedMatrix {
 public:
  explicit DescribedMatrix(uint64_t descriptor)
      : start_(static_cast<uint32_t>(descriptor & 0x3fff) << 4),
        leading_(static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4),
        stride_(static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4),
        span_(kSpans[descriptor >> 62]) {
    constexpr uint64_t kReserved = 0x3ff1c000c000c000;
    if ((descriptor & kReserved) != 0 || (descriptor >> 49 & 7) != 0)
      ::soft_gpu::fail("wgmma: descriptor 0x%016llx has bits that mean nothing here, or a base offset",
                       static_cast<unsigned long long>(descriptor));
    // With a base offset of 0 patterns begin at multiples of eight rows of their span.
    if (span_ > 16 && start_ % (8 * span_) >= 128)
      ::soft_gpu::fail("wgmma: the pattern of %u bytes at 0x%x begins in its middle", span_, start_);
  }
  // Elements k..k + 7 of the sum in row `mn` of a or column `mn` of b (K-major), k a multiple of 8.
  void columns(uint32_t mn, uint32_t k, float* eight) const {
    const uint32_t group = start_ + mn / 8 * stride_ + mn % 8 * span_;
    read(span_ == 16 ? group + k / 8 * leading_ : group + k * 2, eight);
  }
  // Element k of the sum in rows or columns mn..mn + 7 (MN-major), mn a multiple of 8.
  void rows(uint32_t mn, uint32_t k, float* eight) const {
    const uint32_t wide = span_ / 2;
    read(span_ == 16 ? start_ + mn / 8 * stride_ + k / 8 * leading_ + k % 8 * 16
                     : start_ + mn / wide * leading_ + mn % wide * 2 + k / 8 * stride_ + k % 8 * span_,
         eight);
  }

 private:
  static constexpr uint32_t kSpans[4] = {16, 128, 64, 32};
  // Swizzling moves whole pieces of 16 bytes.
  void read(uint32_t address, float* eight) const {
    uint16_t bits[8];
    std::memcpy(bits, shared_pointer(swizzled(address, span_), sizeof(bits), "wgmma"), sizeof(bits));
    for (int i = 0; i < 8; ++i) eight[i] = bf16_of(bits[i], 0);
  }
  uint32_t start_, leading_, stride_, span_;
};

inline bool is_on_its_way(const WarpgroupThread& thread, const float (*sum)[4]) {
  const auto has = [sum](const std::vector<WarpgroupProduct>& group) {
    return std::any_of(group.begin(), group.end(), [sum](const WarpgroupProduct& p) { return p.sum == sum; });
  };
  return has(thread.open) || std::any_of(thread.groups.begin(), thread.groups.end(), has);
}

inline void begin_product(WarpgroupProduct product) {
  WarpgroupThread& thread = warpgroup_thread();
  if (!thread.fenced) ::soft_gpu::fail("wgmma.mma_async without a wgmma.fence since registers may have been used");
  const int count = 4 * product.tiles;
  if (!is_on_its_way(thread, product.sum)) {
    product.before.assign(product.sum[0], product.sum[0] + count);
    std::fill(product.sum[0], product.sum[0] + count, __uint_as_float(0xffffffffu));
  }
  if (product.left) std::copy(product.left, product.left + 4, product.left_then);
  thread.open.push_back(std::move(product));
}

// Element by element of a warp's 16 rows, the products that were begun first first.
__attribute__((optimize("O3"))) inline void finish_product(WarpgroupProduct* const* lanes, uint32_t warp) {
  const WarpgroupProduct& first = *lanes[0];
  const uint32_t columns = static_cast<uint32_t>(first.tiles) * 8;
  float left[16][16];
  double total[16][128];
  const DescribedMatrix b(first.b), a(first.left ? first.b : first.a);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    WarpgroupProduct& own = *lanes[lane];
    if (own.tiles != first.tiles || own.rows != first.rows || own.add != first.add || own.a != first.a ||
        own.b != first.b)
      ::soft_gpu::fail("wgmma.mma_async: lanes of a warp disagree");
    const uint32_t g = lane / 4, t = lane % 4;
    if (own.left) {
      if (std::memcmp(own.left, own.left_then, sizeof(own.left_then)) != 0)
        ::soft_gpu::fail("wgmma.mma_async: its left operand changed before it was waited for");
      for (uint32_t i = 0; i < 8; ++i)  // as a of mma.m16n8k16
        left[i / 2 % 2 == 0 ? g : g + 8][2 * t + i % 2 + (i < 4 ? 0 : 8)] = bf16_of(own.left[i / 2], i % 2);
    }
    for (uint32_t n = 0; n < columns / 8; ++n)
      for (uint32_t i = 0; i < 4; ++i) {
        const float before = own.before.empty() ? own.sum[n][i] : own.before[4 * n + i];
        total[i < 2 ? g : g + 8][8 * n + 2 * t + i % 2] = own.add ? double{before} : 0.0;
      }
  }
  if (!first.left)
    for (uint32_t m = 0; m < 16; ++m)
      for (uint32_t k = 0; k < 16; k += 8) a.columns(16 * warp + m, k, left[m] + k);
  float right[16][128];
  for (uint32_t k = 0; k < 16; k += first.rows ? 1 : 8)
    for (uint32_t n = 0; n < columns; n += first.rows ? 8 : 1) {
      if (first.rows) {
        b.rows(n, k, right[k] + n);
      } else {
        float eight[8];
        b.columns(n, k, eight);
        for (uint32_t i = 0; i < 8; ++i) right[k + i][n] = eight[i];
      }
    }
  for (uint32_t k = 0; k < 16; ++k)
    for (uint32_t m = 0; m < 16; ++m)
      for (uint32_t n = 0; n < columns; ++n) total[m][n] += double{left[m][k]} * right[k][n];
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t n = 0; n < columns / 8; ++n)
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = lane / 4 + (i < 2 ? 0 : 8), column = 8 * n + lane % 4 * 2 + i % 2;
        lanes[lane]->sum[n][i] = static_cast<float>(total[row][column]);
      }
}

struct WaitInput {
  WarpgroupThread* thread;
  size_t left;  // groups that may stay on their way
  uint32_t warp;
};

}  // namespace soft

inline void wgmma_fence() {
  ::soft_gpu::warp_collective<int>("wgmma.fence", 0xffffffffu, 0, [](auto, auto, uint32_t) {});
  soft::warpgroup_thread().fenced = true;
}
inline void wgmma_commit() {
  ::soft_gpu::warp_collective<int>("wgmma.commit_group", 0xffffffffu, 0, [](auto, auto, uint32_t) {});
  soft::WarpgroupThread& thread = soft::warpgroup_thread();
  thread.groups.push_back(std::move(thread.open));
  thread.open.clear();
}
template <int kGroups>
void wgmma_wait() {
  const ::soft_gpu::Thread& self = ::soft_gpu::current_thread();
  const soft::WaitInput input{&soft::warpgroup_thread(), kGroups, self.warp % 4};
  ::soft_gpu::warp_collective<int>(
      "wgmma.wait_group", 0xffffffffu, input, [](const soft::WaitInput* const* in, int* const*, uint32_t) {
        const auto groups = [&](int lane) -> auto& { return in[lane]->thread->groups; };
        while (groups(0).size() > in[0]->left) {
          for (int lane = 1; lane < 32; ++lane)
            if (groups(lane).size() != groups(0).size() || groups(lane).front().size() != groups(0).front().size())
              ::soft_gpu::fail("wgmma.wait_group: lanes of a warp have begun different products");
          for (size_t p = 0; p < groups(0).front().size(); ++p) {
            soft::WarpgroupProduct* lanes[32];
            for (int lane = 0; lane < 32; ++lane) lanes[lane] = &groups(lane).front()[p];
            soft::finish_product(lanes, in[0]->warp);
          }
          for (int lane = 0; lane < 32; ++lane) groups(lane).pop_front();
        }
      });
  soft::warpgroup_thread().fenced = false;  // registers may be used from here on
}

template <int N>
void hold(float (&)[N][4]) {}
template <int K>
void hold(uint32_t (&)[K][4]) {}

namespace soft {
template <int kTiles>
void begin_columns(float (&sum)[kTiles][4], uint64_t a, uint64_t b, bool add) {
  static_assert(kTiles == 8 || kTiles == 16);
  WarpgroupProduct product{sum, kTiles, add, false, {}};
  product.a = a;
  product.b = b;
  begin_product(std::move(product));
}
}  // namespace soft
template <int kTiles>
void wgmma_columns_first(float (&sum)[kTiles][4], uint64_t a, uint64_t b) {
  soft::begin_columns(sum, a, b, false);
}
template <int kTiles>
void wgmma_columns(float (&sum)[kTiles][4], uint64_t a, uint64_t b) {
  soft::begin_columns(sum, a, b, true);
}
namespace soft {
template <int kTiles>
void begin_left(float (&sum)[kTiles][4], const uint32_t (&left)[4], uint64_t b, bool add, bool rows) {
  static_assert(kTiles == 8 || kTiles == 16);
  WarpgroupProduct product{sum, kTiles, add, rows, {}};
  product.left = left;
  product.b = b;
  begin_product(std::move(product));
}
}  // namespace soft
inline void wgmma_left_columns_first(float (&sum)[8][4], const uint32_t (&left)[4], uint64_t b) {
  soft::begin_left(sum, left, b, false, false);
}
inline void wgmma_left_columns(float (&sum)[8][4], const uint32_t (&left)[4], uint64_t b) {
  soft::begin_left(sum, left, b, true, false);
}
template <int kTiles>
void wgmma_rows(float (&sum)[kTiles][4], const uint32_t (&left)[4], uint64_t b) {
  soft::begin_left(sum, left, b, true, true);
}

template <int kRegisters>
void take_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  ::soft_gpu::warp_collective<int>("setmaxnreg.inc", 0xffffffffu, 0, [](auto, auto, uint32_t) {});
}
template <int kRegisters>
void give_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  ::soft_gpu::warp_collective<int>("setmaxnreg.dec", 0xffffffffu, 0, [](auto, auto, uint32_t) {});
}

}  // namespace tessera::cuda

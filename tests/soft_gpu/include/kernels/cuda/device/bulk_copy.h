// Stands in for kernels/cuda/device/bulk_copy.h. A box's place holds NaN from when it is asked for until its barrier is
// waited for.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels/cuda/device/barrier.h"
#include "kernels/cuda/device/shared_address.h"
#include "kernels/cuda/device/tensor_map.h"

namespace tessera::cuda {

inline void copy_box_async(void* shared, const TensorMap* map, int i0, int i1, int i2, int i3, Mbarrier* barrier) {
  ::soft_gpu::TensorMapContent content;
  static_assert(sizeof(content) <= sizeof(TensorMap));
  std::memcpy(&content, map, sizeof(content));
  if (content.mark != ::soft_gpu::TensorMapContent::kMark || content.rank != 4)
    ::soft_gpu::fail("cp.async.bulk.tensor.4d: not a map of four dims");
  uint32_t bytes = content.element_bytes;
  for (int d = 0; d < 4; ++d) bytes *= content.box[d];
  const uint32_t address = shared_address(shared);
  if (address % (content.span > 16 ? content.span * 8 : 128) != 0)
    ::soft_gpu::fail("cp.async.bulk.tensor: address 0x%x of shared memory is not aligned to the pattern", address);
  std::memset(soft::shared_pointer(address, bytes, "cp.async.bulk.tensor"), 0xff, bytes);
  soft::count_copy(barrier, static_cast<int>(bytes), [=, at = std::array<int, 4>{i0, i1, i2, i3}] {
    const uint32_t row_bytes = content.box[0] * content.element_bytes;
    uint32_t to = address;
    for (int x3 = 0; x3 < content.box[3]; ++x3)
      for (int x2 = 0; x2 < content.box[2]; ++x2)
        for (int x1 = 0; x1 < content.box[1]; ++x1, to += row_bytes) {
          const int64_t index[4] = {0, int64_t{at[1]} + x1, int64_t{at[2]} + x2, int64_t{at[3]} + x3};
          const unsigned char* row = reinterpret_cast<const unsigned char*>(content.address);
          bool inside = true;
          for (int d = 1; d < 4; ++d) {
            inside = inside && index[d] >= 0 && index[d] < content.size[d];
            row += index[d] * static_cast<int64_t>(content.stride[d - 1]);
          }
          for (uint32_t byte = 0; byte < row_bytes; byte += content.element_bytes) {
            const int64_t column = int64_t{at[0]} + byte / content.element_bytes;
            unsigned char* const place =
                soft::shared_pointer(soft::swizzled(to + byte, content.span), content.element_bytes, "a copy");
            if (inside && column >= 0 && column < content.size[0])
              std::memcpy(place, row + column * content.element_bytes, content.element_bytes);
            else
              std::memset(place, 0, content.element_bytes);
          }
        }
  });
}
inline void prefetch_tensor_map(const TensorMap*) {}
inline void fence_async_shared() {}

}  // namespace tessera::cuda

#include "tests/soft_gpu/nccl_reduce.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "tests/soft_gpu/simt.h"

namespace soft_gpu {
namespace {

struct Bfloat {
  uint16_t bits = 0;
  Bfloat() = default;
  explicit Bfloat(float x) {
    uint32_t word;
    std::memcpy(&word, &x, sizeof word);
    bits = x != x ? 0x7fff : static_cast<uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
  }
  explicit operator float() const {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float x;
    std::memcpy(&x, &word, sizeof x);
    return x;
  }
};

// T as stored, C as combined.
template <typename T, typename C>
void reduce_as(char* output, const std::vector<std::vector<char>>& inputs, size_t offset, size_t count,
               ncclRedOp_t op) {
  const size_t ranks = inputs.size();
  for (size_t i = 0; i < count; ++i) {
    T sum{};
    for (size_t step = 0; step < ranks; ++step) {
      T next;
      std::memcpy(&next, inputs[(i + step + 1) % ranks].data() + offset + i * sizeof(T), sizeof next);
      const C a = static_cast<C>(sum), b = static_cast<C>(next);
      if (step == 0)
        sum = next;
      else
        sum = T(op == ncclSum    ? static_cast<C>(a + b)
                : op == ncclProd ? static_cast<C>(a * b)
                : op == ncclMax  ? std::max(a, b)
                                 : std::min(a, b));
    }
    std::memcpy(output + i * sizeof(T), &sum, sizeof sum);
  }
}

}  // namespace

size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32: return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    default: return 1;
  }
}

void reduce(char* output, const std::vector<std::vector<char>>& inputs, size_t offset, size_t count,
            ncclDataType_t type, ncclRedOp_t op) {
  switch (type) {
    case ncclInt8: return reduce_as<int8_t, int>(output, inputs, offset, count, op);
    case ncclUint8: return reduce_as<uint8_t, int>(output, inputs, offset, count, op);
    case ncclInt32: return reduce_as<int32_t, int64_t>(output, inputs, offset, count, op);
    case ncclUint32: return reduce_as<uint32_t, uint32_t>(output, inputs, offset, count, op);
    case ncclInt64: return reduce_as<int64_t, int64_t>(output, inputs, offset, count, op);
    case ncclUint64: return reduce_as<uint64_t, uint64_t>(output, inputs, offset, count, op);
    case ncclFloat16: return reduce_as<_Float16, float>(output, inputs, offset, count, op);
    case ncclFloat32: return reduce_as<float, float>(output, inputs, offset, count, op);
    case ncclFloat64: return reduce_as<double, double>(output, inputs, offset, count, op);
    case ncclBfloat16: return reduce_as<Bfloat, float>(output, inputs, offset, count, op);
    default: fail("NCCL: a reduction of type %d", type);
  }
}

}  // namespace soft_gpu

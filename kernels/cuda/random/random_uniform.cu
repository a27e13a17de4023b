// Floor: arithmetic. Every element takes a Philox of its own: 20 wide multiplications and some 40 other integer
// operations for 2 or 4 bytes written. At 64 a clock and multiprocessor an H200 (132 of them, 1.8 GHz) draws about
// 250 G elements/s, which is 1 TB/s of f32.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/number.h"
#include "kernels/cuda/random/generators.h"
#include "kernels/cuda/random/place_of.h"
#include "kernels/cuda/random/random_uniform.h"

namespace tessera::cuda {
namespace {

struct Draw {
  uint64_t seed, site;
  int precision;
};

template <typename T>
__device__ __forceinline__ T number_at(const Draw& draw, uint64_t place) {
  const uint32_t seed_low = static_cast<uint32_t>(draw.seed), site_low = static_cast<uint32_t>(draw.site);
  const PhiloxWords bits = philox({{static_cast<uint32_t>(place), static_cast<uint32_t>(place >> 32),
                                    static_cast<uint32_t>(draw.seed >> 32), static_cast<uint32_t>(draw.site >> 32)}},
                                  seed_low, site_low);
  if constexpr (sizeof(T) == 8) {
    const uint64_t both = static_cast<uint64_t>(bits.word[0]) << 32 | bits.word[1];
    return static_cast<double>(both >> (64 - draw.precision)) * 0x1p-53;
  } else {
    const float step = __uint_as_float(static_cast<uint32_t>(127 - draw.precision) << 23);  // 2^-precision
    return from_float<T>(static_cast<float>(bits.word[0] >> (32 - draw.precision)) * step);
  }
}

template <typename T>
__global__ void __launch_bounds__(kRandomThreads) uniform_kernel(Draw draw, RandomPlaces places, T* to) {
  write_places(places, to, [&](int64_t place) { return number_at<T>(draw, static_cast<uint64_t>(place)); });
}

}  // namespace

template <typename T>
void random_uniform(uint64_t seed, uint64_t site, int precision, const RandomPlaces& places, T* to,
                    cudaStream_t stream) {
  if (places.count == 0) return;
  launch(uniform_kernel<T>, random_blocks(places), dim3(kRandomThreads), 0, stream,
         Draw{seed, site, precision}, places, to);
}

template void random_uniform<float>(uint64_t, uint64_t, int, const RandomPlaces&, float*, cudaStream_t);
template void random_uniform<bf16>(uint64_t, uint64_t, int, const RandomPlaces&, bf16*, cudaStream_t);
template void random_uniform<double>(uint64_t, uint64_t, int, const RandomPlaces&, double*, cudaStream_t);

}  // namespace tessera::cuda

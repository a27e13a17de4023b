// Floor: memory, x read and y written once. A block has one position, whose angles serve all heads of the
// sequences that it walks through; an angle costs some 40 operations against the 32 bytes that each use of it
// moves per pack, so it is not seen.
#include <cmath>

#include "core/base/error.h"
#include "kernels/cuda/attention/rotary.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 128;

struct Frequencies {
  double turns[kMaxRotaryPairs];  // a step of one position, in whole turns
};

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    rotary_kernel(RotaryShape shape, Frequencies frequencies, const T* x, T* y) {
  __shared__ float cosines[kMaxRotaryPairs], sines[kMaxRotaryPairs];
  const int half = shape.head_dim / 2;
  const int64_t position = blockIdx.x;
  const double place = static_cast<double>((shape.start == nullptr ? 0 : *shape.start) + position);
  for (int i = static_cast<int>(threadIdx.x); i < half; i += kThreads) {
    // In double until whole turns are gone: an f32 angle of a far position would be wrong in its third digit.
    const double turns = place * frequencies.turns[i];
    const float half_turns = 2.0f * static_cast<float>(turns - rint(turns));
    cosines[i] = cospif(half_turns);
    sines[i] = shape.inverse ? -sinpif(half_turns) : sinpif(half_turns);
  }
  __syncthreads();
  const int packs = half / kPack, per_sequence = shape.heads * packs;
  for (int batch = static_cast<int>(blockIdx.y); batch < shape.batch; batch += static_cast<int>(gridDim.y)) {
    const int64_t row = (int64_t{batch} * shape.length + position) * shape.heads;
    for (int item = static_cast<int>(threadIdx.x); item < per_sequence; item += kThreads) {
      const int head = item / packs, pair = item % packs * kPack;
      const int64_t at = (row + head) * shape.head_dim + pair;
      Pack<T, kPack> a = load<kPack>(x + at), b = load<kPack>(x + at + half);
#pragma unroll
      for (int j = 0; j < kPack; ++j) {
        const float first = to_float(a.value[j]), second = to_float(b.value[j]);
        const float cosine = cosines[pair + j], sine = sines[pair + j];
        a.value[j] = from_float<T>(first * cosine - second * sine);
        b.value[j] = from_float<T>(second * cosine + first * sine);
      }
      store<kPack>(y + at, a);
      store<kPack>(y + at + half, b);
    }
  }
}

}  // namespace

template <typename T>
void rotary(const RotaryShape& shape, const T* x, T* y, cudaStream_t stream) {
  const int half = shape.head_dim / 2;
  TESSERA_CHECK(half <= kMaxRotaryPairs, "rotary: head_dim ", shape.head_dim);
  if (int64_t{shape.batch} * shape.length * shape.heads * half == 0) return;
  constexpr double kTurn = 6.283185307179586;
  Frequencies frequencies = {};
  for (int i = 0; i < half; ++i) frequencies.turns[i] = std::pow(shape.theta, -2.0 * i / shape.head_dim) / kTurn;
  const auto with = [&]<int kPack>() {
    // Sequences share a block's angles only where positions alone make enough blocks.
    constexpr int kEnough = 2048;
    const int wanted = shape.length >= kEnough ? 1 : (kEnough + shape.length - 1) / shape.length;
    const unsigned sequences = static_cast<unsigned>(shape.batch < wanted ? shape.batch : wanted);
    launch(rotary_kernel<T, kPack>, dim3(static_cast<unsigned>(shape.length), sequences), dim3(kThreads), 0, stream,
           shape, frequencies, x, y);
  };
  if (half % kPackSize<T> == 0) return with.template operator()<kPackSize<T>>();
  with.template operator()<1>();
}

template void rotary(const RotaryShape&, const float*, float*, cudaStream_t);
template void rotary(const RotaryShape&, const bf16*, bf16*, cudaStream_t);

}  // namespace tessera::cuda

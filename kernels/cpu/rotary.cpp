#include "kernels/cpu/rotary.h"

#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace tessera::cpu {
namespace {

template <typename T, typename A>
void turn_head(int64_t half, const A* cosines, const A* sines, const T* x, T* y) {
  simd::for_each_vector<A>(half, [&](auto load, auto store) {
    const auto a = load(x), b = load(x + half);
    const auto c = load(cosines), s = load(sines);
    store(y, a * c - b * s);
    store(y + half, b * c + a * s);
  });
}

}  // namespace

template <typename T>
void rotary(const RotaryShape& shape, const T* x, T* y) {
  using A = simd::Accumulator<T>;
  const int64_t half = shape.head_dim / 2;
  std::vector<double> frequencies(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i) {
    frequencies[static_cast<size_t>(i)] =
        std::pow(shape.theta, -2.0 * static_cast<double>(i) / static_cast<double>(shape.head_dim));
  }
  parallel_ranges(shape.length, 4, [&](int64_t begin, int64_t end) {
    A* cosines = scratch_array<A>(0, static_cast<size_t>(2 * half));
    A* sines = cosines + half;
    for (int64_t position = begin; position < end; ++position) {
      for (int64_t i = 0; i < half; ++i) {
        // In double: an f32 angle of a far position would be wrong in its third digit.
        const double angle =
            static_cast<double>(shape.start + position) * frequencies[static_cast<size_t>(i)];
        cosines[i] = A(std::cos(angle));
        sines[i] = A(shape.inverse ? -std::sin(angle) : std::sin(angle));
      }
      for (int64_t batch = 0; batch < shape.batch; ++batch) {
        for (int64_t head = 0; head < shape.heads; ++head) {
          const int64_t at =
              ((batch * shape.length + position) * shape.heads + head) * shape.head_dim;
          turn_head(half, cosines, sines, x + at, y + at);
        }
      }
    }
  });
}

template void rotary(const RotaryShape&, const float*, float*);
template void rotary(const RotaryShape&, const bfloat16*, bfloat16*);
template void rotary(const RotaryShape&, const double*, double*);

}  // namespace tessera::cpu

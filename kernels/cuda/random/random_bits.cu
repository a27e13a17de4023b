// Floor: arithmetic and bytes alike. Philox gives 16 bytes for some 60 integer operations, which an H200 (64 a
// clock on 132 multiprocessors at 1.8 GHz) turns out at 4 TB/s, near its memory's 4.8 TB/s. ThreeFry takes about
// 75 operations for 8 bytes; in 32 bits and less both elements of a pair compute it, since they lie apart.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/random/generators.h"
#include "kernels/cuda/random/place_of.h"
#include "kernels/cuda/random/random_bits.h"

namespace tessera::cuda {
namespace {

struct State {
  uint32_t key0, key1;
  uint64_t low, high;  // counter
};

__device__ __forceinline__ State read_state(const uint64_t* words, int count) {
  const uint64_t key = words[0];
  return {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), words[1], count > 2 ? words[2] : key};
}

// The element's block, kept for the next one.
struct PhiloxSource {
  State state;
  int64_t held = -1;
  PhiloxWords words;

  __device__ __forceinline__ uint64_t at(const BitDraw& draw, int64_t place) {
    const int shift = draw.is_wide ? 1 : 2;
    const int64_t block = place >> shift;
    const int within = static_cast<int>(place) & ((1 << shift) - 1);
    if (block != held) {
      const uint64_t counter = state.low + static_cast<uint64_t>(block);
      const uint64_t above = state.high + (counter < static_cast<uint64_t>(block) ? 1 : 0);
      words = philox({{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                       static_cast<uint32_t>(above), static_cast<uint32_t>(above >> 32)}},
                     state.key0, state.key1);
      held = block;
    }
    // No indexing: the words stay in registers.
    const uint32_t* const w = words.word;
    if (draw.is_wide) {
      const uint32_t low = within == 0 ? w[0] : w[2], high = within == 0 ? w[1] : w[3];
      return static_cast<uint64_t>(high) << 32 | low;
    }
    return within == 0 ? w[0] : within == 1 ? w[1] : within == 2 ? w[2] : w[3];
  }
};

struct ThreeFrySource {
  State state;

  __device__ __forceinline__ uint64_t at(const BitDraw& draw, int64_t place) {
    int64_t block = place, along = 0;
    if (!draw.is_wide) {
      const int64_t row = place / draw.inner, outer = row / draw.along;
      along = row - outer * draw.along;
      block = (outer * ((draw.along + 1) / 2) + along / 2) * draw.inner + place % draw.inner;
    }
    const uint64_t counter = state.low + static_cast<uint64_t>(block);
    const ThreeFryWords words = three_fry(static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                                          state.key0, state.key1);
    if (draw.is_wide) return static_cast<uint64_t>(words.word[1]) << 32 | words.word[0];
    return along % 2 == 0 ? words.word[0] : words.word[1];
  }
};

__device__ void write_next(const BitDraw& draw, const uint64_t* state, uint64_t* next) {
  const uint64_t counter = state[1] + draw.blocks;
  next[0] = state[0];
  next[1] = counter;
  if (draw.state_words > 2) next[2] = state[2] + (counter < state[1] ? 1 : 0);
}

template <typename Source, typename Word>
__global__ void __launch_bounds__(kRandomThreads) bits_kernel(BitDraw draw, RandomPlaces places, const uint64_t* state,
                                                              uint64_t* next, Word* to) {
  if (blockIdx.x == 0 && threadIdx.x == 0) write_next(draw, state, next);
  Source source{read_state(state, draw.state_words)};
  write_places(places, to, [&](int64_t place) {
    // Beyond the whole tensor (padding) any bits will do.
    return static_cast<Word>(source.at(draw, place < draw.count ? place : place % draw.count));
  });
}

}  // namespace

template <typename Word>
void random_bits(const BitDraw& draw, const RandomPlaces& places, const uint64_t* state, uint64_t* next, Word* to,
                 cudaStream_t stream) {
  const auto run = [&](auto kernel) {
    launch(kernel, random_blocks(places), dim3(kRandomThreads), 0, stream, draw, places, state, next, to);
  };
  if (draw.is_philox) return run(bits_kernel<PhiloxSource, Word>);
  run(bits_kernel<ThreeFrySource, Word>);
}

template void random_bits<uint8_t>(const BitDraw&, const RandomPlaces&, const uint64_t*, uint64_t*, uint8_t*,
                                   cudaStream_t);
template void random_bits<uint16_t>(const BitDraw&, const RandomPlaces&, const uint64_t*, uint64_t*, uint16_t*,
                                    cudaStream_t);
template void random_bits<uint32_t>(const BitDraw&, const RandomPlaces&, const uint64_t*, uint64_t*, uint32_t*,
                                    cudaStream_t);
template void random_bits<uint64_t>(const BitDraw&, const RandomPlaces&, const uint64_t*, uint64_t*, uint64_t*,
                                    cudaStream_t);

}  // namespace tessera::cuda

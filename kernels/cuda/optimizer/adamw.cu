// Bound by memory: 28 bytes an f32 parameter (param, m, v and grad read, param, m and v written, once each), some
// 30 FLOPs and a square root against them; 20 bytes with bf16 moments, 14 with bf16 parameters as well. Floor:
// 28 n / bandwidth, 5.8 us for a million parameters at 4.8 TB/s. Stochastic rounding takes a Philox of some 100
// integer operations for eight numbers, which stays below that floor.
//
// One launch updates all tensors. The table of their addresses and sizes is the kernel's parameter, which a
// captured graph keeps: no memory of its own, nothing to copy, and in the constant cache. 32,764 bytes of
// parameters are what CUDA 12.1 and later take; longer tables are cut. Every block takes kPiece elements of one
// tensor, which it finds by bisection, so that work is even whatever the sizes are.
#include <algorithm>

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/optimizer/adamw.h"
#include "kernels/cuda/optimizer/table.h"
#include "kernels/cuda/random/step_bits.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPiece = 4096;

struct PlainEntry {
  const void *param, *m, *v;
  const float* grad;
  void *param_out, *m_out, *v_out;
  int64_t n;
  float weight_decay;
  bool is_wide;  // 16-byte accesses are aligned
};
struct PlacedEntry : PlainEntry {
  uint32_t site;
  AdamWPlaces places;
};

struct Step {
  bool is_skipped;
  float grad_scale, rate, correct1, correct2;
  // Of stochastic rounding.
  bool is_stochastic;
  uint32_t number;
  uint64_t seed;
};

__device__ __forceinline__ bf16 round_by(float value, uint32_t random) {
  const uint32_t word = __float_as_uint(value);
  if ((word & 0x7f800000u) == 0x7f800000u) return from_float<bf16>(value);
  return bf16{static_cast<uint16_t>((word + random) >> 16)};
}

// Stores neighbours; bf16 by the draw where `index` (the first one's in the whole tensor) is not negative.
template <int N, typename T>
__device__ __forceinline__ void store_state(T* to, const Floats<N>& values, int64_t index, const Step& step,
                                            uint32_t site) {
  if constexpr (sizeof(T) == 2) {
    if (index >= 0) {
      Pack<T, N> pack;
      if constexpr (N == 1) {
        pack.value[0] = round_by(values[0], step_bits_of(step.seed, site, step.number, static_cast<uint64_t>(index)));
      } else {
        const PhiloxWords words =
            step_bits(step.seed, site, step.number, static_cast<uint64_t>(index) / kStepBitsPerBlock);
#pragma unroll
        for (int i = 0; i < N; ++i) pack.value[i] = round_by(values[i], half_of(words, i));
      }
      store_global(to, pack);
      return;
    }
  }
  constexpr int kStep = N < kPackSize<T> ? N : kPackSize<T>;
#pragma unroll
  for (int s = 0; s < N; s += kStep) {
    Floats<kStep> step_values;
#pragma unroll
    for (int i = 0; i < kStep; ++i) step_values[i] = values[s + i];
    store_global(to + s, to_pack<T>(step_values));
  }
}

template <int N, typename P, typename M, typename Entry>
__device__ __forceinline__ void update(int64_t at, int64_t index, const Entry& t, const Step& step,
                                       const AdamWFactors& f) {
  Floats<N> param = load_floats<N>(static_cast<const P*>(t.param) + at);
  Floats<N> m = load_floats<N>(static_cast<const M*>(t.m) + at), v = load_floats<N>(static_cast<const M*>(t.v) + at);
  const Floats<N> grad = load_floats<N>(t.grad + at);
  if (!step.is_skipped) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float g = grad[i] * step.grad_scale, old = param[i];
      const float first = f.beta1 * m[i] + f.rest1 * g;
      const float second = f.beta2 * v[i] + f.rest2 * g * g;
      const float root = sqrtf(second * step.correct2) + f.epsilon;
      param[i] = old - step.rate * (first * step.correct1 / root + t.weight_decay * old);
      m[i] = first;
      v[i] = second;
    }
  }
  uint32_t site = 0;
  if constexpr (sizeof(P) == 2 || sizeof(M) == 2) site = t.site;
  store_state<N>(static_cast<P*>(t.param_out) + at, param, index, step, site);
  store_state<N>(static_cast<M*>(t.m_out) + at, m, index, step, site + 1);
  store_state<N>(static_cast<M*>(t.v_out) + at, v, index, step, site + 2);
}

// Elements [begin, end) of a tensor in packs of N, and what is left over one by one.
template <int N, typename P, typename M, typename Entry>
__device__ __forceinline__ void update_piece(int64_t begin, int64_t end, const Entry& t, const Step& step,
                                             const AdamWFactors& f) {
  if constexpr (sizeof(P) == 2 || sizeof(M) == 2) {
    if (step.is_stochastic) {
      const int64_t first = first_place(t.places);
      for (int64_t at = begin + threadIdx.x * N; at < end; at += kThreads * N) {
        const int64_t index = first + place_of(t.places, at);
        if (t.is_wide && at + N <= end && is_whole_block(t.places, at, index)) {
          update<N, P, M>(at, index, t, step, f);
          continue;
        }
#pragma unroll 1
        for (int i = 0; i < N && at + i < end; ++i)
          update<1, P, M>(at + i, first + place_of(t.places, at + i), t, step, f);
      }
      return;
    }
  }
  const int64_t wide_end = t.is_wide ? begin + (end - begin) / N * N : begin;
  for (int64_t at = begin + threadIdx.x * N; at < wide_end; at += kThreads * N) update<N, P, M>(at, -1, t, step, f);
  for (int64_t at = wide_end + threadIdx.x; at < end; at += kThreads) update<1, P, M>(at, -1, t, step, f);
}

template <typename P, typename M, typename Entry, int kCapacity>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const __grid_constant__ Table<Entry, kCapacity> table, AdamWScalars scalars, AdamWFactors factors) {
  constexpr int kPack = sizeof(P) == 2 || sizeof(M) == 2 ? kStepBitsPerBlock : kPackSize<float>;
  const float grad_scale = *scalars.grad_scale;
  Step step{!(fabsf(grad_scale) < INFINITY), grad_scale, *scalars.learning_rate, 1.0f / *scalars.bias_correction1,
            1.0f / *scalars.bias_correction2, false, 0, factors.seed};
  const TablePlace place = find_block(table);
  const Entry& t = table.entries[place.entry];
  if (step.is_skipped && t.param_out == t.param && t.m_out == t.m && t.v_out == t.v) return;
  if (scalars.step != nullptr && !step.is_skipped) {
    step.is_stochastic = true;
    step.number = static_cast<uint32_t>(*scalars.step);
  }
  const int64_t begin = place.block * kPiece, end = begin + kPiece < t.n ? begin + kPiece : t.n;
  update_piece<kPack, P, M>(begin, end, t, step, factors);
}

template <typename Entry>
Entry entry_of(const AdamWTensor& t) {
  Entry entry{};
  static_cast<PlainEntry&>(entry) = {t.param, t.m, t.v, t.grad, t.param_out, t.m_out, t.v_out, t.n, t.weight_decay,
                                     are_aligned(16, t.param, t.m, t.v, t.grad, t.param_out, t.m_out, t.v_out)};
  if constexpr (sizeof(Entry) > sizeof(PlainEntry)) {
    entry.site = t.site;
    entry.places = t.places;
  }
  return entry;
}

template <typename P, typename M, typename Entry, int kCapacity>
void run(std::span<const AdamWTensor> tensors, const AdamWScalars& scalars, const AdamWFactors& factors,
         cudaStream_t stream) {
  static_assert(sizeof(Table<Entry, kCapacity>) + sizeof(scalars) + sizeof(factors) <= kMaxParameterBytes);
  for_each_table<Entry, kCapacity>(
      tensors, [](const AdamWTensor& t) { return (t.n + kPiece - 1) / kPiece; }, entry_of<Entry>,
      [&](const Table<Entry, kCapacity>& table, unsigned blocks) {
        launch(adamw_kernel<P, M, Entry, kCapacity>, dim3(blocks), dim3(kThreads), 0, stream, table, scalars, factors);
      });
}

}  // namespace

void adamw(std::span<const AdamWTensor> tensors, bool has_narrow_params, bool has_narrow_moments,
           const AdamWScalars& scalars, const AdamWFactors& factors, cudaStream_t stream) {
  constexpr int kFew = 8, kPlain = 384, kPlaced = 128;
  if (has_narrow_params && has_narrow_moments)
    run<bf16, bf16, PlacedEntry, kPlaced>(tensors, scalars, factors, stream);
  else if (has_narrow_params)
    run<bf16, float, PlacedEntry, kPlaced>(tensors, scalars, factors, stream);
  else if (has_narrow_moments)
    run<float, bf16, PlacedEntry, kPlaced>(tensors, scalars, factors, stream);
  else if (tensors.size() <= kFew)
    run<float, float, PlainEntry, kFew>(tensors, scalars, factors, stream);
  else
    run<float, float, PlainEntry, kPlain>(tensors, scalars, factors, stream);
}

}  // namespace tessera::cuda

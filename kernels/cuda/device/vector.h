// Several neighbouring elements in one access of at most 16 bytes.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/number.h"

namespace tessera::cuda {

// N elements of T, aligned to their bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T value[N];
};

// Elements of T in 16 bytes.
template <typename T>
inline constexpr int kPackSize = 16 / static_cast<int>(sizeof(T));

template <int N, typename T>
__device__ __forceinline__ Pack<T, N> load(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <int N, typename T>
__device__ __forceinline__ void store(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// To device memory, surely in one access: what was computed element by element may else be stored so.
template <int N, typename T>
__device__ __forceinline__ void store_global(T* to, const Pack<T, N>& pack) {
  if constexpr (sizeof(pack) == 16)
    __stwb(reinterpret_cast<uint4*>(to), __builtin_bit_cast(uint4, pack));
  else
    store(to, pack);
}

// ---- N neighbouring floats in registers -------------------------------------------------------------------

template <int N>
struct Floats {
  float value[N];
  __device__ __forceinline__ float& operator[](int i) { return value[i]; }
  __device__ __forceinline__ float operator[](int i) const { return value[i]; }
};

template <typename T, int N>
__device__ __forceinline__ Floats<N> to_floats(const Pack<T, N>& pack) {
  Floats<N> floats;
#pragma unroll
  for (int i = 0; i < N; ++i) floats[i] = to_float(pack.value[i]);
  return floats;
}

// Rounds two at a time where that is one instruction.
template <typename T, int N>
__device__ __forceinline__ Pack<T, N> to_pack(const Floats<N>& floats) {
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
    union {
      uint32_t words[N / 2];
      Pack<T, N> pack;
    } both;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) both.words[i] = pack_bf16x2(floats[2 * i], floats[2 * i + 1]);
    return both.pack;
  } else {
    Pack<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.value[i] = from_float<T>(floats[i]);
    return pack;
  }
}

// Any number of elements, in as many accesses of 16 bytes as they take. The address is a multiple of 16, or
// of all N elements where those are fewer bytes.
template <int N, typename T>
__device__ __forceinline__ Floats<N> load_floats(const T* from) {
  constexpr int kStep = N < kPackSize<T> ? N : kPackSize<T>;
  Floats<N> floats;
#pragma unroll
  for (int s = 0; s < N; s += kStep) {
    const Pack<T, kStep> pack = load<kStep>(from + s);
#pragma unroll
    for (int i = 0; i < kStep; ++i) floats[s + i] = to_float(pack.value[i]);
  }
  return floats;
}
template <typename T, int N>
__device__ __forceinline__ void store_floats(T* to, const Floats<N>& floats) {
  constexpr int kStep = N < kPackSize<T> ? N : kPackSize<T>;
#pragma unroll
  for (int s = 0; s < N; s += kStep) {
    Floats<kStep> step;
#pragma unroll
    for (int i = 0; i < kStep; ++i) step[i] = floats[s + i];
    store<kStep>(to + s, to_pack<T>(step));
  }
}

}  // namespace tessera::cuda

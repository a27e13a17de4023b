// CUDA C++'s device side for g++: its keywords, built-in variables and functions, on top of simt.h.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>

#include "tests/soft_gpu/simt.h"
#include "tests/soft_gpu/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __cluster_dims__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// A block runs on one thread of the host, and its variables are that thread's.
#define __shared__ static thread_local

// Set at each switch to a thread.
extern thread_local constinit uint3 threadIdx, blockIdx;
extern thread_local constinit dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

// --- Barriers and fences ----------------------------------------------------------------------------

inline void __syncthreads() { ::soft_gpu::sync_threads(); }
inline int __syncthreads_count(int predicate) { return ::soft_gpu::sync_threads_count(predicate); }
inline int __syncthreads_or(int predicate) { return ::soft_gpu::sync_threads_count(predicate) != 0; }
inline int __syncthreads_and(int predicate) { return ::soft_gpu::sync_threads_count(predicate == 0) == 0; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {
  ::soft_gpu::wait_until("__nanosleep", [] { return true; });
}
[[noreturn]] inline void __trap() { ::soft_gpu::fail("__trap()"); }

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  ::soft_gpu::meet_in_warp("__syncwarp", mask, nullptr, nullptr,
                           [](const void* const*, void* const*, uint32_t, void*) {});
}

// --- Operations of a warp ---------------------------------------------------------------------------

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return ::soft_gpu::warp_collective<unsigned>(
      "__ballot_sync", mask, predicate, [](const int* const* in, unsigned* const* out, uint32_t lanes) {
        unsigned ballot = 0;
        for (int l = 0; l < 32; ++l) ballot |= (lanes >> l & 1 && *in[l] != 0 ? 1u : 0u) << l;
        for (int l = 0; l < 32; ++l)
          if (lanes >> l & 1) *out[l] = ballot;
      });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
// There is no telling which lanes run together; alone is as good an answer as any.
inline unsigned __activemask() { return 1u << ::soft_gpu::current_thread().lane; }

namespace soft_gpu {

template <typename T>
struct Shuffled {
  T value;
  int source;  // the lane whose value this one gets
};
template <typename T>
T shuffle(const char* name, unsigned mask, T value, int source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  return warp_collective<T>(name, mask, Shuffled<T>{value, source},
                            [](const Shuffled<T>* const* in, T* const* out, uint32_t lanes) {
                              for (int l = 0; l < 32; ++l) {
                                if (!(lanes >> l & 1)) continue;
                                const int from = in[l]->source;
                                // Of a lane that does not take part: undefined, so NaN bits.
                                if (lanes >> from & 1)
                                  *out[l] = in[from]->value;
                                else
                                  std::memset(static_cast<void*>(out[l]), 0xff, sizeof(T));
                              }
                            });
}
inline void check_width(int width) {
  if (width < 1 || width > 32 || (width & (width - 1))) fail("a shuffle of width %d", width);
}

}  // namespace soft_gpu

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  ::soft_gpu::check_width(width);
  const int lane = static_cast<int>(::soft_gpu::current_thread().lane), first = lane / width * width;
  return ::soft_gpu::shuffle("__shfl_sync", mask, value, first + (source & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  ::soft_gpu::check_width(width);
  const int lane = static_cast<int>(::soft_gpu::current_thread().lane), source = lane ^ lanes;
  return ::soft_gpu::shuffle("__shfl_xor_sync", mask, value, source < lane / width * width + width ? source : lane);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  ::soft_gpu::check_width(width);
  const int lane = static_cast<int>(::soft_gpu::current_thread().lane), source = lane - static_cast<int>(delta);
  return ::soft_gpu::shuffle("__shfl_up_sync", mask, value, source < lane / width * width ? lane : source);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  ::soft_gpu::check_width(width);
  const int lane = static_cast<int>(::soft_gpu::current_thread().lane), source = lane + static_cast<int>(delta);
  return ::soft_gpu::shuffle("__shfl_down_sync", mask, value, source >= lane / width * width + width ? lane : source);
}

#define SOFT_GPU_REDUCE(NAME, T, FIRST, COMBINE)                                            \
  inline T NAME(unsigned mask, T value) {                                                  \
    return ::soft_gpu::warp_collective<T>(                                                 \
        #NAME, mask, value, [](const T* const* in, T* const* out, uint32_t lanes) {        \
          T all = FIRST;                                                                   \
          for (int l = 0; l < 32; ++l)                                                     \
            if (lanes >> l & 1) {                                                          \
              const T b = *in[l];                                                          \
              all = COMBINE;                                                               \
            }                                                                              \
          for (int l = 0; l < 32; ++l)                                                     \
            if (lanes >> l & 1) *out[l] = all;                                             \
        });                                                                                \
  }
SOFT_GPU_REDUCE(__reduce_add_sync, unsigned, 0u, all + b)
SOFT_GPU_REDUCE(__reduce_max_sync, unsigned, 0u, all > b ? all : b)
SOFT_GPU_REDUCE(__reduce_min_sync, unsigned, 0xffffffffu, all < b ? all : b)
SOFT_GPU_REDUCE(__reduce_and_sync, unsigned, 0xffffffffu, all& b)
SOFT_GPU_REDUCE(__reduce_or_sync, unsigned, 0u, all | b)
SOFT_GPU_REDUCE(__reduce_xor_sync, unsigned, 0u, all ^ b)
SOFT_GPU_REDUCE(__reduce_add_sync, int, 0, static_cast<int>(static_cast<unsigned>(all) + static_cast<unsigned>(b)))
SOFT_GPU_REDUCE(__reduce_max_sync, int, INT32_MIN, all > b ? all : b)
SOFT_GPU_REDUCE(__reduce_min_sync, int, INT32_MAX, all < b ? all : b)
#undef SOFT_GPU_REDUCE

template <typename T>
unsigned __match_any_sync(unsigned mask, T value) {
  return ::soft_gpu::warp_collective<unsigned>(
      "__match_any_sync", mask, value, [](const T* const* in, unsigned* const* out, uint32_t lanes) {
        for (int l = 0; l < 32; ++l) {
          if (!(lanes >> l & 1)) continue;
          *out[l] = 0;
          for (int m = 0; m < 32; ++m)
            if (lanes >> m & 1 && *in[m] == *in[l]) *out[l] |= 1u << m;
        }
      });
}

// --- Atomics: memory of the host's may be shared with other threads ------------------------------------

namespace soft_gpu {
template <typename T, typename Combine>
T atomic(T* at, const Combine& combine) {
  T before, after;
  __atomic_load(at, &before, __ATOMIC_SEQ_CST);
  do after = combine(before);
  while (!__atomic_compare_exchange(at, &before, &after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  return before;
}
template <typename T>
struct Itself { using Type = T; };
}  // namespace soft_gpu

#define SOFT_GPU_ATOMIC(NAME, RESULT)                                                      \
  template <typename T>                                                                    \
  T NAME(T* at, typename ::soft_gpu::Itself<T>::Type b) {                                  \
    return ::soft_gpu::atomic(at, [b](T a) { return static_cast<T>(RESULT); });            \
  }
SOFT_GPU_ATOMIC(atomicAdd, a + b)
SOFT_GPU_ATOMIC(atomicSub, a - b)
SOFT_GPU_ATOMIC(atomicMax, a > b ? a : b)
SOFT_GPU_ATOMIC(atomicMin, a < b ? a : b)
SOFT_GPU_ATOMIC(atomicAnd, a& b)
SOFT_GPU_ATOMIC(atomicOr, a | b)
SOFT_GPU_ATOMIC(atomicXor, a ^ b)
SOFT_GPU_ATOMIC(atomicExch, (static_cast<void>(a), b))
SOFT_GPU_ATOMIC(atomicInc, a >= b ? 0 : a + 1)
SOFT_GPU_ATOMIC(atomicDec, a == 0 || a > b ? b : a - 1)
#undef SOFT_GPU_ATOMIC
template <typename T>
T atomicCAS(T* at, typename ::soft_gpu::Itself<T>::Type expected, typename ::soft_gpu::Itself<T>::Type wanted) {
  return ::soft_gpu::atomic(at, [=](T a) { return a == expected ? wanted : a; });
}

// --- Memory -------------------------------------------------------------------------------------------

#define SOFT_GPU_LOAD(NAME) \
  template <typename T>     \
  T NAME(const T* from) {   \
    return *from;           \
  }
SOFT_GPU_LOAD(__ldg)
SOFT_GPU_LOAD(__ldca)
SOFT_GPU_LOAD(__ldcg)
SOFT_GPU_LOAD(__ldcs)
SOFT_GPU_LOAD(__ldcv)
SOFT_GPU_LOAD(__ldlu)
#undef SOFT_GPU_LOAD
#define SOFT_GPU_STORE(NAME)                                     \
  template <typename T>                                          \
  void NAME(T* to, typename ::soft_gpu::Itself<T>::Type value) { \
    *to = value;                                                 \
  }
SOFT_GPU_STORE(__stwb)
SOFT_GPU_STORE(__stcg)
SOFT_GPU_STORE(__stcs)
SOFT_GPU_STORE(__stwt)
#undef SOFT_GPU_STORE
// Shared memory has no window of its own: "its" addresses are the generic ones.
inline size_t __cvta_generic_to_shared(const void* pointer) { return reinterpret_cast<size_t>(pointer); }
inline size_t __cvta_generic_to_global(const void* pointer) { return reinterpret_cast<size_t>(pointer); }
inline void* __cvta_shared_to_generic(size_t address) { return reinterpret_cast<void*>(address); }

// --- Bits ---------------------------------------------------------------------------------------------

namespace soft_gpu {
template <typename To, typename From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
}  // namespace soft_gpu
inline unsigned __float_as_uint(float x) { return ::soft_gpu::bits_as<unsigned>(x); }
inline int __float_as_int(float x) { return ::soft_gpu::bits_as<int>(x); }
inline float __uint_as_float(unsigned x) { return ::soft_gpu::bits_as<float>(x); }
inline float __int_as_float(int x) { return ::soft_gpu::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return ::soft_gpu::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return ::soft_gpu::bits_as<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned turned = 0;
  for (int i = 0; i < 32; ++i) turned |= (x >> i & 1) << (31 - i);
  return turned;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t both = static_cast<uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned select = selector >> (4 * i) & 15;
    unsigned byte = static_cast<unsigned>(both >> (8 * (select & 7)) & 0xff);
    if (select & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<int64_t>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>(static_cast<__int128>(a) * b >> 64);
}

// --- Arithmetic: exact where the hardware rounds, rounded where it approximates ----------------------------

inline float rsqrtf(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline float normcdff(float x) { return static_cast<float>(0.5 * erfc(-static_cast<double>(x) * 0.70710678118654752)); }
inline float sinpif(float x) { return static_cast<float>(sin(3.14159265358979323846 * static_cast<double>(x))); }
inline float cospif(float x) { return static_cast<float>(cos(3.14159265358979323846 * static_cast<double>(x))); }
inline void sincospif(float x, float* s, float* c) {
  *s = sinpif(x);
  *c = cospif(x);
}

// Out of range: the nearest; NaN: 0.
#define SOFT_GPU_TO_INT(NAME, FROM, TO, LOW, HIGH, ROUND)                       \
  inline TO NAME(FROM x) {                                                      \
    const FROM r = ROUND(x);                                                    \
    if (!(r == r)) return 0;                                                    \
    return r <= static_cast<FROM>(LOW) ? LOW : r >= static_cast<FROM>(HIGH) ? HIGH : static_cast<TO>(r); \
  }
SOFT_GPU_TO_INT(__float2int_rn, float, int, INT32_MIN, INT32_MAX, rintf)
SOFT_GPU_TO_INT(__float2int_rz, float, int, INT32_MIN, INT32_MAX, truncf)
SOFT_GPU_TO_INT(__float2int_rd, float, int, INT32_MIN, INT32_MAX, floorf)
SOFT_GPU_TO_INT(__float2int_ru, float, int, INT32_MIN, INT32_MAX, ceilf)
SOFT_GPU_TO_INT(__float2uint_rn, float, unsigned, 0u, UINT32_MAX, rintf)
SOFT_GPU_TO_INT(__float2uint_rz, float, unsigned, 0u, UINT32_MAX, truncf)
SOFT_GPU_TO_INT(__float2ll_rn, float, long long, INT64_MIN, INT64_MAX, rintf)
SOFT_GPU_TO_INT(__float2ll_rz, float, long long, INT64_MIN, INT64_MAX, truncf)
SOFT_GPU_TO_INT(__float2ull_rz, float, unsigned long long, 0ull, UINT64_MAX, truncf)
SOFT_GPU_TO_INT(__double2int_rz, double, int, INT32_MIN, INT32_MAX, trunc)
SOFT_GPU_TO_INT(__double2ll_rz, double, long long, INT64_MIN, INT64_MAX, trunc)
#undef SOFT_GPU_TO_INT
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline float __ull2float_rn(unsigned long long x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

#define SOFT_GPU_MIN_MAX(T)                             \
  inline T min(T a, T b) { return b < a ? b : a; }      \
  inline T max(T a, T b) { return a < b ? b : a; }
SOFT_GPU_MIN_MAX(int)
SOFT_GPU_MIN_MAX(unsigned)
SOFT_GPU_MIN_MAX(long)
SOFT_GPU_MIN_MAX(unsigned long)
SOFT_GPU_MIN_MAX(long long)
SOFT_GPU_MIN_MAX(unsigned long long)
#undef SOFT_GPU_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// The matrix units as four warps use them together (sm_90a): products of tiles in shared memory, summed in registers,
// that run beside what the warps do next. Named as PTX names them; PTX ISA, "Asynchronous Warpgroup Level Matrix
// Instructions". A warpgroup is four warps, the first a multiple of four.
//
// Sums [64, N] lie in registers as float[N / 8][4]: warp w of the group holds rows 16 w..16 w + 15, laid out as in
// mma.h ("Register Fragments: accumulator D of wgmma.mma_async.m64nNk16"); left operands from registers too.
//
//   wgmma_fence();             // whatever was done with the registers before
//   wgmma_...(sum, ...);       // any number of products; then nobody touches sum, nor what is read
//   wgmma_commit();            // they are a group
//   ...
//   wgmma_wait<0>();           // all but so many of the last groups are done
//   hold(sum);                 // for the compiler: sum changes here
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// Whether this compilation has these instructions. Kernels are empty but for a trap where it has not: code for later
// devices is made from PTX without them.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kHasWarpgroups = true;
#else
inline constexpr bool kHasWarpgroups = false;
#endif

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kGroups>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}

// Keeps the compiler from moving what it does with these registers over this place.
template <int N>
__device__ __forceinline__ void hold(float (&sum)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(sum[n][i])::"memory");
}
template <int K>
__device__ __forceinline__ void hold(uint32_t (&left)[K][4]) {
#pragma unroll
  for (int k = 0; k < K; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(left[k][i])::"memory");
}

// Their text; `add` is 1, or 0 where the sum begins with this product, and `rows` 1 where it is over b's rows.
#define TESSERA_WGMMA_COLUMNS_64(add) \
  "{ .reg .pred p; setp.ne.b32 p, " #add ", 0; " \
  "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, " \
  "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, " \
  "%33, p, 1, 1, 0, 0; }"
#define TESSERA_WGMMA_COLUMNS_128(add) \
  "{ .reg .pred p; setp.ne.b32 p, " #add ", 0; " \
  "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, " \
  "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, " \
  "%33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
  "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, p, 1, 1, 0, 0; }"
#define TESSERA_WGMMA_LEFT_64(add, rows) \
  "{ .reg .pred p; setp.ne.b32 p, " #add ", 0; " \
  "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, " \
  "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, " \
  "{%32, %33, %34, %35}, %36, p, 1, 1, " #rows "; }"
#define TESSERA_WGMMA_LEFT_128(add, rows) \
  "{ .reg .pred p; setp.ne.b32 p, " #add ", 0; " \
  "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, " \
  "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, " \
  "%33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
  "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, {%64, %65, %66, %67}, %68, p, 1, 1, " #rows "; }"

#define TESSERA_SUM_4(is, n) is(sum[n][0]), is(sum[n][1]), is(sum[n][2]), is(sum[n][3])
#define TESSERA_SUM_32(is, n)                                                                                    \
  TESSERA_SUM_4(is, n), TESSERA_SUM_4(is, n + 1), TESSERA_SUM_4(is, n + 2), TESSERA_SUM_4(is, n + 3),            \
      TESSERA_SUM_4(is, n + 4), TESSERA_SUM_4(is, n + 5), TESSERA_SUM_4(is, n + 6), TESSERA_SUM_4(is, n + 7)

// sum [64, N] = a [64, 16] b^T with b [N, 16], both by columns_descriptor(). What sum was is no operand at all: else
// the compiler sets it, and that between products on their way makes it wait for each of them (C7515).
__device__ __forceinline__ void wgmma_columns_first(float (&sum)[8][4], uint64_t a, uint64_t b) {
  asm volatile(TESSERA_WGMMA_COLUMNS_64(0) : TESSERA_SUM_32("=f", 0) : "l"(a), "l"(b));
}
__device__ __forceinline__ void wgmma_columns_first(float (&sum)[16][4], uint64_t a, uint64_t b) {
  asm volatile(TESSERA_WGMMA_COLUMNS_128(0) : TESSERA_SUM_32("=f", 0), TESSERA_SUM_32("=f", 8) : "l"(a), "l"(b));
}
// sum += a b^T.
__device__ __forceinline__ void wgmma_columns(float (&sum)[8][4], uint64_t a, uint64_t b) {
  asm volatile(TESSERA_WGMMA_COLUMNS_64(1) : TESSERA_SUM_32("+f", 0) : "l"(a), "l"(b));
}
__device__ __forceinline__ void wgmma_columns(float (&sum)[16][4], uint64_t a, uint64_t b) {
  asm volatile(TESSERA_WGMMA_COLUMNS_128(1) : TESSERA_SUM_32("+f", 0), TESSERA_SUM_32("+f", 8) : "l"(a), "l"(b));
}

// The same with a from registers.
__device__ __forceinline__ void wgmma_left_columns_first(float (&sum)[8][4], const uint32_t (&left)[4], uint64_t b) {
  asm volatile(TESSERA_WGMMA_LEFT_64(0, 0)
               : TESSERA_SUM_32("=f", 0)
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(b));
}
__device__ __forceinline__ void wgmma_left_columns(float (&sum)[8][4], const uint32_t (&left)[4], uint64_t b) {
  asm volatile(TESSERA_WGMMA_LEFT_64(1, 0)
               : TESSERA_SUM_32("+f", 0)
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(b));
}

// sum [64, N] += left [64, 16] b, with b [16, N] by rows_descriptor().
__device__ __forceinline__ void wgmma_rows(float (&sum)[8][4], const uint32_t (&left)[4], uint64_t b) {
  asm volatile(TESSERA_WGMMA_LEFT_64(1, 1)
               : TESSERA_SUM_32("+f", 0)
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(b));
}
__device__ __forceinline__ void wgmma_rows(float (&sum)[16][4], const uint32_t (&left)[4], uint64_t b) {
  asm volatile(TESSERA_WGMMA_LEFT_128(1, 1)
               : TESSERA_SUM_32("+f", 0), TESSERA_SUM_32("+f", 8)
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(b));
}
#undef TESSERA_WGMMA_COLUMNS_64
#undef TESSERA_WGMMA_COLUMNS_128
#undef TESSERA_WGMMA_LEFT_64
#undef TESSERA_WGMMA_LEFT_128
#undef TESSERA_SUM_4
#undef TESSERA_SUM_32

// ---- Registers of warps with different work ----------------------------------------------------------------------

// setmaxnreg: from here on the calling warpgroup has this many (a multiple of 8) a thread, less or more than it was
// launched with. All together may not be more than the block was launched with; taking more waits for those who give.
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace tessera::cuda

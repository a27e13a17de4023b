// The tensor cores as one warp uses them (sm_80 and later): matrices from shared memory into the registers of
// 32 lanes, and their product. Named as PTX names them; layouts from the PTX ISA, "Matrix fragments for
// mma.m16n8k16".
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// ldmatrix.x4: four 8 x 8 matrices of 16-bit numbers. Lane 8 i + r gives the address of row r (16 bytes, aligned
// to them, in shared memory) of matrix i; lane l gets in fragment[i] the elements (l / 4, 2 (l % 4)) and the one
// to its right. All 32 lanes take part.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&fragment)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
// The same of the transposed matrices: lane l gets (2 (l % 4), l / 4) and the element below it.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&fragment)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

// sum [16, 8] += a [16, 16] b [16, 8], bf16 with sums in f32. With g = lane / 4 and t = lane % 4 a lane holds
//   a:   (g, 2t) (g, 2t+1) | (g+8, 2t) .. | (g, 2t+8) .. | (g+8, 2t+8) ..
//   b:   (2t, g) (2t+1, g) | (2t+8, g) (2t+9, g)
//   sum: (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                                                  uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace tessera::cuda

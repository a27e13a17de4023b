// Stands in for kernels/cuda/device/mma.h, element by element as the PTX ISA draws the fragments.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace tessera::cuda {

namespace soft {

struct Fragments {
  uint32_t value[4];
};
struct MmaInput {
  float sum[4];
  uint32_t a[4], b[2];
};
struct MmaOutput {
  float sum[4];
};

// Element i (0 or 1) of a register of two bf16.
inline float bf16_of(uint32_t packed, int i) { return __uint_as_float((i == 0 ? packed << 16 : packed & 0xffff0000u)); }

inline const unsigned char* matrix_row(const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) ::soft_gpu::fail("ldmatrix: the row %p is not aligned to 16 bytes", row);
  return static_cast<const unsigned char*>(row);
}

}  // namespace soft

inline void ldmatrix_x4(uint32_t (&fragment)[4], const void* row) {
  const auto got = ::soft_gpu::warp_collective<soft::Fragments>(
      "ldmatrix.x4", 0xffffffffu, soft::matrix_row(row),
      [](const unsigned char* const* const* rows, soft::Fragments* const* out, uint32_t) {
        for (int lane = 0; lane < 32; ++lane)
          for (int i = 0; i < 4; ++i)
            std::memcpy(&out[lane]->value[i], *rows[8 * i + lane / 4] + lane % 4 * 4, 4);
      });
  for (int i = 0; i < 4; ++i) fragment[i] = got.value[i];
}

inline void ldmatrix_x4_trans(uint32_t (&fragment)[4], const void* row) {
  const auto got = ::soft_gpu::warp_collective<soft::Fragments>(
      "ldmatrix.x4.trans", 0xffffffffu, soft::matrix_row(row),
      [](const unsigned char* const* const* rows, soft::Fragments* const* out, uint32_t) {
        for (int lane = 0; lane < 32; ++lane)
          for (int i = 0; i < 4; ++i) {
            uint16_t pair[2];
            for (int j = 0; j < 2; ++j)
              std::memcpy(&pair[j], *rows[8 * i + lane % 4 * 2 + j] + lane / 4 * 2, 2);
            std::memcpy(&out[lane]->value[i], pair, 4);
          }
      });
  for (int i = 0; i < 4; ++i) fragment[i] = got.value[i];
}

inline void mma_m16n8k16_bf16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  soft::MmaInput input;
  std::memcpy(input.sum, sum, sizeof(sum));
  std::memcpy(input.a, a, sizeof(a));
  input.b[0] = b0;
  input.b[1] = b1;
  const auto got = ::soft_gpu::warp_collective<soft::MmaOutput>(
      "mma.m16n8k16", 0xffffffffu, input,
      [](const soft::MmaInput* const* in, soft::MmaOutput* const* out, uint32_t) {
        float left[16][16], right[16][8];
        for (int lane = 0; lane < 32; ++lane) {
          const int g = lane / 4, t = lane % 4;
          for (int i = 0; i < 8; ++i) {  // a_i: rows g, g + 8 take turns every two, columns move on by 8 after four
            const int row = i / 2 % 2 == 0 ? g : g + 8, column = 2 * t + i % 2 + (i < 4 ? 0 : 8);
            left[row][column] = soft::bf16_of(in[lane]->a[i / 2], i % 2);
          }
          for (int i = 0; i < 4; ++i)
            right[2 * t + i % 2 + (i < 2 ? 0 : 8)][g] = soft::bf16_of(in[lane]->b[i / 2], i % 2);
        }
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < 4; ++i) {
            const int row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + i % 2;
            double total = in[lane]->sum[i];
            for (int k = 0; k < 16; ++k) total += double{left[row][k]} * right[k][column];
            out[lane]->sum[i] = static_cast<float>(total);
          }
        }
      });
  std::memcpy(sum, got.sum, sizeof(sum));
}

}  // namespace tessera::cuda

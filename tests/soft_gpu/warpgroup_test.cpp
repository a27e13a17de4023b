// Warpgroup products, copies by tensor maps and barriers in shared memory: they compute what the PTX ISA says, and
// what kernels forget shows.
#include <cuda.h>

#include <array>
#include <cmath>
#include <random>

#include "kernels/cuda/device/bulk_copy.h"
#include "kernels/cuda/device/matrix_descriptor.h"
#include "kernels/cuda/device/ptx.h"
#include "kernels/cuda/device/wgmma.h"
#include "kernels/cuda/number.h"
#include "tests/soft_gpu/soft_testing.h"

namespace soft_gpu {
namespace {

using namespace tessera::cuda;

using WarpgroupTest = SoftGpuTest;
using WarpgroupDeathTest = SoftGpuDeathTest;

// A tensor [1, 80, 2, 128] of bf16 integers from -4 to 4, whose products are exact.
constexpr int kRows = 80, kHeads = 2, kDim = 128;
struct Tensor {
  std::vector<float> values;
  DeviceArray<bf16> device{kRows * kHeads * kDim};
  explicit Tensor(unsigned seed) : values(kRows * kHeads * kDim) {
    std::mt19937 generator(seed);
    std::vector<bf16> bits;
    for (float& value : values) {
      value = static_cast<float>(static_cast<int>(generator() % 9) - 4);
      bits.push_back(bf16{static_cast<uint16_t>(bf16_bits(value))});
    }
    EXPECT_EQ(cudaMemcpy(device.data(), bits.data(), device.bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  // Rows behind the last are zeros.
  float at(int head, int row, int column) const {
    return row < kRows ? values[static_cast<size_t>((row * kHeads + head) * kDim + column)] : 0.0f;
  }
};

CUresult encode(TensorMap* map, const void* data, int box_rows, int64_t dim = kDim,
                CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B) {
  const cuuint64_t dims[] = {static_cast<cuuint64_t>(dim), kHeads, kRows, 1},
                   strides[] = {static_cast<cuuint64_t>(2 * dim), 2 * kHeads * kDim, 2 * kHeads * kDim * kRows};
  const cuuint32_t box[] = {64, 1, static_cast<cuuint32_t>(box_rows), 1}, steps[] = {1, 1, 1, 1};
  return cuTensorMapEncodeTiled(reinterpret_cast<CUtensorMap*>(map), CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
                                const_cast<void*>(data), dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}
TensorMap map_of(const Tensor& tensor, int box_rows) {
  TensorMap map;
  EXPECT_EQ(encode(&map, tensor.device.data(), box_rows), CUDA_SUCCESS);
  return map;
}

// What a kernel leaves out, or does otherwise.
enum class Fault { none, barrier_wait, fence, wait, commit, early_reuse, left_changes, swizzle };

// The products: a b^T with both from shared memory, or with a from registers; a's first kN columns times b.
enum class Product { columns, left_columns, rows };

template <int kN>
struct Shared {
  alignas(1024) unsigned char a[2][64 * 128], b[2][kN * 128];
  Mbarrier full;
};

// Head 1, rows 40..103 of `a` (those from 80 on are zeros) and rows 0..kN - 1 of `b`, both with 128 columns. By the
// second warpgroup of two; the first copies.
template <int kN, Product kProduct>
__global__ void product_kernel(TensorMap a, TensorMap b, float* out, Fault fault) {
  auto& shared = *reinterpret_cast<Shared<kN>*>(current_block().dynamic_shared);
  if (threadIdx.x == 0) {
    mbarrier_init(&shared.full, 1);
    mbarrier_init_fence();
  }
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    mbarrier_arrive_expect(&shared.full, sizeof(shared.a) + sizeof(shared.b));
    for (int p = 0; p < 2; ++p) {
      copy_box_async(shared.a[p], &a, 64 * p, 1, 40, 0, &shared.full);
      copy_box_async(shared.b[p], &b, 64 * p, 1, 0, 0, &shared.full);
    }
  } else if (threadIdx.x >= 128) {
    constexpr int kColumns = kProduct == Product::rows ? 128 : kN;
    float sum[kColumns / 8][4];
    uint32_t left[8][4];
    if (fault != Fault::barrier_wait) mbarrier_wait(&shared.full, 0);
    uint64_t of_a = columns_descriptor(shared.a), of_b = columns_descriptor(shared.b);
    if (fault == Fault::swizzle) of_a ^= uint64_t{3} << 62;
    for (int k = 0; k < 8; ++k)
      for (int i = 0; i < 4; ++i) {
        const int row = 16 * warp + lane / 4 + i % 2 * 8, piece = 2 * k + i / 2;
        memcpy(&left[k][i], shared.a[piece / 8] + row * 128 + ((piece ^ row) % 8) * 16 + lane % 4 * 4, 4);
      }
    if constexpr (kProduct == Product::rows) {
      for (int n = 0; n < kColumns / 8; ++n)
        for (int i = 0; i < 4; ++i) sum[n][i] = 0;
      if (fault != Fault::fence) wgmma_fence();
      const uint64_t rows_of_b = rows_descriptor(shared.b, sizeof(shared.b[0]));
      for (int k = 0; k < kN / 16; ++k) wgmma_rows(sum, left[k], advance(rows_of_b, 2048 * k));
      if (fault == Fault::left_changes) left[0][0] += 1;
    } else {
      if (fault != Fault::fence) wgmma_fence();
      for (int k = 0; k < 8; ++k) {
        const uint64_t x = advance(of_a, k / 4 * static_cast<int>(sizeof(shared.a[0])) + k % 4 * 32),
                       y = advance(of_b, k / 4 * static_cast<int>(sizeof(shared.b[0])) + k % 4 * 32);
        if constexpr (kProduct == Product::left_columns) {
          if (k == 0)
            wgmma_left_columns_first(sum, left[k], y);
          else
            wgmma_left_columns(sum, left[k], y);
        } else if (k == 0) {
          wgmma_columns_first(sum, x, y);
        } else {
          wgmma_columns(sum, x, y);
        }
      }
    }
    if (fault != Fault::commit) wgmma_commit();
    // By one thread, before its warp waits; its warp sees it on every schedule.
    if (fault == Fault::early_reuse && threadIdx.x == 128) shared.b[0][5] ^= 0x40;
    if (fault == Fault::wait)
      wgmma_wait<1>();
    else
      wgmma_wait<0>();
    for (int n = 0; n < kColumns / 8; ++n)
      for (int i = 0; i < 4; ++i)
        out[(16 * warp + lane / 4 + i / 2 * 8) * kColumns + 8 * n + lane % 4 * 2 + i % 2] = sum[n][i];
    wgmma_commit();
    wgmma_wait<0>();
  }
}

// Elements that are wrong.
template <int kN, Product kProduct>
int run_product(Fault fault = Fault::none) {
  constexpr int kColumns = kProduct == Product::rows ? 128 : kN;
  const Tensor a(1), b(2);
  const DeviceArray<float> out(64 * kColumns);
  EXPECT_EQ(cudaFuncSetAttribute(reinterpret_cast<const void*>(product_kernel<kN, kProduct>),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared<kN>)),
            cudaSuccess);
  EXPECT_EQ(soft_gpu::launch({1, 256, sizeof(Shared<kN>)}, product_kernel<kN, kProduct>, map_of(a, 64), map_of(b, kN),
                             out.data(), fault),
            cudaSuccess);
  const std::vector<float> got = out.get();
  int wrong = 0;
  for (int row = 0; row < 64; ++row)
    for (int column = 0; column < kColumns; ++column) {
      float want = 0;
      if (kProduct == Product::rows)
        for (int k = 0; k < kN; ++k) want += a.at(1, 40 + row, k) * b.at(1, k, column);
      else
        for (int k = 0; k < kDim; ++k) want += a.at(1, 40 + row, k) * b.at(1, column, k);
      wrong += !(got[static_cast<size_t>(row * kColumns + column)] == want);
    }
  return wrong;
}

TEST_F(WarpgroupTest, ProductsAreRight) {
  EXPECT_EQ((run_product<64, Product::columns>()), 0);
  EXPECT_EQ((run_product<128, Product::columns>()), 0);
  EXPECT_EQ((run_product<64, Product::left_columns>()), 0);
  EXPECT_EQ((run_product<64, Product::rows>()), 0);
  EXPECT_EQ((run_product<128, Product::rows>()), 0);
}

TEST_F(WarpgroupTest, WhatIsForgottenIsWrong) {
  EXPECT_GT((run_product<64, Product::columns>(Fault::barrier_wait)), 0);
  EXPECT_EQ((run_product<64, Product::columns>(Fault::wait)), 64 * 64);
  EXPECT_EQ((run_product<64, Product::columns>(Fault::commit)), 64 * 64);
  EXPECT_GT((run_product<64, Product::columns>(Fault::early_reuse)), 0);
  EXPECT_GT((run_product<64, Product::columns>(Fault::swizzle)), 64 * 32);
}

TEST_F(WarpgroupDeathTest, WhatIsForgotten) {
  const auto end = [](auto product, Fault fault) {
    product(fault);
    std::exit(0);
  };
  EXPECT_DEATH(end(run_product<64, Product::columns>, Fault::fence), "without a wgmma.fence");
  EXPECT_DEATH(end(run_product<64, Product::rows>, Fault::left_changes), "left operand changed");
}

__global__ void barrier_kernel(int arrivals, int expected, bool initialised) {
  auto* barrier = reinterpret_cast<Mbarrier*>(current_block().dynamic_shared);
  if (threadIdx.x == 0 && initialised) mbarrier_init(barrier, arrivals);
  __syncthreads();
  if (threadIdx.x == 32) mbarrier_wait(barrier, 1);  // nothing came before the first phase
  __syncthreads();
  if (threadIdx.x < 32) mbarrier_arrive(barrier);
  if (threadIdx.x == 32) {
    if (expected > 0) mbarrier_arrive_expect(barrier, expected);
    mbarrier_wait(barrier, 0);
  }
}

TEST_F(WarpgroupTest, BarriersCountArrivals) {
  EXPECT_EQ(launch({1, 64, 8}, barrier_kernel, 32, 0, true), cudaSuccess);
}
TEST_F(WarpgroupDeathTest, BarriersThatNeverEnd) {
  const auto run = [](int arrivals, int expected, bool initialised) {
    if (launch({1, 64, 8}, barrier_kernel, arrivals, expected, initialised) != cudaSuccess) std::exit(0);
    cudaDeviceSynchronize();
    std::exit(0);
  };
  EXPECT_DEATH(run(33, 0, true), "deadlock.*mbarrier");
  EXPECT_DEATH(run(33, 16, true), "deadlock.*mbarrier");
  EXPECT_DEATH(run(32, 0, false), "is not initialised");
}

TEST_F(WarpgroupTest, TensorMapsThatTheDriverRefuses) {
  const Tensor tensor(1);
  TensorMap map;
  const auto* data = tensor.device.data();
  EXPECT_EQ(encode(&map, data, 64), CUDA_SUCCESS);
  EXPECT_EQ(encode(&map, data + 4, 64), CUDA_ERROR_INVALID_VALUE);       // not aligned
  EXPECT_EQ(encode(&map, data, 257), CUDA_ERROR_INVALID_VALUE);          // a box too long
  EXPECT_EQ(encode(&map, data, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(encode(&map, data, 64, 0), CUDA_ERROR_INVALID_VALUE);        // an empty dim
  EXPECT_EQ(encode(&map, data, 64, 100), CUDA_ERROR_INVALID_VALUE);      // rows not aligned
  EXPECT_EQ(encode(&map, data, 64, kDim, CU_TENSOR_MAP_SWIZZLE_64B), CUDA_ERROR_INVALID_VALUE);  // wider than the span
}

}  // namespace
}  // namespace soft_gpu

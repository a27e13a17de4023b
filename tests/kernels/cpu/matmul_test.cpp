#include "kernels/cpu/matmul.h"

#include "tests/kernels/cpu/kernel_testing.h"

namespace tessera::cpu {
namespace {

// op(A) op(B) in double, in the order of the stored matrices.
template <typename In>
double dot(const GemmShape& s, const In* a, const In* b, int64_t i, int64_t j) {
  double sum = 0;
  for (int64_t p = 0; p < s.k; ++p) {
    const int64_t at_a = s.transpose_a ? p * s.lda + i : i * s.lda + p;
    const int64_t at_b = s.transpose_b ? j * s.ldb + p : p * s.ldb + j;
    sum += as_double(a[at_a]) * as_double(b[at_b]);
  }
  return sum;
}

template <typename In, typename Out>
void check_gemm(const GemmShape& s, double alpha, double beta) {
  SCOPED_TRACE(testing::Message() << s.m << " x " << s.n << " x " << s.k << " ta " << s.transpose_a
                                  << " tb " << s.transpose_b << " batch " << s.batch);
  const int64_t rows_a = s.transpose_a ? s.k : s.m, rows_b = s.transpose_b ? s.n : s.k;
  const auto a = random_values<In>((s.batch - 1) * s.stride_a + rows_a * s.lda, 1);
  const auto b = random_values<In>((s.batch - 1) * s.stride_b + rows_b * s.ldb, 2);
  const int64_t size_c = (s.batch - 1) * s.stride_c + s.m * s.ldc;
  const auto before = beta == 0 ? poisoned<Out>(size_c) : random_values<Out>(size_c, 3);
  const auto c = same_with_any_threads([&] {
    std::vector<Out> result = before;
    gemm(s, alpha, a.data(), b.data(), beta, result.data());
    return result;
  });
  for (int64_t batch = 0; batch < s.batch; ++batch) {
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.ldc; ++j) {
        const auto at = static_cast<size_t>(batch * s.stride_c + i * s.ldc + j);
        if (j >= s.n) {
          ASSERT_EQ(std::memcmp(&c[at], &before[at], sizeof(Out)), 0) << "wrote beyond a row";
          continue;
        }
        double want =
            alpha * dot(s, a.data() + batch * s.stride_a, b.data() + batch * s.stride_b, i, j);
        if (beta != 0) want += beta * as_double(before[at]);
        const double tolerance = kTolerance<Out> * std::sqrt(static_cast<double>(s.k) + 1);
        ASSERT_NEAR(as_double(c[at]), want, tolerance * (1 + std::abs(want) * 0.1))
            << i << "," << j;
      }
    }
  }
}

template <typename In, typename Out>
void check_shapes() {
  const int64_t sizes[][3] = {{1, 1, 1},    {3, 5, 7},      {17, 33, 65},  {64, 1, 300},
                              {1, 130, 64}, {130, 90, 257}, {12, 32, 256}, {2, 3, 1}};
  for (const auto& [m, n, k] : sizes) {
    for (int flags = 0; flags < 4; ++flags) {
      check_gemm<In, Out>(dense_gemm(flags & 1, flags & 2, m, n, k), 1, 0);
    }
    check_gemm<In, Out>(dense_gemm(false, true, m, n, k), 0.5, 1);
  }
  GemmShape batched = dense_gemm(false, false, 9, 20, 31, 3);
  check_gemm<In, Out>(batched, 1, 0);
  batched.stride_b = 0;
  batched.ldc = 23;
  batched.stride_c = 9 * 23;
  check_gemm<In, Out>(batched, 2, 0);
}

TEST(Matmul, AgreesWithLoopsF32) { check_shapes<float, float>(); }
TEST(Matmul, AgreesWithLoopsF64) { check_shapes<double, double>(); }
TEST(Matmul, AgreesWithLoopsBf16) { check_shapes<bfloat16, bfloat16>(); }
TEST(Matmul, AgreesWithLoopsBf16ToF32) { check_shapes<bfloat16, float>(); }

// Shapes that are cut into many tiles, and deep ones where a library would split k among threads.
TEST(Matmul, ThreadsDoNotChangeBits) {
  check_gemm<float, float>(dense_gemm(true, false, 200, 260, 600), 1, 1);
  check_gemm<float, float>(dense_gemm(true, false, 33, 1, 8192), 1, 0);
  check_gemm<float, float>(dense_gemm(false, true, 64, 96, 3072), 1, 0);
}

TEST(Matmul, NoDepthIsZeroOrKeeps) {
  std::vector<float> c = poisoned<float>(6);
  gemm<float, float>(dense_gemm(false, false, 2, 3, 0), 1, nullptr, nullptr, 0, c.data());
  expect_close(c, std::vector<double>(6, 0.0), 0);
}

}  // namespace
}  // namespace tessera::cpu

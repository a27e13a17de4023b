#include "core/types/host_tensor.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/strided_copy.h"
#include "tests/kernels/cpu/kernel_testing.h"

namespace tessera::cpu {
namespace {

template <typename T>
void check_copy(const Shape& dims, const std::vector<int64_t>& strides, int64_t source_size,
                int64_t offset = 0) {
  SCOPED_TRACE(testing::Message() << dims << " of " << sizeof(T) << " bytes");
  std::vector<T> source;
  for (int64_t i = 0; i < source_size; ++i) source.push_back(static_cast<T>(i * 2654435761u));
  const auto got = same_with_any_threads([&] {
    std::vector<T> result(dims.elements(), T(99));
    strided_copy(sizeof(T), dims.dims(), strides, source.data() + offset, result.data());
    return result;
  });
  for (int64_t i = 0; i < dims.elements(); ++i) {
    const auto position = position_of(i, dims);
    int64_t at = offset;
    for (size_t d = 0; d < position.size(); ++d) at += position[d] * strides[d];
    ASSERT_EQ(got[i], source[at]) << "element " << i;
  }
}

template <typename T>
void check_copies() {
  check_copy<T>({5}, {1}, 5);
  check_copy<T>({}, {}, 1);
  check_copy<T>({4, 7}, {0, 1}, 7);           // broadcast of a row
  check_copy<T>({4, 7}, {1, 0}, 4);           // of a column
  check_copy<T>({37, 50}, {1, 37}, 37 * 50);  // transpose
  check_copy<T>({150, 130}, {1, 150}, 150 * 130);
  check_copy<T>({2, 3, 20, 5}, {300, 5, 15, 1}, 600);  // heads <-> length
  check_copy<T>({3, 40, 2, 18}, {1, 3, 120, 240}, 4320);
  check_copy<T>({6, 9}, {20, 2}, 140);  // slice with a step
  check_copy<T>({10}, {-1}, 10, 9);     // reverse
}

TEST(StridedCopy, AgreesWithLoops) {
  check_copies<uint8_t>();
  check_copies<uint16_t>();
  check_copies<uint32_t>();
  check_copies<uint64_t>();
}

template <typename In, typename Out>
void check_reduce(ReduceKind kind, const ReduceShape& s) {
  using A = simd::Accumulator<In>;
  SCOPED_TRACE(testing::Message() << name_of(kind) << " of " << s.outer << "," << s.count << ","
                                  << s.inner);
  const auto x = random_values<In>(s.outer * s.count * s.inner, 1, 0.9, 1.1);
  std::vector<double> want;
  for (int64_t o = 0; o < s.outer; ++o) {
    for (int64_t i = 0; i < s.inner; ++i) {
      double value = kind == ReduceKind::sum       ? 0
                     : kind == ReduceKind::product ? 1
                     : kind == ReduceKind::max     ? -INFINITY
                                                   : INFINITY;
      for (int64_t c = 0; c < s.count; ++c) {
        const double v = as_double(x[(o * s.count + c) * s.inner + i]);
        value = kind == ReduceKind::sum       ? value + v
                : kind == ReduceKind::product ? value * v
                : kind == ReduceKind::max     ? std::max(value, v)
                                              : std::min(value, v);
      }
      want.push_back(value);
    }
  }
  auto workspace = poisoned<char>(reduce_workspace(s, sizeof(A)));
  const auto got = same_with_any_threads([&] {
    auto result = poisoned<Out>(s.outer * s.inner);
    reduce(kind, s, x.data(), result.data(), workspace.data());
    return result;
  });
  expect_close(got, want, kTolerance<Out> * 10);
}

TEST(Reduce, AgreesWithLoops) {
  for (const ReduceShape& s : {ReduceShape{1, 1, 1},
                               {1, 100000, 1},
                               {37, 19, 1},
                               {1, 70, 33},
                               {1, 900, 700},
                               {3, 5, 17},
                               {2, 0, 3},
                               {100, 3, 700}}) {
    for (ReduceKind kind :
         {ReduceKind::sum, ReduceKind::max, ReduceKind::min, ReduceKind::product}) {
      if (kind == ReduceKind::product && s.count > 1000) continue;
      check_reduce<float, float>(kind, s);
      check_reduce<double, double>(kind, s);
      check_reduce<bfloat16, float>(kind, s);
      check_reduce<bfloat16, bfloat16>(kind, s);
    }
  }
}

TEST(Reduce, NanReaches) {
  std::vector<float> x(1000, 1.0f), out = {0};
  x[123] = NAN;
  reduce(ReduceKind::max, {1, 1000, 1}, x.data(), out.data(), nullptr);
  EXPECT_TRUE(std::isnan(out[0]));
}

}  // namespace
}  // namespace tessera::cpu

#include "kernels/cpu/embedding.h"

#include "tests/kernels/cpu/kernel_testing.h"

namespace tessera::cpu {
namespace {

template <typename T, typename Id>
void check_embedding(const EmbeddingShape& s) {
  using A = simd::Accumulator<T>;
  const auto table = random_values<T>(s.rows * s.width, 1),
             dy = random_values<T>(s.ids * s.width, 2);
  std::vector<Id> ids;  // many repeats, some outside
  for (int64_t i = 0; i < s.ids; ++i)
    ids.push_back(static_cast<Id>(s.start - 1 + i * i % (s.rows + 2)));
  std::vector<double> want_out, want_grad(s.rows * s.width);
  for (int64_t i = 0; i < s.ids; ++i) {
    const int64_t row = ids[i] - s.start;
    const bool inside = row >= 0 && row < s.rows;
    for (int64_t c = 0; c < s.width; ++c) {
      want_out.push_back(inside ? as_double(table[row * s.width + c]) : 0);
      if (inside) want_grad[row * s.width + c] += as_double(dy[i * s.width + c]);
    }
  }
  auto out = poisoned<T>(s.ids * s.width);
  embedding(s, table.data(), ids.data(), out.data());
  expect_close(out, want_out, 0);
  auto workspace = std::vector<int64_t>(embedding_grad_workspace(s) / 8 + 1);
  const auto grad = same_with_any_threads([&] {
    auto result = poisoned<A>(s.rows * s.width);
    embedding_grad(s, ids.data(), dy.data(), result.data(), workspace.data());
    return result;
  });
  expect_close(grad, want_grad, kTolerance<A>);
}

TEST(Embedding, AgreesWithLoops) {
  for (const EmbeddingShape& s :
       {EmbeddingShape{11, 5, 40, 0}, {7, 33, 1, 3}, {300, 64, 500, 100}}) {
    check_embedding<float, int32_t>(s);
    check_embedding<double, int64_t>(s);
    check_embedding<bfloat16, int32_t>(s);
  }
}

}  // namespace
}  // namespace tessera::cpu

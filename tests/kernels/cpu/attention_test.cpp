#include "kernels/cpu/attention.h"

#include "tests/kernels/cpu/kernel_testing.h"

namespace tessera::cpu {
namespace {

struct AttentionWant {
  std::vector<double> out, lse, dq, dk, dv;
};

// By the definition, with all scores of a query at once.
template <typename T>
AttentionWant attention_by_loops(const AttentionShape& s, const std::vector<T>& q,
                                 const std::vector<T>& k, const std::vector<T>& v,
                                 const std::vector<T>& dout) {
  AttentionWant want{
      std::vector<double>(q.size()), std::vector<double>(s.batch * s.heads * s.q_len),
      std::vector<double>(q.size()), std::vector<double>(k.size()), std::vector<double>(k.size())};
  const int64_t d = s.head_dim;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t group = h / (s.heads / s.kv_heads);
      for (int64_t i = 0; i < s.q_len; ++i) {
        const int64_t qi = ((b * s.q_len + i) * s.heads + h) * d;
        const int64_t seen =
            s.causal ? std::clamp<int64_t>(s.q_start + i + 1, 0, s.k_len) : s.k_len;
        const auto kj = [&](int64_t j) { return ((b * s.k_len + j) * s.kv_heads + group) * d; };
        std::vector<double> p(seen);
        double top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < seen; ++j) {
          for (int64_t e = 0; e < d; ++e) p[j] += as_double(q[qi + e]) * as_double(k[kj(j) + e]);
          p[j] *= s.scale;
          top = std::max(top, p[j]);
        }
        for (double& score : p) sum += std::exp(score - top);
        const double lse = seen ? top + std::log(sum) : -INFINITY;
        want.lse[(b * s.heads + h) * s.q_len + i] = lse;
        double delta = 0;
        for (int64_t j = 0; j < seen; ++j) {
          p[j] = std::exp(p[j] - lse);
          for (int64_t e = 0; e < d; ++e) {
            want.out[qi + e] += p[j] * as_double(v[kj(j) + e]);
            delta += p[j] * as_double(v[kj(j) + e]) * as_double(dout[qi + e]);
          }
        }
        for (int64_t j = 0; j < seen; ++j) {
          double dp = 0;
          for (int64_t e = 0; e < d; ++e) dp += as_double(v[kj(j) + e]) * as_double(dout[qi + e]);
          const double ds = p[j] * (dp - delta) * s.scale;
          for (int64_t e = 0; e < d; ++e) {
            want.dv[kj(j) + e] += p[j] * as_double(dout[qi + e]);
            want.dq[qi + e] += ds * as_double(k[kj(j) + e]);
            want.dk[kj(j) + e] += ds * as_double(q[qi + e]);
          }
        }
      }
    }
  }
  return want;
}

template <typename T>
void check_attention(const AttentionShape& s, double slack = 1) {
  using A = simd::Accumulator<T>;
  SCOPED_TRACE(testing::Message() << "batch " << s.batch << " q " << s.q_len << " k " << s.k_len
                                  << " heads " << s.heads << "/" << s.kv_heads << " dim "
                                  << s.head_dim << " causal " << s.causal << " at " << s.q_start);
  const int64_t q_size = s.batch * s.q_len * s.heads * s.head_dim;
  const int64_t k_size = s.batch * s.k_len * s.kv_heads * s.head_dim;
  const auto q = random_values<T>(q_size, 1, -2, 2), k = random_values<T>(k_size, 2, -2, 2);
  const auto v = random_values<T>(k_size, 3), dout = random_values<T>(q_size, 4);
  const AttentionWant want = attention_by_loops(s, q, k, v, dout);
  auto lse = poisoned<A>(s.batch * s.heads * s.q_len);
  const auto out = same_with_any_threads([&] {
    auto result = poisoned<T>(q_size);
    attention_forward(s, q.data(), k.data(), v.data(), result.data(), lse.data());
    return result;
  });
  expect_close(out, want.out, kTolerance<T>);
  expect_close(lse, want.lse, kTolerance<A>);

  auto dk = poisoned<T>(k_size), dv = poisoned<T>(k_size);
  auto workspace = poisoned<A>(attention_backward_workspace(s, sizeof(A)) / int64_t{sizeof(A)});
  const auto dq = same_with_any_threads([&] {
    auto result = poisoned<T>(q_size);
    attention_backward(s, q.data(), k.data(), v.data(), out.data(), lse.data(), dout.data(),
                       result.data(), dk.data(), dv.data(), workspace.data());
    return result;
  });
  const double room = slack * (std::is_same_v<T, bfloat16> ? 4 : 2);
  expect_close(dq, want.dq, room * kTolerance<T>, 2);
  expect_close(dk, want.dk, room * kTolerance<T>, 2);
  expect_close(dv, want.dv, room * kTolerance<T>, 2);
}

template <typename T>
void check_attention_shapes() {
  // batch, q_len, k_len, heads, kv_heads, head_dim, causal, q_start, scale
  check_attention<T>({1, 1, 1, 1, 1, 16, true, 0, 0.25});
  check_attention<T>({2, 7, 7, 4, 2, 16, true, 0, 0.25});
  check_attention<T>({1, 65, 65, 2, 2, 64, true, 0, 0.125});
  check_attention<T>({1, 130, 130, 3, 1, 40, true, 0, 0.15});
  check_attention<T>({2, 33, 150, 2, 1, 24, false, 0, 0.2});
  check_attention<T>({1, 20, 100, 2, 2, 128, true, 80, 0.09});
  check_attention<T>({1, 1, 90, 4, 4, 32, true, 70, 0.18});
  check_attention<T>({1, 70, 64, 2, 1, 5, true, -10, 0.4});  // the first ten see no key
}

TEST(Attention, AgreesWithLoopsF32) { check_attention_shapes<float>(); }
TEST(Attention, AgreesWithLoopsF64) { check_attention_shapes<double>(); }
TEST(Attention, AgreesWithLoopsBf16) { check_attention_shapes<bfloat16>(); }

// Scores in the hundreds, as diverging runs have: the running maximum must keep them finite.
TEST(Attention, LargeScoresStayFinite) {
  const AttentionShape s{1, 100, 100, 1, 1, 16, true, 0, 40.0};
  check_attention<double>(s, 100);  // errors of scores count for as much more
}

}  // namespace
}  // namespace tessera::cpu

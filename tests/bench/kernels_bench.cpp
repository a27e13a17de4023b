// The CPU kernels against the roofline of the machine they run on.
//
// Each row prints its rate and `of_floor`: that rate over a probe of the same run, measured right
// before it, because shared machines drift by a factor of two. Arithmetic rows are divided by the
// multiply-add peak of all threads, memory rows by an in-place stream (read and write back), which
// no kernel can outrun. Bytes are those that must move: inputs read once, outputs written once.
//
//   ninja bench_kernels_bench && bench/bench_kernels_bench --benchmark_filter=Attention
#include <benchmark/benchmark.h>
#include <omp.h>

#include <cstring>
#include <thread>
#include <numeric>
#include <vector>

#include "core/base/steady_clock.h"
#include "kernels/cpu/adamw.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/cpu/embedding.h"
#include "kernels/cpu/layer_norm.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/rotary.h"
#include "kernels/cpu/strided_copy.h"
#include "kernels/cpu/sum_of_squares.h"
#include "kernels/cpu/tile_program.h"

namespace tessera::cpu {
namespace {

// ---- Probes -------------------------------------------------------------------------------------

// Seconds that `body(thread, threads)` takes on as many threads as the kernels use, best of three.
template <typename Body>
double best_on_all_threads(const Body& body) {
  const int threads = omp_get_max_threads();
  double best = 1e30;
  for (int round = 0; round < 3; ++round) {
    const double start = steady_seconds();
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t)
      others.emplace_back([&body, t, threads] { body(t, threads); });
    body(0, threads);
    for (std::thread& other : others) other.join();
    best = std::min(best, steady_seconds() - start);
  }
  return best;
}

typedef float Wide __attribute__((vector_size(64)));

// Twelve independent chains of multiply-adds, compiled for each instruction set below.
__attribute__((always_inline)) inline double chains(int64_t rounds) {
  Wide sums[12];
  for (int i = 0; i < 12; ++i) sums[i] = Wide{} + static_cast<float>(i);
  const Wide a = Wide{} + 0.9999f, b = Wide{} + 1e-4f;
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sums[i] = sums[i] * a + b;
  }
  float total = 0;
  for (const Wide& sum : sums) total += sum[0];
  return total;
}
__attribute__((target("avx512f,fma"))) double chains_avx512(int64_t rounds) {
  return chains(rounds);
}
__attribute__((target("avx2,fma"))) double chains_avx2(int64_t rounds) { return chains(rounds); }

double flops_probe() {
  constexpr int64_t kRounds = 1 << 20;
  const auto run = __builtin_cpu_supports("avx512f") ? chains_avx512 : chains_avx2;
  const double seconds =
      best_on_all_threads([&](int, int) { benchmark::DoNotOptimize(run(kRounds)); });
  return 2.0 * 16 * 12 * kRounds * omp_get_max_threads() / seconds;
}

double stream_probe() {
  static std::vector<float> memory(int64_t{1} << 26, 1.0f);
  const auto count = static_cast<int64_t>(memory.size());
  const double seconds = best_on_all_threads([&](int thread, int threads) {
    float* values = memory.data();
    for (int64_t j = count * thread / threads; j < count * (thread + 1) / threads; ++j) {
      values[j] *= 0.999f;
    }
  });
  return 2.0 * 4 * static_cast<double>(count) / seconds;
}

// Times `body`, and reports its best iteration against the probe.
template <typename Body>
void measure(benchmark::State& state, double flops, double bytes, const Body& body) {
  const double peak = flops > 0 ? flops_probe() : stream_probe();
  const double work = flops > 0 ? flops : bytes;
  double best = 1e30;
  for (auto _ : state) {
    const double start = steady_seconds();
    body();
    const double seconds = steady_seconds() - start;
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  state.counters[flops > 0 ? "GFLOP/s" : "GB/s"] = work / best * 1e-9;
  state.counters["of_floor"] = work / best / peak;
}

template <typename T>
std::vector<T> values(int64_t count) {
  std::vector<T> result(static_cast<size_t>(count));
  uint32_t state = 1;
  for (T& v : result)
    v = T(static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 1e-7f - 0.8f);
  return result;
}

// ---- Arithmetic
// -----------------------------------------------------------------------------------

template <typename In, typename Out>
void Gemm(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const bool ta = state.range(3) & 1, tb = state.range(3) & 2;
  const auto a = values<In>(m * k), b = values<In>(k * n);
  std::vector<Out> c(static_cast<size_t>(m * n));
  measure(state, 2.0 * m * n * k, 0,
          [&] { gemm(dense_gemm(ta, tb, m, n, k), 1, a.data(), b.data(), 0, c.data()); });
}
void step_shapes(benchmark::internal::Benchmark* bench) {
  // GPT-2 124M at 256 and 1024 tokens: forward, gradient of inputs, gradient of weights, head.
  for (const auto& shape : std::vector<std::vector<int64_t>>{{256, 2304, 768, 0},
                                                             {256, 768, 768, 0},
                                                             {256, 3072, 768, 0},
                                                             {256, 768, 3072, 2},
                                                             {768, 3072, 256, 1},
                                                             {1024, 3072, 768, 0},
                                                             {1024, 768, 3072, 2},
                                                             {3072, 768, 1024, 1},
                                                             {256, 50304, 768, 2},
                                                             {256, 768, 50304, 0},
                                                             {50304, 768, 256, 1}}) {
    bench->Args(shape);
  }
}
BENCHMARK(Gemm<float, float>)->Apply(step_shapes)->UseManualTime();
BENCHMARK(Gemm<bfloat16, float>)
    ->Args({256, 3072, 768, 0})
    ->Args({1024, 3072, 768, 0})
    ->UseManualTime();
BENCHMARK(Gemm<double, double>)->Args({256, 3072, 768, 0})->UseManualTime();

AttentionShape attention_shape(const benchmark::State& state) {
  const int64_t length = state.range(1), dim = state.range(4);
  return {state.range(0), length, length, state.range(2), state.range(3), dim, true, 0, 0.125};
}
// Causal: half of 4 (forward) or 10 (backward) b h q k d.
double attention_flops(const AttentionShape& s, double each) {
  return 0.5 * each * static_cast<double>(s.batch * s.heads * s.q_len * s.k_len * s.head_dim);
}

template <typename T>
void AttentionForward(benchmark::State& state) {
  const AttentionShape s = attention_shape(state);
  const auto q = values<T>(s.batch * s.q_len * s.heads * s.head_dim);
  const auto k = values<T>(s.batch * s.k_len * s.kv_heads * s.head_dim);
  auto out = q;
  std::vector<float> lse(static_cast<size_t>(s.batch * s.heads * s.q_len));
  measure(state, attention_flops(s, 4), 0,
          [&] { attention_forward(s, q.data(), k.data(), k.data(), out.data(), lse.data()); });
}
template <typename T>
void AttentionBackward(benchmark::State& state) {
  const AttentionShape s = attention_shape(state);
  const auto q = values<T>(s.batch * s.q_len * s.heads * s.head_dim);
  const auto k = values<T>(s.batch * s.k_len * s.kv_heads * s.head_dim);
  auto out = q, dq = q, dk = k, dv = k;
  std::vector<float> lse(static_cast<size_t>(s.batch * s.heads * s.q_len));
  std::vector<char> workspace(static_cast<size_t>(attention_backward_workspace(s, 4)));
  attention_forward(s, q.data(), k.data(), k.data(), out.data(), lse.data());
  measure(state, attention_flops(s, 10), 0, [&] {
    attention_backward(s, q.data(), k.data(), k.data(), out.data(), lse.data(), q.data(), dq.data(),
                       dk.data(), dv.data(), workspace.data());
  });
}
// batch, length, heads, kv_heads, head_dim
#define ATTENTION_SHAPES            \
  ->Args({4, 64, 12, 12, 64})       \
      ->Args({4, 256, 12, 12, 64})  \
      ->Args({1, 1024, 12, 12, 64}) \
      ->Args({1, 2048, 8, 2, 128})  \
      ->UseManualTime()
BENCHMARK(AttentionForward<float>) ATTENTION_SHAPES;
BENCHMARK(AttentionForward<bfloat16>) ATTENTION_SHAPES;
BENCHMARK(AttentionBackward<float>) ATTENTION_SHAPES;
BENCHMARK(AttentionBackward<bfloat16>) ATTENTION_SHAPES;

// ---- Memory
// -----------------------------------------------------------------------------------------

constexpr int64_t kTokens = 4096, kWidth = 768, kVocabulary = 50304;

void LayerNormForward(benchmark::State& state) {
  const auto x = values<float>(kTokens * kWidth), gamma = values<float>(kWidth);
  auto y = x;
  std::vector<float> mean(kTokens), rstd(kTokens);
  measure(state, 0, 8.0 * kTokens * kWidth, [&] {
    layer_norm_forward(kTokens, kWidth, x.data(), gamma.data(), gamma.data(), 1e-5, y.data(),
                       mean.data(), rstd.data());
  });
}
BENCHMARK(LayerNormForward)->UseManualTime();

void LayerNormBackward(benchmark::State& state) {
  const auto x = values<float>(kTokens * kWidth), gamma = values<float>(kWidth);
  auto dx = x;
  std::vector<float> mean(kTokens, 0.1f), rstd(kTokens, 1.5f), dgamma(kWidth), dbeta(kWidth);
  std::vector<char> workspace(
      static_cast<size_t>(layer_norm_backward_workspace(kTokens, kWidth, 4)));
  measure(state, 0, 12.0 * kTokens * kWidth, [&] {
    layer_norm_backward(kTokens, kWidth, x.data(), x.data(), gamma.data(), mean.data(), rstd.data(),
                        dx.data(), dgamma.data(), dbeta.data(), workspace.data());
  });
}
BENCHMARK(LayerNormBackward)->UseManualTime();

struct Loss {
  LogitsShape shape{256, kVocabulary, 0, 50257};
  std::vector<float> logits = values<float>(shape.rows * shape.columns);
  std::vector<float> maximum = std::vector<float>(256, 1.0f), sum = maximum, target = maximum;
  std::vector<int32_t> targets = std::vector<int32_t>(256, 17);
  double bytes = 4.0 * 256 * kVocabulary;
};
void LogitsMax(benchmark::State& state) {
  Loss loss;
  measure(state, 0, loss.bytes,
          [&] { logits_max(loss.shape, loss.logits.data(), loss.maximum.data()); });
}
void LogitsSum(benchmark::State& state) {
  Loss loss;
  measure(state, 0, loss.bytes, [&] {
    logits_sum(loss.shape, loss.logits.data(), loss.maximum.data(), loss.targets.data(),
               loss.sum.data(), loss.target.data());
  });
}
void LogitsGradInPlace(benchmark::State& state) {
  Loss loss;
  measure(state, 0, 2 * loss.bytes, [&] {
    logits_sum_grad(loss.shape, loss.logits.data(), loss.maximum.data(), loss.targets.data(),
                    loss.sum.data(), loss.target.data(), loss.logits.data());
  });
}
void LogitsAllInPlace(benchmark::State& state) {
  Loss loss;
  measure(state, 0, 2 * loss.bytes, [&] {
    cross_entropy_with_grad<float, int32_t>(
        loss.shape, loss.logits.data(), loss.targets.data(), {loss.maximum.data(), loss.maximum.data(), nullptr},
        {loss.maximum.data(), loss.sum.data(), loss.target.data()}, loss.logits.data());
  });
}
BENCHMARK(LogitsMax)->UseManualTime();
BENCHMARK(LogitsSum)->UseManualTime();
BENCHMARK(LogitsGradInPlace)->UseManualTime();
BENCHMARK(LogitsAllInPlace)->UseManualTime();

void EmbeddingGrad(benchmark::State& state) {
  const EmbeddingShape shape{kVocabulary, kWidth, 1024, 0};
  std::vector<int32_t> ids(1024);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7919 % 5000);
  const auto dy = values<float>(1024 * kWidth);
  std::vector<float> table(static_cast<size_t>(kVocabulary * kWidth));
  std::vector<char> workspace(static_cast<size_t>(embedding_grad_workspace(shape)));
  measure(state, 0, 4.0 * kWidth * (kVocabulary + 1024),
          [&] { embedding_grad(shape, ids.data(), dy.data(), table.data(), workspace.data()); });
}
BENCHMARK(EmbeddingGrad)->UseManualTime();

// The shapes of GPT-2 124M, its query, key and value apart.
std::vector<int64_t> sizes_of_gpt2() {
  constexpr int64_t kEmbed = 768;
  std::vector<int64_t> sizes = {50304 * kEmbed, 1024 * kEmbed, kEmbed, kEmbed};
  for (int layer = 0; layer < 12; ++layer) {
    sizes.insert(sizes.end(), {kEmbed, kEmbed, kEmbed, kEmbed, 4 * kEmbed * kEmbed, 4 * kEmbed, 4 * kEmbed * kEmbed, kEmbed});
    for (int matrix = 0; matrix < 4; ++matrix) sizes.insert(sizes.end(), {kEmbed * kEmbed, kEmbed});
  }
  return sizes;
}

// A model's tensors, or its vectors alone; one after the other, or (range 1) all in one loop.
void AdamW(benchmark::State& state) {
  std::vector<int64_t> sizes = sizes_of_gpt2();
  if (state.range(0) == 1) std::erase_if(sizes, [](int64_t n) { return n > 4 * 768; });
  const int64_t count = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  auto param = values<float>(count), m = param, v = std::vector<float>(static_cast<size_t>(count), 0.01f),
       grad = param;
  std::vector<AdamWTensor<float>> tensors;
  int64_t at = 0;
  for (const int64_t n : sizes) {
    tensors.push_back({n, &param[at], &m[at], &v[at], &grad[at], &param[at], &m[at], &v[at], 0.1});
    at += n;
  }
  const AdamWStep step{1e-3, 0.9, 0.95, 1e-8, 1, 0.5, 0.5};
  measure(state, 0, 28.0 * static_cast<double>(count), [&] {
    if (state.range(1) == 1) return adamw<float, float, float>(step, tensors);
    for (const auto& tensor : tensors) adamw<float, float, float>(step, {&tensor, 1});
  });
}
BENCHMARK(AdamW)->ArgNames({"vectors", "joined"})->ArgsProduct({{0, 1}, {0, 1}})->UseManualTime();

void SumOfSquares(benchmark::State& state) {
  const auto x = values<float>(int64_t{1} << 25);
  std::vector<double> workspace(4096);
  measure(state, 0, 4.0 * (1 << 25), [&] {
    benchmark::DoNotOptimize(sum_of_squares(int64_t{1} << 25, x.data(), workspace.data()));
  });
}
BENCHMARK(SumOfSquares)->UseManualTime();

void Rotary(benchmark::State& state) {
  auto x = values<float>(4 * 1024 * 12 * 64);
  measure(state, 0, 8.0 * static_cast<double>(x.size()), [&] {
    rotary(RotaryShape{4, 1024, 12, 64, 1e4, 0, false}, x.data(), x.data());
  });
}
BENCHMARK(Rotary)->UseManualTime();

// bias + gelu and its gradient, as a fused chain.
void TileGelu(benchmark::State& state) {
  const int64_t rows = 4096, cols = 3072;
  const auto x = values<float>(rows * cols), bias = values<float>(cols);
  auto y = x;
  TileProgram program({rows, cols});
  const int in = program.input(DType::f32, {cols, 1}, 0),
            add = program.input(DType::f32, {0, 1}, 1);
  const int sum = program.apply(TileOp::add, DType::f32, {{in, add}});
  program.output(
      program.apply(state.range(0) ? TileOp::gelu_tanh : TileOp::copy, DType::f32, {{sum}}));
  program.finish();
  const void* inputs[] = {x.data(), bias.data()};
  void* outputs[] = {y.data()};
  measure(state, 0, 8.0 * rows * cols, [&] { program.run(inputs, outputs); });
}
BENCHMARK(TileGelu)->Arg(0)->Arg(1)->UseManualTime();

void Transpose(benchmark::State& state) {
  const int64_t rows = 3072, cols = 4096;
  const auto x = values<float>(rows * cols);
  auto y = x;
  const int64_t dims[] = {cols, rows}, strides[] = {1, cols};
  measure(state, 0, 8.0 * rows * cols, [&] { strided_copy(4, dims, strides, x.data(), y.data()); });
}
BENCHMARK(Transpose)->UseManualTime();

void ReduceRows(benchmark::State& state) {  // the gradient of a bias
  const auto x = values<float>(4096 * 3072);
  std::vector<float> y(3072);
  const ReduceShape shape{1, 4096, 3072};
  std::vector<char> workspace(static_cast<size_t>(reduce_workspace(shape, 4)));
  measure(state, 0, 4.0 * static_cast<double>(x.size()),
          [&] { reduce(ReduceKind::sum, shape, x.data(), y.data(), workspace.data()); });
}
BENCHMARK(ReduceRows)->UseManualTime();

}  // namespace
}  // namespace tessera::cpu

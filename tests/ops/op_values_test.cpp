// Values of ops against known answers, and against the same thing written with other ops.
#include <gtest/gtest.h>

#include <numeric>

#include "core/autodiff/autodiff.h"
#include "core/ir/interpreter.h"
#include "core/ops/attention.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/fusion.h"
#include "core/ops/loss.h"
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "core/ops/philox.h"
#include "core/ops/random.h"
#include "core/ops/structure.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::evaluate;
using testing::random_tensor;
using testing::Reals;
using testing::reals;
using testing::tensor;


// ---- Philox -------------------------------------------------------------------------------------

// The known-answer vectors of the authors' Random123 distribution (tests/kat_vectors).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(
      philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, MomentsAreThoseOfTheDistributions) {
  constexpr int kDraws = 200000;
  double uniform = 0, uniform2 = 0, normal = 0, normal2 = 0, normal4 = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double u = random_uniform(1, 2, i), n = random_normal(1, 3, i);
    ASSERT_TRUE(u >= 0 && u < 1 && std::isfinite(n));
    uniform += u / kDraws;
    uniform2 += u * u / kDraws;
    normal += n / kDraws;
    normal2 += n * n / kDraws;
    normal4 += n * n * n * n / kDraws;
  }
  EXPECT_NEAR(uniform, 0.5, 0.003);
  EXPECT_NEAR(uniform2, 1.0 / 3, 0.003);
  EXPECT_NEAR(normal, 0, 0.01);
  EXPECT_NEAR(normal2, 1, 0.02);
  EXPECT_NEAR(normal4, 3, 0.12);
}

TEST(Philox, SeedSiteAndIndexAllCount) {
  const uint64_t high = uint64_t{1} << 40;
  const auto bits = random_bits(1, 2, 3);
  for (const auto& other :
       {random_bits(2, 2, 3), random_bits(1, 3, 3), random_bits(1, 2, 4),
        random_bits(1 + high, 2, 3), random_bits(1, 2 + high, 3), random_bits(1, 2, 3 + high)})
    EXPECT_NE(bits, other);
  EXPECT_LT(random_uniform(1, 2, 3, 8), 1.0);
  EXPECT_EQ(random_uniform(1, 2, 3, 8) * 256, std::floor(random_uniform(1, 2, 3) * 256));
}

TEST(RandomUniform, IsAFunctionOfTheGlobalIndex) {
  Graph graph;
  Builder b(graph);
  b.output(ops::random_uniform(b, {DType::f64, {3, 5}}, 11, 4), "r");
  const HostTensor made = interpret(graph, {})[0];
  for (int64_t i = 0; i < made.elements(); ++i)
    EXPECT_EQ(made.get_real(i), random_uniform(11, 4, static_cast<uint64_t>(i)));
}

// ---- Elementwise --------------------------------------------------------------------------------

TEST(Elementwise, IntegersWrapAndDivideAsSpecified) {
  const auto lowest = std::numeric_limits<int32_t>::min();
  const auto x = tensor<int32_t>({5}, {7, -7, 7, lowest, lowest}),
             y = tensor<int32_t>({5}, {2, 2, 0, -1, 1});
  EXPECT_EQ(evaluate(ops::kDivide, {}, {x, y})[0],
            tensor<int32_t>({5}, {3, -3, -1, lowest, lowest}));
  EXPECT_EQ(evaluate(ops::kAbs, {}, {x})[0], tensor<int32_t>({5}, {7, 7, 7, lowest, lowest}));
  EXPECT_EQ(evaluate(ops::kSubtract, {}, {x, y})[0],
            tensor<int32_t>({5}, {5, -9, 7, lowest + 1, std::numeric_limits<int32_t>::max()}));
  EXPECT_EQ(
      evaluate(ops::kPower, {},
               {tensor<int32_t>({4}, {3, -2, -1, 2}), tensor<int32_t>({4}, {4, 3, -3, -1})})[0],
      tensor<int32_t>({4}, {81, -8, -1, 0}));
  const auto big = tensor<uint64_t>({2}, {~uint64_t{0}, 5}), small = tensor<uint64_t>({2}, {1, 6});
  EXPECT_EQ(evaluate(ops::kMaximum, {}, {big, small})[0], tensor<uint64_t>({2}, {~uint64_t{0}, 6}));
  EXPECT_EQ(evaluate(ops::kLogicalNot, {}, {tensor<uint8_t>({2}, {0, 0xf0})})[0],
            tensor<uint8_t>({2}, {0xff, 0x0f}));
}

TEST(Elementwise, NaNIsKept) {
  const double nan = std::nan("");
  const auto x = tensor<double>({3}, {nan, 1, 2}), y = tensor<double>({3}, {1, nan, 3});
  for (const OpDef* op : {&ops::kMaximum, &ops::kMinimum}) {
    const Reals values = reals(evaluate(*op, {}, {x, y})[0]);
    EXPECT_TRUE(std::isnan(values[0]) && std::isnan(values[1])) << op->name;
  }
  EXPECT_EQ(evaluate(ops::kIsFinite, {}, {tensor<double>({3}, {nan, 1, INFINITY})})[0].get_int(1),
            1);
  EXPECT_EQ(evaluate(ops::kIsFinite, {}, {tensor<double>({3}, {nan, 1, INFINITY})})[0].get_int(2),
            0);
  const auto largest = evaluate(
      ops::kReduce, {{Attr::dimensions, Ints{0}}, {Attr::reduce_kind, ReduceKind::max}}, {x});
  EXPECT_TRUE(std::isnan(largest[0].get_real(0)));
}

TEST(Elementwise, ComplexArithmetic) {
  using C = std::complex<float>;
  const auto x = tensor<C>({1}, {C(1, 2)}), y = tensor<C>({1}, {C(3, -1)});
  EXPECT_EQ(evaluate(ops::kMultiply, {}, {x, y})[0], tensor<C>({1}, {C(5, 5)}));
  EXPECT_EQ(evaluate(ops::kAbs, {}, {tensor<C>({1}, {C(3, 4)})})[0], tensor<float>({1}, {5}));
}

TEST(Structure, ReduceStartsFromTheIdentity) {
  for (DType dtype :
       {DType::f32, DType::bf16, DType::f8e4m3fn, DType::s8, DType::u16, DType::s32}) {
    const HostTensor x =
        HostTensor::filled({dtype, {2, 2}}, is_signed_integer(dtype) || is_float(dtype) ? -3 : 3);
    for (ReduceKind kind : {ReduceKind::max, ReduceKind::min})
      EXPECT_EQ(
          evaluate(ops::kReduce, {{Attr::dimensions, Ints{1}}, {Attr::reduce_kind, kind}}, {x})[0]
              .get_int(0),
          x.get_int(0))
          << dtype << " " << kind;
  }
}

// ---- Composites against their expansion ---------------------------------------------------------

// Attention written with dot_general, a mask and a softmax; every query head reads its own key
// head. `seen` and `bias` (if valid) are [b,h,q,k].
struct ExpandedAttention {
  Value out, log_sums;
};
ExpandedAttention expand_attention(Builder& b, Value q, Value k, Value v, double scale, Value seen,
                                   Value bias = {}) {
  const Shape shape = b.shape(q), keys = b.shape(k);
  const Shape repeated{keys[0], keys[1], keys[2], shape[2] / keys[2], keys[3]};
  const Shape flat{keys[0], keys[1], shape[2], keys[3]};
  auto repeat = [&](Value x) {
    return ops::reshape(b, ops::broadcast_in_dim(b, x, repeated, {0, 1, 2, 4}), flat);
  };
  Value scores = ops::scale(b, ops::dot_general(b, q, repeat(k), {{3}, {3}, {0, 2}, {0, 2}}), scale);
  if (bias.valid()) scores = ops::add(b, scores, bias);
  const Value masked = ops::select(b, seen, scores, ops::constant_like(b, scores, -INFINITY));
  const Value weights = ops::exponential(b, masked);
  const Value sums = ops::reduce(b, weights, {3});
  const Value probabilities =
      ops::divide(b, weights, ops::broadcast_in_dim(b, sums, b.shape(weights), {0, 1, 2}));
  const Value out =
      ops::dot_general(b, probabilities, repeat(v), {{3}, {1}, {0, 1}, {0, 2}});  // [b,h,q,d]
  return {ops::transpose(b, out, {0, 2, 1, 3}), ops::log(b, sums)};
}

// Both forms' results and gradients with respect to `in`, on random inputs.
void expect_equal_attention(Graph& graph, Builder& b, const std::vector<Value>& in,
                            const ops::AttentionResult& composite,
                            const ExpandedAttention& expanded) {
  b.output(composite.out, "out");
  b.output(expanded.out, "expanded");
  b.output(composite.lse, "lse");
  b.output(expanded.log_sums, "log_sums");
  for (Value y : {composite.out, expanded.out}) {
    const Value loss = ops::reduce_all(b, ops::multiply(b, y, ops::sine(b, y)));
    for (Value d : gradients(b, loss, in)) b.output(d, "d");
  }
  std::mt19937_64 rng(3);
  std::vector<HostTensor> inputs;
  for (Value x : in) inputs.push_back(random_tensor(b.type(x), -1, 1, rng));
  const auto results = interpret(graph, inputs);
  EXPECT_LT(max_relative_error(results[0], results[1], 1e-3), 1e-12);
  EXPECT_LT(max_relative_error(results[2], results[3], 1e-3), 1e-12);
  for (size_t i = 0; i < in.size(); ++i)
    EXPECT_LT(max_relative_error(results[4 + i], results[4 + in.size() + i], 1e-3), 1e-11)
        << "operand " << i;
}

TEST(Attention, EqualsItsExpansion) {
  const TensorType q{DType::f64, {2, 5, 4, 3}}, k{DType::f64, {2, 5, 2, 3}};
  Graph graph;
  Builder b(graph);
  std::vector<Value> in;
  for (const TensorType& type : {q, k, k})
    in.push_back(b.input(InputKind::data, cat("x", in.size()), type));
  const TensorType pairs{DType::s32, {2, 4, 5, 5}};
  const Value seen =
      ops::compare(b, ops::iota(b, pairs, 2), ops::iota(b, pairs, 3), CompareDirection::ge);
  expect_equal_attention(graph, b, in, ops::attention(b, in[0], in[1], in[2], {true, 0.6}),
                         expand_attention(b, in[0], in[1], in[2], 0.6, seen));
}

// Window, segments, a bias by distance and a start, from masks and indices made by loops.
TEST(Attention, ExtrasEqualTheirExpansion) {
  const int64_t batch = 2, queries = 5, keys = 9, heads = 4, window = 4, origin = 1, start = 3;
  const TensorType q{DType::f64, {batch, queries, heads, 3}}, k{DType::f64, {batch, keys, 2, 3}},
      table{DType::f64, {heads, 4}};
  Graph graph;
  Builder b(graph);
  std::vector<Value> in;
  for (const TensorType& type : {q, k, k, table})
    in.push_back(b.input(InputKind::data, cat("x", in.size()), type));
  HostTensor seen({DType::pred, {batch, heads, queries, keys}}), index({DType::s32, {queries, keys}});
  const auto q_segments = tensor<int32_t>({batch, queries}, {0, 0, 0, 7, 7, 1, 2, 1, 2, 1}),
             k_segments = tensor<int32_t>({batch, keys}, {0, 0, 0, 0, 0, 0, 7, 7, 7,  //
                                                          1, 2, 1, 1, 2, 1, 2, 2, 1});
  for (int64_t i = 0; i < queries; ++i)
    for (int64_t j = 0; j < keys; ++j) {
      index.set_int(i * keys + j, std::clamp<int64_t>(start + i - j + origin, 0, 3));
      for (int64_t s = 0; s < batch; ++s)
        for (int64_t h = 0; h < heads; ++h)
          seen.set_int(((s * heads + h) * queries + i) * keys + j,
                       j <= start + i && j > start + i - window &&
                           q_segments.get_int(s * queries + i) == k_segments.get_int(s * keys + j));
    }
  const Value rows = ops::embedding(b, ops::transpose(b, in[3], {1, 0}), ops::constant(b, index));
  const Value bias = ops::broadcast_in_dim(b, ops::transpose(b, rows, {2, 0, 1}), seen.shape(), {1, 2, 3});
  const auto composite = ops::attention(
      b, in[0], in[1], in[2], {.causal = true, .scale = 0.6, .window = window, .bias_origin = origin},
      {.distance_bias = in[3], .q_segments = ops::constant(b, q_segments),
       .k_segments = ops::constant(b, k_segments), .start = ops::constant(b, tensor<int64_t>({}, {start}))});
  expect_equal_attention(graph, b, in, composite,
                         expand_attention(b, in[0], in[1], in[2], 0.6, ops::constant(b, seen), bias));
}

TEST(Attention, AQueryThatSeesNoKeyGivesZero) {
  std::mt19937_64 rng(6);
  const auto q = random_tensor({DType::f64, {1, 2, 1, 2}}, -1, 1, rng);
  const auto result = evaluate(ops::kAttention, {{Attr::causal, true}, {Attr::scale, 1.0}},
                               {q, q, q, tensor<int32_t>({1, 2}, {1, 2}), tensor<int32_t>({1, 2}, {1, 1})});
  EXPECT_EQ(result[0].get_real(2), 0);
  EXPECT_EQ(result[0].get_real(3), 0);
  EXPECT_EQ(result[1].get_real(1), -INFINITY);
  EXPECT_NE(result[0].get_real(0), 0);
}

TEST(Attention, FlopsCountTheWindowAlone) {
  const TensorType x{DType::f32, {1, 1024, 2, 8}};
  const auto flops = [&](const Attributes& attributes) {
    const std::vector<TensorType> operands{x, x, x};
    return flop_count(ops::kAttention, {operands, attributes}, infer_types(ops::kAttention, {operands, attributes}));
  };
  const double all = flops({{Attr::causal, false}, {Attr::scale, 1.0}});
  EXPECT_EQ(flops({{Attr::causal, true}, {Attr::scale, 1.0}}), all / 2);
  EXPECT_EQ(flops({{Attr::causal, true}, {Attr::scale, 1.0}, {Attr::window, int64_t{256}}}),
            all * (0.25 - 0.03125));
  EXPECT_EQ(flops({{Attr::causal, true}, {Attr::scale, 1.0}, {Attr::window, int64_t{5000}}}), all / 2);
}

TEST(Attention, QueriesThatStartLaterSeeMoreKeys) {
  std::mt19937_64 rng(4);
  const auto q = random_tensor({DType::f64, {1, 6, 2, 2}}, -1, 1, rng),
             k = random_tensor(q.type(), -1, 1, rng), v = random_tensor(q.type(), -1, 1, rng);
  const Attributes attributes{{Attr::causal, true}, {Attr::scale, 1.0}};
  const HostTensor whole = evaluate(ops::kAttention, attributes, {q, k, v})[0];
  const std::vector<int64_t> at{0, 5, 0, 0};
  const HostTensor last = evaluate(ops::kAttention, attributes,
                                   {q.slice(at, {1, 1, 2, 2}), k, v, tensor<int64_t>({}, {5})})[0];
  EXPECT_EQ(last, whole.slice(at, {1, 1, 2, 2}));
}

TEST(Rotary, TurnsPairsByTheirAngle) {
  const auto x = tensor<double>({1, 2, 1, 4}, {1, 2, 3, 4, 1, 2, 3, 4});
  const Reals y = reals(evaluate(ops::kRotary, {{Attr::theta, 100.0}}, {x})[0]);
  EXPECT_EQ(Reals(y.begin(), y.begin() + 4), (Reals{1, 2, 3, 4}));  // position 0
  EXPECT_NEAR(y[4], 1 * std::cos(1.0) - 3 * std::sin(1.0), 1e-15);  // pair (0, 2) by 1
  EXPECT_NEAR(y[6], 3 * std::cos(1.0) + 1 * std::sin(1.0), 1e-15);
  EXPECT_NEAR(y[5], 2 * std::cos(0.1) - 4 * std::sin(0.1), 1e-15);  // pair (1, 3) by 100^(-1/2)
  const HostTensor there = evaluate(ops::kRotary, {{Attr::theta, 100.0}}, {x})[0];
  const HostTensor back =
      evaluate(ops::kRotary, {{Attr::theta, 100.0}, {Attr::inverse, true}}, {there})[0];
  EXPECT_LT(max_relative_error(back, x), 1e-14);
}

TEST(Norms, HaveTheMomentsTheyPromise) {
  std::mt19937_64 rng(5);
  const auto x = random_tensor({DType::f64, {3, 8}}, -2, 5, rng);
  const auto one = HostTensor::filled({DType::f64, {8}}, 1), zero = HostTensor({DType::f64, {8}});
  const Reals layer = reals(evaluate(ops::kLayerNorm, {{Attr::epsilon, 0.0}}, {x, one, zero})[0]);
  const Reals rms = reals(evaluate(ops::kRmsNorm, {{Attr::epsilon, 0.0}}, {x, one})[0]);
  for (int row = 0; row < 3; ++row) {
    double mean = 0, square = 0, rms_square = 0;
    for (int i = 0; i < 8; ++i) {
      mean += layer[row * 8 + i] / 8;
      square += layer[row * 8 + i] * layer[row * 8 + i] / 8;
      rms_square += rms[row * 8 + i] * rms[row * 8 + i] / 8;
    }
    EXPECT_NEAR(mean, 0, 1e-14);
    EXPECT_NEAR(square, 1, 1e-13);
    EXPECT_NEAR(rms_square, 1, 1e-13);
  }
}

TEST(Loss, PaddingColumnsTakeNoPart) {
  auto logits = tensor<double>({1, 4}, {1, 2, std::nan(""), 1e300});
  const Attributes attributes{{Attr::valid_size, int64_t{2}}};
  const HostTensor max = evaluate(ops::kLogitsMax, attributes, {logits})[0];
  EXPECT_EQ(max.get_real(0), 2);
  const auto targets = tensor<int32_t>({1}, {0});
  const auto sums = evaluate(ops::kLogitsSum, attributes, {logits, max, targets});
  EXPECT_NEAR(sums[0].get_real(0), std::exp(-1) + 1, 1e-15);
  EXPECT_EQ(sums[1].get_real(0), 1);
  const auto one = tensor<double>({1}, {1}), minus_one = tensor<double>({1}, {-1});
  EXPECT_EQ(
      reals(evaluate(ops::kLogitsSumGrad, attributes, {logits, max, targets, one, minus_one})[0]),
      (Reals{std::exp(-1) - 1, 1, 0, 0}));
  // A shard that lies wholly in the padding adds nothing.
  const auto start = tensor<int64_t>({}, {4});
  EXPECT_EQ(evaluate(ops::kLogitsMax, attributes, {logits, start})[0].get_real(0), -INFINITY);
  EXPECT_EQ(evaluate(ops::kLogitsSum, attributes, {logits, max, targets, start})[0].get_real(0), 0);
}

TEST(Embedding, IdsOutsideTheTableGiveZeros) {
  const auto table = tensor<double>({2, 2}, {1, 2, 3, 4});
  const auto ids = tensor<int32_t>({4}, {-1, 0, 1, 2});
  EXPECT_EQ(reals(evaluate(ops::kEmbedding, {}, {table, ids})[0]), (Reals{0, 0, 1, 2, 3, 4, 0, 0}));
  const auto dy = tensor<double>({4, 2}, {9, 9, 1, 2, 3, 4, 9, 9});
  EXPECT_EQ(reals(evaluate(ops::kEmbeddingGrad, {{Attr::vocab_dim, int64_t{2}}}, {ids, dy})[0]),
            (Reals{1, 2, 3, 4}));
}

TEST(AdamW, FirstStepMovesByTheLearningRate) {
  auto scalar = [](double v) { return tensor<double>({}, {v}); };
  const auto zero = tensor<double>({2}, {0, 0});
  const auto made = evaluate(
      ops::kAdamW,
      {{Attr::beta1, 0.9}, {Attr::beta2, 0.99}, {Attr::epsilon, 0.0}, {Attr::weight_decay, 0.5}},
      {tensor<double>({2}, {1, 2}), zero, zero, tensor<double>({2}, {4, -8}), scalar(0.1),
       scalar(0.5), scalar(0.1), scalar(0.01)});
  // The bias-corrected step is the gradient's sign: p - 0.1 (sign(g) + 0.5 p).
  EXPECT_NEAR(made[0].get_real(0), 1 - 0.1 * (1 + 0.5), 1e-14);
  EXPECT_NEAR(made[0].get_real(1), 2 - 0.1 * (-1 + 1), 1e-14);
  EXPECT_NEAR(made[1].get_real(0), 0.1 * 2, 1e-15);
  EXPECT_NEAR(made[2].get_real(1), 0.01 * 16, 1e-15);
}

TEST(DotGeneral, GradientsNeedNoTransposeForTheUsualLayouts) {
  for (const ops::DotDims& dims :
       {ops::DotDims{{2}, {0}}, ops::DotDims{{2}, {1}}}) {  // x [b,l,k] with w [k,n] or [n,k]
    Graph graph;
    Builder b(graph);
    const Value x = b.input(InputKind::data, "x", {DType::f64, {2, 4, 6}}),
                w = b.input(InputKind::parameter, "w", {DType::f64, {6, 6}});
    const Value loss = ops::reduce_all(b, ops::dot_general(b, x, w, dims));
    gradients(b, loss, std::vector<Value>{x, w});
    for (const Instruction& instruction : graph.instructions)
      EXPECT_FALSE(instruction.is(ops::kTranspose));
  }
}

// f32 weights narrowed to bf16: their gradients come out of the products and sums in f32.
TEST(DotGeneral, NarrowedWeightsGetTheirGradientFromTheAccumulator) {
  Graph graph;
  Builder b(graph);
  const Value kept = b.input(InputKind::parameter, "w", {DType::f32, {4, 4}});
  const Value ids = b.input(InputKind::data, "ids", {DType::s32, {3}});
  const Value w = ops::convert(b, kept, DType::bf16);
  const Value x = ops::embedding(b, w, ids);  // tied: both uses add up
  const Value y =
      ops::add(b, ops::matmul(b, x, w), ops::matmul(b, x, ops::transpose(b, w, {1, 0})));
  const Value loss = ops::convert(b, ops::reduce_all(b, y), DType::f32);
  const Value gradient = gradients(b, loss, std::vector<Value>{kept})[0];
  EXPECT_EQ(b.dtype(gradient), DType::f32);
  int wide_products = 0;
  for (const Instruction& instruction : graph.instructions) {
    wide_products +=
        instruction.is(ops::kDotGeneral) && instruction.results[0].type.dtype == DType::f32;
    if (instruction.is(ops::kEmbeddingGrad)) {
      EXPECT_EQ(instruction.results[0].type.dtype, DType::f32);
    }
  }
  EXPECT_EQ(wide_products,
            1);  // dw of the direct product; the one through the transpose stays narrow
}

TEST(Fusion, BodyComputesAsItsInstructions) {
  const OpSample sample = ops::kFusion.samples()[0];
  std::mt19937_64 rng(6);
  const auto x = random_tensor(sample.operands[0], -1, 1, rng),
             bias = random_tensor(sample.operands[1], -1, 1, rng);
  const auto results = evaluate(ops::kFusion, sample.attributes, {x, bias});
  for (int64_t i = 0; i < x.elements(); ++i) {
    const double expected = std::tanh(x.get_real(i) + bias.get_real(i % 6)) * 2;
    EXPECT_DOUBLE_EQ(results[0].get_real(i), expected);
    EXPECT_EQ(results[1].get_real(i), expected > 0 ? 1 : 0);
  }
}

}  // namespace
}  // namespace tessera

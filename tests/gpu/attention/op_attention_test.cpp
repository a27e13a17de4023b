// Attention, its gradient and rotary on the device against their evaluation in f64 on the same operands. bf16
// results are within 1e-2 of the whole tensor's norm and no element is off by more than 1/64 of the largest;
// f32 within 5e-6 and 2e-5.
#include "core/ops/attention.h"

#include <cmath>
#include <random>

#include "core/base/strings.h"
#include "kernels/cuda/plugin/open.h"
#include "tests/gpu/device_testing.h"
#include "tests/support/tensor_types.h"

namespace tessera {
namespace {

HostTensor normal_tensor(const TensorType& type, unsigned seed, double deviation = 1.0) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0.0, deviation);
  HostTensor tensor(type);
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_real(i, normal(generator));
  return tensor;
}

KernelTable::Choice choice_for(const OpDef& op, const Attributes& attributes,
                               const std::vector<TensorType>& operands) {
  const OpCall call{operands, attributes};
  return cuda::open_plugin().kernels().choose(op, call, infer_types(op, call));
}

// The op's own evaluation, in f64 on the very operands that the device has.
std::vector<HostTensor> evaluate_in_f64(const OpDef& op, const Attributes& attributes,
                                        const std::vector<HostTensor>& operands) {
  std::vector<HostTensor> wide, results;
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& operand : operands)
    wide.push_back(is_float(operand.dtype()) ? operand.cast(DType::f64) : operand);
  for (const HostTensor& operand : wide) pointers.push_back(&operand);
  const std::vector<TensorType> types = types_of(wide);
  const OpCall call{types, attributes};
  for (const TensorType& type : infer_types(op, call)) results.emplace_back(type);
  op.eval(call, pointers, results);
  return results;
}

// ||got - want|| <= relative ||want||, and no element is off by more than `each` times the largest of `want`.
// Infinities must be where they are wanted, and NaN is nowhere. Where (nearly) zeros are wanted, elements of 1e-3
// stand for them.
struct Tolerance {
  double relative, each;
};
void expect_near(const HostTensor& got, const HostTensor& want, Tolerance tolerance) {
  ASSERT_EQ(got.shape(), want.shape());
  constexpr double kLeast = 1e-3;
  double error = 0, norm = kLeast * kLeast * static_cast<double>(want.elements()), largest = kLeast, worst = 0;
  for (int64_t i = 0; i < want.elements(); ++i) {
    const double x = got.get_real(i), y = want.get_real(i);
    if (std::isinf(y)) {
      ASSERT_EQ(x, y) << "element " << i;
      continue;
    }
    ASSERT_TRUE(std::isfinite(x)) << "element " << i << " is " << x << ", not " << y;
    error += (x - y) * (x - y);
    norm += y * y;
    largest = std::max(largest, std::abs(y));
    worst = std::max(worst, std::abs(x - y));
  }
  EXPECT_LE(std::sqrt(error), tolerance.relative * std::sqrt(norm));
  EXPECT_LE(worst, tolerance.each * largest);
}

// Numbers of the segments of the position p. Documents of 23 positions, in order and out of it; documents of 150, with
// whole tiles that cannot meet; and queries that belong to no key's segment.
enum class Segments { none, documents, shuffled, long_documents, strangers };
int64_t segment_of(Segments segments, int64_t position, bool is_query) {
  switch (segments) {
    case Segments::none:
    case Segments::documents:
      return position / 23;
    case Segments::shuffled:
      return position / 23 * 7 % 4 - 2;
    case Segments::long_documents:
      return -(position / 150);
    case Segments::strangers:
      return is_query && position % 3 != 0 ? -1 : position / 40;
  }
  return 0;
}

struct AttentionCase {
  DType dtype;
  int64_t batch, queries, keys, heads, kv_heads, head_dim;
  bool causal = true;
  std::optional<int64_t> start = std::nullopt;
  double deviation = 1.0;  // of q: the scores' spread
  int64_t window = 0;
  Segments segments = Segments::none;
  int64_t bias_size = 0, bias_origin = 0;  // a distance_bias of so many columns
};
AttentionCase with_window(AttentionCase c, int64_t window) {
  c.window = window;
  return c;
}
AttentionCase with_segments(AttentionCase c, Segments segments) {
  c.segments = segments;
  return c;
}
AttentionCase with_bias(AttentionCase c, int64_t size, int64_t origin = 0) {
  c.bias_size = size;
  c.bias_origin = origin;
  return c;
}

std::ostream& operator<<(std::ostream& to, const AttentionCase& c) {
  return to << cat(c.dtype, " b", c.batch, " lq", c.queries, " lk", c.keys, " h", c.heads, " kv", c.kv_heads, " d",
                   c.head_dim, c.causal ? " causal" : "", c.start ? cat(" start ", *c.start) : std::string(),
                   c.window > 0 ? cat(" window ", c.window) : std::string(),
                   c.segments != Segments::none ? cat(" segments ", static_cast<int>(c.segments)) : std::string(),
                   c.bias_size > 0 ? cat(" bias ", c.bias_size, " from ", c.bias_origin) : std::string());
}

Tolerance attention_tolerance(DType dtype) { return dtype == DType::bf16 ? Tolerance{1e-2, 1.0 / 64} : Tolerance{5e-6, 2e-5}; }

HostTensor scalar(int64_t value) {
  HostTensor tensor({DType::s64, Shape{}});
  tensor.set_int(0, value);
  return tensor;
}

Attributes attributes_of(const AttentionCase& c) {
  Attributes attributes{{Attr::causal, c.causal}, {Attr::scale, 1.0 / std::sqrt(static_cast<double>(c.head_dim))}};
  if (c.window > 0) attributes.set(Attr::window, c.window);
  if (c.bias_origin != 0) attributes.set(Attr::bias_origin, c.bias_origin);
  return attributes;
}

HostTensor segments_of(const AttentionCase& c, bool is_query) {
  const int64_t length = is_query ? c.queries : c.keys;
  HostTensor tensor({DType::s32, {c.batch, length}});
  // Sequences differ.
  for (int64_t i = 0; i < tensor.elements(); ++i)
    tensor.set_int(i, segment_of(c.segments, i % length + 5 * (i / length) + (is_query ? c.start.value_or(0) : 0),
                                 is_query));
  return tensor;
}

// The operands behind those that are always there.
std::vector<HostTensor> extras_of(const AttentionCase& c) {
  std::vector<HostTensor> extras;
  if (c.bias_size > 0) extras.push_back(normal_tensor({DType::f32, {c.heads, c.bias_size}}, 5));
  if (c.segments != Segments::none) {
    extras.push_back(segments_of(c, true));
    extras.push_back(segments_of(c, false));
  }
  if (c.start) extras.push_back(scalar(*c.start));
  return extras;
}
std::vector<HostTensor> operator+(std::vector<HostTensor> a, const std::vector<HostTensor>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<HostTensor> qkv_of(const AttentionCase& c) {
  const TensorType q{c.dtype, {c.batch, c.queries, c.heads, c.head_dim}},
      k{c.dtype, {c.batch, c.keys, c.kv_heads, c.head_dim}};
  return {normal_tensor(q, 1, c.deviation), normal_tensor(k, 2), normal_tensor(k, 3)};
}

// (q, k, v, out, lse, dout), out and lse as the forward pass stores them.
std::vector<HostTensor> grad_operands(const AttentionCase& c) {
  std::vector<HostTensor> operands = qkv_of(c);
  const std::vector<HostTensor> results =
      evaluate_in_f64(ops::kAttention, attributes_of(c), operands + extras_of(c));
  operands.push_back(results[0].cast(c.dtype));
  operands.push_back(results[1].cast(DType::f32));
  operands.push_back(normal_tensor(operands[0].type(), 4));
  return operands;
}

// Runs the kernel as the fixture does, and compares its results here: gradients that cancel to zeros are no larger
// than rounding, so that their own size is no scale.
class AttentionTest : public DeviceTest {
 protected:
  static std::vector<HostTensor> run_and_check(const OpDef& op, const Attributes& attributes,
                                               const std::vector<HostTensor>& operands, const char* kernel) {
    EXPECT_EQ(choice_for(op, attributes, types_of(operands)).kernel->name, kernel);
    const std::vector<HostTensor> got = run(op, attributes, operands), want = evaluate_in_f64(op, attributes, operands);
    for (size_t r = 0; r < want.size(); ++r) {
      SCOPED_TRACE(cat("result ", r));
      // A bias' gradient is in f32, and as exact as scores are.
      expect_near(got[r], want[r], attention_tolerance(r == 3 ? operands[0].dtype() : got[r].dtype()));
    }
    return got;
  }
  static std::vector<HostTensor> run(const OpDef& op, const Attributes& attributes,
                                     const std::vector<HostTensor>& operands) {
    return check_kernel(op, attributes, operands, {.tolerance = INFINITY}).results;
  }
};
class Attention : public AttentionTest, public ::testing::WithParamInterface<AttentionCase> {};
using AttentionEdges = AttentionTest;
using Rotary = AttentionTest;

bool on_tensor_cores(const AttentionCase& c) { return c.dtype == DType::bf16 && c.head_dim <= 128 && c.head_dim % 8 == 0; }

TEST_P(Attention, ForwardIsItsEvaluation) {
  const AttentionCase& c = GetParam();
  run_and_check(ops::kAttention, attributes_of(c), qkv_of(c) + extras_of(c),
                on_tensor_cores(c) ? "cuda.attention" : "cuda.attention_plain");
}

TEST_P(Attention, GradientIsItsEvaluation) {
  AttentionCase c = GetParam();
  c.keys = std::max<int64_t>(c.keys, 2);  // of one key the gradient is zero, and all that is computed is rounding
  Attributes attributes = attributes_of(c);
  if (c.bias_size > 0) attributes.set(Attr::bias_gradient, true);
  run_and_check(ops::kAttentionGrad, attributes, grad_operands(c) + extras_of(c),
                on_tensor_cores(c) ? "cuda.attention_grad" : "cuda.attention_grad_plain");
}

constexpr DType kBf16 = DType::bf16, kF32 = DType::f32;

INSTANTIATE_TEST_SUITE_P(
    Sizes, Attention,
    ::testing::Values(
        // Whole tiles, and lengths on both sides of them.
        AttentionCase{kBf16, 1, 128, 64, 1, 1, 64}, AttentionCase{kBf16, 1, 64, 64, 1, 1, 128, false},
        AttentionCase{kBf16, 1, 129, 65, 1, 1, 64, false}, AttentionCase{kBf16, 2, 31, 31, 2, 2, 64}, AttentionCase{kBf16, 1, 70, 97, 1, 1, 128},
        AttentionCase{kBf16, 1, 33, 1, 1, 1, 128, false}, AttentionCase{kBf16, 1, 1, 1, 1, 1, 64},
        // Head sizes between tiles' widths: columns beyond them are zeros.
        AttentionCase{kBf16, 1, 40, 50, 2, 1, 80}, AttentionCase{kBf16, 1, 50, 40, 1, 1, 96, false}, AttentionCase{kBf16, 1, 20, 33, 2, 1, 40},
        AttentionCase{kBf16, 1, 20, 20, 1, 1, 112}, AttentionCase{kBf16, 1, 20, 20, 1, 1, 8}, AttentionCase{kBf16, 1, 20, 20, 1, 1, 32},
        // Grouped heads.
        AttentionCase{kBf16, 1, 17, 17, 4, 1, 64}, AttentionCase{kBf16, 1, 17, 17, 8, 1, 64}, AttentionCase{kBf16, 1, 35, 35, 4, 2, 128},
        // One query behind a cache of keys; a block of them; queries before the first key, which see none.
        AttentionCase{kBf16, 1, 1, 70, 8, 1, 128, true, 69}, AttentionCase{kBf16, 1, 37, 100, 2, 1, 64, true, 50},
        AttentionCase{kBf16, 1, 40, 50, 1, 1, 64, true, -7}, AttentionCase{kBf16, 1, 5, 9, 1, 1, 128, true, -5},
        AttentionCase{kBf16, 1, 5, 9, 1, 1, 64, true, int64_t{1} << 40},
        AttentionCase{kBf16, 1, 5, 9, 1, 1, 64, true, -(int64_t{1} << 40)},
        // Scores far apart: the softmax's reference moves in some tiles, and stays in others.
        AttentionCase{kBf16, 1, 20, 130, 1, 1, 64, false, std::nullopt, 20.0},
        AttentionCase{kBf16, 1, 20, 130, 1, 1, 64, false, std::nullopt, 4.0}));

INSTANTIATE_TEST_SUITE_P(
    Plain, Attention,
    ::testing::Values(AttentionCase{kF32, 1, 64, 64, 1, 1, 64}, AttentionCase{kF32, 2, 37, 70, 4, 2, 64, true, 20},
                      AttentionCase{kF32, 1, 65, 33, 2, 1, 80, false}, AttentionCase{kF32, 1, 40, 50, 1, 1, 128, true, -7},
                      AttentionCase{kF32, 1, 20, 17, 2, 1, 200}, AttentionCase{kF32, 1, 17, 33, 2, 1, 7},
                      AttentionCase{kF32, 1, 1, 40, 4, 1, 256, false},
                      AttentionCase{kF32, 1, 1, 1, 1, 1, 1},
                      AttentionCase{kBf16, 1, 20, 33, 2, 1, 7}, AttentionCase{kBf16, 1, 20, 33, 1, 1, 256}));

// Tiles are 128 queries by 64 keys forward, 128 and 64 by 32 backward on matrix units, and 64, 32 or 16 square without.
INSTANTIATE_TEST_SUITE_P(
    Windows, Attention,
    ::testing::Values(
        with_window({kBf16, 1, 200, 200, 1, 1, 64}, 40), with_window({kBf16, 1, 150, 150, 2, 1, 32}, 100),
        with_window({kBf16, 1, 70, 70, 1, 1, 128}, 2), with_window({kBf16, 1, 40, 40, 1, 1, 64}, 1000),
        // Queries behind a cache of keys, the last of them beyond what their window reaches; before the first key.
        with_window({kBf16, 1, 60, 190, 2, 1, 64, true, 120}, 33),
        with_window({kBf16, 1, 90, 50, 1, 1, 80, true, 20}, 30),
        with_window({kBf16, 1, 40, 50, 1, 1, 64, true, -7}, 5),
        with_window({kBf16, 1, 5, 9, 1, 1, 64, true, int64_t{1} << 40}, 5),
        with_window({kF32, 1, 150, 150, 2, 1, 16}, 20), with_window({kF32, 1, 60, 90, 1, 1, 100, true, 45}, 50),
        with_window({kF32, 1, 40, 40, 1, 1, 256}, 7), with_window({kBf16, 1, 60, 30, 1, 1, 7, true, 10}, 9)));

INSTANTIATE_TEST_SUITE_P(
    Segments, Attention,
    ::testing::Values(with_segments({kBf16, 2, 70, 70, 1, 1, 64}, Segments::documents),
                      with_segments({kBf16, 1, 100, 90, 2, 1, 32, false}, Segments::shuffled),
                      with_segments({kBf16, 1, 150, 150, 1, 1, 128}, Segments::shuffled),
                      with_segments({kBf16, 2, 310, 310, 2, 1, 32}, Segments::long_documents),
                      with_segments({kBf16, 1, 40, 330, 1, 1, 64, true, 290}, Segments::long_documents),
                      with_segments({kBf16, 1, 90, 100, 4, 2, 32, false}, Segments::strangers),
                      with_segments({kF32, 2, 70, 70, 2, 1, 24}, Segments::documents),
                      with_segments({kF32, 1, 60, 90, 1, 1, 100, false}, Segments::shuffled),
                      with_segments({kF32, 1, 310, 310, 1, 1, 8}, Segments::long_documents),
                      with_segments({kF32, 1, 50, 40, 1, 1, 200}, Segments::strangers)));

INSTANTIATE_TEST_SUITE_P(
    Biases, Attention,
    ::testing::Values(
        // One number; a table shorter than the distances; one that holds them all; one that is wider.
        with_bias({kBf16, 1, 40, 40, 2, 1, 64}, 1), with_bias({kBf16, 2, 130, 130, 2, 1, 32}, 17),
        with_bias({kBf16, 1, 90, 70, 2, 2, 128, false}, 159, 69),
        with_bias({kBf16, 1, 33, 50, 1, 1, 80, false}, 300, 150),
        with_bias({kBf16, 1, 70, 150, 2, 1, 64, true, 80}, 100, 3),
        with_bias({kBf16, 1, 40, 50, 1, 1, 64, true, -7}, 30),
        with_bias({kBf16, 1, 20, 30, 1, 1, 64, true, int64_t{1} << 40}, 30),
        with_bias({kBf16, 1, 20, 30, 1, 1, 64, true, -(int64_t{1} << 40)}, 30),
        with_bias({kF32, 2, 70, 70, 2, 1, 24}, 50), with_bias({kF32, 1, 60, 90, 2, 1, 100, false}, 64, 30),
        with_bias({kF32, 1, 40, 40, 1, 1, 256}, 40), with_bias({kBf16, 1, 20, 33, 2, 1, 7}, 12)));

INSTANTIATE_TEST_SUITE_P(
    Together, Attention,
    ::testing::Values(
        with_bias(with_segments(with_window({kBf16, 2, 140, 140, 2, 1, 64}, 50), Segments::documents), 40),
        with_bias(with_segments(with_window({kBf16, 1, 60, 180, 4, 2, 128, true, 110}, 70), Segments::shuffled), 90, 5),
        with_bias(with_segments({kBf16, 1, 70, 90, 2, 2, 32, false}, Segments::strangers), 100, 60),
        with_window(with_segments({kBf16, 1, 310, 310, 1, 1, 32}, Segments::long_documents), 200),
        with_bias(with_segments(with_window({kF32, 2, 90, 90, 2, 1, 40}, 30), Segments::shuffled), 25),
        with_bias(with_segments(with_window({kF32, 1, 40, 80, 2, 1, 128, true, 35}, 30), Segments::documents), 50,
                  -3)));

// What a real GPU has time for.
INSTANTIATE_TEST_SUITE_P(
    Long, Attention,
    ::testing::Values(
        with_bias(with_segments(with_window({kBf16, 2, 1500, 1500, 4, 2, 64}, 700), Segments::long_documents), 400),
        with_window({kBf16, 1, 2100, 2100, 2, 1, 128}, 333),
        with_bias({kBf16, 2, 700, 900, 4, 4, 96, false}, 512, 256),
        with_segments({kBf16, 1, 5000, 5000, 1, 1, 32}, Segments::long_documents),
        with_bias(with_segments(with_window({kF32, 1, 900, 900, 2, 2, 64}, 200), Segments::long_documents), 300)));

// Tiles without a pair that is seen are not even read: NaN in their keys is NaN only where the evaluation has it, which
// for all other tiles is more than kernels promise.
TEST_F(AttentionEdges, TilesThatAreNotSeenAreLeftOut) {
  for (DType dtype : {kBf16, kF32}) {
    const auto check = [](const AttentionCase& c, int64_t first, int64_t end, const std::vector<HostTensor>& extras) {
      std::vector<HostTensor> operands = qkv_of(c);
      for (size_t o : {1, 2})
        for (int64_t i = first * c.head_dim; i < end * c.head_dim; ++i) operands[o].set_real(i, NAN);
      const auto forward = run(ops::kAttention, attributes_of(c), operands + extras);
      operands = operands + forward;
      operands.push_back(normal_tensor(operands[0].type(), 4));
      run(ops::kAttentionGrad, attributes_of(c), operands + extras);
    };
    check(with_window({dtype, 1, 64, 300, 1, 1, 32, true, 236}, 100), 0, 128, {scalar(236)});
    HostTensor segments({DType::s32, {1, 384}});
    AttentionCase apart{dtype, 1, 384, 384, 1, 1, 32};
    for (int64_t i = 0; i < 384; ++i) segments.set_int(i, i < 128 ? 3 : 1 - i / 256);
    check(apart, 0, 128, {segments, segments});
    apart.causal = false;
    check(apart, 128, 256, {segments, segments});
  }
}

TEST_F(AttentionEdges, WithoutKeysABiasHasNoGradient) {
  for (DType dtype : {kBf16, kF32}) {
    const AttentionCase c = with_bias({dtype, 1, 5, 0, 2, 2, 64, false}, 3);
    Attributes attributes = attributes_of(c);
    attributes.set(Attr::bias_gradient, true);
    const auto grads = run(ops::kAttentionGrad, attributes, grad_operands(c) + extras_of(c));
    for (int64_t i = 0; i < grads[3].elements(); ++i) ASSERT_EQ(grads[3].get_real(i), 0.0);
  }
}

TEST_F(AttentionEdges, WithoutKeysOutIsZero) {
  for (DType dtype : {kBf16, kF32}) {
    const AttentionCase c{dtype, 1, 5, 0, 2, 2, 64, false};
    const auto got = run(ops::kAttention, attributes_of(c), qkv_of(c));
    for (int64_t i = 0; i < got[0].elements(); ++i) ASSERT_EQ(got[0].get_real(i), 0.0);
    for (int64_t i = 0; i < got[1].elements(); ++i) ASSERT_EQ(got[1].get_real(i), -INFINITY);
    const auto grads = run(ops::kAttentionGrad, attributes_of(c), grad_operands(c));
    for (int64_t i = 0; i < grads[0].elements(); ++i) ASSERT_EQ(grads[0].get_real(i), 0.0);
  }
}

TEST_F(AttentionEdges, WithoutQueriesGradientsOfKeysAreZero) {
  for (DType dtype : {kBf16, kF32}) {
    const AttentionCase c{dtype, 1, 0, 5, 2, 2, 64};
    run(ops::kAttention, attributes_of(c), qkv_of(c));
    const auto grads = run(ops::kAttentionGrad, attributes_of(c), grad_operands(c));
    for (int r : {1, 2})
      for (int64_t i = 0; i < grads[r].elements(); ++i) ASSERT_EQ(grads[r].get_real(i), 0.0);
  }
}

TEST_F(AttentionEdges, NanStaysInItsRow) {
  const AttentionCase c{kBf16, 1, 20, 20, 1, 1, 64, false};
  std::vector<HostTensor> operands = qkv_of(c);
  operands[0].set_real(3 * 64, NAN);
  const auto got = run(ops::kAttention, attributes_of(c), operands);
  for (int64_t i = 0; i < got[0].elements(); ++i) ASSERT_EQ(std::isnan(got[0].get_real(i)), i / 64 == 3) << i;
  for (int64_t i = 0; i < got[1].elements(); ++i) ASSERT_EQ(std::isnan(got[1].get_real(i)), i == 3) << i;
}

TEST_F(AttentionEdges, WhatNoKernelTakesIsRefusedWithTheReason) {
  const auto refusals = [](const AttentionCase& c, double scale) {
    const auto choice = choice_for(ops::kAttention, {{Attr::causal, true}, {Attr::scale, scale}}, types_of(qkv_of(c)));
    return choice.kernel->is_reference ? join(choice.refusals, "; ") : "taken by " + choice.kernel->name;
  };
  EXPECT_NE(refusals({kBf16, 1, 4, 4, 1, 1, 264}, 1.0).find("head_dim 264 is not from 1 to 256"), std::string::npos);
  EXPECT_NE(refusals({DType::f64, 1, 4, 4, 1, 1, 64}, 1.0).find("not f64"), std::string::npos);
  EXPECT_NE(refusals({kF32, 1, 4, 4, 1, 1, 64}, -1.0).find("is not positive"), std::string::npos);
  const auto with = [](Attr attribute, int64_t value, AttentionCase c) {
    Attributes attributes = attributes_of(c);
    attributes.set(attribute, value);
    return join(choice_for(ops::kAttention, attributes, types_of(qkv_of(c) + extras_of(c))).refusals, "; ");
  };
  const AttentionCase small{kF32, 1, 4, 4, 1, 1, 64};
  EXPECT_NE(with(Attr::window, int64_t{1} << 28, small).find("window 268435456 is not below 2^28"), std::string::npos);
  EXPECT_NE(with(Attr::bias_origin, int64_t{1} << 40, with_bias(small, 2)).find("not within 2^40"), std::string::npos);
}

// ---- Rotary -------------------------------------------------------------------------------------

TEST_F(Rotary, IsItsEvaluation) {
  struct Turn {
    TensorType x;
    std::optional<int64_t> start;
    bool inverse;
  };
  const Turn turns[] = {{{kF32, {2, 7, 3, 64}}, std::nullopt, false}, {{kBf16, {3, 5, 2, 128}}, std::nullopt, true},
                        {{kBf16, {1, 9, 12, 80}}, 100, false},        {{kF32, {1, 3, 1, 6}}, std::nullopt, true},
                        {{kBf16, {2, 3, 3, 10}}, 5, false},           {{kF32, {1, 4, 2, 128}}, 1'000'000, false},
                        {{kBf16, {1, 1, 1, 512}}, 3, false},          {{kF32, {0, 4, 2, 8}}, std::nullopt, false}};
  for (const Turn& turn : turns) {
    SCOPED_TRACE(cat(turn.x, turn.inverse ? " inverse" : ""));
    Attributes attributes{{Attr::theta, 10000.0}};
    if (turn.inverse) attributes.set(Attr::inverse, true);
    std::vector<HostTensor> operands{normal_tensor(turn.x, 5)};
    if (turn.start) operands.push_back(scalar(*turn.start));
    run_and_check(ops::kRotary, attributes, operands, "cuda.rotary");
  }
}

TEST_F(Rotary, TooWideIsRefused) {
  const auto choice = choice_for(ops::kRotary, {{Attr::theta, 1e4}}, {{kF32, {1, 1, 1, 514}}});
  EXPECT_TRUE(choice.kernel->is_reference);
  EXPECT_NE(join(choice.refusals).find("head_dim 514 is above 512"), std::string::npos);
}

}  // namespace
}  // namespace tessera

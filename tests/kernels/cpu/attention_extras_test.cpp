// Windows, segments and biases by distance in the attention kernels, against the op's reference.
#include "core/ops/attention.h"
#include "tests/kernels/cpu/check_call.h"

namespace tessera {
namespace {

enum class Segments { none, packed, any };

struct Case {
  int64_t batch, queries, keys, heads, kv_heads, width;
  bool causal;
  int64_t window = 0;
  int64_t distances = 0, origin = 0;
  Segments segments = Segments::none;
  int64_t start = 0;
};

// Documents of 29, 50, 71, ... tokens one after another, or any of three numbers per token.
HostTensor segments_of(const Case& c, int64_t length, int64_t first, unsigned seed) {
  HostTensor segments({DType::s32, {c.batch, length}});
  std::mt19937 random(seed);
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t i = 0; i < length; ++i) {
      int64_t document = 0;
      for (int64_t end = 29 + b; end <= first + i; end += 29 + 21 * (document + 1)) ++document;
      const int64_t any = static_cast<int64_t>(random() % 3) - 1;
      segments.set_int(b * length + i, c.segments == Segments::packed ? document : any * 2000000011);
    }
  }
  return segments;
}

// Scores lie around 0, so that this lse makes probabilities of about 1 / keys.
std::pair<double, double> lse_range(const Case& c) {
  const double middle = std::log(static_cast<double>(std::max<int64_t>(1, c.keys)));
  return {middle - 0.2, middle + 0.2};
}

void check(const OpDef& op, const Case& c, DType dtype, bool bias_gradient = false) {
  SCOPED_TRACE(testing::Message() << "window " << c.window << " distances " << c.distances
                                  << " segments " << static_cast<int>(c.segments));
  const bool is_grad = &op == &ops::kAttentionGrad;
  const TensorType q{dtype, {c.batch, c.queries, c.heads, c.width}},
      k{dtype, {c.batch, c.keys, c.kv_heads, c.width}};
  const DType statistics = dtype == DType::f64 ? DType::f64 : DType::f32;
  OpSample sample;
  std::vector<HostTensor> operands;
  const auto add = [&](HostTensor tensor) {
    sample.operands.push_back(tensor.type());
    operands.push_back(std::move(tensor));
  };
  const auto add_random = [&](const TensorType& type, std::pair<double, double> range = {-1, 1}) {
    add(random_operand_tensor(type, static_cast<unsigned>(operands.size() + 1), range));
  };
  for (const TensorType& type : {q, k, k}) add_random(type);
  if (is_grad) {
    add_random(q);
    add_random({statistics, {c.batch, c.heads, c.queries}}, lse_range(c));
    add_random(q);
  }
  if (c.distances > 0) add_random({statistics, {c.heads, c.distances}});
  if (c.segments != Segments::none) {
    add(segments_of(c, c.queries, c.start, 1));
    add(segments_of(c, c.keys, 0, 2));
  }
  if (c.start != 0) {
    HostTensor start({DType::s64, {}});
    start.set_int(0, c.start);
    add(std::move(start));
  }
  sample.attributes = {{Attr::causal, c.causal}, {Attr::scale, 0.4}};
  if (c.window > 0) sample.attributes.set(Attr::window, c.window);
  if (c.origin > 0) sample.attributes.set(Attr::bias_origin, c.origin);
  if (bias_gradient) sample.attributes.set(Attr::bias_gradient, true);
  EXPECT_TRUE(check_call(op, sample, operands).accepted);
}

void check_everywhere(const Case& c) {
  for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    check(ops::kAttention, c, dtype);
    check(ops::kAttentionGrad, c, dtype);
    if (c.distances > 0) check(ops::kAttentionGrad, c, dtype, /*bias_gradient=*/true);
  }
}

TEST(AttentionExtras, Windows) {
  for (int64_t window : {1, 2, 63, 64, 65, 100, 131, 500})
    check_everywhere({.batch = 1, .queries = 131, .keys = 131, .heads = 2, .kv_heads = 1, .width = 5,
                      .causal = true, .window = window});
  // A shard of the queries, and one whose last queries are past all keys.
  check_everywhere({.batch = 2, .queries = 20, .keys = 150, .heads = 2, .kv_heads = 2, .width = 16,
                    .causal = true, .window = 70, .start = 97});
  check_everywhere({.batch = 1, .queries = 70, .keys = 64, .heads = 1, .kv_heads = 1, .width = 7,
                    .causal = true, .window = 9, .start = 30});
}

TEST(AttentionExtras, Segments) {
  for (Segments segments : {Segments::packed, Segments::any})
    for (bool causal : {true, false}) {
      check_everywhere({.batch = 2, .queries = 200, .keys = 200, .heads = 2, .kv_heads = 1,
                        .width = 8, .causal = causal, .segments = segments});
      check_everywhere({.batch = 2, .queries = 33, .keys = 150, .heads = 2, .kv_heads = 2,
                        .width = 5, .causal = causal, .segments = segments,
                        .start = causal ? 101 : 0});
    }
}

TEST(AttentionExtras, BiasByDistance) {
  for (int64_t distances : {1, 5, 64, 97, 300})
    check_everywhere({.batch = 2, .queries = 97, .keys = 97, .heads = 4, .kv_heads = 2, .width = 6,
                      .causal = true, .distances = distances});
  check_everywhere({.batch = 2, .queries = 66, .keys = 129, .heads = 2, .kv_heads = 2, .width = 16,
                    .causal = false, .distances = 194, .origin = 128});
  check_everywhere({.batch = 1, .queries = 30, .keys = 129, .heads = 2, .kv_heads = 1, .width = 16,
                    .causal = false, .distances = 20, .origin = 10, .start = 60});
}

TEST(AttentionExtras, AllTogether) {
  for (Segments segments : {Segments::packed, Segments::any})
    check_everywhere({.batch = 2, .queries = 90, .keys = 230, .heads = 4, .kv_heads = 2, .width = 9,
                      .causal = true, .window = 77, .distances = 60, .origin = 3,
                      .segments = segments, .start = 131});
}

}  // namespace
}  // namespace tessera

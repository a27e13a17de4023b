#include "tests/gpu/bench/cases.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/ops/accumulate.h"
#include "core/ops/attention.h"
#include "core/ops/contraction.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/fusion.h"
#include "core/ops/loss.h"
#include "core/ops/max_abs.h"
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "core/ops/permute_tokens.h"
#include "core/ops/product_epilogue.h"
#include "core/ops/ragged.h"
#include "core/ops/random.h"
#include "core/ops/routing.h"
#include "core/ops/scaled_product.h"
#include "core/ops/structure.h"

namespace tessera::bench {
namespace {

constexpr DType kHalf = DType::bf16, kFloat = DType::f32;

class CaseList {
 public:
  explicit CaseList(const LayerShape& shape) : s_(shape) {}

  void norms() {
    const int64_t rows = s_.tokens(), d = s_.embed;
    const TensorType x{kHalf, {rows, d}}, weight{kHalf, {d}}, statistic{kFloat, {rows}};
    const Attributes epsilon{{Attr::epsilon, 1e-5}};
    if (s_.is_llama) {
      add("rms_norm", ops::kRmsNorm, epsilon, {x, weight});
      add("rms_norm grad", ops::kRmsNormGrad, {}, {x, weight, statistic, x});
    } else {
      add("layer_norm", ops::kLayerNorm, epsilon, {x, weight, weight});
      add("layer_norm grad", ops::kLayerNormGrad, {}, {x, weight, statistic, statistic, x});
    }
  }

  void attention() {
    const TensorType q{kHalf, {s_.batch, s_.length, s_.heads, s_.head_dim}},
        k{kHalf, {s_.batch, s_.length, s_.kv_heads, s_.head_dim}}, lse{kFloat, {s_.batch, s_.heads, s_.length}};
    const Attributes causal{{Attr::causal, true}, {Attr::scale, 1 / std::sqrt(static_cast<double>(s_.head_dim))}};
    add("attention", ops::kAttention, causal, {q, k, k});
    add("attention grad", ops::kAttentionGrad, causal, {q, k, k, q, lse, q});
    if (s_.is_llama) add("rotary", ops::kRotary, {{Attr::theta, 500000.0}}, {q});

    Attributes window = causal;
    window.set(Attr::window, s_.length / 4);
    add("attention window", ops::kAttention, window, {q, k, k});
    add("attention window grad", ops::kAttentionGrad, window, {q, k, k, q, lse, q});
    // A bias that is learned, and segments of one document each: what looking for more costs.
    const TensorType bias{kFloat, {s_.heads, s_.length}}, segments{DType::s32, {s_.batch, s_.length}};
    Attributes learned = causal;
    learned.set(Attr::bias_gradient, true);
    add("attention bias", ops::kAttention, causal, {q, k, k, bias});
    add("attention bias grad", ops::kAttentionGrad, learned, {q, k, k, q, lse, q, bias});
    const std::pair<double, double> any{-1, 1}, same{0, 0};
    add("attention segments", ops::kAttention, causal, {q, k, k, segments, segments}, {any, any, any, same, same});
  }

  // y = x w, dx = dy w^T and dw += x^T dy, as gradients of microbatches are added up.
  void product(const std::string& name, int64_t in, int64_t out) {
    const TensorType x{kHalf, {s_.tokens(), in}}, w{kHalf, {in, out}}, y{kHalf, {s_.tokens(), out}};
    add("product " + name, ops::kDotGeneral, contract(1, 0), {x, w});
    add("product " + name + " dx", ops::kDotGeneral, contract(1, 1), {y, w});
    Attributes wide = contract(0, 0);
    wide.set(Attr::dtype, kFloat);
    add("product " + name + " dw", ops::kDotGeneralAdd, wide, {{kFloat, {in, out}}, x, y});
  }
  void products() {
    product("qkv", s_.embed, (s_.heads + 2 * s_.kv_heads) * s_.head_dim);
    product("out", s_.heads * s_.head_dim, s_.embed);
    product("up", s_.embed, s_.mlp);
    product("down", s_.mlp, s_.embed);
    product("logits", s_.embed, s_.vocab);
    if (!s_.is_llama) epilogues();
    fp8();
  }
  // One layer's products of f8 operands, and what quantizing an activation takes. Of compute capability 8.9 and later.
  void fp8() {
    const TensorType x{DType::f8e4m3fn, {s_.tokens(), s_.embed}}, w{DType::f8e4m3fn, {s_.embed, s_.mlp}},
        dy{DType::f8e5m2, {s_.tokens(), s_.mlp}}, scale{kFloat, {}}, wide{kHalf, {s_.tokens(), s_.mlp}};
    const auto into = [&](DType dtype, int64_t lhs, int64_t rhs) {
      Attributes attributes = contract(lhs, rhs);
      attributes.set(Attr::dtype, dtype);
      return attributes;
    };
    add("product up fp8 + bias", ops::kScaledDotGeneral, into(kHalf, 1, 0), {x, w, scale, scale, {kHalf, {s_.mlp}}});
    add("product up fp8 + bias + gelu", ops::kScaledDotGeneralGelu, into(kHalf, 1, 0),
        {x, w, scale, scale, {kHalf, {s_.mlp}}});
    add("product up fp8 dx", ops::kScaledDotGeneral, into(kHalf, 1, 1), {dy, w, scale, scale});
    add("product up fp8 dw", ops::kScaledDotGeneral, into(kFloat, 0, 0), {x, dy, scale, scale});
    add("product up fp8 dw, added", ops::kScaledDotGeneralAdd, into(kFloat, 0, 0),
        {x, dy, scale, scale, {kFloat, {s_.embed, s_.mlp}}});
    add("max_abs", ops::kMaxAbs, {}, {wide});
    fused("to e4m3", {wide, scale}, [&](Builder& b, const std::vector<Value>& in) {
      const Value scaled = ops::multiply(b, ops::convert(b, in[0], kFloat), ops::broadcast_scalar(b, in[1], wide.shape));
      return ops::convert(b, scaled, DType::f8e4m3fn);
    });
  }
  // GPT-2's products with what comes after them.
  void epilogues() {
    const TensorType x{kHalf, {s_.tokens(), s_.embed}}, up{kHalf, {s_.embed, s_.mlp}}, down{kHalf, {s_.mlp, s_.embed}},
        wide{kHalf, {s_.tokens(), s_.mlp}};
    add("product up + bias, gelu", ops::kDotGeneralBiasGelu, contract(1, 0), {x, up, {kHalf, {s_.mlp}}});
    add("product down + bias", ops::kDotGeneralBias, contract(1, 0), {wide, down, {kHalf, {s_.embed}}});
    add("product down dx, gelu", ops::kDotGeneralGeluGrad, contract(1, 1), {x, down, wide});
    Attributes sums = contract(0, 0);
    sums.set(Attr::dtype, kFloat);
    add("product up dw, dbias", ops::kDotGeneralBiasGrad, sums, {x, wide, {kFloat, {s_.embed, s_.mlp}}});
  }

  // 8 experts of this width and 2 for each token, all with as many (Mixtral's, at Llama's sizes).
  void experts() {
    constexpr int64_t kExperts = 8, kChosen = 2;
    const int64_t rows = s_.tokens() * kChosen;
    const double each = static_cast<double>(rows / kExperts), last = static_cast<double>(rows - 1);
    const TensorType x{kHalf, {s_.tokens(), s_.embed}}, narrow{kHalf, {rows, s_.embed}}, wide{kHalf, {rows, s_.mlp}},
        up{kHalf, {kExperts, s_.embed, s_.mlp}}, sizes{DType::s32, {kExperts}}, logits{kFloat, {s_.tokens(), kExperts}},
        places{DType::s32, {s_.tokens(), kChosen}}, weights{kFloat, places.shape};
    const std::vector<std::pair<double, double>> of_sizes = {{-1, 1}, {-1, 1}, {each, each}},
                                                 of_places = {{-1, 1}, {0, last}};
    add("experts up", ops::kRaggedDot, {{Attr::rhs_contracting, Ints{1}}}, {narrow, up, sizes}, of_sizes);
    add("experts up dx", ops::kRaggedDot, {{Attr::rhs_contracting, Ints{2}}}, {wide, up, sizes}, of_sizes);
    add("experts up dw", ops::kRaggedContraction, {{Attr::dtype, kFloat}}, {narrow, wide, sizes}, of_sizes);
    add("router", ops::kTopKRouting,
        {{Attr::k, kChosen},
         {Attr::score_function, std::string("softmax")},
         {Attr::normalize, true},
         {Attr::scale, 1.0}},
        {logits});
    add("expert order", ops::kExpertOrder, {{Attr::group_count, kExperts}}, {places}, {{0, kExperts - 1}});
    // Not permute_tokens, which leaves rows unwritten where places are no permutation.
    add("unpermute tokens", ops::kUnpermuteTokens, {}, {narrow, places, weights}, of_places);
    add("token dots", ops::kTokenDots, {}, {narrow, places, x}, of_places);
  }

  void elementwise() {
    const TensorType wide{kHalf, {s_.tokens(), s_.mlp}}, narrow{kHalf, {s_.tokens(), s_.embed}};
    add("residual add", ops::kAdd, {}, {narrow, narrow});
    if (s_.is_llama) {
      fused("silu * up", {wide, wide},
            [](Builder& b, const std::vector<Value>& x) { return ops::multiply(b, ops::silu(b, x[0]), x[1]); });
    } else {
      add("gelu", ops::kGelu, {{Attr::is_approximate, true}}, {wide});
      add("gelu grad", ops::kGeluGrad, {{Attr::is_approximate, true}}, {wide, wide});
      fused("bias + gelu", {wide, {kHalf, {s_.mlp}}}, [&](Builder& b, const std::vector<Value>& x) {
        return ops::gelu(b, ops::add(b, x[0], ops::broadcast_in_dim(b, x[1], wide.shape, {1})), true);
      });
    }
    add("bias gradient", ops::kReduce, {{Attr::dimensions, Ints{0}}, {Attr::reduce_kind, ReduceKind::sum}}, {wide});
    add("dropout's numbers", ops::kRandomUniform,
        {{Attr::seed, int64_t{1}},
         {Attr::seed_site, int64_t{1}},
         {Attr::shape, Ints{s_.tokens(), s_.embed}},
         {Attr::dtype, kFloat}},
        {});
  }

  void movement() {
    const TensorType x{kHalf, {s_.batch, s_.length, s_.heads, s_.head_dim}};
    add("transpose of heads", ops::kTranspose, {{Attr::dimensions, Ints{0, 2, 1, 3}}}, {x});
    add("transpose", ops::kTranspose, {{Attr::dimensions, Ints{1, 0}}}, {{kHalf, {s_.mlp, s_.embed}}});
  }

  void vocabulary() {
    const TensorType logits{kHalf, {s_.tokens(), s_.vocab}}, row{kFloat, {s_.tokens()}}, ids{DType::s32, {s_.tokens()}},
        table{kHalf, {s_.vocab, s_.embed}}, x{kHalf, {s_.tokens(), s_.embed}};
    const double last = static_cast<double>(s_.vocab - 1);
    const Attributes valid{{Attr::valid_size, s_.vocab}};
    add("logits max", ops::kLogitsMax, valid, {logits});
    add("logits sum", ops::kLogitsSum, valid, {logits, row, ids}, {{-1, 1}, {1, 1}, {0, last}});
    add("logits grad", ops::kLogitsSumGrad, valid, {logits, row, ids, row, row},
        {{-1, 1}, {1, 1}, {0, last}, {0, 1}, {-1, -1}});
    add("cross-entropy + grad", ops::kCrossEntropyWithGrad, valid, {logits, ids, row, row},
        {{-1, 1}, {0, last}, {-1, -1}, {1, 1}});
    add("embedding", ops::kEmbedding, {}, {table, ids}, {{-1, 1}, {0, last}});
    cases_.back().unread_bytes = std::max<int64_t>(0, table.bytes() - x.bytes());
    add("embedding grad", ops::kEmbeddingGrad, {{Attr::vocab_dim, s_.vocab}}, {ids, x}, {{0, last}});
  }

  void optimizer() {
    const TensorType weight{kFloat, {s_.embed, s_.mlp}}, scalar{kFloat, {}};
    add("adamw", ops::kAdamW,
        {{Attr::beta1, 0.9}, {Attr::beta2, 0.95}, {Attr::epsilon, 1e-8}, {Attr::weight_decay, 0.1}},
        {weight, weight, weight, weight, scalar, scalar, scalar, scalar},
        {{-1, 1}, {-1, 1}, {0, 1}, {-1, 1}, {1e-4, 1e-4}, {1, 1}, {0.5, 0.5}, {0.5, 0.5}});
    add("sum of squares", ops::kSumOfSquares, {}, {weight});
  }

  std::vector<Case> take() { return std::move(cases_); }

 private:
  static Attributes contract(int64_t left, int64_t right) {
    return {{Attr::lhs_contracting, Ints{left}},
            {Attr::rhs_contracting, Ints{right}},
            {Attr::lhs_batch, Ints{}},
            {Attr::rhs_batch, Ints{}}};
  }
  void add(std::string family, const OpDef& op, Attributes attributes, std::vector<TensorType> operands,
           std::vector<std::pair<double, double>> ranges = {}) {
    cases_.push_back({std::move(family), s_.name, &op, std::move(attributes), std::move(operands), std::move(ranges)});
  }
  template <typename Body>
  void fused(std::string family, std::vector<TensorType> operands, const Body& body) {
    auto graph = std::make_shared<Graph>();
    Builder b(*graph);
    std::vector<Value> inputs;
    for (size_t i = 0; i < operands.size(); ++i)
      inputs.push_back(b.input(InputKind::data, cat("x", i), operands[i]));
    b.output(body(b, inputs), "y");
    add(std::move(family), ops::kFusion, {{Attr::body, GraphRef(graph)}}, std::move(operands));
  }

  const LayerShape& s_;
  std::vector<Case> cases_;
};

}  // namespace

std::vector<LayerShape> layer_shapes(bool tiny) {
  if (tiny)
    return {{"tiny GPT", 2, 16, 32, 2, 2, 16, 64, 96}, {"tiny Llama", 1, 16, 64, 2, 1, 32, 96, 80, true}};
  return {{"GPT-2 124M", 8, 1024, 768, 12, 12, 64, 3072, 50304},
          {"GPT-2 1.5B", 4, 1024, 1600, 25, 25, 64, 6400, 50304},
          {"Llama-3-8B", 1, 8192, 4096, 32, 8, 128, 14336, 128256, true}};
}

int64_t Case::bytes() const {
  int64_t sum = -unread_bytes;
  for (const TensorType& type : operands) sum += type.bytes();
  for (const TensorType& type : results()) sum += type.bytes();
  return sum;
}

double Case::flops() const {
  const std::vector<TensorType> types = results();
  return flop_count(*op, {operands, attributes}, types);
}

std::vector<Case> cases_of(const LayerShape& shape) {
  CaseList list(shape);
  list.norms();
  list.attention();
  list.products();
  list.experts();
  list.elementwise();
  list.movement();
  list.vocabulary();
  list.optimizer();
  return list.take();
}

Case peak_product(bool tiny) {
  const int64_t n = tiny ? 64 : 8192;
  const TensorType square{kHalf, {n, n}};
  return {"peak", "", &ops::kDotGeneral,
          {{Attr::lhs_contracting, Ints{1}},
           {Attr::rhs_contracting, Ints{0}},
           {Attr::lhs_batch, Ints{}},
           {Attr::rhs_batch, Ints{}}},
          {square, square}};
}

}  // namespace tessera::bench

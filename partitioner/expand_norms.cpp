#include "partitioner/expand_norms.h"

#include <numeric>

#include "core/base/error.h"
#include "core/ir/rewriter.h"
#include "core/ops/elementwise.h"
#include "core/ops/norm.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

class Expander {
 public:
  explicit Expander(const Graph& source) : source_(source), rewriter_(source) {}

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      const Instruction& norm = source_.instructions[i];
      if (!is_norm(norm) || !is_cut(norm))
        rewriter_.copy(static_cast<int>(i));
      else
        expand(static_cast<int>(i));
    }
    return rewriter_.finish();
  }

 private:
  static bool is_norm(const Instruction& instruction) {
    return instruction.is(ops::kLayerNorm) || instruction.is(ops::kLayerNormGrad) ||
           instruction.is(ops::kRmsNorm) || instruction.is(ops::kRmsNormGrad);
  }
  bool is_cut(const Instruction& norm) const {
    return !source_.sharding(norm.operands[0]).dims.back().axes.empty() &&
           !norm.results[0].sharding->dims.back().axes.empty();
  }

  void expand(int index) {
    const Instruction& norm = source_.instructions[static_cast<size_t>(index)];
    rows_ = *norm.results[0].sharding;
    rows_.partial.clear();
    statistics_ = Sharding(source_.mesh, static_cast<int>(rows_.dims.size()) - 1);
    std::copy(rows_.dims.begin(), rows_.dims.end() - 1, statistics_.dims.begin());
    weight_ = Sharding(source_.mesh, 1);
    weight_.dims[0] = rows_.dims.back();
    x_type_ = norm.results[0].type;
    dtype_ = ops::statistics_dtype(x_type_.dtype);
    cursor_ = rewriter_.result().instructions.size();
    builder_.set_scope(norm.scope);
    builder_.set_recompute(norm.recompute);
    const std::vector<Value> results = norm.is(ops::kLayerNorm)       ? layer_norm(norm)
                                       : norm.is(ops::kLayerNormGrad) ? layer_norm_grad(norm)
                                       : norm.is(ops::kRmsNorm)       ? rms_norm(norm)
                                                                      : rms_norm_grad(norm);
    builder_.set_scope("");
    builder_.set_recompute(false);
    for (size_t r = 0; r < results.size(); ++r) {
      const ResultInfo& from = norm.results[r];
      ResultInfo& to = rewriter_.result().info(results[r]);
      TESSERA_CHECK(to.type == from.type, "expanded ", norm.op->name, " makes ", to.type,
                    " in place of ", from.type);
      to.sharding = from.sharding;
      to.name = from.name;
      to.logical_axes = from.logical_axes;
      rewriter_.replace({index, static_cast<int>(r)}, results[r]);
    }
  }

  // What the norm does with its rows; every value is given its wish as it is made.

  std::vector<Value> layer_norm(const Instruction& norm) {
    const Value x = in_rows(norm.operands[0]);
    const Value mean = average(x);
    const Value centered = laid(ops::subtract(builder_, x, over_rows(mean)), rows_);
    const Value rstd = rstd_of(average(squared(centered)), norm);
    const Value normal = multiplied(centered, over_rows(rstd));
    const Value scaled = multiplied(normal, weight(norm.operands[1]));
    const Value y = laid(ops::add(builder_, scaled, weight(norm.operands[2])), rows_);
    return {narrowed(y), mean, rstd};
  }

  std::vector<Value> rms_norm(const Instruction& norm) {
    const Value x = in_rows(norm.operands[0]);
    const Value rstd = rstd_of(average(squared(x)), norm);
    const Value normal = multiplied(x, over_rows(rstd));
    return {narrowed(multiplied(normal, weight(norm.operands[1]))), rstd};
  }

  // (x, gamma, mean, rstd, dy): dx = rstd (g - average(g) - n average(g n)).
  std::vector<Value> layer_norm_grad(const Instruction& norm) {
    const Value x = in_rows(norm.operands[0]), dy = in_rows(norm.operands[4]);
    const Value mean = over_rows(rewriter_.mapped(norm.operands[2]));
    const Value rstd = over_rows(rewriter_.mapped(norm.operands[3]));
    const Value n = multiplied(laid(ops::subtract(builder_, x, mean), rows_), rstd);
    const Value g = multiplied(dy, weight(norm.operands[1]));
    const Value shift = over_rows(average(g));
    const Value slope = multiplied(n, over_rows(average(multiplied(g, n))));
    const Value inner = laid(ops::subtract(builder_, g, shift), rows_);
    const Value dx = multiplied(laid(ops::subtract(builder_, inner, slope), rows_), rstd);
    return {narrowed(dx), over_batch(multiplied(dy, n)), over_batch(dy)};
  }

  // (x, gamma, rstd, dy): dx = rstd (g - n average(g n)) with n = x rstd.
  std::vector<Value> rms_norm_grad(const Instruction& norm) {
    const Value x = in_rows(norm.operands[0]), dy = in_rows(norm.operands[3]);
    const Value rstd = over_rows(rewriter_.mapped(norm.operands[2]));
    const Value n = multiplied(x, rstd);
    const Value g = multiplied(dy, weight(norm.operands[1]));
    const Value slope = multiplied(n, over_rows(average(multiplied(g, n))));
    const Value dx = multiplied(laid(ops::subtract(builder_, g, slope), rows_), rstd);
    return {narrowed(dx), over_batch(multiplied(dy, n))};
  }

  // Gives `value` and the constants and broadcasts that were made for it their wishes.
  Value laid(Value value, const Sharding& sharding) {
    Graph& graph = rewriter_.result();
    for (; cursor_ < graph.instructions.size(); ++cursor_)
      for (ResultInfo& result : graph.instructions[cursor_].results)
        result.sharding = result.type.rank() == 0 ? Sharding(source_.mesh, 0) : sharding;
    return value;
  }
  Value as(Value value, DType dtype, const Sharding& sharding) {
    if (builder_.dtype(value) == dtype) return value;
    return laid(ops::convert(builder_, value, dtype), sharding);
  }
  Value in_rows(Value old_value) { return as(rewriter_.mapped(old_value), dtype_, rows_); }
  Value narrowed(Value value) { return as(value, x_type_.dtype, rows_); }
  Value multiplied(Value a, Value b) { return laid(ops::multiply(builder_, a, b), rows_); }
  Value squared(Value a) { return multiplied(a, a); }
  // [...] -> [..., d]
  Value over_rows(Value statistic) {
    Ints dims(static_cast<size_t>(x_type_.rank() - 1));
    std::iota(dims.begin(), dims.end(), 0);
    return laid(ops::broadcast_in_dim(builder_, statistic, x_type_.shape, std::move(dims)), rows_);
  }
  // [d] -> [..., d]
  Value weight(Value old_value) {
    const Value wide = as(rewriter_.mapped(old_value), dtype_, weight_);
    return laid(ops::broadcast_last(builder_, wide, x_type_.shape), rows_);
  }
  // [..., d] -> [...]
  Value average(Value value) {
    const int last = x_type_.rank() - 1;
    const Value sum = laid(ops::reduce(builder_, value, {last}), statistics_);
    return laid(ops::scale(builder_, sum, 1.0 / static_cast<double>(x_type_.shape[last])),
                statistics_);
  }
  // [..., d] -> [d]
  Value over_batch(Value value) {
    Ints dims(static_cast<size_t>(x_type_.rank() - 1));
    std::iota(dims.begin(), dims.end(), 0);
    return laid(ops::reduce(builder_, value, std::move(dims)), weight_);
  }
  Value rstd_of(Value mean_square, const Instruction& norm) {
    const double epsilon = norm.attributes.number(Attr::epsilon);
    return laid(ops::rsqrt(builder_, ops::add_scalar(builder_, mean_square, epsilon)), statistics_);
  }

  const Graph& source_;
  GraphRewriter rewriter_;
  Builder& builder_ = rewriter_.builder();
  Sharding rows_, statistics_, weight_;  // wishes of the norm under work
  TensorType x_type_;
  DType dtype_ = DType::f32;
  size_t cursor_ = 0;
};

}  // namespace

Graph expand_norms(const Graph& graph) { return Expander(graph).run(); }

}  // namespace tessera

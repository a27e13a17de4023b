#include "core/passes/expand_fp8.h"

#include <map>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"
#include "core/ops/fp8_product.h"
#include "core/ops/max_abs.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

class Expander {
 public:
  explicit Expander(const Graph& source) : source_(source), rewriter_(source) {}

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      if (const auto formats = ops::fp8_formats(*source_.instructions[i].op))
        expand(static_cast<int>(i), *formats);
      else
        rewriter_.copy(static_cast<int>(i));
    }
    return rewriter_.finish();
  }

 private:
  // A value of the source in f8, and what its codes are multiples of.
  struct Quantized {
    Value codes, scale;
  };

  void expand(int index, const ops::Fp8Formats& formats) {
    const Instruction& it = source_.instructions[static_cast<size_t>(index)];
    const ResultInfo& to = it.results[0];
    const Quantized lhs = quantized(it.operands[0], formats.lhs, it.scope);
    const Quantized rhs = quantized(it.operands[1], formats.rhs, it.scope);
    builder_.set_scope(it.scope);
    builder_.set_recompute(it.recompute);
    // What is multiplied by a power of two may be rounded before: no conversion then stands behind a partial sum, which
    // would have to be reduced first.
    const DType dtype = to.type.dtype == DType::bf16 ? DType::bf16 : DType::f32;
    Attributes attributes = it.attributes;
    attributes.set(Attr::dtype, dtype);
    const Value product = builder_.emit(ops::kDotGeneral, {lhs.codes, rhs.codes}, std::move(attributes));
    const Value scale = ops::convert(builder_, ops::multiply(builder_, lhs.scale, rhs.scale), dtype);
    const Value scaled = ops::multiply(builder_, product, ops::broadcast_scalar(builder_, scale, to.type.shape));
    const Value result = ops::convert(builder_, scaled, to.type.dtype);
    leave_scope();
    rewriter_.result().info(result) = to;
    rewriter_.replace({index, 0}, result);
  }

  const Quantized& quantized(Value value, DType format, const std::string& scope) {
    const auto [at, is_new] = made_.try_emplace({value.instruction, value.result, format});
    if (!is_new) return at->second;
    builder_.set_scope(scope);
    builder_.set_recompute(source_.at(value).recompute);
    const Value x = rewriter_.mapped(value);
    const Value largest = ops::convert(builder_, ops::max_abs(builder_, x), DType::f32);
    const Value least = ops::constant_like(builder_, largest, ops::kLeastMaxAbs);
    const Value power = ops::reduce_precision(builder_, ops::maximum(builder_, largest, least), 8, 0);
    at->second.scale = ops::scale(builder_, power, ops::fp8_scale_of_power(format));
    const Value inverse = ops::divide(builder_, ops::constant_like(builder_, power, 1), at->second.scale);
    const Value wide = ops::convert(builder_, x, DType::f32);
    const Value scaled = ops::multiply(builder_, wide, ops::broadcast_scalar(builder_, inverse, builder_.shape(x)));
    at->second.codes = ops::convert(builder_, scaled, format);
    leave_scope();
    return at->second;
  }

  void leave_scope() {
    builder_.set_scope("");
    builder_.set_recompute(false);
  }

  const Graph& source_;
  GraphRewriter rewriter_;
  Builder& builder_ = rewriter_.builder();
  std::map<std::tuple<int, int, DType>, Quantized> made_;  // by value of the source and format
};

}  // namespace

Graph expand_fp8_products(const Graph& graph) {
  return with_regions(graph, [](const Graph& source) { return Expander(source).run(); });
}

}  // namespace tessera

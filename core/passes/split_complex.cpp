#include "core/passes/split_complex.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/complex.h"
#include "core/ops/contraction.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

struct Parts {
  Value re, im;
};

// Ops that treat each element alike, whatever it is, or that are linear over the reals: the op on
// the real parts gives the real part. Operands that are not complex (predicates, indices) stay.
bool works_on_each_part(const Instruction& instruction) {
  static const std::array kOps = {&ops::kAdd,     &ops::kSubtract,    &ops::kNegate,
                                  &ops::kSelect,  &ops::kReshape,     &ops::kBroadcastInDim,
                                  &ops::kSlice,   &ops::kTranspose,   &ops::kConcatenate,
                                  &ops::kReverse, &ops::kDynamicSlice, &ops::kPad,
                                  &ops::kDynamicUpdateSlice};
  if (instruction.is(ops::kReduce))
    return instruction.operands.size() == 1 &&
           instruction.attributes.get_or(Attr::reduce_kind, ReduceKind::max) == ReduceKind::sum;
  return std::find(kOps.begin(), kOps.end(), instruction.op) != kOps.end();
}

class Splitter {
 public:
  explicit Splitter(const Graph& graph) : source_(graph), rewriter_(graph) {}

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      index_ = static_cast<int>(i);
      if (!split()) copy_whole();
    }
    for (const GraphOutput& output : source_.outputs) make_whole(output.value);
    return rewriter_.finish();
  }

 private:
  const Instruction& instruction() const { return source_.instructions[static_cast<size_t>(index_)]; }
  Builder& builder() { return rewriter_.builder(); }
  bool is_complex(Value value) const { return source_.type(value).dtype == DType::c64; }

  // `value` lies as the result of the current instruction does.
  Value lies_as_result(Value value) {
    const ResultInfo& result = instruction().results[0];
    ResultInfo& info = rewriter_.result().info(value);
    info.sharding = result.sharding;
    info.padded_shape = result.padded_shape;
    info.logical_shape = result.logical_shape;
    return value;
  }

  template <typename Make>
  Value make(Make&& op) {
    builder().set_scope(instruction().scope);
    builder().set_recompute(instruction().recompute);
    return lies_as_result(op(builder()));
  }

  void copy_whole() {
    for (Value operand : instruction().operands) make_whole(operand);
    rewriter_.copy(index_);
  }

  void make_whole(Value value) {
    if (rewriter_.has(value)) return;
    const Parts& parts = parts_.at(value);
    Builder& b = builder();
    b.set_scope(source_.at(value).scope);
    b.set_recompute(source_.at(value).recompute);
    const Value whole = ops::complex(b, parts.re, parts.im);
    rewriter_.result().info(whole) = source_.info(value);
    rewriter_.replace(value, whole);
  }

  // The parts of an operand; those of a value that was left whole are taken from it once.
  Parts parts_of(Value value) {
    const auto found = parts_.find(value);
    if (found != parts_.end()) return found->second;
    const Value whole = rewriter_.mapped(value);
    Builder& b = builder();
    b.set_scope(source_.at(value).scope);
    b.set_recompute(source_.at(value).recompute);
    const Parts parts{ops::real(b, whole), ops::imag(b, whole)};
    for (const Value part : {parts.re, parts.im}) {
      rewriter_.result().info(part).sharding = source_.info(value).sharding;
      rewriter_.result().info(part).padded_shape = source_.info(value).padded_shape;
      rewriter_.result().info(part).logical_shape = source_.info(value).logical_shape;
    }
    return parts_[value] = parts;
  }

  void set(Value re, Value im) { parts_[{index_, 0}] = {re, im}; }

  // Whether the current instruction was done on parts.
  bool split() {
    const Instruction& op = instruction();
    if (op.results.size() != 1) return false;
    if (op.is(ops::kReal) || op.is(ops::kImag)) return take_part();
    if (!is_complex({index_, 0})) return false;
    if (op.is(ops::kMakeComplex)) {
      set(rewriter_.mapped(op.operands[0]), rewriter_.mapped(op.operands[1]));
      return true;
    }
    if (op.is(ops::kConstant)) return split_constant();
    if (op.is(ops::kConvert)) return split_convert();
    if (op.is(ops::kExponential)) return split_exponential();
    if (op.is(ops::kMultiply)) return split_product([](Builder& b, Value x, Value y) { return ops::multiply(b, x, y); });
    if (op.is(ops::kDotGeneral)) return split_dot();
    if (op.is(ops::kDivide)) return split_quotient();
    if (!works_on_each_part(op)) return false;
    set(on_part(&Parts::re), on_part(&Parts::im));
    return true;
  }

  bool take_part() {
    const Parts parts = parts_of(instruction().operands[0]);
    rewriter_.replace({index_, 0}, instruction().is(ops::kReal) ? parts.re : parts.im);
    return true;
  }

  Value on_part(Value Parts::* part) {
    Instruction copied = instruction();
    for (Value& operand : copied.operands)
      operand = is_complex(operand) ? parts_of(operand).*part : rewriter_.mapped(operand);
    copied.results[0].type.dtype = DType::f32;
    copied.results[0].name.clear();
    return rewriter_.append(std::move(copied));
  }

  bool split_constant() {
    const Instruction& op = instruction();
    const TensorType type{DType::f32, op.results[0].type.shape};
    if (!op.attributes.has(Attr::value)) {
      const double scalar = op.attributes.number(Attr::scalar);
      set(make([&](Builder& b) { return ops::constant(b, scalar, type); }),
          make([&](Builder& b) { return ops::constant(b, 0, type); }));
      return true;
    }
    const HostTensor& z = *op.attributes.get<ConstTensor>(Attr::value);
    HostTensor re(type), im(type);
    for (int64_t i = 0; i < z.elements(); ++i) {
      re.set_real(i, z.get_complex(i).real());
      im.set_real(i, z.get_complex(i).imag());
    }
    set(make([&](Builder& b) { return ops::constant(b, re); }),
        make([&](Builder& b) { return ops::constant(b, im); }));
    return true;
  }

  bool split_convert() {
    const Value from = instruction().operands[0];
    if (is_complex(from)) return false;
    const Value x = rewriter_.mapped(from);
    const TensorType type{DType::f32, instruction().results[0].type.shape};
    set(make([&](Builder& b) { return ops::convert(b, x, DType::f32); }),
        make([&](Builder& b) { return ops::constant(b, 0, type); }));
    return true;
  }

  // exp(a + b i) = exp(a) (cos b + i sin b)
  bool split_exponential() {
    const Parts z = parts_of(instruction().operands[0]);
    const Value size = make([&](Builder& b) { return ops::exponential(b, z.re); });
    const Value cosine = make([&](Builder& b) { return ops::cosine(b, z.im); });
    const Value sine = make([&](Builder& b) { return ops::sine(b, z.im); });
    set(make([&](Builder& b) { return ops::multiply(b, size, cosine); }),
        make([&](Builder& b) { return ops::multiply(b, size, sine); }));
    return true;
  }

  // (a + b i)(c + d i) = ac - bd + (ad + bc) i, for any bilinear `product`.
  template <typename Product>
  bool split_product(Product&& product) {
    const Parts x = parts_of(instruction().operands[0]), y = parts_of(instruction().operands[1]);
    auto times = [&](Value a, Value c) { return make([&](Builder& b) { return product(b, a, c); }); };
    const Value ac = times(x.re, y.re), bd = times(x.im, y.im);
    const Value ad = times(x.re, y.im), bc = times(x.im, y.re);
    set(make([&](Builder& b) { return ops::subtract(b, ac, bd); }),
        make([&](Builder& b) { return ops::add(b, ad, bc); }));
    return true;
  }

  bool split_dot() {
    const Attributes attributes = instruction().attributes;
    if (attributes.has(Attr::dtype)) return false;
    return split_product([&](Builder& b, Value x, Value y) { return b.emit(ops::kDotGeneral, {x, y}, attributes); });
  }

  // x / y = x conj(y) / |y|^2. Not where parts of y may overflow when squared, so only by constants.
  bool split_quotient() {
    const Value divisor = instruction().operands[1];
    const Instruction* constant = &source_.at(divisor);
    while (constant->is(ops::kBroadcastInDim)) constant = &source_.at(constant->operands[0]);
    if (!constant->is(ops::kConstant) || !constant->attributes.has(Attr::scalar)) return false;
    const Parts x = parts_of(instruction().operands[0]), y = parts_of(divisor);  // y is real
    set(make([&](Builder& b) { return ops::divide(b, x.re, y.re); }),
        make([&](Builder& b) { return ops::divide(b, x.im, y.re); }));
    return true;
  }

  const Graph& source_;
  GraphRewriter rewriter_;
  std::map<Value, Parts> parts_;  // by the value of the source
  int index_ = 0;
};

bool has_complex(const Graph& graph) {
  return std::any_of(graph.instructions.begin(), graph.instructions.end(), [](const Instruction& instruction) {
    return std::any_of(instruction.results.begin(), instruction.results.end(),
                       [](const ResultInfo& info) { return info.type.dtype == DType::c64; });
  });
}

Graph split_own(const Graph& graph) { return has_complex(graph) ? Splitter(graph).run() : graph; }

}  // namespace

Graph split_complex(const Graph& graph) { return with_regions(graph, split_own); }

}  // namespace tessera

// How an elementwise op is defined in one line: from its function on one element and its gradient
// rule to a whole OpDef. Private to core/ops.
//
//     const OpDef kTanh = unary<"tanh", [](auto x) { return std::tanh(x); }, kAnalytic>(
//         [](GradContext& c, Builder& b, Value dy) { return ...; });
#pragma once

#include <algorithm>
#include <complex>

#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {

// In which domains the function of an op is defined; an OR of these.
enum Domains : unsigned {
  kReals = 1,      // every float, computed as double
  kComplex = 2,    // c64, computed as complex<double>
  kSigned = 4,     // s8 .. s64, computed as int64_t
  kUnsigned = 8,   // u8 .. u64, computed as uint64_t
  kWrapping = 16,  // all integers, computed as uint64_t: for what is the same modulo 2^n
  kPred = 32,      // pred, computed as bool
  kIntegers = kSigned | kUnsigned,
  kNumbers = kReals | kComplex | kWrapping,
  kAnalytic = kReals | kComplex,
  kBits = kIntegers | kPred,
};

// Whether the domains hold `dtype`.
bool covers(unsigned domains, DType dtype);

// Types of an op whose operands and result all have one type. Throws UserError.
std::vector<TensorType> infer_same_type(std::string_view op, unsigned domains, int arity,
                                        const OpCall& call);
// A test input for each domain.
std::vector<OpSample> elementwise_samples(unsigned domains, int arity, double low, double high,
                                          bool differentiable);

// Linear sets of elementwise ops.
std::vector<LinearSet> linear_first(const OpCall&);             // {0} sum
std::vector<LinearSet> linear_first_if_inexact(const OpCall&);  // not for integers, which truncate
std::vector<LinearSet> linear_in_sum(const OpCall&);            // {0, 1} sum
std::vector<LinearSet> linear_in_each(const OpCall&);           // {0} sum, {1} sum
std::vector<LinearSet> linear_max(const OpCall&);               // {0, 1} max
std::vector<LinearSet> linear_min(const OpCall&);               // {0, 1} min

// The cotangent of an op that is constant almost everywhere.
inline constexpr auto no_cotangent = [](GradContext&, Builder&, Value) { return Value{}; };
// dy where `x direction y`, else 0.
Value where(Builder& b, Value x, Value y, CompareDirection direction, Value dy);

template <size_t N>
struct OpName {
  char text[N];
  constexpr OpName(const char (&name)[N]) { std::copy_n(name, N, text); }
};

// Inclusive range of random test inputs.
struct Range {
  double low = -1, high = 1;
};

struct ElementwiseTraits {
  bool commutative = false;
  std::vector<LinearSet> (*linear)(const OpCall&) = nullptr;
};

template <typename D, auto kFunction, int kArity>
void map_elements(std::span<const HostTensor* const> operands, HostTensor& result) {
  const Elements<D> x = elements_of<D>(*operands[0]);
  Elements<D> y(x.size());
  if constexpr (kArity == 1) {
    for (size_t i = 0; i < x.size(); ++i) y[i] = kFunction(static_cast<D>(x[i]));
  } else {
    const Elements<D> other = elements_of<D>(*operands[1]);
    for (size_t i = 0; i < x.size(); ++i)
      y[i] = kFunction(static_cast<D>(x[i]), static_cast<D>(other[i]));
  }
  set_elements<D>(result, y);
}

template <auto kFunction, unsigned kDomains, int kArity>
void eval_elementwise(const OpCall& call, std::span<const HostTensor* const> operands,
                      std::span<HostTensor> results) {
  const DType dtype = call.operands[0].dtype;
  if constexpr ((kDomains & kReals) != 0)
    if (is_float(dtype)) return map_elements<double, kFunction, kArity>(operands, results[0]);
  if constexpr ((kDomains & kComplex) != 0)
    if (dtype == DType::c64)
      return map_elements<std::complex<double>, kFunction, kArity>(operands, results[0]);
  if constexpr ((kDomains & kSigned) != 0)
    if (is_signed_integer(dtype))
      return map_elements<int64_t, kFunction, kArity>(operands, results[0]);
  if constexpr ((kDomains & (kUnsigned | kWrapping)) != 0)
    if (is_integer(dtype)) return map_elements<uint64_t, kFunction, kArity>(operands, results[0]);
  if constexpr ((kDomains & kPred) != 0)
    if (dtype == DType::pred) return map_elements<bool, kFunction, kArity>(operands, results[0]);
  TESSERA_CHECK(false, "no domain for ", dtype);
}

template <OpName kName, auto kFunction, unsigned kDomains, Range kRange, int kArity, bool kHasGrad>
OpDef elementwise(const ElementwiseTraits& traits) {
  OpDef op;
  op.name = kName.text;
  op.infer = [](const OpCall& call) { return infer_same_type(kName.text, kDomains, kArity, call); };
  op.eval = eval_elementwise<kFunction, kDomains, kArity>;
  op.samples = [] {
    return elementwise_samples(kDomains, kArity, kRange.low, kRange.high, kHasGrad);
  };
  op.linear = traits.linear;
  op.elementwise = true;
  op.commutative = traits.commutative;
  return op;
}

// The rules' closures are captureless, so a plain function can make them anew.
template <typename... Rules>
std::vector<Value> grad_elementwise(GradContext& context) {
  std::vector<Value> cotangents;
  const Value dy = context.cotangent(0);
  int operand = 0;
  ((cotangents.push_back(context.needs_gradient(operand) ? Rules{}(context, context.builder(), dy)
                                                         : Value{}),
    ++operand),
   ...);
  return cotangents;
}

template <OpName kName, auto kFunction, unsigned kDomains, Range kRange = Range{}, typename Rule>
OpDef unary(Rule, const ElementwiseTraits& traits = {}) {
  constexpr bool kHasGrad = !std::is_null_pointer_v<Rule>;
  OpDef op = elementwise<kName, kFunction, kDomains, kRange, 1, kHasGrad>(traits);
  if constexpr (kHasGrad) op.grad = grad_elementwise<Rule>;
  return op;
}

template <OpName kName, auto kFunction, unsigned kDomains, Range kRange = Range{}, typename RuleX,
          typename RuleY>
OpDef binary(RuleX, RuleY, const ElementwiseTraits& traits = {}) {
  constexpr bool kHasGrad = !std::is_null_pointer_v<RuleX>;
  OpDef op = elementwise<kName, kFunction, kDomains, kRange, 2, kHasGrad>(traits);
  if constexpr (kHasGrad) op.grad = grad_elementwise<RuleX, RuleY>;
  return op;
}

}  // namespace tessera::ops

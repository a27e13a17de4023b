#include "core/ops/complex.h"

#include "core/ops/elementwise.h"
#include "core/ops/elementwise_def.h"

namespace tessera::ops {
namespace {

std::vector<TensorType> infer_complex(const OpCall& call) {
  const TensorType type = infer_same_type("complex", Domains::kReals, 2, call)[0];
  require(type.dtype == DType::f32, "complex: takes f32, not ", type);
  return {{DType::c64, type.shape}};
}

template <const OpDef& kOp>
std::vector<TensorType> infer_part(const OpCall& call) {
  const TensorType type = infer_same_type(kOp.name, Domains::kComplex, 1, call)[0];
  return {{DType::f32, type.shape}};
}

void eval_complex(const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  for (int64_t i = 0; i < y[0].elements(); ++i)
    y[0].set_complex(i, {x[0]->get_real(i), x[1]->get_real(i)});
}

template <bool kImaginary>
void eval_part(const OpCall&, std::span<const HostTensor* const> z, std::span<HostTensor> y) {
  for (int64_t i = 0; i < y[0].elements(); ++i)
    y[0].set_real(i, kImaginary ? z[0]->get_complex(i).imag() : z[0]->get_complex(i).real());
}

std::vector<LinearSet> linear_part(const OpCall&) { return {{{0}, ReduceKind::sum}}; }

std::vector<OpSample> complex_samples() {
  return {{{{DType::f32, {4, 6}}, {DType::f32, {4, 6}}}, {}, {}, false}};
}
std::vector<OpSample> part_samples() { return {{{{DType::c64, {4, 6}}}, {}, {}, false}}; }

}  // namespace

const OpDef kMakeComplex{.name = "complex",
                         .infer = infer_complex,
                         .eval = eval_complex,
                         .grad =
                             [](GradContext& c) {
                               Builder& b = c.builder();
                               const Value dz = c.cotangent(0);
                               std::vector<Value> cotangents(2);
                               if (c.needs_gradient(0)) cotangents[0] = real(b, dz);
                               if (c.needs_gradient(1)) cotangents[1] = negate(b, imag(b, dz));
                               return cotangents;
                             },
                         .linear = linear_in_sum,
                         .samples = complex_samples,
                         .elementwise = true};
const OpDef kReal{.name = "real",
                  .infer = infer_part<kReal>,
                  .eval = eval_part<false>,
                  .grad = grad_elementwise<decltype([](GradContext&, Builder& b, Value dy) {
                    return complex(b, dy, zeros_like(b, dy));
                  })>,
                  .linear = linear_part,
                  .samples = part_samples,
                  .elementwise = true};
const OpDef kImag{.name = "imag",
                  .infer = infer_part<kImag>,
                  .eval = eval_part<true>,
                  .grad = grad_elementwise<decltype([](GradContext&, Builder& b, Value dy) {
                    return negate(b, complex(b, zeros_like(b, dy), dy));
                  })>,
                  .linear = linear_part,
                  .samples = part_samples,
                  .elementwise = true};

Value complex(Builder& b, Value re, Value im) { return b.emit(kMakeComplex, {re, im}); }
Value real(Builder& b, Value z) { return b.emit(kReal, {z}); }
Value imag(Builder& b, Value z) { return b.emit(kImag, {z}); }

}  // namespace tessera::ops

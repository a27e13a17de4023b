#include "core/ir/parameter.h"

#include "core/base/error.h"

namespace tessera::ops {
namespace {

std::vector<TensorType> infer(const OpCall& call) {
  return {{call.attributes.get<DType>(Attr::dtype), Shape(call.attributes.ints(Attr::shape))}};
}

void eval(const OpCall& call, std::span<const HostTensor* const>, std::span<HostTensor>) {
  TESSERA_CHECK(false, "parameter \"", call.attributes.get<std::string>(Attr::name),
                "\" has no value of its own; the caller gives it");
}

// Every dim is free: a parameter lies as its boundary says.
FactorRule factors(const OpCall&, std::span<const TensorType> results) {
  FactorRule rule;
  rule.results.emplace_back();
  for (int64_t size : results[0].shape) {
    rule.results[0].emplace_back();
    if (size > 1) rule.results[0].back().push_back(rule.add(size));
  }
  return rule;
}

Attributes localize(const OpCall& call, std::span<const TensorType>,
                    std::span<const TensorType> results) {
  Attributes local = call.attributes;
  local.set(Attr::shape, Ints(results[0].shape.begin(), results[0].shape.end()));
  return local;
}

double flops(const OpCall&, std::span<const TensorType>) { return 0; }

std::vector<OpSample> samples() {
  Attributes attributes{{Attr::index, int64_t{0}}, {Attr::name, std::string("x")},
                        {Attr::shape, Ints{2, 3}}, {Attr::dtype, DType::f64}};
  return {{.operands = {}, .attributes = attributes, .differentiable = false}};
}

}  // namespace

const OpDef kParameter{
    .name = "parameter",
    .attributes = {Attr::index, Attr::name, Attr::shape, Attr::dtype},
    .infer = infer,
    .eval = eval,
    .factors = factors,
    .localize = localize,
    .flops = flops,
    .samples = samples,
    .has_state = true,
};

}  // namespace tessera::ops

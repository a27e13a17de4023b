#include "core/ops/custom_call.h"

#include <map>
#include <mutex>

#include "core/base/strings.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, CustomFunction> functions = {
      {"identity",
       [](const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
         for (size_t i = 0; i < y.size(); ++i) y[i] = *x[i];
       }}};
};

Registry& registry() {
  static Registry instance;
  return instance;
}

// "f32[8,4], s32[]": commas within brackets do not separate.
std::vector<TensorType> parse_types(const std::string& text) {
  std::vector<TensorType> types;
  size_t start = 0;
  int depth = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '[') ++depth;
    if (i < text.size() && text[i] == ']') --depth;
    if (i < text.size() && (text[i] != ',' || depth > 0)) continue;
    const auto type = parse_tensor_type(trim(std::string_view(text).substr(start, i - start)));
    require(type.has_value(), "custom_call: result_types \"", text,
            "\" is a list such as \"f32[8,4], s32[]\"");
    types.push_back(*type);
    start = i + 1;
  }
  return types;
}

std::string rule_of(const OpCall& call) {
  return call.attributes.get_or<std::string>(Attr::rule, "");
}
std::string target_of(const OpCall& call) {
  return call.attributes.get<std::string>(Attr::call_target);
}

FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  if (!rule_of(call).empty()) return parse_factor_rule(rule_of(call), call.operands, results);
  FactorRule rule;
  for (const TensorType& x : call.operands)
    rule.operands.push_back(dims_of(add_factors(rule, x.shape, FactorKind::need_replication)));
  for (const TensorType& y : results)
    rule.results.push_back(dims_of(add_factors(rule, y.shape, FactorKind::need_replication)));
  return rule;
}

std::vector<TensorType> infer(const OpCall& call) {
  const std::vector<TensorType> results =
      parse_types(call.attributes.get<std::string>(Attr::result_types));
  if (!rule_of(call).empty()) factors(call, results);
  if (target_of(call) == "identity")
    require(std::equal(results.begin(), results.end(), call.operands.begin(), call.operands.end()),
            "custom_call: identity of ", types_text(call.operands), " gives ", types_text(results));
  return results;
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  CustomFunction function;
  {
    std::lock_guard lock(registry().mutex);
    const auto found = registry().functions.find(target_of(call));
    if (found != registry().functions.end()) function = found->second;
  }
  require(function != nullptr, "custom_call: no function \"", target_of(call), "\" of ",
          types_text(call.operands), " is registered; known are ",
          join(known_custom_calls(), ", "));
  const std::vector<HostTensor> before(y.begin(), y.end());
  function(call, x, y);
  for (size_t i = 0; i < y.size(); ++i)
    require(y[i].type() == before[i].type(), "custom_call: \"", target_of(call), "\" made ",
            y[i].type(), " as result ", i, ", not ", before[i].type());
}

// The rule speaks of the whole tensors; on shards it is not asked again.
Attributes localize(const OpCall& global, std::span<const TensorType>,
                    std::span<const TensorType> results) {
  Attributes local;
  for (const auto& [key, value] : global.attributes.entries())
    if (key != Attr::rule) local.set(key, value);
  local.set(Attr::result_types, join(results, ", "));
  return local;
}

std::vector<OpSample> samples() {
  const TensorType x{DType::f64, {4, 6}};
  return {{{x},
           {{Attr::call_target, std::string("identity")},
            {Attr::result_types, cat(x)},
            {Attr::rule, std::string("([i, j]) -> ([i, j])")}},
           {},
           false}};
}

}  // namespace

void register_custom_call(const std::string& target, CustomFunction function) {
  std::lock_guard lock(registry().mutex);
  registry().functions[target] = std::move(function);
}

std::vector<std::string> known_custom_calls() {
  std::lock_guard lock(registry().mutex);
  std::vector<std::string> names;
  for (const auto& [name, function] : registry().functions) names.push_back(name);
  return names;
}

const OpDef kCustomCall{.name = "custom_call",
                        .attributes = {Attr::call_target, Attr::result_types},
                        .optional_attributes = {Attr::rule, Attr::backend_config},
                        .infer = infer,
                        .eval = eval,
                        .factors = factors,
                        .localize = localize,
                        .samples = samples};

std::vector<Value> custom_call(Builder& b, const std::string& target, std::vector<Value> operands,
                               const std::vector<TensorType>& results, const std::string& rule) {
  Attributes attributes{{Attr::call_target, target}, {Attr::result_types, join(results, ", ")}};
  if (!rule.empty()) attributes.set(Attr::rule, rule);
  const Value first = b.emit(kCustomCall, std::move(operands), attributes);
  std::vector<Value> values;
  for (size_t i = 0; i < results.size(); ++i)
    values.push_back({first.instruction, static_cast<int>(i)});
  return values;
}

}  // namespace tessera::ops

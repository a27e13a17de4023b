#include "core/ir/factors.h"

#include <ostream>

#include "core/base/strings.h"

namespace tessera {

int FactorRule::positional_count() const {
  int count = 0;
  for (const Factor& factor : factors) count += factor.positional;
  return count;
}

namespace {

// i, j, k, ..., z, then f18, f19, ...
std::string factor_name(size_t index) {
  return index < 18 ? std::string(1, static_cast<char>('i' + index)) : cat("f", index);
}

std::string print_tensor_factors(const std::vector<TensorFactors>& tensors) {
  std::vector<std::string> texts;
  for (const TensorFactors& tensor : tensors) {
    std::vector<std::string> dims;
    for (const std::vector<int>& dim : tensor) {
      std::vector<std::string> names;
      for (int factor : dim) names.push_back(factor_name(static_cast<size_t>(factor)));
      dims.push_back(names.empty() ? "1" : names.size() == 1 ? names[0] : cat("(", join(names, " "), ")"));
    }
    texts.push_back(cat("[", join(dims), "]"));
  }
  return cat("(", join(texts), ")");
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const FactorRule& rule) {
  out << print_tensor_factors(rule.operands) << " -> " << print_tensor_factors(rule.results) << " {";
  for (size_t i = 0; i < rule.factors.size(); ++i) {
    const Factor& factor = rule.factors[i];
    out << (i ? ", " : "") << factor_name(i) << "=" << factor.size;
    if (factor.kind == FactorKind::reduction) out << " reduction(" << factor.reduce << ")";
    if (factor.kind == FactorKind::need_replication) out << " need_replication";
    if (factor.kind == FactorKind::permutation) out << " permutation";
    if (factor.positional) out << " positional";
  }
  return out << "}";
}

}  // namespace tessera

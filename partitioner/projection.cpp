#include "partitioner/projection.h"

#include <algorithm>

#include "core/base/error.h"

namespace tessera {
namespace {

// Deals the axes of one dim out to its factors. Returns whether all found a place.
bool deal_out(const std::vector<int>& factors, const FactorRule& rule, const AxisList& axes,
              FactorAxes& result) {
  size_t at = 0;
  AxisRef ref = axes.empty() ? AxisRef{} : axes[0];
  auto next = [&] {
    if (++at < axes.size()) ref = axes[at];
  };
  for (int factor : factors) {
    int64_t room = rule.factors[static_cast<size_t>(factor)].size;
    AxisList& list = result[static_cast<size_t>(factor)];
    if (factors.size() == 1) {  // alone in its dim, which may be padded
      list = axes;
      return true;
    }
    while (room > 1 && at < axes.size()) {
      if (room % ref.size == 0) {
        list.push_back(ref);
        room /= ref.size;
        next();
      } else if (ref.size % room == 0 && factor != factors.back()) {
        list.push_back({ref.axis, ref.pre, room});
        ref = {ref.axis, ref.pre * room, ref.size / room};
        room = 1;
      } else {
        return false;
      }
    }
    list = canonical(list);
    if (room > 1) break;  // not full: what is minor to it must stay free
  }
  return at >= axes.size();
}

}  // namespace

FactorAxes project(const FactorRule& rule, const TensorFactors& tensor, const Sharding& sharding,
                   bool* exact) {
  TESSERA_CHECK(tensor.size() == sharding.dims.size(), "rule ", rule, " for sharding ", sharding);
  FactorAxes result(rule.factors.size());
  bool all = true;
  for (size_t d = 0; d < tensor.size(); ++d)
    if (!sharding.dims[d].axes.empty())
      all = deal_out(tensor[d], rule, sharding.dims[d].axes, result) && all;
  if (exact) *exact = all;
  return result;
}

Sharding unproject(const MeshPtr& mesh, const TensorFactors& tensor, const FactorAxes& axes) {
  Sharding sharding(mesh, static_cast<int>(tensor.size()));
  for (size_t d = 0; d < tensor.size(); ++d) {
    AxisList& list = sharding.dims[d].axes;
    for (int factor : tensor[d])
      list.insert(list.end(), axes[static_cast<size_t>(factor)].begin(),
                  axes[static_cast<size_t>(factor)].end());
    list = canonical(list);
  }
  return sharding;
}

bool is_expressible(const FactorRule& rule, const TensorFactors& tensor, const FactorAxes& axes) {
  for (const std::vector<int>& dim : tensor) {
    bool full = true;
    for (int factor : dim) {
      const int64_t size = rule.factors[static_cast<size_t>(factor)].size;
      const int64_t parts = size_of(axes[static_cast<size_t>(factor)]);
      if (parts > 1 && !full) return false;
      if (size % parts != 0 && dim.size() > 1) return false;
      full = full && parts == size;
    }
  }
  return true;
}

AxisList allowed_prefix(const FactorRule& rule, int factor, const AxisList& axes) {
  auto beside_others = [&](const TensorFactors& tensor) {
    const int dim = dim_of_factor(tensor, factor);
    return dim >= 0 && tensor[static_cast<size_t>(dim)].size() > 1;
  };
  if (std::none_of(rule.operands.begin(), rule.operands.end(), beside_others) &&
      std::none_of(rule.results.begin(), rule.results.end(), beside_others))
    return axes;
  return dividing_prefix(axes, rule.factors[static_cast<size_t>(factor)].size);
}

AxisList dividing_prefix(const AxisList& axes, int64_t size) {
  AxisList prefix;
  int64_t parts = 1;
  for (const AxisRef& ref : axes) {
    if (size % (parts * ref.size) != 0) break;
    parts *= ref.size;
    prefix.push_back(ref);
  }
  return prefix;
}

int dim_of_factor(const TensorFactors& tensor, int factor) {
  for (size_t d = 0; d < tensor.size(); ++d)
    if (std::count(tensor[d].begin(), tensor[d].end(), factor)) return static_cast<int>(d);
  return -1;
}

}  // namespace tessera

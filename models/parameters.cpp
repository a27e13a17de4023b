#include "models/parameters.h"

#include "core/ops/elementwise.h"
#include "core/ops/philox.h"

namespace tessera::models {

ParameterScope::ParameterScope(Builder& builder, DType compute) : builder_(builder), compute_(compute) {}

Value ParameterScope::stored(const std::string& name, Shape shape,
                             std::vector<std::string> logical_axes, Init init, int64_t valid_rows) {
  if (const auto found = stored_.find(name); found != stored_.end()) {
    TESSERA_CHECK(builder_.shape(found->second) == shape, "parameter ", name, " asked for as ", shape,
                  " and as ", builder_.shape(found->second));
    return found->second;
  }
  const TensorType type{parameter_dtype(), std::move(shape)};
  specs_.push_back({name, type, logical_axes, init.mean, init.std, valid_rows,
                    static_cast<int64_t>(specs_.size())});
  return stored_[name] = builder_.input(InputKind::parameter, name, type, std::move(logical_axes));
}

Value ParameterScope::weight(const std::string& name, Shape shape,
                             std::vector<std::string> logical_axes, Init init, int64_t valid_rows) {
  const Value kept = stored(name, std::move(shape), logical_axes, init, valid_rows);
  if (compute_ == parameter_dtype()) return kept;
  // One convert per block and parameter: it is the block's own, so that it can be recomputed there.
  const std::string key = cat(builder_.scope().substr(0, builder_.scope().find('/')), "|", name);
  if (const auto found = converted_.find(key); found != converted_.end()) return found->second;
  return converted_[key] = ops::convert(builder_, kept, compute_);
}

Value ParameterScope::value(const std::string& name) const {
  const auto found = stored_.find(name);
  TESSERA_CHECK(found != stored_.end(), "no parameter ", name);
  return found->second;
}

HostTensor initial_values(const ParameterSpec& spec, int64_t seed, std::span<const int64_t> start,
                          const Shape& shape) {
  HostTensor values({spec.type.dtype, shape});
  std::vector<int64_t> position(static_cast<size_t>(shape.rank()), 0), global(position);
  for (int64_t i = 0; i < shape.elements(); ++i) {
    for (int d = 0; d < shape.rank(); ++d) global[d] = start[d] + position[d];
    const bool padding = spec.valid_rows >= 0 && global[0] >= spec.valid_rows;
    double value = padding ? 0 : spec.init_mean;
    if (!padding && spec.init_std > 0)
      value += spec.init_std * random_normal(static_cast<uint64_t>(seed), static_cast<uint64_t>(spec.init_site),
                                             static_cast<uint64_t>(linear_index(global, spec.type.shape)));
    values.set_real(i, value);
    next_position(position, shape);
  }
  return values;
}

}  // namespace tessera::models

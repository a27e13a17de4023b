#include "models/parameters.h"

#include <algorithm>

#include "core/ops/elementwise.h"
#include "core/ops/philox.h"

namespace tessera::models {

ParameterScope::ParameterScope(Builder& builder, DType compute, std::optional<DType> stored)
    : builder_(builder), compute_(compute), dtype_(stored.value_or(wide_dtype())) {}

Value ParameterScope::stored(const std::string& name, Shape shape,
                             std::vector<std::string> logical_axes, Init init, int64_t valid_rows) {
  if (const auto found = stored_.find(name); found != stored_.end()) {
    TESSERA_CHECK(builder_.shape(found->second) == shape, "parameter ", name, " asked for as ", shape,
                  " and as ", builder_.shape(found->second));
    return found->second;
  }
  const TensorType type{dtype_, std::move(shape)};
  specs_.push_back({name, type, logical_axes, init.mean, init.std, valid_rows,
                    static_cast<int64_t>(specs_.size())});
  const Value input = inputs_[name] = builder_.input(InputKind::parameter, name, type, std::move(logical_axes));
  return stored_[name] = dtype_ == wide_dtype() ? input : ops::convert(builder_, input, wide_dtype());
}

Value ParameterScope::weight(const std::string& name, Shape shape,
                             std::vector<std::string> logical_axes, Init init, int64_t valid_rows) {
  const Value kept = stored(name, std::move(shape), logical_axes, init, valid_rows);
  if (compute_ == wide_dtype()) return kept;
  // One convert per block and parameter: it is the block's own, so that it can be recomputed there.
  const std::string key = cat(builder_.scope().substr(0, builder_.scope().find('/')), "|", name);
  if (const auto found = converted_.find(key); found != converted_.end()) return found->second;
  return converted_[key] = ops::convert(builder_, kept, compute_);
}

namespace {

Value find(const std::map<std::string, Value>& values, const std::string& name) {
  const auto found = values.find(name);
  TESSERA_CHECK(found != values.end(), "no parameter ", name);
  return found->second;
}

}  // namespace

Value ParameterScope::value(const std::string& name) const { return find(stored_, name); }
Value ParameterScope::input(const std::string& name) const { return find(inputs_, name); }

namespace {

// What a value is rounded to before it is stored: bf16 is made of f32.
template <typename T>
using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Row-major runs of the last dim; `global` is the index of the run's first element in the parameter.
template <typename T>
void fill_row(const ParameterSpec& spec, uint64_t seed, int64_t global, std::span<T> row) {
  const auto site = static_cast<uint64_t>(spec.init_site);
  for (size_t i = 0; i < row.size(); ++i)
    row[i] = T(static_cast<Real<T>>(spec.init_mean +
                                    spec.init_std * random_normal(seed, site, static_cast<uint64_t>(global) + i)));
}

}  // namespace

HostTensor initial_values(const ParameterSpec& spec, int64_t seed, std::span<const int64_t> start,
                          const Shape& shape) {
  TESSERA_CHECK(shape.rank() > 0 && spec.type.rank() == shape.rank(), "parameter ", spec.name);
  HostTensor values({spec.type.dtype, shape});
  const int64_t length = shape[shape.rank() - 1];
  std::vector<int64_t> global(start.begin(), start.end());
  for (int64_t done = 0; done < shape.elements(); done += length) {
    const std::vector<int64_t> position = position_of(done, shape);
    for (int d = 0; d < shape.rank(); ++d) global[d] = start[d] + position[d];
    // A vector's rows are its elements: padding may begin inside the run.
    int64_t meant = length;
    if (spec.valid_rows >= 0)
      meant = shape.rank() == 1 ? std::clamp<int64_t>(spec.valid_rows - global[0], 0, length)
                                : (global[0] < spec.valid_rows ? length : 0);
    const int64_t index = linear_index(global, spec.type.shape);
    auto fill = [&]<typename T>() {
      const std::span<T> row = values.data<T>().subspan(static_cast<size_t>(done), static_cast<size_t>(meant));
      if (spec.init_std > 0) fill_row<T>(spec, static_cast<uint64_t>(seed), index, row);
      else std::fill(row.begin(), row.end(), T(static_cast<Real<T>>(spec.init_mean)));
    };
    if (spec.type.dtype == DType::f64) fill.template operator()<double>();
    else if (spec.type.dtype == DType::bf16) fill.template operator()<bfloat16>();
    else fill.template operator()<float>();
  }
  return values;
}

}  // namespace tessera::models

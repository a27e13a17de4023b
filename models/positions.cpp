#include "models/positions.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/scan.h"
#include "core/ops/structure.h"

namespace tessera::models {

std::vector<double> alibi_slopes(int64_t heads) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  const auto slope = [](int64_t i, int64_t of) {
    return std::exp2(-8.0 * static_cast<double>(i + 1) / static_cast<double>(of));
  };
  std::vector<double> slopes;
  for (int64_t i = 0; i < power; ++i) slopes.push_back(slope(i, power));
  for (int64_t i = 0; power + i < heads; ++i) slopes.push_back(slope(2 * i, 2 * power));
  return slopes;
}

Value alibi_bias(ParameterScope& scope, int64_t heads, int64_t distances) {
  Builder& builder = scope.builder();
  const ScopeGuard guard(builder, "positions");
  const TensorType type{scope.wide_dtype(), {heads, distances}};
  HostTensor slopes({type.dtype, {heads}});
  const std::vector<double> values = alibi_slopes(heads);
  for (int64_t h = 0; h < heads; ++h) slopes.set_real(h, -values[static_cast<size_t>(h)]);
  return ops::multiply(builder,
                       ops::broadcast_in_dim(builder, ops::constant(builder, std::move(slopes)),
                                             type.shape, {0}),
                       ops::iota(builder, type, 1));
}

int64_t relative_bucket(int64_t distance, int64_t buckets, int64_t max_distance) {
  const int64_t exact = buckets / 2;
  if (distance < exact) return distance;
  const double share = std::log(static_cast<double>(distance) / static_cast<double>(exact)) /
                       std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
  const auto beyond = static_cast<int64_t>(share * static_cast<double>(buckets - exact));
  return std::min(exact + beyond, buckets - 1);
}

Value relative_bias(ParameterScope& scope, int64_t heads, int64_t length, int64_t buckets,
                    int64_t max_distance, double init_std) {
  Builder& builder = scope.builder();
  const ScopeGuard guard(builder, "positions");
  const Value table = scope.stored("relative_positions.weight", {buckets, heads},
                                   {"positions", "heads"}, {.std = init_std});
  HostTensor bucket({DType::s32, {std::min(length, max_distance + 1)}});
  for (int64_t d = 0; d < bucket.elements(); ++d)
    bucket.set_int(d, relative_bucket(d, buckets, max_distance));
  const Value rows = ops::embedding(builder, table, ops::constant(builder, std::move(bucket)));
  return ops::transpose(builder, rows, {1, 0});
}

Value document_segments(Builder& builder, Value tokens, int64_t end_token) {
  const ScopeGuard guard(builder, "documents");
  const Value end = ops::constant_like(builder, tokens, static_cast<double>(end_token));
  const Value ends = ops::convert(
      builder, ops::compare(builder, tokens, end, CompareDirection::eq), DType::s32);
  return builder.annotate(ops::scan(builder, ends, 1, ReduceKind::sum), {"batch", "length"});
}

}  // namespace tessera::models

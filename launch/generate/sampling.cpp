#include "launch/generate/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/base/error.h"

namespace tessera {

int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, double uniform) {
  TESSERA_CHECK(!logits.empty(), "no logits to sample from");
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
  if (options.temperature <= 0) return order.front();
  if (options.top_k > 0) order.resize(std::min<size_t>(order.size(), static_cast<size_t>(options.top_k)));
  const double highest = logits[order.front()];
  std::vector<double> weights;
  double total = 0;
  for (int64_t index : order) {
    weights.push_back(std::exp((logits[index] - highest) / options.temperature));
    total += weights.back();
  }
  double left = uniform * total;
  for (size_t i = 0; i < order.size(); ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order.back();
}

}  // namespace tessera

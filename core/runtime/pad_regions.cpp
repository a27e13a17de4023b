#include "core/runtime/pad_regions.h"

#include <cmath>
#include <limits>

#include "core/base/error.h"

namespace tessera {

double garbage(DType dtype) {
  if (is_float(dtype) || dtype == DType::c64) return std::numeric_limits<double>::quiet_NaN();
  return dtype == DType::pred ? 1 : 1000003;
}

void for_each_pad(const Shape& shard, const Sharding& sharding, const Shape& logical, int64_t device,
                  const std::function<void(int64_t, int)>& body) {
  for (int d = 0; d < shard.rank(); ++d) {
    const AxisList& axes = sharding.dims[static_cast<size_t>(d)].axes;
    const int64_t start = axes.empty() ? 0 : sharding.mesh->coordinate(device, axes) * shard[d];
    const int64_t valid = std::clamp<int64_t>(logical[d] - start, 0, shard[d]);
    int64_t inner = 1, outer = 1;
    for (int e = 0; e < d; ++e) outer *= shard[e];
    for (int e = d + 1; e < shard.rank(); ++e) inner *= shard[e];
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = (o * shard[d] + valid) * inner; i < (o + 1) * shard[d] * inner; ++i)
        body(i, d);
  }
}

void fill_padding(HostTensor& shard, const Sharding& sharding, const Shape& logical, int64_t device,
                  double number, int dim) {
  for_each_pad(shard.shape(), sharding, logical, device, [&](int64_t index, int d) {
    if (dim < 0 || d == dim) shard.set_real(index, number);
  });
}

HostTensor cut_to(HostTensor whole, const Shape& logical) {
  if (whole.shape() == logical) return whole;
  return whole.slice(std::vector<int64_t>(static_cast<size_t>(logical.rank()), 0), logical);
}

void settle_padding(HostTensor& shard, const Sharding& sharding, const Shape& logical,
                    int64_t device, const PadContents& claims) {
  const HostTensor before = shard;
  std::vector<std::optional<double>> numbers;
  for (PadContent claim : claims) numbers.push_back(number_of(claim, shard.dtype()));
  // Garbage first, so that an element in the padding of two dims keeps the one claim made of it.
  for_each_pad(shard.shape(), sharding, logical, device, [&](int64_t index, int d) {
    if (!numbers[static_cast<size_t>(d)]) shard.set_real(index, garbage(shard.dtype()));
  });
  for_each_pad(shard.shape(), sharding, logical, device, [&](int64_t index, int d) {
    const auto dim = static_cast<size_t>(d);
    if (!numbers[dim]) return;
    HostTensor claimed = HostTensor::filled({shard.dtype(), {}}, *numbers[dim]);
    TESSERA_CHECK(before.get_real(index) == claimed.get_real(0), "padding of dim ", d, " on device ",
                  device, " is claimed to be ", claims[dim], ", but holds ",
                  before.get_real(index));
    shard.set_real(index, *numbers[dim]);
  });
  // A copy of valid elements holds none in particular, but no garbage either: it stays as it is.
  for_each_pad(shard.shape(), sharding, logical, device, [&](int64_t index, int d) {
    const auto dim = static_cast<size_t>(d);
    if (claims[dim] == PadContent::copy_of_valid) shard.set_real(index, before.get_real(index));
  });
}

}  // namespace tessera

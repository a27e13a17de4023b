#include "partitioner/hlo/device_digits.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace tessera::hlo {
namespace {

Digits joined(const Digits& digits) {
  Digits result;
  for (const Digit& digit : digits) {
    if (digit.size == 1) continue;
    if (!result.empty() && result.back().stride == digit.stride * digit.size)
      result.back() = {result.back().size * digit.size, digit.stride};
    else
      result.push_back(digit);
  }
  return result;
}

}  // namespace

Digits digits_of(const DeviceList& iota) {
  std::vector<int64_t> strides(iota.reshape.size(), 1);
  for (size_t i = iota.reshape.size(); i-- > 1;) strides[i - 1] = strides[i] * iota.reshape[i];
  Digits digits;
  for (size_t i = 0; i < iota.reshape.size(); ++i) {
    const size_t from = iota.transpose.empty() ? i : static_cast<size_t>(iota.transpose[i]);
    digits.push_back({iota.reshape[from], strides[from]});
  }
  return joined(digits);
}

std::optional<Digits> digits_of(std::span<const int64_t> list) {
  const auto count = static_cast<int64_t>(list.size());
  if (count == 0 || list[0] != 0) return std::nullopt;
  auto at = [&](int64_t i) { return list[static_cast<size_t>(i)]; };
  // From the minor end: each digit as long as its first entries say.
  Digits digits;
  for (int64_t block = 1; block < count;) {
    const int64_t stride = at(block), room = count / block;
    int64_t run = 1;
    while (run < room && at(run * block) == run * stride) ++run;
    while (room % run != 0) --run;
    if (run == 1) return std::nullopt;
    digits.insert(digits.begin(), {run, stride});
    block *= run;
    if (count % block != 0) return std::nullopt;
  }
  int64_t minor = 1;
  for (size_t i = digits.size(); i-- > 0;) {
    const Digit& digit = digits[i];
    for (int64_t j = 0; j < minor * digit.size; ++j)
      if (at(j) != at(j % minor) + j / minor * digit.stride) return std::nullopt;
    minor *= digit.size;
  }
  return joined(digits);
}

std::optional<std::vector<Digits>> split_digits(const Digits& digits,
                                                std::span<const int64_t> dims) {
  std::vector<Digits> result(dims.size());
  Digits rest = digits;
  for (size_t d = dims.size(); d-- > 0;) {
    for (int64_t size = dims[d]; size > 1;) {
      if (rest.empty()) return std::nullopt;
      Digit& digit = rest.back();
      const int64_t part = std::min(size, digit.size);
      if (size % part != 0 || digit.size % part != 0) return std::nullopt;
      result[d].insert(result[d].begin(), {part, digit.stride});
      size /= part;
      digit = {digit.size / part, digit.stride * part};
      if (digit.size == 1) rest.pop_back();
    }
    result[d] = joined(result[d]);
  }
  return result;
}

int64_t stride_of(const Mesh& mesh, int axis) {
  int64_t stride = 1;
  for (int a = mesh.rank(); a-- > axis + 1;) stride *= mesh.axes()[static_cast<size_t>(a)].size;
  return stride;
}

std::optional<AxisList> axes_of(const Digits& digits, const Mesh& mesh) {
  AxisList axes;
  for (const Digit& digit : digits) {
    // From the major end of the digit, axis by axis: each covers the strides [low, high).
    int64_t high = digit.size * digit.stride;
    for (int a = 0; a < mesh.rank() && high > digit.stride; ++a) {
      const int64_t stride = stride_of(mesh, a),
                    end = stride * mesh.axes()[static_cast<size_t>(a)].size;
      if (stride >= high || end < high) continue;
      const int64_t low = std::max(stride, digit.stride);
      if (end % high != 0 || high % low != 0 || low % stride != 0) return std::nullopt;
      axes.push_back({a, end / high, high / low});
      high = low;
    }
    if (high != digit.stride) return std::nullopt;
  }
  return canonical(axes);
}

Digits digits_of(const AxisList& axes, const Mesh& mesh) {
  Digits digits;
  for (const AxisRef& ref : axes) {
    const int64_t whole = mesh.axes()[static_cast<size_t>(ref.axis)].size;
    digits.push_back({ref.size, stride_of(mesh, ref.axis) * (whole / (ref.pre * ref.size))});
  }
  return digits;
}

DeviceList arrange(std::vector<int64_t> dims, const Digits& digits) {
  DeviceList devices;
  devices.dims = std::move(dims);
  const Digits order = joined(digits);
  std::vector<int64_t> by_stride(order.size()), place(order.size());
  std::iota(by_stride.begin(), by_stride.end(), 0);
  std::sort(by_stride.begin(), by_stride.end(), [&](int64_t a, int64_t b) {
    return order[static_cast<size_t>(a)].stride > order[static_cast<size_t>(b)].stride;
  });
  for (size_t i = 0; i < by_stride.size(); ++i) {
    devices.reshape.push_back(order[static_cast<size_t>(by_stride[i])].size);
    place[static_cast<size_t>(by_stride[i])] = static_cast<int64_t>(i);
  }
  if (devices.reshape.empty()) devices.reshape = {1};
  if (order.size() > 1) devices.transpose = std::move(place);
  return devices;
}

DeviceList arrange(std::vector<int64_t> dims, std::vector<int64_t> list) {
  if (const std::optional<Digits> digits = digits_of(list))
    return arrange(std::move(dims), *digits);
  DeviceList devices;
  devices.dims = std::move(dims);
  devices.is_iota = false;
  devices.list = std::move(list);
  return devices;
}

}  // namespace tessera::hlo

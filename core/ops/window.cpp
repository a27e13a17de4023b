#include "core/ops/window.h"

#include <algorithm>

#include "core/ops/support.h"

namespace tessera::ops {
namespace {

Ints entries(std::string_view op, const Attributes& attributes, Attr key, size_t rank,
             int64_t fallback, bool is_positive) {
  const Ints values = attributes.get_or<Ints>(key, Ints(rank, fallback));
  require(values.size() == rank, op, ": ", name_of(key), " [", join(values, ","), "] for ", rank,
          " window dims");
  for (int64_t value : values)
    require(!is_positive || value >= 1, op, ": ", name_of(key), " [", join(values, ","),
            "] must be positive");
  return values;
}

}  // namespace

std::vector<WindowDim> windows_of(std::string_view op, const Attributes& attributes,
                                  const Shape& sizes, const Ints& window) {
  const auto rank = static_cast<size_t>(sizes.rank());
  require(window.size() == rank, op, ": window [", join(window, ","), "] over ", sizes);
  const Ints strides = entries(op, attributes, Attr::window_strides, rank, 1, true),
             base = entries(op, attributes, Attr::base_dilations, rank, 1, true),
             dilations = entries(op, attributes, Attr::window_dilations, rank, 1, true),
             low = entries(op, attributes, Attr::padding_low, rank, 0, false),
             high = entries(op, attributes, Attr::padding_high, rank, 0, false),
             reversal = entries(op, attributes, Attr::window_reversal, rank, 0, false);
  std::vector<WindowDim> dims;
  for (size_t d = 0; d < rank; ++d) {
    require(window[d] >= 1, op, ": window [", join(window, ","), "] must be positive");
    dims.push_back({sizes[static_cast<int>(d)], window[d], strides[d], low[d], high[d], base[d],
                    dilations[d], reversal[d] != 0});
  }
  return dims;
}

void set_windows(Attributes& attributes, const std::vector<WindowDim>& windows) {
  Ints strides, low, high, base, dilations, reversal;
  for (const WindowDim& dim : windows) {
    strides.push_back(dim.stride);
    low.push_back(dim.low);
    high.push_back(dim.high);
    base.push_back(dim.base_dilation);
    dilations.push_back(dim.dilation);
    reversal.push_back(dim.is_reversed);
  }
  attributes.set(Attr::window_strides, strides);
  attributes.set(Attr::padding_low, low);
  attributes.set(Attr::padding_high, high);
  attributes.set(Attr::base_dilations, base);
  attributes.set(Attr::window_dilations, dilations);
  attributes.set(Attr::window_reversal, reversal);
}

DilatedWindow read_window(const CutDim& cut, const WindowDim& window, int64_t length) {
  return dilated_window_of(cut, window.base_dilation, length * window.stride, -window.low,
                           (length - 1) * window.stride + window.reach());
}

Value local_window(Builder& b, Value x, const CutDim& cut, WindowDim& window, int64_t length,
                   const HaloFill& fill) {
  if (window.is_trivial() && cut.shard == length) return x;
  if (cut.axes.empty() && !cut.is_padded()) {
    window.high = (length - 1) * window.stride + window.reach() - window.low - window.spread();
    return x;
  }
  const DilatedWindow read = read_window(cut, window, length);
  window.low = window.high = 0;
  if (read.drifts) {
    window.base_dilation = 1;
    return dilated_window(b, x, cut, read, fill);
  }
  window.low = read.low;
  window.high = read.high;
  return halo_window(b, x, cut, read.source, fill);
}

double window_taps(const Attributes& attributes) {
  double taps = 1;
  for (int64_t window : attributes.ints(Attr::window_dimensions))
    taps *= static_cast<double>(window);
  return taps;
}

}  // namespace tessera::ops

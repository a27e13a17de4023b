// Windows that slide over dims: what convolution, pooling and their gradients have in common.
//
// Along one dim of `size` elements, spread by `base_dilation` and padded, window element k of
// result element q reads the position  q stride - low + k dilation  of the spread line; position i
// * base_dilation holds element i, all others the pad value.
#pragma once

#include "core/ops/halo.h"

namespace tessera::ops {

struct WindowDim {
  int64_t size = 1;  // of the operand
  int64_t window = 1;
  int64_t stride = 1;
  int64_t low = 0, high = 0;  // may be negative
  int64_t base_dilation = 1;
  int64_t dilation = 1;
  bool is_reversed = false;

  int64_t spread() const { return size == 0 ? 0 : (size - 1) * base_dilation + 1; }
  int64_t reach() const { return (window - 1) * dilation + 1; }  // of one window
  int64_t result() const {
    const int64_t room = spread() + low + high - reach();
    return room < 0 ? 0 : room / stride + 1;
  }
  // The element that window element k of result q reads, or -1 where it is the pad value.
  int64_t source(int64_t q, int64_t k) const {
    const int64_t at = q * stride - low + (is_reversed ? window - 1 - k : k) * dilation;
    if (at < 0 || at % base_dilation != 0) return -1;
    return at / base_dilation < size ? at / base_dilation : -1;
  }
  bool is_trivial() const {
    return window == 1 && stride == 1 && low == 0 && high == 0 && base_dilation == 1;
  }
};

// The attributes of the windows, with defaults where an optional one is absent; `rank` entries.
// Throws UserError that names `op` where one has another length or is not positive.
std::vector<WindowDim> windows_of(std::string_view op, const Attributes& attributes,
                                  const Shape& sizes, const Ints& window);
// The attributes for these windows (all but window_dimensions).
void set_windows(Attributes& attributes, const std::vector<WindowDim>& windows);

// What a device with `length` result elements reads of a dim.
DilatedWindow read_window(const CutDim& cut, const WindowDim& window, int64_t length);
// Brings that to the device and changes `window` to what is left to do locally: no padding but that
// of the phase. A dim that is not cut stays as it is, and is padded to `length` results.
Value local_window(Builder& b, Value x, const CutDim& cut, WindowDim& window, int64_t length,
                   const HaloFill& fill);

// The elements of one window: window_dimensions, multiplied.
double window_taps(const Attributes& attributes);

}  // namespace tessera::ops

// Pooling: reductions over windows that slide over the dims, and the gradient of those that select.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// reduce_window{window_dimensions, windows, reduce_kind}(x), which starts from and is padded with
// the combiner's identity; or with a region `combiner` over xs... and as many scalars it starts
// from and pads with: reduce_window(xs..., inits...). One window entry per dim.
extern const OpDef kReduceWindow;

struct Pooling {
  Ints window, strides, low, high, base_dilations, dilations;  // empty: 1s, or 0s for padding
};
Value reduce_window(Builder& b, Value x, const Pooling& pooling, ReduceKind kind);

// select_and_scatter{window_dimensions, window_strides, padding_low, padding_high, reduce_kind}
// (x, source): every window of x adds its element of `source` to where its maximum (minimum)
// stands, the first of equals. Or with regions `select` (pred of two scalars) and `combiner`:
// select_and_scatter(x, source, init). Padding is never selected.
extern const OpDef kSelectAndScatter;

}  // namespace tessera::ops

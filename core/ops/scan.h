// Cumulative scans along one dim, and the linear recurrence that their gradients are.
//
// On shards each device scans its own part, the parts' totals are scanned over the axis by shifts
// of 1, 2, 4 ... places (one row each), and what comes before a part is combined into it.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

struct ScanOptions {
  bool is_reverse = false;    // from the last element to the first
  bool is_exclusive = false;  // element i is not in its own prefix; the first is the identity
};

// scan{dimension, reduce_kind, is_reverse?, is_exclusive?}(x): prefix sums, products, maxima ...
// The gradient of a maximum goes to the first of equal elements.
extern const OpDef kScan;
Value scan(Builder& b, Value x, int64_t dimension, ReduceKind kind, ScanOptions options = {});

// log_sum_exp_scan{dimension, is_reverse?, is_exclusive?}(x): log of the prefix sums of exp(x).
extern const OpDef kLogSumExpScan;
Value log_sum_exp_scan(Builder& b, Value x, int64_t dimension, ScanOptions options = {});

// linear_recurrence{dimension, is_reverse?}(a, b): h[i] = a[i] h[i - 1] + b[i], from h = 0.
extern const OpDef kLinearRecurrence;
Value linear_recurrence(Builder& b, Value a, Value addend, int64_t dimension,
                        bool is_reverse = false);

// Element i is x's next (in the order of the scan) element; the last is 0.
Value next_along(Builder& b, Value x, int64_t dimension, bool is_reverse);

}  // namespace tessera::ops

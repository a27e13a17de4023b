// Factor rules: which dims of an op's operands and results are the same loop.
//
//     dot_general f32[8,16], f32[16,32] -> f32[8,32]:   ([i, k], [k, j]) -> ([i, j])
//         i: 8 pass_through, j: 32 pass_through, k: 16 reduction sum
//
// A dim may be made of several factors, major to minor: reshape f32[6,4] -> f32[2,12] is
// ([(i j), k]) -> ([i, (j k)]) with sizes i=2, j=3, k=4. The rule drives propagation, partitioning
// and cost. (The idea and the words are Shardy's, docs/propagation.md of that project.)
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "core/types/reduce_kind.h"

namespace tessera {

enum class FactorKind : uint8_t {
  pass_through,      // in operands and results: shards compute alone
  reduction,         // when sharded, every result that lacks the factor is partial over its axes
                     // (a result that has it is sharded, as in gradients with several results)
  need_replication,  // must not be sharded while the op runs
  // Sharded alike in operands and results, but element i of a result needs elements of other shards
  // (slice, pad, concatenate, reverse, windows, sort). The dims may differ in size. May be sharded
  // only where the op has a `partition` (OpDef), which then makes the exchange (halo, two stages).
  permutation,
};

struct Factor {
  int64_t size = 1;
  FactorKind kind = FactorKind::pass_through;
  ReduceKind reduce = ReduceKind::sum;  // of a reduction factor
  // The op's meaning depends on the coordinate along the factor (causal masks, rotary, iota). When
  // it is sharded, the op takes one extra s64[] operand per positional factor, in factor order after
  // its own operands: the global index at which the local extent starts.
  bool positional = false;
};

// The factors of each dim of one tensor, major to minor. A dim of size 1 has none.
using TensorFactors = std::vector<std::vector<int>>;

struct FactorRule {
  std::vector<Factor> factors;
  std::vector<TensorFactors> operands;
  std::vector<TensorFactors> results;

  int add(int64_t size, FactorKind kind = FactorKind::pass_through,
          ReduceKind reduce = ReduceKind::sum, bool positional = false) {
    factors.push_back({size, kind, reduce, positional});
    return static_cast<int>(factors.size()) - 1;
  }
  int positional_count() const;
};

// ([i, k], [k, j]) -> ([i, j]) {i=8, j=32, k=16 reduction(sum)}
std::ostream& operator<<(std::ostream& out, const FactorRule& rule);

}  // namespace tessera

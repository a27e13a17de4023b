// The router of experts (core/ops/routing.h) and the moves of tokens to them and back
// (core/ops/permute_tokens.h).
//
// Floors: routing reads the logits once, a few bytes per token and expert; a move reads or writes k rows
// for each token, (1 + k) t d elements. Everything is cut by tokens, or by columns where rows are written at
// places that are data, so that no two threads write one row and bits do not depend on their number.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/ops/permute_tokens.h"
#include "core/ops/routing.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kTokens = 64;  // of a task

// ---- routing ------------------------------------------------------------------------------------

// f32, or f64 where the logits are.
template <typename T>
using Acc = simd::Accumulator<T>;

// NaN above infinity, -0 below +0, as top_k has it.
template <typename A>
bool is_better(A a, A b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
  return a > b || (a == b && a == A(0) && !std::signbit(a) && std::signbit(b));
}

template <typename A>
A sigmoid(A x) {
  return A(1) / (A(1) + std::exp(-x));
}

// Turns values into their softmax.
template <typename A>
void to_softmax(A* values, int64_t count) {
  A largest = values[0], sum = 0;
  for (int64_t i = 1; i < count; ++i) largest = std::max(largest, values[i]);
  for (int64_t i = 0; i < count; ++i) sum += values[i] = std::exp(values[i] - largest);
  for (int64_t i = 0; i < count; ++i) values[i] /= sum;
}

// One token's scores of all experts; not normalised over the chosen.
template <typename A>
void to_scores(A* values, int64_t count, bool is_sigmoid) {
  if (!is_sigmoid) return to_softmax(values, count);
  for (int64_t i = 0; i < count; ++i) values[i] = sigmoid(values[i]);
}

// The scores of the chosen, whose logits `chosen` holds, and what they are multiplied by.
template <typename A>
A score_chosen(const std::vector<A>& row, const std::vector<int32_t>& choice,
               const ops::RoutingKind& kind, std::vector<A>& scratch, std::vector<A>& chosen) {
  const auto k = static_cast<int64_t>(choice.size());
  chosen.clear();
  if (!kind.is_sigmoid && !kind.normalize) {
    scratch = row;
    to_softmax(scratch.data(), static_cast<int64_t>(row.size()));
    for (const int32_t e : choice) chosen.push_back(scratch[static_cast<size_t>(e)]);
    return static_cast<A>(kind.scale);
  }
  for (const int32_t e : choice) chosen.push_back(row[static_cast<size_t>(e)]);
  if (k > 0) to_scores(chosen.data(), k, kind.is_sigmoid);
  if (!kind.is_sigmoid || !kind.normalize) return static_cast<A>(kind.scale);
  A sum = static_cast<A>(ops::kSigmoidSumFloor);
  for (const A score : chosen) sum += score;
  return static_cast<A>(kind.scale) / sum;
}

// The logits of token `t`.
template <typename T>
void load_logits(const TensorView& logits, int64_t t, std::vector<Acc<T>>& row) {
  const T* from = logits.as<T>() + t * static_cast<int64_t>(row.size());
  for (size_t e = 0; e < row.size(); ++e) row[e] = Acc<T>(from[e]);
}

template <typename T>
void route(const KernelArgs& args) {
  using A = Acc<T>;
  const TensorView& logits = args.operands[0];
  const int64_t tokens = logits.type.shape[0], experts = logits.type.shape[1],
                k = args.results[0].type.shape[1];
  const ops::RoutingKind kind = ops::routing_kind(args.instruction.attributes);
  const A* bias = args.operands.size() > 1 ? args.operands[1].as<A>() : nullptr;
  const int64_t bias_step = bias && args.operands[1].type.rank() == 2 ? experts : 0;
  parallel_ranges(tokens, kTokens, [&](int64_t begin, int64_t end) {
    std::vector<A> row(static_cast<size_t>(experts)), by(row.size()), chosen;
    std::vector<int32_t> order(row.size()), choice;
    for (int64_t t = begin; t < end; ++t) {
      load_logits<T>(logits, t, row);
      std::iota(order.begin(), order.end(), 0);
      by = row;
      if (bias) {
        to_scores(by.data(), experts, kind.is_sigmoid);
        for (int64_t e = 0; e < experts; ++e) by[static_cast<size_t>(e)] += bias[t * bias_step + e];
      }
      std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int32_t a, int32_t b) {
        const A x = by[static_cast<size_t>(a)], y = by[static_cast<size_t>(b)];
        return is_better(x, y) || (!is_better(y, x) && a < b);
      });
      choice.assign(order.begin(), order.begin() + k);
      const A factor = score_chosen(row, choice, kind, by, chosen);
      for (int64_t j = 0; j < k; ++j) {
        args.results[0].as<A>()[t * k + j] = chosen[static_cast<size_t>(j)] * factor;
        args.results[1].as<int32_t>()[t * k + j] = choice[static_cast<size_t>(j)];
      }
    }
  });
}

// The formulas stand in core/ops/routing.cpp.
template <typename T>
void route_grad(const KernelArgs& args) {
  using A = Acc<T>;
  const TensorView& logits = args.operands[0];
  const int64_t tokens = logits.type.shape[0], experts = logits.type.shape[1],
                k = args.operands[1].type.shape[1];
  const ops::RoutingKind kind = ops::routing_kind(args.instruction.attributes);
  parallel_ranges(tokens, kTokens, [&](int64_t begin, int64_t end) {
    std::vector<A> row(static_cast<size_t>(experts)), d_row(row.size()), scratch, chosen, g;
    std::vector<int32_t> choice;
    for (int64_t t = begin; t < end; ++t) {
      load_logits<T>(logits, t, row);
      choice.clear();
      g.clear();
      for (int64_t j = t * k; j < (t + 1) * k; ++j) {
        const int32_t e = args.operands[1].as<int32_t>()[j];
        if (e < 0 || e >= experts) continue;
        choice.push_back(e);
        g.push_back(args.operands[2].as<A>()[j]);
      }
      const A factor = score_chosen(row, choice, kind, scratch, chosen);
      A dot = 0;
      for (size_t j = 0; j < g.size(); ++j) dot += g[j] * chosen[j];
      // What every expert of a softmax over all gets; scratch holds that softmax.
      const bool is_over_all = !kind.is_sigmoid && !kind.normalize;
      for (size_t e = 0; e < d_row.size(); ++e)
        d_row[e] = is_over_all ? -factor * scratch[e] * dot : A(0);
      const A subtract = is_over_all           ? A(0)
                         : !kind.normalize     ? A(0)
                         : kind.is_sigmoid     ? dot * factor / static_cast<A>(kind.scale)
                                               : dot;
      for (size_t j = 0; j < g.size(); ++j) {
        const A s = chosen[j], slope = kind.is_sigmoid ? s * (A(1) - s) : s;
        d_row[static_cast<size_t>(choice[j])] += slope * factor * (g[j] - subtract);
      }
      for (int64_t e = 0; e < experts; ++e)
        args.results[0].as<T>()[t * experts + e] = T(d_row[static_cast<size_t>(e)]);
    }
  });
}

void run_routing(const KernelArgs& args) {
  dispatch_kernel_float(args.operands[0].type.dtype, [&]<typename T>() { route<T>(args); });
}
void run_routing_grad(const KernelArgs& args) {
  dispatch_kernel_float(args.operands[0].type.dtype, [&]<typename T>() { route_grad<T>(args); });
}

Refusal accept_first_float(const OpCall& call, Results) { return refuse_float(call.operands[0]); }

// ---- expert_order -------------------------------------------------------------------------------

// A counting sort; one thread, since it moves 8 bytes where the tokens' rows are thousands.
void run_order(const KernelArgs& args) {
  const int64_t choices = args.operands[0].type.elements(),
                groups = args.results[1].type.elements();
  const int32_t* experts = args.operands[0].as<int32_t>();
  int32_t *places = args.results[0].as<int32_t>(), *sizes = args.results[1].as<int32_t>();
  std::vector<int32_t> next(static_cast<size_t>(groups + 2), 0);
  const auto group_of = [&](int64_t i) {
    return static_cast<size_t>(experts[i] >= 0 && experts[i] < groups ? experts[i] : groups);
  };
  for (int64_t i = 0; i < choices; ++i) ++next[group_of(i) + 1];
  std::copy(next.begin() + 1, next.end() - 1, sizes);
  for (size_t g = 1; g < next.size(); ++g) next[g] += next[g - 1];
  for (int64_t i = 0; i < choices; ++i) places[i] = next[group_of(i)]++;
}

Refusal accept_order(const OpCall&, Results) { return std::nullopt; }

// ---- moves --------------------------------------------------------------------------------------

struct Choices {
  explicit Choices(const KernelArgs& args, int64_t row_count)
      : tokens(args.operands[1].type.shape[0]),
        k(args.operands[1].type.shape[1]),
        rows(row_count),
        places(args.operands[1].as<int32_t>()) {}
  bool has_row(int64_t choice) const { return places[choice] >= 0 && places[choice] < rows; }
  int64_t tokens, k, rows;
  const int32_t* places;
};

template <typename T>
void permute(const KernelArgs& args) {
  using A = Acc<T>;
  const TensorView &x = args.operands[0], &rows = args.results[0];
  const Choices c(args, rows.type.shape[0]);
  const int64_t d = x.type.shape[1];
  const A* weights = args.operands.size() > 2 ? args.operands[2].as<A>() : nullptr;
  const Chunks columns = chunks_of(d, 64, 64);
  parallel_for(columns.count(), [&](int64_t chunk) {
    const int64_t begin = columns.begin(chunk), count = columns.end(chunk) - begin;
    std::vector<bool> is_written(static_cast<size_t>(c.rows), false);
    for (int64_t i = 0; i < c.tokens * c.k; ++i) {
      if (!c.has_row(i)) continue;
      const T* from = x.as<T>() + i / c.k * d + begin;
      T* to = rows.as<T>() + c.places[i] * d + begin;
      const A weight = weights ? weights[i] : A(1);
      const auto row = static_cast<size_t>(c.places[i]);
      // Never so where places are a permutation.
      const bool adds = is_written[row];
      is_written[row] = true;
      for (int64_t j = 0; j < count; ++j)
        to[j] = T((adds ? A(to[j]) : A(0)) + weight * A(from[j]));
    }
    for (int64_t row = 0; row < c.rows; ++row)
      if (!is_written[static_cast<size_t>(row)])
        std::fill_n(rows.as<T>() + row * d + begin, count, T(A(0)));
  });
}

template <typename T>
void unpermute(const KernelArgs& args) {
  using A = Acc<T>;
  const TensorView &rows = args.operands[0], &y = args.results[0];
  const Choices c(args, rows.type.shape[0]);
  const int64_t d = rows.type.shape[1];
  const A* weights = args.operands.size() > 2 ? args.operands[2].as<A>() : nullptr;
  parallel_ranges(c.tokens, 8, [&](int64_t begin, int64_t end) {
    std::vector<A> sum(static_cast<size_t>(d));
    for (int64_t t = begin; t < end; ++t) {
      std::fill(sum.begin(), sum.end(), A(0));
      for (int64_t i = t * c.k; i < (t + 1) * c.k; ++i) {
        if (!c.has_row(i)) continue;
        const T* from = rows.as<T>() + c.places[i] * d;
        const A weight = weights ? weights[i] : A(1);
        for (int64_t j = 0; j < d; ++j) sum[static_cast<size_t>(j)] += weight * A(from[j]);
      }
      for (int64_t j = 0; j < d; ++j) y.as<T>()[t * d + j] = T(sum[static_cast<size_t>(j)]);
    }
  });
}

template <typename T>
void dots(const KernelArgs& args) {
  using A = Acc<T>;
  const TensorView &rows = args.operands[0], &x = args.operands[2];
  const Choices c(args, rows.type.shape[0]);
  const int64_t d = rows.type.shape[1];
  parallel_ranges(c.tokens, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * c.k; i < end * c.k; ++i) {
      A& result = args.results[0].as<A>()[i];
      result = 0;
      if (!c.has_row(i)) continue;
      constexpr int64_t kLanes = 16;  // sums side by side, in an order fixed by d
      A sums[kLanes] = {};
      const T *with = x.as<T>() + i / c.k * d, *row = rows.as<T>() + c.places[i] * d;
      int64_t j = 0;
      for (; j + kLanes <= d; j += kLanes)
        for (int64_t l = 0; l < kLanes; ++l) sums[l] += A(row[j + l]) * A(with[j + l]);
      for (; j < d; ++j) sums[0] += A(row[j]) * A(with[j]);
      for (const A sum : sums) result += sum;
    }
  });
}

void run_permute(const KernelArgs& args) {
  dispatch_kernel_float(args.operands[0].type.dtype, [&]<typename T>() { permute<T>(args); });
}
void run_unpermute(const KernelArgs& args) {
  dispatch_kernel_float(args.operands[0].type.dtype, [&]<typename T>() { unpermute<T>(args); });
}
void run_dots(const KernelArgs& args) {
  dispatch_kernel_float(args.operands[0].type.dtype, [&]<typename T>() { dots<T>(args); });
}

}  // namespace

void register_routing(KernelTable& table) {
  table.add(ops::kTopKRouting, make_kernel("cpu.top_k_routing", accept_first_float, run_routing));
  table.add(ops::kTopKRoutingGrad,
            make_kernel("cpu.top_k_routing_grad", accept_first_float, run_routing_grad));
  table.add(ops::kExpertOrder, make_kernel("cpu.expert_order", accept_order, run_order));
  table.add(ops::kPermuteTokens,
            make_kernel("cpu.permute_tokens", accept_first_float, run_permute));
  table.add(ops::kUnpermuteTokens,
            make_kernel("cpu.unpermute_tokens", accept_first_float, run_unpermute));
  table.add(ops::kTokenDots, make_kernel("cpu.token_dots", accept_first_float, run_dots));
}

}  // namespace tessera::cpu

#include "core/passes/product_epilogues.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/accumulate.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/product_epilogue.h"
#include "core/ops/scaled_product.h"
#include "core/ops/structure.h"
#include "core/passes/dead_code.h"

namespace tessera {
namespace {

bool is_tanh_gelu(const Instruction& it, const OpDef& op) {
  return it.is(op) && it.attributes.flag(Attr::is_approximate);
}

Ints sorted(Ints dims) {
  std::sort(dims.begin(), dims.end());
  return dims;
}

// A product with its epilogue, as instructions of the new graph will be made.
struct Fused {
  Instruction made;            // operands are values of the source
  std::vector<Value> results;  // what they take the place of
};

class EpilogueFuser {
 public:
  EpilogueFuser(const Graph& graph, const KernelTable& kernels)
      : graph_(graph), kernels_(kernels), uses_(graph.uses()), is_output_(graph.instructions.size(), false),
        place_(graph.instructions.size()), done_(graph.instructions.size(), false), rewriter_(graph) {
    std::iota(place_.begin(), place_.end(), 0);
    for (const GraphOutput& output : graph.outputs) is_output_[at(output.value.instruction)] = true;
  }

  Graph run() {
    for (int i = 0; i < size(); ++i) find(i);
    if (fused_.empty()) return graph_;
    // In program order, except that what an instruction needs is written before it.
    for (int i = 0; i < size(); ++i)
      if (!waits_.count(i)) write(i);
    for (const int i : waits_) write(i);
    return eliminate_dead_code(rewriter_.finish());
  }

 private:
  static size_t at(int index) { return static_cast<size_t>(index); }
  int size() const { return static_cast<int>(graph_.instructions.size()); }

  // ---- Finding ----------------------------------------------------------------------------------

  void find(int i) {
    const Instruction& it = graph_.instructions[at(i)];
    if (it.is(ops::kAdd)) find_bias(i);
    if (is_tanh_gelu(it, ops::kGelu)) find_scaled_gelu(i);
    if (is_tanh_gelu(it, ops::kGeluGrad)) find_gelu_grad(i);
    if (it.is(ops::kReduce)) find_bias_grad(i);
  }

  // A product that `user` alone reads.
  bool is_product_for(Value value, const Instruction& user) const {
    const Instruction& product = graph_.at(value);
    return product.is(ops::kDotGeneral) && uses_[at(value.instruction)].size() == 1 &&
           !is_output_[at(value.instruction)] && !taken_.count(value.instruction) &&
           product.recompute == user.recompute && has_no_batch(product) && is_float(graph_.type(value).dtype);
  }
  static bool has_no_batch(const Instruction& product) { return product.attributes.ints(Attr::lhs_batch).empty(); }

  // What is broadcast to the product's last dims, which are all those of rhs.
  std::optional<Value> bias_of(Value value, const Instruction& product) const {
    const Instruction& broadcast = graph_.at(value);
    if (!broadcast.is(ops::kBroadcastInDim)) return std::nullopt;
    const Value bias = broadcast.operands[0];
    const int rank = graph_.type(value).rank(), own = graph_.type(bias).rank();
    const int free = graph_.type(product.operands[1]).rank() -
                     static_cast<int>(product.attributes.ints(Attr::rhs_contracting).size());
    const Ints& dims = broadcast.attributes.ints(Attr::dimensions);
    if (own != free) return std::nullopt;
    for (int d = 0; d < own; ++d)
      if (dims[at(d)] != rank - own + d || graph_.type(bias).shape[d] != graph_.type(value).shape[rank - own + d])
        return std::nullopt;
    return bias;
  }

  void find_bias(int i) {
    const Instruction& add = graph_.instructions[at(i)];
    for (const int side : {0, 1}) {
      const Value product = add.operands[at(side)];
      if (!is_product_for(product, add)) continue;
      const std::optional<Value> bias = bias_of(add.operands[at(1 - side)], graph_.at(product));
      if (!bias) continue;
      const Value sum{i, 0};
      for (const Graph::Use& use : uses_[at(i)]) {
        const Instruction& user = graph_.instructions[at(use.user)];
        if (is_tanh_gelu(user, ops::kGelu) && user.recompute == add.recompute &&
            put(ops::kDotGeneralBiasGelu, product, with_factors(product, {*bias}), {{use.user, 0}, sum}))
          return;
      }
      if (put(ops::kDotGeneralBias, product, with_factors(product, {*bias}), {sum})) return;
    }
  }

  void find_gelu_grad(int i) {
    const Instruction& grad = graph_.instructions[at(i)];
    const Value product = grad.operands[1];
    if (is_product_for(product, grad))
      put(ops::kDotGeneralGeluGrad, product, with_factors(product, {grad.operands[0]}), {{i, 0}});
  }

  // A product of f8 operands, which has its bias already.
  void find_scaled_gelu(int i) {
    const Instruction& gelu = graph_.instructions[at(i)];
    const Value sum = gelu.operands[0];
    const Instruction& product = graph_.at(sum);
    if (!product.is(ops::kScaledDotGeneral) || product.operands.size() != 5 || product.recompute != gelu.recompute) return;
    if (!taken_.count(sum.instruction)) put(ops::kScaledDotGeneralGelu, sum, product.operands, {{i, 0}, sum});
  }

  // The sum of dy over the dims that a product contracts.
  void find_bias_grad(int i) {
    const Instruction& reduce = graph_.instructions[at(i)];
    if (reduce.operands.size() != 1 || reduce.attributes.get_or(Attr::reduce_kind, ReduceKind::max) != ReduceKind::sum)
      return;
    Value dy = reduce.operands[0];
    if (graph_.at(dy).is(ops::kConvert)) dy = graph_.at(dy).operands[0];
    const Ints summed = sorted(reduce.attributes.ints(Attr::dimensions));
    for (const Graph::Use& use : uses_[at(dy.instruction)]) {
      const Instruction& product = graph_.instructions[at(use.user)];
      const bool adds = product.is(ops::kDotGeneralAdd);
      if (use.result != dy.result || !(adds || product.is(ops::kDotGeneral)) || use.operand != (adds ? 2 : 1)) continue;
      if (!has_no_batch(product) || sorted(product.attributes.ints(Attr::rhs_contracting)) != summed) continue;
      if (product.recompute != reduce.recompute || taken_.count(use.user)) continue;
      const DType dtype = product.results[0].type.dtype;
      if (!is_float(dtype) || dtype != reduce.results[0].type.dtype) continue;
      const std::vector<Value> accumulator =
          adds ? std::vector<Value>{product.operands[0]} : std::vector<Value>{};
      const Value made{use.user, 0};
      const std::optional<int> place = place_for(i, use.user);
      if (!place || !put(ops::kDotGeneralBiasGrad, made, with_factors(made, accumulator), {made, {i, 0}})) continue;
      place_[at(i)] = place_[at(use.user)] = *place;
      return;
    }
  }

  // Where a sum and its product could stand together, so that no cycle can arise: where the first of them does if
  // all that the product reads is there, where the product does if nobody needs the sum before.
  std::optional<int> place_for(int sum, int product) const {
    const std::vector<Value>& reads = graph_.instructions[at(product)].operands;
    const std::vector<Graph::Use>& uses = uses_[at(sum)];
    if (std::all_of(reads.begin(), reads.end(), [&](Value value) { return place(value.instruction) < place(sum); }))
      return std::min(place(sum), place(product));
    if (std::all_of(uses.begin(), uses.end(), [&](const auto& use) { return place(use.user) > place(product); }))
      return place(product);
    return std::nullopt;
  }
  // In the new order; what needs nothing may come first.
  int place(int i) const {
    return graph_.instructions[at(i)].operands.empty() ? -1 : place_[at(i)];
  }

  // What a product multiplies, behind what it may be added to, and `more`.
  std::vector<Value> with_factors(Value product, const std::vector<Value>& more) const {
    const std::vector<Value>& operands = graph_.at(product).operands;
    std::vector<Value> all(operands.end() - 2, operands.end());
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  // Notes the fused product if a kernel takes it. Its results stand where `results` stood; `product` is among the
  // instructions that it replaces, or read by the first of them alone.
  bool put(const OpDef& op, Value product, std::vector<Value> operands, std::vector<Value> results) {
    Fused fused{graph_.at(product), std::move(results)};
    fused.made.op = &op;
    fused.made.operands = std::move(operands);
    fused.made.factor_axes.clear();
    fused.made.results.clear();
    for (Value result : fused.results) fused.made.results.push_back(graph_.info(result));
    const bool is_taken = with_call(graph_, fused.made, [&](const OpCall& call) {
      return !kernels_.choose(op, call, Graph::result_types(fused.made)).kernel->is_reference;
    });
    if (!is_taken) return false;
    taken_.insert(product.instruction);
    const int number = static_cast<int>(fused_.size());
    for (Value result : fused.results) of_[result.instruction] = number;
    // The sums of a gradient are made when their product is, or when somebody needs them.
    if (&op == &ops::kDotGeneralBiasGrad) waits_.insert(fused.results[1].instruction);
    fused_.push_back(std::move(fused));
    return true;
  }

  // ---- Writing ----------------------------------------------------------------------------------

  void write(int i) {
    if (done_[at(i)]) return;
    const auto fused = of_.find(i);
    if (fused != of_.end()) return write(fused_[at(fused->second)]);
    done_[at(i)] = true;
    for (Value operand : graph_.instructions[at(i)].operands) write(operand.instruction);
    rewriter_.copy(i);
  }

  void write(const Fused& fused) {
    for (Value result : fused.results) done_[at(result.instruction)] = true;
    Instruction made = fused.made;
    for (Value& operand : made.operands) {
      write(operand.instruction);
      operand = rewriter_.mapped(operand);
    }
    const Value first = rewriter_.append(std::move(made));
    for (size_t r = 0; r < fused.results.size(); ++r)
      rewriter_.replace(fused.results[r], {first.instruction, static_cast<int>(r)});
  }

  const Graph& graph_;
  const KernelTable& kernels_;
  std::vector<std::vector<Graph::Use>> uses_;
  std::vector<bool> is_output_;
  std::vector<int> place_;     // instruction -> place in the order, by the source's numbers
  std::vector<bool> done_;     // instruction -> stands in the new graph
  std::vector<Fused> fused_;
  std::map<int, int> of_;      // instruction -> the fused product that takes its place
  std::set<int> taken_;        // products that are fused
  std::set<int> waits_;        // instructions that are not written in their turn
  GraphRewriter rewriter_;
};

}  // namespace

Graph fuse_product_epilogues(const Graph& graph, const KernelTable& kernels) {
  return with_regions(graph, [&](const Graph& source) { return EpilogueFuser(source, kernels).run(); });
}

}  // namespace tessera

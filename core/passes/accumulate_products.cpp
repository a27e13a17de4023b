#include "core/passes/accumulate_products.h"

#include <map>
#include <optional>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/accumulate.h"
#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/scaled_product.h"
#include "core/passes/dead_code.h"

namespace tessera {
namespace {

class Accumulator {
 public:
  explicit Accumulator(const Graph& graph) : graph_(graph), users_(graph.instructions.size(), 0) {
    for (const Instruction& instruction : graph.instructions)
      for (Value operand : instruction.operands) ++users_[at(operand.instruction)];
    for (const GraphOutput& output : graph.outputs) ++users_[at(output.value.instruction)];
  }

  // `over`: for each output, the input that it overwrites, or -1.
  Graph run(const std::vector<int>& over) {
    for (size_t o = 0; o < over.size(); ++o)
      if (over[o] >= 0) find(graph_.outputs[o].value, graph_.inputs[at(over[o])].value);
    GraphRewriter rewriter(graph_);
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      if (const auto sum = sums_.find(static_cast<int>(i)); sum != sums_.end())
        write(rewriter, sum->second, static_cast<int>(i));
      else if (const auto bodies = with_loops(graph_.instructions[i]))
        write_loop(rewriter, *bodies, static_cast<int>(i));
      else
        rewriter.copy(static_cast<int>(i));
    }
    // What the sums were made of.
    return eliminate_dead_code(rewriter.finish());
  }

 private:
  static size_t at(int index) { return static_cast<size_t>(index); }
  int users(Value value) const { return users_[at(value.instruction)]; }

  bool is_product(Value value) const {
    return (graph_.at(value).is(ops::kDotGeneral) || is_scaled(graph_.at(value))) && users(value) == 1 &&
           is_float(graph_.type(value).dtype);
  }
  // Without a bias, whose place the accumulator takes.
  static bool is_scaled(const Instruction& it) {
    return it.is(ops::kScaledDotGeneral) && it.operands.size() == 4;
  }

  // add(acc, a + b + ...) in any nesting of adds that nobody else reads: products among the addends
  // go into the accumulator one by one, the rest is added first.
  void find(Value sum, Value accumulator) {
    if (!graph_.at(sum).is(ops::kAdd)) return;
    std::vector<Value> addends;
    if (collect(sum, accumulator, addends) != 1) return;
    Sum found{accumulator, {}, {}};
    for (Value addend : addends) (is_product(addend) ? found.products : found.others).push_back(addend);
    if (!found.products.empty()) sums_.emplace(sum.instruction, std::move(found));
  }

  // Returns how often the accumulator is among the addends.
  int collect(Value value, Value accumulator, std::vector<Value>& addends) const {
    int found = 0;
    for (Value operand : graph_.at(value).operands) {
      if (operand == accumulator)
        ++found;
      else if (graph_.at(operand).is(ops::kAdd) && users(operand) == 1)
        found += collect(operand, accumulator, addends);
      else
        addends.push_back(operand);
    }
    return found;
  }

  struct Sum {
    Value accumulator;
    std::vector<Value> products, others;
  };

  void write(GraphRewriter& rewriter, const Sum& sum, int index) {
    const Instruction& original = graph_.instructions[at(index)];
    Value total = rewriter.mapped(sum.accumulator);
    for (Value other : sum.others) {
      Instruction add = original;
      add.operands = {total, rewriter.mapped(other)};
      total = rewriter.append(std::move(add));
    }
    for (Value product : sum.products) {
      Instruction made = graph_.at(product);
      for (Value& operand : made.operands) operand = rewriter.mapped(operand);
      made.operands.insert(is_scaled(made) ? made.operands.end() : made.operands.begin(), total);
      made.op = is_scaled(graph_.at(product)) ? &ops::kScaledDotGeneralAdd : &ops::kDotGeneralAdd;
      made.results = original.results;
      made.factor_axes.clear();
      total = rewriter.append(std::move(made));
    }
    rewriter.replace({index, 0}, total);
  }

  static std::optional<Graph> with_loops(const Instruction& instruction) {
    if (!instruction.is(ops::kWhile)) return std::nullopt;
    const Graph& body = *instruction.attributes.get<GraphRef>(Attr::body);
    std::vector<int> over;
    for (size_t o = 0; o < body.outputs.size(); ++o) over.push_back(static_cast<int>(o));
    return Accumulator(body).run(over);
  }

  void write_loop(GraphRewriter& rewriter, const Graph& body, int index) {
    const Value made = rewriter.copy(index);
    rewriter.result().at(made).attributes.set(Attr::body, std::make_shared<const Graph>(body));
  }

  const Graph& graph_;
  std::vector<int> users_;      // instruction -> uses of its results
  std::map<int, Sum> sums_;     // by the instruction of the outermost add
};

}  // namespace

Graph accumulate_products(const Graph& graph) {
  std::vector<int> over;
  for (const GraphOutput& output : graph.outputs) over.push_back(output.alias_input);
  return Accumulator(graph).run(over);
}

}  // namespace tessera

#include "partitioner/mask_padding.h"

#include <map>

#include "core/base/error.h"
#include "core/ir/rewriter.h"
#include "core/ops/padding.h"

namespace tessera {
namespace {

// What one operand must hold along which dims.
using Masks = std::map<PadContent, Ints>;

class Masker {
 public:
  explicit Masker(const Graph& source)
      : source_(source), padding_(analyse_padding(source)), rewriter_(source) {}

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) copy(static_cast<int>(i));
    std::vector<Value> outputs;
    for (const GraphOutput& output : source_.outputs)
      outputs.push_back(output.alias_input >= 0 ? stored(output.value)
                                                : rewriter_.mapped(output.value));
    Graph result = rewriter_.finish();
    for (size_t o = 0; o < outputs.size(); ++o) result.outputs[o].value = outputs[o];
    result.masks_padding = true;
    return result;
  }

 private:
  void copy(int index) {
    Instruction instruction = source_.instructions[static_cast<size_t>(index)];
    const std::vector<PadContents> contents = operand_contents(source_, padding_, instruction);
    std::map<int, Masks> by_operand;
    for (const PadNeed& need : open_needs(source_, instruction, contents))
      by_operand[need.operand][need.content].push_back(need.dim);
    for (size_t o = 0; o < instruction.operands.size(); ++o) {
      const Value old = instruction.operands[o];
      const auto found = by_operand.find(static_cast<int>(o));
      instruction.operands[o] =
          found == by_operand.end() ? rewriter_.mapped(old) : masked(old, found->second, instruction);
    }
    const size_t results = instruction.results.size();
    const Value made = rewriter_.append(std::move(instruction));
    for (size_t r = 0; r < results; ++r)
      rewriter_.replace({index, static_cast<int>(r)}, {made.instruction, static_cast<int>(r)});
  }

  Value masked(Value old, const Masks& masks, const Instruction& like) {
    Value at = rewriter_.mapped(old);
    for (const auto& [content, dims] : masks) {
      const auto key = std::tuple(at, content, dims);
      if (const auto known = made_.find(key); known != made_.end()) {
        at = known->second;
        continue;
      }
      at = append_mask(at, content, dims, like);
      made_.emplace(key, at);
    }
    return at;
  }

  Value append_mask(Value value, PadContent content, const Ints& dims, const Instruction& like) {
    const ResultInfo& info = rewriter_.result().info(value);
    Ints limits;
    for (int64_t d : dims) limits.push_back(info.type.shape[static_cast<int>(d)]);
    Instruction mask;
    mask.op = &ops::kMaskPadding;
    mask.operands = {value};
    mask.scope = like.scope;
    mask.recompute = like.recompute;
    mask.attributes = {{Attr::dimensions, dims},
                       {Attr::limit_indices, limits},
                       {Attr::scalar, *number_of(content, info.type.dtype)}};
    for (const DimSharding& dim : info.sharding->dims) mask.factor_axes.push_back(dim.axes);
    ResultInfo result;
    result.type = info.type;
    result.sharding = info.sharding;
    result.padded_shape = info.padded_shape;
    mask.results = {std::move(result)};
    return rewriter_.append(std::move(mask));
  }

  // As it must be stored: zero in all padding.
  Value stored(Value old) {
    const ResultInfo& info = source_.info(old);
    const Shape shape = info.stored_shape();
    const PadContents& contents =
        padding_[static_cast<size_t>(old.instruction)][static_cast<size_t>(old.result)];
    Ints dims;
    for (int d = 0; d < info.type.rank(); ++d)
      if (shape[d] != info.type.shape[d] && contents[static_cast<size_t>(d)] != PadContent::zero)
        dims.push_back(d);
    if (dims.empty()) return rewriter_.mapped(old);
    return masked(old, {{PadContent::zero, dims}}, source_.at(old));
  }

  const Graph& source_;
  const GraphPadding padding_;
  GraphRewriter rewriter_;
  std::map<std::tuple<Value, PadContent, Ints>, Value> made_;
};

}  // namespace

Graph mask_padding(const Graph& graph) { return Masker(graph).run(); }

}  // namespace tessera

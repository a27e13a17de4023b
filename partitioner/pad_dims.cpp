#include "partitioner/pad_dims.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ir/rewriter.h"
#include "core/ops/padding.h"
#include "core/ops/sharding.h"
#include "partitioner/resize_route.h"

namespace tessera {
namespace {

// The classes of (value, dim) pairs that are stored in one size.
class Classes {
 public:
  int add(int64_t size, int64_t parts) {
    members_.push_back({static_cast<int>(members_.size()), size, parts, false});
    return static_cast<int>(members_.size()) - 1;
  }
  // The size may not change any more.
  void fix(int member) { root_of(member).is_fixed = true; }
  int64_t size(int member) { return stored(root_of(member)); }
  int64_t logical(int member) { return root_of(member).logical; }

  // By an op: both have the same shard count.
  void join(int a, int b) {
    Class &to = root_of(a), &from = root_of(b);
    if (&to == &from) return;
    TESSERA_CHECK(to.logical == from.logical, "dims of ", to.logical, " and ", from.logical,
                  " in one class");
    to.parts = std::lcm(to.parts, from.parts);
    to.is_fixed = to.is_fixed || from.is_fixed;
    from.parent = to.parent;
  }
  // By a reshard, unless that costs too much.
  bool try_join(int a, int b) {
    const Class &to = root_of(a), &from = root_of(b);
    if (&to == &from) return true;
    Class joined = to;
    joined.parts = std::lcm(to.parts, from.parts);
    const int64_t size = stored(joined), before = std::max(stored(to), stored(from));
    if ((to.is_fixed && size != stored(to)) || (from.is_fixed && size != stored(from)) ||
        static_cast<double>(size) > (1 + kMuchPadding) * static_cast<double>(before))
      return false;
    join(a, b);
    return true;
  }

 private:
  struct Class {
    int parent;
    int64_t logical, parts;
    bool is_fixed;
  };
  static int64_t stored(const Class& c) { return (c.logical + c.parts - 1) / c.parts * c.parts; }
  Class& root_of(int member) {
    while (members_[static_cast<size_t>(member)].parent != member)
      member = members_[static_cast<size_t>(member)].parent =
          members_[static_cast<size_t>(members_[static_cast<size_t>(member)].parent)].parent;
    return members_[static_cast<size_t>(member)];
  }
  std::vector<Class> members_;
};

class Padder {
 public:
  Padder(const Graph& source, ReshardPlanner& planner, PadNotes* notes)
      : source_(source), planner_(planner), notes_(notes), rewriter_(source) {}

  Graph run() {
    add_members();
    fix_boundary();
    for (const Instruction& instruction : source_.instructions) join_by_factors(instruction);
    for (size_t i = 0; i < source_.instructions.size(); ++i)
      if (source_.instructions[i].is(ops::kReshard)) join_by_reshard(static_cast<int>(i));
    for (size_t i = 0; i < source_.instructions.size(); ++i)
      source_.instructions[i].is(ops::kReshard) ? rewrite_reshard(static_cast<int>(i))
                                                : copy(static_cast<int>(i));
    Graph result = rewriter_.finish();
    if (notes_) take_notes(result);
    return result;
  }

 private:
  static Value value_of(int instruction, size_t result) {
    return {instruction, static_cast<int>(result)};
  }
  // -1 where the dim is whole.
  int member(Value value, size_t dim) const {
    return members_[static_cast<size_t>(value.instruction)][static_cast<size_t>(value.result)][dim];
  }

  void add_members() {
    for (const Instruction& instruction : source_.instructions) {
      members_.emplace_back();
      for (const ResultInfo& result : instruction.results) {
        members_.back().emplace_back();
        for (int d = 0; d < result.type.rank(); ++d) {
          const int64_t parts = size_of(result.sharding->dims[static_cast<size_t>(d)].axes);
          members_.back().back().push_back(parts == 1 ? -1
                                                      : classes_.add(result.type.shape[d], parts));
        }
      }
    }
  }

  void fix(Value value) {
    for (int one : members_[static_cast<size_t>(value.instruction)][static_cast<size_t>(value.result)])
      if (one >= 0) classes_.fix(one);
  }

  // Inputs, outputs, and what goes in and out of regions.
  void fix_boundary() {
    for (const GraphInput& input : source_.inputs) fix(input.value);
    for (const GraphOutput& output : source_.outputs) fix(output.value);
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      const Instruction& instruction = source_.instructions[i];
      if (!has_region(instruction)) continue;
      for (Value operand : instruction.operands) fix(operand);
      for (size_t r = 0; r < instruction.results.size(); ++r) fix(value_of(static_cast<int>(i), r));
    }
  }

  static bool has_region(const Instruction& instruction) {
    return std::any_of(instruction.attributes.entries().begin(),
                       instruction.attributes.entries().end(), [](const auto& entry) {
                         return std::holds_alternative<GraphRef>(entry.second) ||
                                std::holds_alternative<Graphs>(entry.second);
                       });
  }

  void join_by_factors(const Instruction& instruction) {
    if (instruction.is(ops::kReshard) || instruction.is(ops::kParameter) ||
        instruction.factor_axes.empty())
      return;
    const FactorRule rule = factor_rule(source_, instruction);

    std::vector<bool> is_compound(rule.factors.size(), false);
    std::vector<std::vector<int>> of_factor(rule.factors.size());
    auto look = [&](Value value, const TensorFactors& dims) {
      for (size_t d = 0; d < dims.size(); ++d) {
        if (member(value, d) < 0) continue;
        // Only what divides may lie beside another factor in a dim: it stays as it is.
        if (dims[d].size() > 1) {
          classes_.fix(member(value, d));
          for (int f : dims[d]) is_compound[static_cast<size_t>(f)] = true;
        } else if (dims[d].size() == 1) {
          of_factor[static_cast<size_t>(dims[d][0])].push_back(member(value, d));
        }
      }
    };
    for (size_t o = 0; o < instruction.operands.size(); ++o)
      look(instruction.operands[o], rule.operands[o]);
    const int index = static_cast<int>(&instruction - source_.instructions.data());
    for (size_t r = 0; r < instruction.results.size(); ++r)
      look(value_of(index, r), rule.results[r]);
    for (size_t f = 0; f < of_factor.size(); ++f)
      for (int one : of_factor[f]) {
        if (is_compound[f]) classes_.fix(one);
        if (rule.factors[f].kind == FactorKind::permutation) continue;
        // Dims of one factor differ in size where the op's own partition bridges them (windows).
        for (int other : of_factor[f])
          if (classes_.logical(other) == classes_.logical(one)) {
            classes_.join(other, one);
            break;
          }
      }
  }

  // Dims that must be whole between the two lyings of a reshard, because they change their size.
  void join_by_reshard(int index) {
    const Value from = source_.instructions[static_cast<size_t>(index)].operands[0], to{index, 0};
    const size_t rank = source_.sharding(to).dims.size();
    for (size_t d = 0; d < rank; ++d) {
      const int a = member(from, d), b = member(to, d);
      if (a >= 0 && b >= 0) classes_.try_join(a, b);
    }
  }

  Shape stored_shape(Value value) {
    Shape shape = source_.type(value).shape;
    for (int d = 0; d < shape.rank(); ++d)
      if (const int one = member(value, static_cast<size_t>(d)); one >= 0)
        shape[d] = classes_.size(one);
    return shape;
  }

  static void set_stored(ResultInfo& info, const Shape& stored) {
    info.padded_shape.reset();
    if (stored != info.type.shape) info.padded_shape = stored;
  }

  void copy(int index) {
    const Value made = rewriter_.copy(index);
    Instruction& instruction = rewriter_.result().at(made);
    for (size_t r = 0; r < instruction.results.size(); ++r)
      set_stored(instruction.results[r], stored_shape(value_of(index, r)));
  }

  // Appends `op` on `value`, stored so and lying so.
  Value append(const OpDef& op, Value value, const Shape& stored, const Sharding& sharding,
               const Instruction& like) {
    Instruction step;
    step.op = &op;
    step.operands = {value};
    step.scope = like.scope;
    step.recompute = like.recompute;
    ResultInfo info;
    info.type = like.results[0].type;
    info.sharding = sharding;
    set_stored(info, stored);
    if (&op == &ops::kReshard) {
      step.attributes.set(Attr::sharding, sharding.closed());
    } else {
      for (const DimSharding& dim : sharding.dims) step.factor_axes.push_back(dim.axes);
    }
    step.results = {std::move(info)};
    return rewriter_.append(std::move(step));
  }

  // Dims in shards first, then those that are whole, of whose padding more is known.
  Value resize(Value value, const Shape& stored, const Sharding& lying, const Instruction& like) {
    Shape now = rewriter_.result().info(value).stored_shape();
    Ints exchanged;
    for (int d = 0; d < now.rank(); ++d)
      if (now[d] != stored[d] && !lying.dims[static_cast<size_t>(d)].axes.empty()) {
        exchanged.push_back(d);
        now[d] = stored[d];
      }
    if (!exchanged.empty()) {
      value = append(ops::kResizePadding, value, now, lying, like);
      rewriter_.result().at(value).attributes.set(Attr::dimensions, std::move(exchanged));
    }
    return now == stored ? value : append(ops::kResizePadding, value, stored, lying, like);
  }

  // Resized as it lies, moved, resized again and moved on, as far as each is needed.
  void rewrite_reshard(int index) {
    const Instruction& reshard = source_.instructions[static_cast<size_t>(index)];
    const Value from = reshard.operands[0], to{index, 0};
    const Sharding &before = source_.sharding(from), &after = source_.sharding(to);
    const Shape size_before = stored_shape(from), size_after = stored_shape(to);
    if (size_before == size_after) return copy(index);
    const ResizeRoute route =
        resize_route(before, after, source_.type(to), size_before, size_after, planner_);
    Value at = rewriter_.mapped(from);
    at = resize(at, route.first, before, reshard);
    if (!route.middle.same_layout(before))
      at = append(ops::kReshard, at, route.first, route.middle, reshard);
    at = resize(at, size_after, route.middle, reshard);
    if (!route.middle.same_layout(after))
      at = append(ops::kReshard, at, size_after, after.closed(), reshard);
    if (route.whole > 0) ++cuts_;
    ResultInfo& info = rewriter_.result().info(at);
    info.name = reshard.results[0].name;
    info.logical_axes = reshard.results[0].logical_axes;
    rewriter_.replace(to, at);
  }

  void take_notes(const Graph& result) {
    for (size_t i = 0; i < result.instructions.size(); ++i)
      for (size_t r = 0; r < result.instructions[i].results.size(); ++r) {
        const ResultInfo& info = result.instructions[i].results[r];
        if (!info.padded_shape) continue;
        const bool is_input = result.instructions[i].is(ops::kParameter);
        if (!is_input && info.name.empty()) continue;
        note(result, value_of(static_cast<int>(i), r), info, is_input);
      }
    std::stable_sort(notes_->tensors.begin(), notes_->tensors.end(),
                     [](const PaddedTensor& a, const PaddedTensor& b) {
                       return a.wasted_bytes > b.wasted_bytes;
                     });
    if (large_ > 0)
      notes_->warnings.push_back(
          cat(large_, large_ == 1 ? " input" : " inputs", " of graph \"", result.name,
              "\" are stored with more than ", 100 * kMuchPadding, " % of padding, ", large_bytes_,
              " bytes a device in all; the largest is ", largest_.tensor, ", ",
              static_cast<int>(100 * largest_.waste + 0.5),
              " % more; change the size, the mesh or the rule"));
    if (cuts_ > 0)
      notes_->warnings.push_back(
          cat(cuts_, cuts_ == 1 ? " reshard" : " reshards", " of graph \"", result.name, "\" ",
              cuts_ == 1 ? "gathers" : "gather",
              " a dim and cut it anew, because it is padded to different sizes before and after, and "
              "neighbours cannot bridge them at less cost; sizes that the mesh axes divide avoid "
              "that"));
  }

  void note(const Graph& graph, Value value, const ResultInfo& info, bool is_input) {
    const auto stored = static_cast<double>(info.padded_shape->elements());
    const auto logical = static_cast<double>(std::max<int64_t>(1, info.type.elements()));
    const int64_t parts = size_of(info.sharding->without_partial().used_axes());
    PaddedTensor padded;
    padded.tensor = cat(describe(graph, value), " ", info.type, " ", *info.sharding,
                        " stored as ", *info.padded_shape);
    padded.waste = stored / logical - 1;
    padded.wasted_bytes =
        TensorType{info.type.dtype, *info.padded_shape}.bytes() / parts - info.type.bytes() / parts;
    if (is_input && padded.waste > kMuchPadding) {
      ++large_;
      large_bytes_ += padded.wasted_bytes;
      if (padded.wasted_bytes >= largest_.wasted_bytes) largest_ = padded;
    }
    notes_->tensors.push_back(std::move(padded));
  }

  const Graph& source_;
  ReshardPlanner& planner_;
  PadNotes* notes_;
  GraphRewriter rewriter_;
  Classes classes_;
  std::vector<std::vector<std::vector<int>>> members_;  // by instruction, result and dim
  int64_t cuts_ = 0, large_ = 0, large_bytes_ = 0;
  PaddedTensor largest_;
};

}  // namespace

void refuse_much_padding(const PadNotes& notes) {
  if (!notes.warnings.empty()) throw_config_error("--strict: ", notes.warnings.front());
}

Graph pad_dims(const Graph& graph, ReshardPlanner& planner, PadNotes* notes) {
  return Padder(graph, planner, notes).run();
}

}  // namespace tessera

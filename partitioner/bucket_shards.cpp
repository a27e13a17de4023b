#include "partitioner/bucket_shards.h"

#include <algorithm>
#include <optional>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ir/rewriter.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "partitioner/buckets.h"
#include "partitioner/use_patterns.h"

namespace tessera {
namespace {

// What members of one bucket have in common.
struct ShardKey {
  const OpDef* op;
  AxisList axes;
  ReduceKind kind;  // of scatters
  DType dtype;
  AxisList partial;   // that stays
  std::string block;  // first part of the scope
  bool is_backward, recompute;
  bool is_of_parameters;  // gathers them: made where the first is needed
  auto operator<=>(const ShardKey&) const = default;
};

class ShardBucketer {
 public:
  ShardBucketer(const Graph& source, int64_t limit, const MachineModel& machine)
      : source_(source), limit_(limit), machine_(machine), rewriter_(source) {}

  Graph run() {
    plan();
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      const int index = static_cast<int>(i);
      const Bucket* bucket = plan_.of(index);
      if (!bucket || bucket->members.size() == 1) {
        if (!rewriter_.has({index, 0})) rewriter_.copy(index);
      } else if (index == (bucket->key.is_of_parameters ? bucket->members.front()
                                                        : bucket->members.back())) {
        emit(*bucket);
      }
    }
    return rewriter_.finish();
  }

 private:
  using Bucket = BucketPlan<ShardKey>::Bucket;

  const Instruction& at(int index) const {
    return source_.instructions[static_cast<size_t>(index)];
  }
  static AxisList axes_of(const Instruction& collective) {
    return collective.attributes.get<AxisList>(Attr::axes);
  }
  static bool is_gather(const Instruction& collective) {
    return collective.is(ops::kAllGather);
  }
  const TensorType& large_side(const Instruction& collective) const {
    return is_gather(collective) ? collective.results[0].type
                                 : source_.type(collective.operands[0]);
  }
  const TensorType& small_side(const Instruction& collective) const {
    return is_gather(collective) ? source_.type(collective.operands[0])
                                 : collective.results[0].type;
  }
  // Elements before the dim, and of the small side from the dim on.
  struct Blocks {
    int64_t before = 1, rest = 1;
  };
  Blocks blocks_of(const Instruction& collective) const {
    const auto dim = static_cast<int>(collective.attributes.integer(Attr::dimension));
    Blocks blocks;
    for (int d = 0; d < dim; ++d) blocks.before *= small_side(collective).shape[d];
    blocks.rest = small_side(collective).elements() / blocks.before;
    return blocks;
  }

  bool is_candidate(const Instruction& instruction) const {
    if (!is_gather(instruction) && !instruction.is(ops::kReduceScatter)) return false;
    if (instruction.operands.size() != 1 || size_of(axes_of(instruction)) == 1 ||
        !instruction.results[0].sharding || !source_.info(instruction.operands[0]).sharding)
      return false;
    if (instruction.results[0].padded_shape ||
        source_.info(instruction.operands[0]).padded_shape)
      return false;  // garbage in padding need not agree between replicas of the flat buffer
    const double passes = blocks_of(instruction).before > 1 ? 4 : 2;  // read and write, once or twice
    const double copy = passes * static_cast<double>(large_side(instruction).bytes()) /
                        machine_.memory_bandwidth;
    return copy < machine_.link(*source_.mesh, axes_of(instruction)).latency;
  }

  // Whether the value is made from one parameter by local ops of one operand.
  bool is_of_parameter(Value value) const {
    for (;;) {
      const Instruction& instruction = source_.at(value);
      if (instruction.is(ops::kParameter)) return true;
      if (instruction.operands.size() != 1 || instruction.op->communicates) return false;
      value = instruction.operands[0];
    }
  }

  ShardKey key_of(const Instruction& collective) const {
    const bool gathers_parameters =
        is_gather(collective) && is_of_parameter(collective.operands[0]);
    const ReduceKind kind = is_gather(collective)
                                ? ReduceKind::sum
                                : collective.attributes.get<ReduceKind>(Attr::reduce_kind);
    return {collective.op,
            axes_of(collective),
            kind,
            collective.results[0].type.dtype,
            collective.results[0].sharding->partial,
            collective.scope.substr(0, collective.scope.find('/')),
            is_backward(collective),
            collective.recompute,
            gathers_parameters};
  }

  // A bucket is closed when it is full or, unless it is made early, when one of its results is used.
  void plan() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      const Instruction& instruction = source_.instructions[i];
      for (Value operand : instruction.operands)
        if (const Bucket* used = plan_.of(operand.instruction))
          if (!used->key.is_of_parameters) plan_.close(*used);
      if (is_candidate(instruction))
        plan_.add(key_of(instruction), static_cast<int>(i), large_side(instruction).bytes(),
                  limit_);
    }
  }

  // The value in the new graph; what makes it is copied if its turn has not come yet.
  Value ready(Value value) {
    if (!rewriter_.has(value)) {
      for (Value operand : source_.at(value).operands) ready(operand);
      rewriter_.copy(value.instruction);
    }
    return rewriter_.mapped(value);
  }

  Sharding flat_sharding(const Bucket& bucket, const AxisList& axes, bool is_cut,
                         const Sharding& like) const {
    const AxisList used = block_axes(bucket.members, [&](int member) -> const Sharding& {
      return is_gather(at(member)) ? *at(member).results[0].sharding
                                   : source_.sharding(at(member).operands[0]);
    });
    Sharding sharding(source_.mesh, 2);
    if (is_cut) sharding.dims[0].axes = axes;
    sharding.dims[1].axes = without(used, axes);
    sharding.partial = like.partial;
    sharding.partial_kind = like.partial_kind;
    return sharding;
  }

  Value lies(Value value, const std::optional<Sharding>& sharding) {
    rewriter_.result().info(value).sharding = sharding;
    return value;
  }

  // A reshape to the same shape is its operand, which lies as it did.
  Value reshaped(Value value, const Shape& shape, const std::optional<Sharding>& sharding) {
    const Value made = ops::reshape(builder_, value, shape);
    return made == value ? value : lies(made, sharding);
  }

  // [before, n, rest] <-> [n, before, rest], and flattened after the first dim.
  Value turned(Value value, int64_t first, int64_t second, int64_t rest, const Shape& shape,
               const Sharding& sharding) {
    if (first > 1 && second > 1) {
      // In between, a shape that is no shard of anything.
      value = reshaped(value, {first, second, rest}, std::nullopt);
      value = lies(ops::transpose(builder_, value, {1, 0, 2}), std::nullopt);
    }
    return reshaped(value, shape, sharding);
  }

  void emit(const Bucket& bucket) {
    const Instruction& like = at(bucket.members.front());
    const AxisList axes = axes_of(like);
    const int64_t n = size_of(axes);
    const bool gathers = is_gather(like);
    const std::vector<int> members = buffer_order(
        bucket.members, [&](int member) { return small_side(at(member)).bytes(); });
    std::vector<Value> operands;
    for (int member : members) operands.push_back(ready(at(member).operands[0]));
    builder_.set_scope(like.scope);
    builder_.set_recompute(like.recompute);
    const Sharding before =
        flat_sharding(bucket, axes, gathers, source_.sharding(like.operands[0]));
    const Sharding after = flat_sharding(bucket, axes, !gathers, *like.results[0].sharding);
    std::vector<Value> parts;
    int64_t width = 0;
    for (size_t m = 0; m < members.size(); ++m) {
      const Instruction& member = at(members[m]);
      const int64_t elements = small_side(member).elements();
      const Blocks blocks = blocks_of(member);
      parts.push_back(gathers ? reshaped(operands[m], {1, elements}, before)
                              : turned(operands[m], blocks.before, n, blocks.rest,
                                       {n, elements}, before));
      width += elements;
    }
    const Value flat = lies(ops::concatenate(builder_, parts, 1), before);
    Attributes attributes = like.attributes;
    attributes.set(Attr::dimension, int64_t{0});
    attributes.set(Attr::shape, Ints{gathers ? n : 1, width});
    const Value moved = lies(builder_.emit(*like.op, {flat}, std::move(attributes)), after);
    int64_t start = 0;
    for (int member : members) {
      const Instruction& instruction = at(member);
      const ResultInfo& info = instruction.results[0];
      const int64_t elements = small_side(instruction).elements();
      const Blocks blocks = blocks_of(instruction);
      const Value part =
          lies(ops::slice_dim(builder_, moved, 1, start, start + elements), after);
      const Value result =
          gathers ? turned(part, n, blocks.before, blocks.rest, info.type.shape, *info.sharding)
                  : reshaped(part, info.type.shape, *info.sharding);
      rewriter_.result().info(result) = info;
      rewriter_.replace({member, 0}, result);
      start += elements;
    }
    builder_.set_scope("");
    builder_.set_recompute(false);
  }

  const Graph& source_;
  int64_t limit_;
  const MachineModel& machine_;
  GraphRewriter rewriter_;
  Builder& builder_ = rewriter_.builder();
  BucketPlan<ShardKey> plan_;
};

}  // namespace

Graph bucket_shards(const Graph& graph, int64_t bucket_bytes, const MachineModel& machine) {
  return bucket_bytes > 0 ? ShardBucketer(graph, bucket_bytes, machine).run() : graph;
}

}  // namespace tessera

#include "partitioner/bucket_collectives.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "core/base/error.h"
#include "core/ir/rewriter.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "partitioner/buckets.h"

namespace tessera {
namespace {

// What members of one bucket have in common: axes, combiner, dtype, partial axes that stay,
// recompute.
using ReduceKey = std::tuple<AxisList, ReduceKind, DType, AxisList, bool>;

class Bucketer {
 public:
  Bucketer(const Graph& source, int64_t limit)
      : source_(source), limit_(limit), rewriter_(source) {}

  Graph run() {
    find_limits();
    plan();
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      const int index = static_cast<int>(i);
      const Bucket* bucket = plan_.of(index);
      if (!bucket || bucket->members.size() == 1)
        rewriter_.copy(index);
      else if (bucket->members.back() == index)
        emit(*bucket);
    }
    return rewriter_.finish();
  }

 private:
  using Bucket = BucketPlan<ReduceKey>::Bucket;

  const Instruction& at(int index) const {
    return source_.instructions[static_cast<size_t>(index)];
  }

  bool is_candidate(const Instruction& instruction) const {
    // Reductions that an op's own partition made belong to no logical tensor: they stay alone.
    return instruction.is(ops::kAllReduce) && instruction.operands.size() == 1 &&
           instruction.results[0].sharding &&
           source_.info(instruction.operands[0]).sharding;
  }

  ReduceKey key_of(const Instruction& reduce) const {
    return {reduce.attributes.get<AxisList>(Attr::axes),
            reduce.attributes.get<ReduceKind>(Attr::reduce_kind), reduce.results[0].type.dtype,
            reduce.results[0].sharding->partial, reduce.recompute};
  }

  // A job's limit may hold all its gradients; one bucket would then be ready only when the backward
  // pass is over. At least eight buckets run beside it, as long as each outweighs its latency.
  void find_limits() {
    constexpr int64_t kBuckets = 8, kWorthwhile = 256 << 10;
    for (const Instruction& instruction : source_.instructions)
      if (is_candidate(instruction))
        limits_[key_of(instruction)] += instruction.results[0].type.bytes();
    for (auto& [key, total] : limits_)
      total = std::min(limit_, std::max(kWorthwhile, total / kBuckets));
  }

  // A bucket is closed when it is full or when an instruction uses one of its results.
  void plan() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      const Instruction& instruction = source_.instructions[i];
      for (Value operand : instruction.operands)
        if (const Bucket* used = plan_.of(operand.instruction)) plan_.close(*used);
      if (!is_candidate(instruction)) continue;
      const int64_t bytes = instruction.results[0].type.bytes();
      const ReduceKey key = key_of(instruction);
      if (const int64_t limit = limits_.at(key); bytes <= limit)
        plan_.add(key, static_cast<int>(i), bytes, limit);
    }
  }

  Sharding flat_sharding(const Bucket& bucket, const AxisList& partial, ReduceKind kind) const {
    Sharding sharding(source_.mesh, 1);
    sharding.dims[0].axes = block_axes(bucket.members, [&](int member) -> const Sharding& {
      return *at(member).results[0].sharding;
    });
    sharding.partial = partial;
    sharding.partial_kind = kind;
    return sharding;
  }

  Value emit_in(const OpDef& op, std::vector<Value> operands, Attributes attributes,
                const Sharding& sharding) {
    const Value value = rewriter_.builder().emit(op, std::move(operands), std::move(attributes));
    rewriter_.result().info(value).sharding = sharding;
    return value;
  }

  void emit(const Bucket& bucket) {
    const Instruction& last = at(bucket.members.back());
    Builder& builder = rewriter_.builder();
    builder.set_scope(last.scope);
    builder.set_recompute(last.recompute);
    const ReduceKind kind = last.attributes.get<ReduceKind>(Attr::reduce_kind);
    const Sharding after = flat_sharding(bucket, last.results[0].sharding->partial, kind);
    const Sharding before = flat_sharding(bucket, source_.sharding(last.operands[0]).partial, kind);
    const std::vector<int> members = buffer_order(
        bucket.members, [&](int member) { return at(member).results[0].type.bytes(); });
    std::vector<Value> parts;
    int64_t total = 0;
    for (int member : members) {
      const Value operand = rewriter_.mapped(at(member).operands[0]);
      const int64_t elements = builder.type(operand).elements();
      total += elements;
      parts.push_back(
          builder.shape(operand).rank() == 1
              ? operand
              : emit_in(ops::kReshape, {operand}, {{Attr::shape, Ints{elements}}}, before));
    }
    const Value flat = emit_in(ops::kConcatenate, parts, {{Attr::dimension, int64_t{0}}}, before);
    Attributes attributes = last.attributes;
    attributes.set(Attr::shape, Ints{total});
    const Value sum = emit_in(ops::kAllReduce, {flat}, std::move(attributes), after);
    int64_t start = 0;
    for (int member : members) {
      const ResultInfo& info = at(member).results[0];
      const int64_t end = start + info.type.elements();
      Value part = emit_in(ops::kSlice, {sum},
                           {{Attr::start_indices, Ints{start}},
                            {Attr::limit_indices, Ints{end}},
                            {Attr::strides, Ints{1}}},
                           after);
      if (info.type.rank() != 1)
        part = emit_in(ops::kReshape, {part},
                       {{Attr::shape, Ints(info.type.shape.begin(), info.type.shape.end())}},
                       *info.sharding);
      rewriter_.result().info(part) = info;
      rewriter_.replace({member, 0}, part);
      start = end;
    }
    builder.set_scope("");
    builder.set_recompute(false);
  }

  const Graph& source_;
  int64_t limit_;
  std::map<ReduceKey, int64_t> limits_;
  GraphRewriter rewriter_;
  BucketPlan<ReduceKey> plan_;
};

}  // namespace

Graph bucket_collectives(const Graph& graph, int64_t bucket_bytes) {
  return bucket_bytes > 0 ? Bucketer(graph, bucket_bytes).run() : graph;
}

}  // namespace tessera

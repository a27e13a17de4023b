// Runs an op's `partition` as localize would, on devices whose padding is garbage, and compares the
// valid part of the results with the op on the whole operands.
//
//     check_partition(op, attributes, operands, mesh, {{a}, {}}) == ""
//
// Every dim may be cut unevenly: shards are ceil(n / devices) long plus `slack`, what lies beyond
// the logical size is NaN (integers: random extremes), and the last shards may be empty.
#pragma once

#include <algorithm>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/ir/partition_context.h"
#include "core/runtime/sharded_interpreter.h"
#include "tests/ops/sample_inputs.h"

namespace tessera::testing {

inline Sharding sharding_of(const MeshPtr& mesh, const FactorRule& rule, const TensorFactors& dims,
                            const std::vector<AxisList>& axes, bool is_result) {
  Sharding sharding(mesh, static_cast<int>(dims.size()));
  std::set<int> present;
  for (size_t d = 0; d < dims.size(); ++d)
    for (int f : dims[d]) {
      present.insert(f);
      for (const AxisRef& axis : axes[static_cast<size_t>(f)])
        sharding.dims[d].axes.push_back(axis);
    }
  for (size_t f = 0; is_result && f < axes.size(); ++f) {
    if (rule.factors[f].kind != FactorKind::reduction || present.count(static_cast<int>(f)))
      continue;
    for (const AxisRef& axis : axes[f]) sharding.partial.push_back(axis);
    if (!axes[f].empty()) sharding.partial_kind = rule.factors[f].reduce;
  }
  std::sort(sharding.partial.begin(), sharding.partial.end());
  return sharding;
}

// The size with padding: every shard has ceil(n / shards) + slack.
inline Shape padded_shape(const Shape& shape, const Sharding& sharding, int64_t slack) {
  Shape padded = shape;
  for (int d = 0; d < shape.rank(); ++d) {
    const int64_t shards = size_of(sharding.dims[static_cast<size_t>(d)].axes);
    if (shards > 1) padded[d] = ((shape[d] + shards - 1) / shards + slack) * shards;
  }
  return padded;
}

inline HostTensor with_garbage(const HostTensor& x, const Shape& shape, std::mt19937_64& rng) {
  HostTensor padded({x.dtype(), shape});
  for (int64_t i = 0; i < padded.elements(); ++i) {
    if (is_float(x.dtype()))
      padded.set_real(i, std::numeric_limits<double>::quiet_NaN());
    else if (x.dtype() == DType::c64)
      padded.set_complex(i, {std::numeric_limits<double>::quiet_NaN(), 7});
    else
      padded.set_int(i, static_cast<int64_t>(x.dtype() == DType::pred ? rng() & 1 : rng()));
  }
  padded.put(std::vector<int64_t>(static_cast<size_t>(shape.rank()), 0), x);
  return padded;
}

class FakePartition final : public PartitionContext {
 public:
  FakePartition(const OpDef& op, const OpCall& call, const MeshPtr& mesh,
                std::vector<AxisList> axes, int64_t slack)
      : call_(call),
        results_(infer_types(op, call)),
        rule_(factor_rule(op, call, results_)),
        axes_(std::move(axes)),
        builder_(graph) {
    graph.mesh = mesh;
    graph.is_local = true;
    for (size_t i = 0; i < call.operands.size(); ++i) {
      operand_shardings_.push_back(sharding_of(mesh, rule_, rule_.operands[i], axes_, false));
      padded_.push_back(padded_shape(call.operands[i].shape, operand_shardings_[i], slack));
      const TensorType local{call.operands[i].dtype, operand_shardings_[i].local_shape(padded_[i])};
      operands_.push_back(builder_.input(InputKind::data, cat("x", i), local));
      graph.info(operands_[i]).sharding = operand_shardings_[i];
    }
    for (size_t r = 0; r < results_.size(); ++r) {
      result_shardings_.push_back(sharding_of(mesh, rule_, rule_.results[r], axes_, true));
      const Shape padded = padded_shape(results_[r].shape, result_shardings_[r], slack);
      local_results_.push_back({results_[r].dtype, result_shardings_[r].local_shape(padded)});
    }
  }

  Builder& builder() override { return builder_; }
  const OpCall& call() const override { return call_; }
  std::span<const TensorType> result_types() const override { return results_; }
  const FactorRule& rule() const override { return rule_; }
  const AxisList& axes(int factor) const override { return axes_[static_cast<size_t>(factor)]; }
  Value operand(int index) const override { return operands_[static_cast<size_t>(index)]; }
  const Sharding& operand_sharding(int index) const override {
    return operand_shardings_[static_cast<size_t>(index)];
  }
  const Sharding& result_sharding(int index) const override {
    return result_shardings_[static_cast<size_t>(index)];
  }
  const TensorType& local_result_type(int index) const override {
    return local_results_[static_cast<size_t>(index)];
  }

  const Shape& padded(size_t operand) const { return padded_[operand]; }
  Graph graph;

 private:
  const OpCall& call_;
  std::vector<TensorType> results_;
  FactorRule rule_;
  std::vector<AxisList> axes_;
  Builder builder_;
  std::vector<Sharding> operand_shardings_, result_shardings_;
  std::vector<Shape> padded_;
  std::vector<Value> operands_;
  std::vector<TensorType> local_results_;
};

// The logical results of the op on the devices of `mesh`, its factors cut over `axes`.
inline std::vector<HostTensor> run_partition(const OpDef& op, const Attributes& attributes,
                                             const std::vector<HostTensor>& operands,
                                             const MeshPtr& mesh, const std::vector<AxisList>& axes,
                                             int64_t slack = 0) {
  const std::vector<TensorType> types = types_of(operands);
  const OpCall call{types, attributes};
  FakePartition context(op, call, mesh, axes, slack);
  const std::vector<Value> made = op.partition(context);
  TESSERA_CHECK(made.size() == context.result_types().size(), op.name, ": ", made.size(),
                " results");
  for (size_t r = 0; r < made.size(); ++r) {
    const int index = static_cast<int>(r);
    TESSERA_CHECK(context.graph.type(made[r]) == context.local_result_type(index), op.name,
                  ": result ", r, " is ", context.graph.type(made[r]), ", not ",
                  context.local_result_type(index));
    if (!context.graph.info(made[r]).sharding)
      context.graph.info(made[r]).sharding = context.result_sharding(index);
    context.builder().output(made[r], cat("y", r));
  }
  std::mt19937_64 rng(99);
  std::vector<HostTensor> inputs;
  for (size_t i = 0; i < operands.size(); ++i)
    inputs.push_back(with_garbage(operands[i], context.padded(i), rng));
  std::vector<HostTensor> results = interpret_sharded(context.graph, inputs);
  for (size_t r = 0; r < results.size(); ++r) {
    const Shape& shape = context.result_types()[r].shape;
    results[r] = results[r].slice(std::vector<int64_t>(static_cast<size_t>(shape.rank()), 0), shape);
  }
  return results;
}

// Empty where the results are those of the op on the whole operands.
inline std::string check_partition(const OpDef& op, const Attributes& attributes,
                                   const std::vector<HostTensor>& operands, const MeshPtr& mesh,
                                   const std::vector<AxisList>& axes, int64_t slack = 0) try {
  const std::vector<HostTensor> expected = evaluate(op, attributes, operands);
  const std::vector<HostTensor> actual = run_partition(op, attributes, operands, mesh, axes, slack);
  for (size_t r = 0; r < expected.size(); ++r)
    if (const auto text = difference(actual[r], expected[r]); !text.empty())
      return cat("result ", r, ": ", text);
  return "";
} catch (const std::exception& error) {
  return error.what();
}

inline MeshPtr line_mesh(int64_t size) {
  return std::make_shared<const Mesh>(std::vector<MeshAxis>{{"a", size}});
}

// Whether every tensor can be cut so: a factor is cut unevenly only where it is alone in its dims.
inline bool can_cut(const FactorRule& rule, int factor, int64_t parts) {
  const Factor& facts = rule.factors[static_cast<size_t>(factor)];
  if (facts.kind == FactorKind::need_replication) return false;
  auto fits = [&](const TensorFactors& dims) {
    for (const std::vector<int>& dim : dims)
      for (size_t i = 0; i < dim.size(); ++i)
        if (dim[i] == factor && dim.size() > 1 && (i > 0 || facts.size % parts != 0)) return false;
    return true;
  };
  return std::all_of(rule.operands.begin(), rule.operands.end(), fits) &&
         std::all_of(rule.results.begin(), rule.results.end(), fits);
}

// Each factor alone over 2, 3 and 4 devices, with and without slack; then pairs of factors on
// <a=2, b=3>. Appends a line per failure; returns how many choices were run.
inline int check_all_partitions(const OpDef& op, const Attributes& attributes,
                                const std::vector<HostTensor>& operands, std::string& failures) {
  const std::vector<TensorType> types = types_of(operands);
  const OpCall call{types, attributes};
  const FactorRule rule = factor_rule(op, call, infer_types(op, call));
  const int factors = static_cast<int>(rule.factors.size());
  int count = 0;
  auto run = [&](const MeshPtr& mesh, const std::vector<AxisList>& axes, int64_t slack) {
    if (!needs_partition(op, rule, axes)) return;
    ++count;
    const auto text = check_partition(op, attributes, operands, mesh, axes, slack);
    if (text.empty()) return;
    std::vector<int64_t> sizes;
    for (const AxisList& list : axes) sizes.push_back(size_of(list));
    failures += cat(op.name, "(", join(types), ") ", rule, " over [", join(sizes, ","), "] slack ",
                    slack, ": ", text, "\n");
  };
  for (int64_t devices : {2, 3, 4}) {
    const MeshPtr mesh = line_mesh(devices);
    for (int f = 0; f < factors; ++f) {
      if (!can_cut(rule, f, devices)) continue;
      std::vector<AxisList> axes(static_cast<size_t>(factors));
      axes[static_cast<size_t>(f)] = {mesh->axis("a")};
      run(mesh, axes, 0);
      // Only what stands alone in its dims may have padding.
      if (can_cut(rule, f, rule.factors[static_cast<size_t>(f)].size + 1)) run(mesh, axes, 1);
    }
  }
  const auto mesh = std::make_shared<const Mesh>(std::vector<MeshAxis>{{"a", 2}, {"b", 3}});
  for (int f = 0; f < factors; ++f)
    for (int g = 0; g < factors; ++g) {
      if (f == g || !can_cut(rule, f, 2) || !can_cut(rule, g, 3)) continue;
      const Factor &first = rule.factors[static_cast<size_t>(f)],
                   &second = rule.factors[static_cast<size_t>(g)];
      if (first.kind == FactorKind::reduction && second.kind == FactorKind::reduction &&
          first.reduce != second.reduce)
        continue;
      std::vector<AxisList> axes(static_cast<size_t>(factors));
      axes[static_cast<size_t>(f)] = {mesh->axis("a")};
      axes[static_cast<size_t>(g)] = {mesh->axis("b")};
      run(mesh, axes, 0);
    }
  return count;
}

}  // namespace tessera::testing

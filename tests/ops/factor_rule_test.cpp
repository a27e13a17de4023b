// Factor rules are proven by execution: an op that is run on halves along a factor must give the
// halves, or the addends, of its result.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/op_list.h"
#include "core/ops/structure.h"
#include "tests/ops/partition_harness.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::combine;
using testing::difference;
using testing::evaluate;
using testing::random_operands;

// Parameters have no value of their own; the dims of control flow are followed through its regions,
// which are then cut with them (tests/partitioner).
bool is_computed(const OpDef& op) {
  for (const OpDef* control : {&ops::kCall, &ops::kWhile, &ops::kCase, &ops::kManualComputation})
    if (&op == control) return false;
  return &op != &ops::kParameter;
}
// Ops that are the identity on the logical value; their local form needs a mesh of devices.
bool is_relayout(const OpDef& op) {
  return op.communicates || op.device_dependent || op.name == "reshard";
}

// ---- Splitting a tensor along factors -----------------------------------------------------------

// Which half of each split factor a device has; factors that are not split are absent.
using Place = std::map<int, int>;

// The tensor with each dim split up into its factors, and the factor of each new dim (-1: none).
struct Expanded {
  Shape shape;
  std::vector<int> factors;
};

Expanded expand(const Shape& shape, const TensorFactors& dims, const FactorRule& rule) {
  Expanded expanded;
  for (int d = 0; d < shape.rank(); ++d) {
    const std::vector<int>& own = dims[static_cast<size_t>(d)];
    int64_t product = own.empty() ? shape[d] : 1;
    for (int f : own) {
      const Factor& factor = rule.factors[static_cast<size_t>(f)];
      // Dims along which elements move have one factor in common, but not always one size.
      const bool moves = own.size() == 1 && factor.kind != FactorKind::pass_through;
      const int64_t size = moves ? shape[d] : factor.size;
      expanded.factors.push_back(f);
      expanded.shape.push_back(size);
      product *= size;
    }
    if (own.empty()) {
      expanded.factors.push_back(-1);
      expanded.shape.push_back(shape[d]);
    }
    TESSERA_CHECK(product == shape[d], "factors of dim ", d, " of ", shape, " multiply to ",
                  product);
  }
  return expanded;
}

Shape local_shape(const Shape& shape, const TensorFactors& dims, const Place& place) {
  Shape local = shape;
  for (int d = 0; d < shape.rank(); ++d)
    for (int f : dims[static_cast<size_t>(d)])
      if (place.count(f)) local[d] /= 2;
  return local;
}

// Shape and start of a device's block of an expanded tensor.
std::pair<Shape, std::vector<int64_t>> block_of(const Expanded& whole, const Place& place) {
  Shape block = whole.shape;
  std::vector<int64_t> start(whole.factors.size(), 0);
  for (size_t i = 0; i < whole.factors.size(); ++i) {
    const auto found = place.find(whole.factors[i]);
    if (found == place.end()) continue;
    block[static_cast<int>(i)] /= 2;
    start[i] = found->second * block[static_cast<int>(i)];
  }
  return {block, start};
}

HostTensor take_block(const HostTensor& x, const TensorFactors& dims, const FactorRule& rule,
                      const Place& place) {
  const Expanded whole = expand(x.shape(), dims, rule);
  const auto [block, start] = block_of(whole, place);
  return x.reshaped(whole.shape).slice(start, block).reshaped(local_shape(x.shape(), dims, place));
}

// All ways to stand on the split factors.
std::vector<Place> places_of(const std::vector<int>& split) {
  std::vector<Place> places{{}};
  for (int factor : split) {
    std::vector<Place> more;
    for (const Place& place : places)
      for (int half : {0, 1}) {
        more.push_back(place);
        more.back()[factor] = half;
      }
    places = more;
  }
  return places;
}

// ---- The proof of a set of factors --------------------------------------------------------------

class Proof {
 public:
  Proof(const OpDef& op, const OpSample& sample, std::vector<int> split)
      : op_(op),
        sample_(sample),
        split_(std::move(split)),
        results_(infer_types(op, {sample.operands, sample.attributes})),
        rule_(factor_rule(op, {sample.operands, sample.attributes}, results_)) {}

  // Empty where the rule tells the truth about the split factors.
  std::string run(std::mt19937_64& rng) try {
    const std::vector<HostTensor> operands = random_operands(sample_, rng);
    if (const auto [mesh, axes] = mesh_of_split(); needs_partition(op_, rule_, axes)) {
      // On devices a minor factor of a dim is cut only once those major to it are full.
      for (int f : split_)
        if (!testing::can_cut(rule_, f, 2)) return "";
      return testing::check_partition(op_, sample_.attributes, operands, mesh, axes);
    }
    const std::vector<HostTensor> expected = evaluate(op_, sample_.attributes, operands);
    const std::vector<Place> places = places_of(split_);
    std::vector<std::vector<HostTensor>> made;
    for (const Place& place : places) made.push_back(run_at(place, operands));
    for (size_t r = 0; r < results_.size(); ++r)
      if (const auto text = check_result(r, places, made, expected[r]); !text.empty())
        return cat("result ", r, ": ", text);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }

 private:
  const Factor& factor(int f) const { return rule_.factors[static_cast<size_t>(f)]; }

  // A mesh axis of size 2 per split factor: what an op's own `partition` is shown.
  std::pair<MeshPtr, std::vector<AxisList>> mesh_of_split() const {
    std::vector<MeshAxis> mesh_axes;
    for (int f : split_) mesh_axes.push_back({cat("f", f), 2});
    const auto mesh = std::make_shared<const Mesh>(mesh_axes);
    std::vector<AxisList> axes(rule_.factors.size());
    for (int f : split_) axes[static_cast<size_t>(f)] = {mesh->axis(cat("f", f))};
    return {mesh, axes};
  }

  std::vector<HostTensor> run_at(const Place& place,
                                 const std::vector<HostTensor>& operands) const {
    std::vector<HostTensor> local;
    for (size_t i = 0; i < operands.size(); ++i)
      local.push_back(take_block(operands[i], rule_.operands[i], rule_, place));
    const bool needs_starts =
        std::any_of(split_.begin(), split_.end(), [&](int f) { return factor(f).positional; });
    for (int f = 0; needs_starts && f < static_cast<int>(rule_.factors.size()); ++f) {
      if (!factor(f).positional) continue;
      const int64_t start = place.count(f) ? place.at(f) * factor(f).size / 2 : 0;
      local.push_back(HostTensor::filled({DType::s64, {}}, static_cast<double>(start)));
    }
    std::vector<TensorType> local_results;
    for (size_t r = 0; r < results_.size(); ++r)
      local_results.push_back(
          {results_[r].dtype, local_shape(results_[r].shape, rule_.results[r], place)});
    Attributes attributes = sample_.attributes;
    if (op_.localize && !is_relayout(op_))
      attributes =
          op_.localize({sample_.operands, sample_.attributes}, types_of(local), local_results);
    std::vector<HostTensor> made = evaluate(op_, attributes, local);
    TESSERA_CHECK(types_of(made) == local_results, "infer on local operands says ",
                  join(types_of(made)), ", not ", join(local_results));
    return made;
  }

  // Assembles the blocks of result `r`. Devices that differ only in reduction factors which the
  // result lacks hold addends of one block; those that differ in other factors it lacks hold
  // replicas.
  std::string check_result(size_t r, const std::vector<Place>& places,
                           const std::vector<std::vector<HostTensor>>& made,
                           const HostTensor& expected) const {
    const Expanded whole = expand(results_[r].shape, rule_.results[r], rule_);
    std::map<std::vector<int64_t>, HostTensor> partial;  // by start and coordinate along replicas
    for (size_t i = 0; i < places.size(); ++i) {
      std::vector<int64_t> key = block_of(whole, places[i]).second;
      const Factor* reduction = nullptr;
      for (const auto& [f, half] : places[i]) {
        if (std::count(whole.factors.begin(), whole.factors.end(), f)) continue;
        if (factor(f).kind == FactorKind::reduction)
          reduction = &factor(f);
        else
          key.push_back(half);
      }
      const auto [found, is_new] = partial.emplace(key, made[i][r]);
      if (is_new) continue;
      TESSERA_CHECK(reduction != nullptr, "two devices with one block");
      found->second = combine(reduction->reduce, found->second, made[i][r]);
    }
    const Shape block = block_of(whole, places[0]).first;
    for (auto& [key, value] : partial) {
      const std::vector<int64_t> start(key.begin(), key.begin() + whole.shape.rank());
      const HostTensor wanted = expected.reshaped(whole.shape).slice(start, block);
      if (const auto text = difference(value.reshaped(block), wanted); !text.empty())
        return cat("block at [", join(start, ","), "]: ", text);
    }
    return "";
  }

  const OpDef& op_;
  const OpSample& sample_;
  std::vector<int> split_;
  std::vector<TensorType> results_;
  FactorRule rule_;
};

std::string check_factor(const OpDef& op, const OpSample& sample, int factor,
                         std::mt19937_64& rng) {
  return Proof(op, sample, {factor}).run(rng);
}

// Every tensor has an entry per dim, and a dim of size 1 has no factor.
std::string check_form(const OpDef& op, const OpSample& sample) {
  const OpCall call{sample.operands, sample.attributes};
  const std::vector<TensorType> results = infer_types(op, call);
  const FactorRule rule = factor_rule(op, call, results);
  if (rule.operands.size() != sample.operands.size() || rule.results.size() != results.size())
    return "wrong number of tensors";
  auto check = [&](const TensorType& type, const TensorFactors& dims) -> std::string {
    if (static_cast<int>(dims.size()) != type.rank()) return cat(dims.size(), " dims for ", type);
    for (int d = 0; d < type.rank(); ++d)
      if (type.shape[d] == 1 && !dims[static_cast<size_t>(d)].empty())
        return cat("dim ", d, " of ", type, " has a factor");
    expand(type.shape, dims, rule);
    return "";
  };
  for (size_t i = 0; i < sample.operands.size(); ++i)
    if (const auto text = check(sample.operands[i], rule.operands[i]); !text.empty()) return text;
  for (size_t r = 0; r < results.size(); ++r)
    if (const auto text = check(results[r], rule.results[r]); !text.empty()) return text;
  return "";
}

std::string describe(const OpDef& op, const OpSample& sample) {
  const OpCall call{sample.operands, sample.attributes};
  return cat(op.name, "(", join(sample.operands), ") with rule ",
             factor_rule(op, call, infer_types(op, call)));
}

// Permutation factors are split by the op's `partition` alone.
std::vector<int> splittable_factors(const OpDef& op, const FactorRule& rule) {
  std::vector<int> factors;
  for (size_t f = 0; f < rule.factors.size(); ++f)
    if (rule.factors[f].kind != FactorKind::need_replication && rule.factors[f].size % 2 == 0 &&
        (rule.factors[f].kind != FactorKind::permutation || op.partition))
      factors.push_back(static_cast<int>(f));
  return factors;
}

// Calls body(op, sample, rule) for every sample whose rule can be executed.
template <typename Body>
void for_each_sample(Body body) {
  for (const OpDef* op : all_ops()) {
    if (!is_computed(*op)) continue;
    for (const OpSample& sample : op->samples()) {
      const OpCall call{sample.operands, sample.attributes};
      ASSERT_EQ(check_form(*op, sample), "") << describe(*op, sample);
      body(*op, sample, factor_rule(*op, call, infer_types(*op, call)));
    }
  }
}

TEST(FactorRules, HoldWhenExecutedOnHalves) {
  std::mt19937_64 rng(20240607);
  int proven = 0;
  for_each_sample([&](const OpDef& op, const OpSample& sample, const FactorRule& rule) {
    for (int f : splittable_factors(op, rule)) {
      EXPECT_EQ(check_factor(op, sample, f, rng), "")
          << "factor " << f << " of " << describe(op, sample);
      ++proven;
    }
  });
  EXPECT_GT(proven, 200);
}

TEST(FactorRules, HoldWhenExecutedOnSeveralFactorsAtOnce) {
  std::mt19937_64 rng(20240609);
  for_each_sample([&](const OpDef& op, const OpSample& sample, const FactorRule& rule) {
    const std::vector<int> factors = splittable_factors(op, rule);
    for (int round = 0; round < 4 && factors.size() > 1; ++round) {
      std::vector<int> split;
      for (int f : factors)
        if (round == 0 || rng() % 2) split.push_back(f);
      EXPECT_EQ(Proof(op, sample, split).run(rng), "")
          << "factors " << join(split) << " of " << describe(op, sample);
    }
  });
}

// The examples of core/ir/factors.h and docs/ops.md.
TEST(FactorRules, OfTheDocumentation) {
  auto rule_of = [](const OpDef& op, std::vector<TensorType> operands, Attributes attributes) {
    const OpCall call{operands, attributes};
    return factor_rule(op, call, infer_types(op, call));
  };
  const FactorRule dot = rule_of(ops::kDotGeneral, {{DType::f32, {8, 16}}, {DType::f32, {16, 32}}},
                                 {{Attr::lhs_contracting, Ints{1}},
                                  {Attr::rhs_contracting, Ints{0}},
                                  {Attr::lhs_batch, Ints{}},
                                  {Attr::rhs_batch, Ints{}}});
  EXPECT_EQ(dot.operands, (std::vector<TensorFactors>{{{0}, {2}}, {{2}, {1}}}));
  EXPECT_EQ(dot.results, (std::vector<TensorFactors>{{{0}, {1}}}));
  EXPECT_EQ(dot.factors[2].kind, FactorKind::reduction);
  EXPECT_EQ(dot.factors[2].size, 16);

  const FactorRule reshape =
      rule_of(ops::kReshape, {{DType::f32, {6, 4}}}, {{Attr::shape, Ints{2, 12}}});
  EXPECT_EQ(reshape.operands, (std::vector<TensorFactors>{{{0, 1}, {2}}}));
  EXPECT_EQ(reshape.results, (std::vector<TensorFactors>{{{0}, {1, 2}}}));

  const FactorRule heads =
      rule_of(ops::kReshape, {{DType::f32, {2, 8, 12}}}, {{Attr::shape, Ints{2, 8, 3, 4}}});
  EXPECT_EQ(heads.operands, (std::vector<TensorFactors>{{{0}, {1}, {2, 3}}}));
  EXPECT_EQ(heads.results, (std::vector<TensorFactors>{{{0}, {1}, {2}, {3}}}));
}

// The proof itself must be able to fail.
TEST(FactorRules, ALieIsFound) {
  std::mt19937_64 rng(1);
  OpDef liar = ops::kTranspose;
  liar.factors = [](const OpCall& call, std::span<const TensorType>) {
    FactorRule rule;
    const int f = rule.add(call.operands[0].shape[0]);
    const int g = rule.add(call.operands[0].shape[1], FactorKind::need_replication);
    rule.operands = {{{f}, {g}}};
    rule.results = {{{f}, {g}}};
    return rule;
  };
  const OpSample square{{{DType::f64, {4, 4}}}, {{Attr::dimensions, Ints{1, 0}}}};
  EXPECT_NE(check_factor(liar, square, 0, rng), "");

  liar = ops::kReduce;  // claims a maximum where it sums
  liar.factors = [](const OpCall& call, std::span<const TensorType>) {
    FactorRule rule;
    const int f = rule.add(call.operands[0].shape[0], FactorKind::reduction, ReduceKind::max);
    rule.operands = {{{f}}};
    rule.results = {{}};
    return rule;
  };
  const OpSample sum{{{DType::f64, {4}}},
                     {{Attr::dimensions, Ints{0}}, {Attr::reduce_kind, ReduceKind::sum}}};
  EXPECT_NE(check_factor(liar, sum, 0, rng), "");

  liar = ops::kIota;  // forgets that it is positional
  liar.factors = nullptr;
  liar.elementwise = true;
  const OpSample iota{
      {}, {{Attr::dimension, int64_t{0}}, {Attr::shape, Ints{4}}, {Attr::dtype, DType::f64}}};
  EXPECT_NE(check_factor(liar, iota, 0, rng), "");
}

}  // namespace
}  // namespace tessera

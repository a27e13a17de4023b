// Every registered kernel against its op's own reference, over the op table.
#include "kernels/cpu/register.h"

#include "core/ir/builder.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/fusion.h"
#include "core/ops/op_list.h"
#include "core/ops/structure.h"
#include "tests/kernels/cpu/kernel_testing.h"

namespace tessera {
namespace {

const KernelTable& table() {
  static const KernelTable kTable = [] {
    KernelTable made;
    register_cpu_kernels(made);
    return made;
  }();
  return kTable;
}

HostTensor random_tensor(const TensorType& type, unsigned seed, std::pair<double, double> range) {
  HostTensor tensor(type);
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> reals(range.first, range.second);
  const auto low = static_cast<int64_t>(range.first), high = static_cast<int64_t>(range.second);
  std::uniform_int_distribution<int64_t> integers(std::min(low, high), high);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (is_float(type.dtype))
      tensor.set_real(i, reals(generator));
    else
      tensor.set_int(i, integers(generator));
  }
  return tensor;
}

double tolerance_of(DType dtype) {
  return dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : dtype == DType::bf16 ? 0.02 : 0;
}

// Largest |a - b| / max(1, |b|); infinite where just one is NaN.
double distance(const HostTensor& a, const HostTensor& b) {
  double largest = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double x = a.get_real(i), y = b.get_real(i);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double error = std::abs(x - y) / std::max(1.0, std::abs(y));
    largest = std::isnan(error) ? INFINITY : std::max(largest, error);
  }
  return largest;
}

struct Outcome {
  bool accepted = false;
  std::string refusals;
};

// Runs the table's choice on random operands, poisoned results and workspace, with 1 and 3 threads,
// and in place wherever the kernel says it can; compares with eval.
Outcome check_call(const OpDef& op, const OpSample& sample) {
  const OpCall call{sample.operands, sample.attributes};
  const std::vector<TensorType> types = infer_types(op, call);
  const KernelTable::Choice choice = table().choose(op, call, types);
  Outcome outcome{!choice.kernel->is_reference, join(choice.refusals)};
  if (!outcome.accepted) return outcome;
  SCOPED_TRACE(testing::Message() << op.name << "(" << join(sample.operands) << ") by "
                                  << choice.kernel->name);

  std::vector<HostTensor> operands;
  std::vector<const HostTensor*> pointers;
  for (size_t i = 0; i < sample.operands.size(); ++i) {
    const auto range = i < sample.ranges.size() ? sample.ranges[i] : std::pair{-1.0, 1.0};
    operands.push_back(random_tensor(sample.operands[i], static_cast<unsigned>(i + 1), range));
  }
  for (const HostTensor& operand : operands) pointers.push_back(&operand);
  std::vector<HostTensor> want;
  for (const TensorType& type : types) want.emplace_back(type);
  op.eval(call, pointers, want);

  Instruction instruction;
  instruction.op = &op;
  instruction.attributes = sample.attributes;
  const auto run = [&](bool in_place) {
    std::vector<HostTensor> copies = operands, results;
    std::vector<TensorView> operand_views, result_views;
    for (HostTensor& copy : copies) operand_views.push_back({copy.type(), copy.bytes().data()});
    for (const TensorType& type : types) {
      results.emplace_back(type);
      std::fill(results.back().bytes().begin(), results.back().bytes().end(), std::byte{0xff});
    }
    std::vector<int> over(types.size(), -1);
    for (size_t r = 0; r < types.size(); ++r) {
      result_views.push_back({types[r], results[r].bytes().data()});
      if (!in_place) continue;
      const auto by = choice.kernel->in_place ? choice.kernel->in_place : op.alias;
      if (by)
        over[r] = by(call, static_cast<int>(r));
      else if (choice.kernel->in_place_any && types[r].bytes() == sample.operands[0].bytes())
        over[r] = 0;
      if (over[r] >= 0) result_views[r].data = operand_views[static_cast<size_t>(over[r])].data;
    }
    int64_t bytes =
        choice.kernel->workspace_bytes ? choice.kernel->workspace_bytes(call, types) : 0;
    std::vector<std::byte> memory(static_cast<size_t>(bytes + 128), std::byte{0xff});
    auto* aligned =
        reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
    choice.kernel->run({instruction, operand_views, result_views, aligned, nullptr});
    for (size_t r = 0; r < types.size(); ++r) {
      if (over[r] >= 0)
        std::memcpy(results[r].bytes().data(), result_views[r].data, results[r].bytes().size());
    }
    EXPECT_TRUE(std::all_of(aligned + bytes, memory.data() + memory.size(), [](std::byte b) {
      return b == std::byte{0xff};
    })) << "wrote beyond its workspace";
    return results;
  };
  omp_set_num_threads(1);
  const std::vector<HostTensor> got = run(false);
  omp_set_num_threads(3);
  EXPECT_EQ(got, run(false)) << "differs between 1 and 3 threads";
  EXPECT_EQ(got, run(true)) << "differs in place";
  // Results cannot be better than their least precise operand allows.
  double tolerance = 0;
  for (const TensorType& type : sample.operands)
    tolerance = std::max(tolerance, tolerance_of(type.dtype));
  for (size_t r = 0; r < types.size(); ++r) {
    EXPECT_LE(distance(got[r], want[r]), std::max(tolerance, tolerance_of(types[r].dtype)))
        << "result " << r;
  }
  return outcome;
}

// The sample with its f64 operands in `dtype` or, where bit i of `wide` is set, in f32; nullopt
// where the op has no such types.
std::optional<OpSample> in_dtype(const OpDef& op, const OpSample& sample, DType dtype,
                                 unsigned wide) {
  OpSample changed = sample;
  for (size_t i = 0; i < changed.operands.size(); ++i) {
    if (changed.operands[i].dtype == DType::f64)
      changed.operands[i].dtype = wide >> i & 1 ? DType::f32 : dtype;
  }
  if (&op == &ops::kFusion) return std::nullopt;  // its body says the types
  if (changed.attributes.has(Attr::dtype) &&
      sample.attributes.get<DType>(Attr::dtype) == DType::f64) {
    changed.attributes.set(Attr::dtype, dtype);
  }
  try {
    infer_types(op, {changed.operands, changed.attributes});
  } catch (const std::exception&) {
    return std::nullopt;
  }
  return changed;
}

TEST(Register, EveryKernelAgreesWithItsReference) {
  std::set<std::string_view> covered;
  for (const OpDef* op : all_ops()) {
    if (!op->samples || !op->eval) continue;
    for (const OpSample& sample : op->samples()) {
      if (check_call(*op, sample).accepted) covered.insert(op->name);
      for (DType dtype : {DType::f32, DType::bf16}) {
        const unsigned combinations = dtype == DType::bf16 ? 1u << sample.operands.size() : 1;
        for (unsigned wide = 0; wide < combinations; ++wide) {
          if (const auto changed = in_dtype(*op, sample, dtype, wide)) check_call(*op, *changed);
        }
      }
    }
  }
  for (const char* name : {"add",
                           "gelu",
                           "gelu_grad",
                           "convert",
                           "select",
                           "dot_general",
                           "layer_norm",
                           "layer_norm_grad",
                           "rms_norm",
                           "rms_norm_grad",
                           "sum_of_squares",
                           "attention",
                           "attention_grad",
                           "rotary",
                           "embedding",
                           "embedding_grad",
                           "logits_max",
                           "logits_sum",
                           "logits_sum_grad",
                           "adamw",
                           "fusion",
                           "reduce",
                           "transpose",
                           "broadcast_in_dim",
                           "iota",
                           "slice",
                           "concatenate",
                           "pad",
                           "reshape",
                           "constant"}) {
    EXPECT_TRUE(covered.count(name)) << name << " has no kernel that takes its samples";
  }
}

// Random dims, batches and contractions, in all storage orders.
TEST(Register, DotGeneralInAnyOrder) {
  std::mt19937 generator(3);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  };
  for (int round = 0; round < 150; ++round) {
    const int batch = static_cast<int>(pick(0, 2)), contracting = static_cast<int>(pick(0, 2));
    std::vector<int64_t> shared;
    for (int i = 0; i < batch + contracting; ++i) shared.push_back(pick(1, 5));
    const auto make_side = [&](Ints& batch_dims, Ints& contracting_dims) {
      std::vector<int> roles;  // index into shared, or -1: free
      for (int i = 0; i < batch + contracting; ++i) roles.push_back(i);
      for (int64_t i = pick(0, 2); i > 0; --i) roles.push_back(-1);
      std::shuffle(roles.begin(), roles.end(), generator);
      Shape shape;
      batch_dims.resize(batch);
      contracting_dims.resize(contracting);
      for (size_t d = 0; d < roles.size(); ++d) {
        shape.push_back(roles[d] < 0 ? pick(1, 6) : shared[roles[d]]);
        if (roles[d] >= batch)
          contracting_dims[roles[d] - batch] = static_cast<int64_t>(d);
        else if (roles[d] >= 0)
          batch_dims[roles[d]] = static_cast<int64_t>(d);
      }
      return shape;
    };
    Ints lb, lc, rb, rc;
    const Shape lhs = make_side(lb, lc), rhs = make_side(rb, rc);
    const Attributes attributes{{Attr::lhs_contracting, lc},
                                {Attr::rhs_contracting, rc},
                                {Attr::lhs_batch, lb},
                                {Attr::rhs_batch, rb}};
    for (DType dtype : {DType::f64, DType::f32}) {
      EXPECT_TRUE(
          check_call(ops::kDotGeneral, {{{dtype, lhs}, {dtype, rhs}}, attributes}).accepted);
    }
  }
}

OpSample fusion_of(const std::function<void(Builder&)>& write) {
  Graph body;
  Builder b(body);
  write(b);
  OpSample sample;
  for (const GraphInput& input : body.inputs) sample.operands.push_back(body.type(input.value));
  sample.attributes.set(Attr::body, std::make_shared<const Graph>(std::move(body)));
  return sample;
}

TEST(Register, FusionsWithBroadcastsAndReshapes) {
  using namespace ops;
  const auto in = [](Builder& b, const char* name, DType dtype, Shape shape) {
    return b.input(InputKind::data, name, {dtype, std::move(shape)});
  };
  // A row statistic and a bias, heads split off by a reshape, a scalar chain broadcast at the end.
  const OpSample norm_like = fusion_of([&](Builder& b) {
    const Value x = in(b, "x", DType::f32, {2, 5, 24}), mean = in(b, "mean", DType::f32, {2, 5});
    const Value bias = in(b, "bias", DType::f32, {24}), rate = in(b, "rate", DType::f32, {});
    const Value centred = subtract(b, x, broadcast_in_dim(b, mean, {2, 5, 24}, {0, 1}));
    const Value shifted = add(b, centred, broadcast_last(b, scale(b, bias, 3), {2, 5, 24}));
    const Value factor = broadcast_scalar(b, exponential(b, rate), {2, 5, 24});
    const Value y = multiply(b, shifted, factor);
    b.output(y, "y");
    b.output(compare(b, y, zeros_like(b, y), CompareDirection::gt), "positive");
  });
  EXPECT_TRUE(check_call(kFusion, norm_like).accepted);

  const OpSample reshaped = fusion_of([&](Builder& b) {
    const Value x = in(b, "x", DType::bf16, {6, 40}), per_head = in(b, "h", DType::bf16, {4, 1});
    const Value heads = reshape(b, x, {6, 4, 10});
    const Value y = multiply(b, heads, broadcast_in_dim(b, per_head, {6, 4, 10}, {1, 2}));
    b.output(convert(b, reshape(b, y, {240}), DType::f32), "flat");
    b.output(silu(b, y), "silu");
  });
  EXPECT_TRUE(check_call(kFusion, reshaped).accepted);

  // One operand read in two ways; a broadcast of a broadcast.
  const OpSample twice = fusion_of([&](Builder& b) {
    const Value x = in(b, "x", DType::f64, {7}), y = in(b, "y", DType::f64, {3, 1, 7});
    const Value wide = broadcast_in_dim(b, broadcast_in_dim(b, x, {3, 7}, {1}), {3, 7, 7}, {0, 2});
    const Value other = broadcast_in_dim(b, x, {3, 7, 7}, {1});
    b.output(add(b, multiply(b, wide, other), broadcast_in_dim(b, y, {3, 7, 7}, {0, 1, 2})), "z");
  });
  EXPECT_TRUE(check_call(kFusion, twice).accepted);
}

TEST(Register, RefusalsSayWhy) {
  const OpSample across = fusion_of([](Builder& b) {
    const Value x = b.input(InputKind::data, "x", {DType::f32, {4, 6}});
    const Value row = b.input(InputKind::data, "row", {DType::f32, {4}});
    const Value y = ops::add(b, ops::reshape(b, x, {6, 4}), ops::broadcast_last(b, row, {6, 4}));
    const Value z = ops::reshape(b, y, {4, 6});
    b.output(ops::add(b, z, ops::broadcast_in_dim(b, row, {4, 6}, {0})), "z");
  });
  const Outcome outcome = check_call(ops::kFusion, across);
  EXPECT_FALSE(outcome.accepted);
  EXPECT_EQ(outcome.refusals, "cpu.fusion: shapes of the body cut across each other");

  const TensorType half{DType::f16, {4, 8}};
  const Outcome norm =
      check_call(*find_op("rms_norm"), {{half, {DType::f16, {8}}}, {{Attr::epsilon, 1e-5}}});
  EXPECT_EQ(norm.refusals, "cpu.rms_norm: compiled for f32, f64 and bf16, not f16");
}

}  // namespace
}  // namespace tessera

// Every registered kernel against its op's own reference, over the op table.
#include <numeric>

#include "core/ops/combiner.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"
#include "core/ops/fusion.h"
#include "core/ops/op_list.h"
#include "core/ops/structure.h"
#include "tests/kernels/cpu/check_call.h"

namespace tessera {
namespace {

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
                           "max_abs",
                           "attention",
                           "attention_grad",
                           "rotary",
                           "embedding",
                           "embedding_grad",
                           "logits_max",
                           "logits_sum",
                           "logits_sum_grad",
                           "cross_entropy_with_grad",
                           "adamw",
                           "multi_adamw",
                           "multi_sum_of_squares",
                           "fusion",
                           "reduce",
                           "transpose",
                           "broadcast_in_dim",
                           "iota",
                           "slice",
                           "concatenate",
                           "pad",
                           "reshape",
                           "constant",
                           "xor",
                           "shift_left",
                           "shift_right_arithmetic",
                           "shift_right_logical",
                           "popcnt",
                           "count_leading_zeros",
                           "remainder",
                           "floor",
                           "ceil",
                           "round_nearest_even",
                           "round_nearest_afz",
                           "log_plus_one",
                           "exponential_minus_one",
                           "cbrt",
                           "tan",
                           "atan2",
                           "bitcast_convert",
                           "convolution",
                           "convolution_kernel_grad",
                           "rng_bit_generator",
                           "sort",
                           "top_k",
                           "scan",
                           "dynamic_slice",
                           "dynamic_update_slice",
                           "gather",
                           "scatter"}) {
    EXPECT_TRUE(covered.count(name)) << name << " has no kernel that takes its samples";
  }
}

const std::vector<DType> kTileTypes = {DType::pred, DType::s8,   DType::s16, DType::s32,
                                       DType::s64,  DType::u8,   DType::u16, DType::u32,
                                       DType::u64,  DType::bf16, DType::f32, DType::f64};

// Enough elements for several threads, whole and as the middle of a larger tensor.
TEST(Register, RandomBits) {
  for (const std::string algorithm : {"philox", "three_fry"})
    for (DType dtype : {DType::u8, DType::u32, DType::u64}) {
      const Attributes whole{
          {Attr::rng_algorithm, algorithm}, {Attr::shape, Ints{150, 201}}, {Attr::dtype, dtype}};
      const TensorType state{DType::u64, {2}}, start{DType::s64, {}};
      EXPECT_TRUE(check_call(*find_op("rng_bit_generator"), {{state}, whole, {{0, 1e9}}}).accepted);
      Attributes part = whole;
      part.set(Attr::limit_indices, Ints{301, 603});
      EXPECT_TRUE(check_call(*find_op("rng_bit_generator"),
                             {{state, start, start}, part, {{0, 1e9}, {150, 150}, {402, 402}}})
                      .accepted);
    }
}

// Any order of dims and any groups: features first, kernels turned round, batch as features.
TEST(Register, ConvolutionsInAnyOrder) {
  const OpDef& op = *find_op("convolution");
  std::mt19937 generator(5);
  for (const OpSample& own : op.samples()) {
    if (own.attributes.get_or<int64_t>(Attr::batch_group_count, 1) != 1 ||
        own.operands[0].dtype != DType::f64)
      continue;
    EXPECT_TRUE(check_call(op, own).accepted);
    for (int round = 0; round < 6; ++round) {
      OpSample sample = own;
      // The dims of one tensor change places, and the attributes that name them.
      const auto turn = [&](TensorType* type, std::vector<Attr> singles, Attr list) {
        const int rank = sample.operands[0].rank();
        std::vector<int64_t> place(static_cast<size_t>(rank));
        std::iota(place.begin(), place.end(), 0);
        std::shuffle(place.begin(), place.end(), generator);
        if (type) {
          const Shape before = type->shape;
          for (int d = 0; d < rank; ++d)
            type->shape[static_cast<int>(place[static_cast<size_t>(d)])] = before[d];
        }
        for (Attr key : singles)
          sample.attributes.set(key, place[static_cast<size_t>(sample.attributes.integer(key))]);
        Ints dims = sample.attributes.ints(list);
        for (int64_t& d : dims) d = place[static_cast<size_t>(d)];
        sample.attributes.set(list, dims);
      };
      turn(&sample.operands[0], {Attr::input_batch_dimension, Attr::input_feature_dimension},
           Attr::input_spatial_dimensions);
      turn(&sample.operands[1],
           {Attr::kernel_input_feature_dimension, Attr::kernel_output_feature_dimension},
           Attr::kernel_spatial_dimensions);
      turn(nullptr, {Attr::output_batch_dimension, Attr::output_feature_dimension},
           Attr::output_spatial_dimensions);
      for (DType dtype : {DType::f64, DType::bf16}) {
        sample.operands[0].dtype = sample.operands[1].dtype = dtype;
        EXPECT_TRUE(check_call(op, sample).accepted);
      }
      sample.attributes.set(Attr::dtype, DType::f32);  // of bf16, not rounded
      EXPECT_TRUE(check_call(op, sample).accepted);
    }
  }
}

TEST(Register, ReductionsFromAnInitialValue) {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::s32})
    for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max, ReduceKind::min, ReduceKind::product})
      for (const Ints& dims : {Ints{1}, Ints{0, 2}, Ints{0, 1, 2}}) {
        if (dtype == DType::s32 && (kind == ReduceKind::product || dims.size() == 2)) continue;
        const OpSample sample{{{dtype, {3, 5, 4}}, {dtype, {}}},
                              {{Attr::dimensions, dims}, {Attr::reduce_kind, kind}},
                              {{-2, 2}, {-3, 3}}};
        EXPECT_TRUE(check_call(ops::kReduce, sample).accepted) << dtype << " " << name_of(kind);
        OpSample region = sample;
        region.attributes = {{Attr::dimensions, dims},
                             {Attr::combiner, ops::combiner_of(kind, dtype)}};
        EXPECT_TRUE(check_call(ops::kReduce, region).accepted) << dtype << " " << name_of(kind);
      }
}

// Values beyond the narrower type's range too.
TEST(Register, ConvertsBetweenAllTypes) {
  for (DType from : kTileTypes)
    for (DType to : kTileTypes) {
      if (from == to) continue;
      const bool is_signed = is_float(from) || is_signed_integer(from);
      const double most = from == DType::pred ? 1 : from == DType::s8 ? 127 : 255;
      const OpSample sample{
          {{from, {600}}}, {{Attr::dtype, to}}, {{is_signed ? -std::min(most, 128.0) : 0, most}}};
      EXPECT_TRUE(check_call(ops::kConvert, sample).accepted);
    }
}

TEST(Register, IntegersOfAllWidths) {
  for (DType dtype : kTileTypes) {
    if (!is_integer(dtype)) continue;
    const bool is_signed = is_signed_integer(dtype);
    for (const char* name :
         {"add", "subtract", "multiply", "divide", "remainder", "maximum", "minimum", "and", "or",
          "xor", "shift_left", "shift_right_logical", "shift_right_arithmetic"})
      EXPECT_TRUE(
          check_call(*find_op(name), {{{dtype, {600}}, {dtype, {600}}},
                                      {},
                                      {{is_signed ? -128 : 0, 127}, {is_signed ? -2 : 0, 70}}})
              .accepted)
          << name << " of " << dtype;
    for (const char* name : {"not", "popcnt", "count_leading_zeros"})
      EXPECT_TRUE(check_call(*find_op(name), {{{dtype, {600}}}, {}, {{is_signed ? -128 : 0, 127}}})
                      .accepted)
          << name << " of " << dtype;
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

  // A round of a counter-based generator, from 64-bit counters to floats in [1, 2).
  const OpSample bits = fusion_of([&](Builder& b) {
    const Value counter = in(b, "counter", DType::u64, {5, 24}), key = in(b, "key", DType::u32, {});
    const auto number = [&](double value) {
      return broadcast_scalar(b, constant(b, value, {DType::u32, {}}), {5, 24});
    };
    const Value low = convert(b, counter, DType::u32);
    const Value x = add(b, low, broadcast_scalar(b, key, {5, 24}));
    const Value turned =
        logical_or(b, shift_left(b, x, number(13)), shift_right_logical(b, x, number(19)));
    b.output(logical_or(b, shift_right_logical(b, logical_xor(b, turned, low), number(9)),
                        number(0x3f800000)),
             "bits");
  });
  EXPECT_TRUE(check_call(kFusion, bits).accepted);

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

// random_uniform, rng_bit_generator and dropout: the bits of core/ops/{random,rng,dropout}.h.
#include "core/ops/dropout.h"
#include "core/ops/random.h"
#include "core/ops/rng.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/random/dropout.h"
#include "kernels/cuda/random/random_bits.h"
#include "kernels/cuda/random/random_uniform.h"
#include "kernels/cuda/random/shard_places.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// ---- random_uniform -----------------------------------------------------------------------------

void run_uniform(const KernelArgs& args) {
  std::vector<TensorType> types;
  for (const TensorView& operand : args.operands) types.push_back(operand.type);
  const OpCall call{types, args.instruction.attributes};
  const TensorView& result = args.results[0];
  const RandomPlaces places = places_of<kMaxRandomRank>(result.type.shape, ops::random_strides(call), args.operands,
                                                        ops::random_start_strides(call));
  const auto seed = static_cast<uint64_t>(call.attributes.integer(Attr::seed)),
             site = static_cast<uint64_t>(call.attributes.integer(Attr::seed_site));
  const int precision = ops::random_precision(result.type.dtype);
  const cudaStream_t stream = stream_of(args);
  if (result.type.dtype == DType::f64)
    return random_uniform(seed, site, precision, places, result.as<double>(), stream);
  dispatch_float(result.type.dtype, [&]<typename T>() {
    random_uniform(seed, site, precision, places, result.as<T>(), stream);
  });
}

Refusal accept_uniform(const OpCall& call, Results results) {
  if (results[0].dtype != DType::f64) {
    if (Refusal refusal = refuse_float(results[0])) return refusal;
  }
  return refuse_places<kMaxRandomRank>(results[0].shape, ops::random_strides(call), call.operands.size());
}

// ---- rng_bit_generator --------------------------------------------------------------------------

// The layout does not depend on the state.
ops::BitSource source_of(const Attributes& attributes) {
  constexpr uint64_t kNoState[2] = {};
  return {attributes, kNoState};
}

void run_bits(const KernelArgs& args) {
  const TensorView &state = args.operands[0], &next = args.results[0], &bits = args.results[1];
  const ops::BitSource source = source_of(args.instruction.attributes);
  const std::span<const TensorView> starts = args.operands.subspan(1);
  std::vector<int64_t> start_strides, one(starts.size());
  for (size_t i = 0; i < starts.size(); ++i) {
    one[i] = 1;
    start_strides.push_back(source.first_of(one));
    one[i] = 0;
  }
  const RandomPlaces places =
      places_of<kMaxRandomRank>(bits.type.shape, source.strides(), starts, start_strides);
  const ops::BitSource::Words words = source.words();
  const BitDraw draw{words.is_philox, words.is_wide, static_cast<int>(state.type.elements()),
                     std::max<int64_t>(words.count, 1), words.along, words.inner, words.blocks};
  const auto run = [&]<typename Word>() {
    random_bits(draw, places, state.as<const uint64_t>(), next.as<uint64_t>(), bits.as<Word>(), stream_of(args));
  };
  switch (size_of(bits.type.dtype)) {
    case 1:
      return run.template operator()<uint8_t>();
    case 2:
      return run.template operator()<uint16_t>();
    case 4:
      return run.template operator()<uint32_t>();
    default:
      return run.template operator()<uint64_t>();
  }
}

Refusal accept_bits(const OpCall& call, Results results) {
  return refuse_places<kMaxRandomRank>(results[1].shape, source_of(call.attributes).strides(),
                                       call.operands.size() - 1);
}

// ---- dropout ------------------------------------------------------------------------------------

constexpr size_t kDropoutOwn = 3;

void run_dropout(const KernelArgs& args) {
  std::vector<TensorType> types;
  for (const TensorView& operand : args.operands) types.push_back(operand.type);
  const OpCall call{types, args.instruction.attributes};
  const Ints strides = ops::dropout_strides(call);
  const RandomPlaces places = places_of<kMaxRandomRank>(types[0].shape, strides, args.operands.subspan(kDropoutOwn),
                                                        ops::dropout_start_strides(call));
  const double rate = call.attributes.number(Attr::rate);
  const DropoutMask mask{static_cast<uint64_t>(call.attributes.integer(Attr::seed)),
                         static_cast<uint32_t>(call.attributes.integer(Attr::seed_site)),
                         ops::dropout_threshold(rate),
                         static_cast<float>(ops::dropout_scale(rate)),
                         args.operands[1].as<const int64_t>(),
                         args.operands[2].as<const int64_t>(),
                         strides[0]};
  dispatch_float(types[0].dtype, [&]<typename T>() {
    dropout(mask, places, args.operands[0].as<const T>(), args.results[0].as<T>(), stream_of(args));
  });
}

Refusal accept_dropout(const OpCall& call, Results) {
  if (Refusal refusal = refuse_float(call.operands[0])) return refusal;
  return refuse_places<kMaxRandomRank>(call.operands[0].shape, ops::dropout_strides(call),
                                       call.operands.size() - kDropoutOwn);
}

}  // namespace

void register_random(KernelTable& table) {
  table.add(ops::kRandomUniform, make_kernel("cuda.random_uniform", accept_uniform, run_uniform));
  table.add(ops::kRngBitGenerator, make_kernel("cuda.rng_bit_generator", accept_bits, run_bits));
  Kernel dropout = make_kernel("cuda.dropout", accept_dropout, run_dropout);
  dropout.in_place = [](const OpCall&, int) { return 0; };
  table.add(ops::kDropout, dropout);
}

}  // namespace tessera::cuda

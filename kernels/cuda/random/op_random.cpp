// random_uniform and rng_bit_generator: the bits of core/ops/{random,rng}.h.
#include "core/ops/random.h"
#include "core/ops/rng.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/random/random_bits.h"
#include "kernels/cuda/random/random_uniform.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

struct PlaceDim {
  int64_t size, stride;
};

// Neighbours that step as one dim merged.
std::vector<PlaceDim> merged_dims(const Shape& shape, const std::vector<int64_t>& strides) {
  std::vector<PlaceDim> inner_first;
  for (int d = shape.rank(); d-- > 0;) {
    const int64_t size = shape[d], stride = strides[static_cast<size_t>(d)];
    if (size == 1) continue;
    if (!inner_first.empty() && stride == inner_first.back().stride * inner_first.back().size)
      inner_first.back().size *= size;
    else
      inner_first.push_back({size, stride});
  }
  if (inner_first.empty()) inner_first.push_back({1, 1});
  return {inner_first.rbegin(), inner_first.rend()};
}

Refusal refuse_places(const Shape& shape, const std::vector<int64_t>& strides, size_t starts) {
  if (merged_dims(shape, strides).size() > kMaxRandomRank || starts > kMaxRandomRank)
    return cat("compiled for shards of at most ", kMaxRandomRank, " dims");
  return std::nullopt;
}

// `starts` are operands in device memory, and what one of each is in elements.
RandomPlaces places_of(const Shape& shape, const std::vector<int64_t>& strides, std::span<const TensorView> starts,
                       const std::vector<int64_t>& start_strides) {
  RandomPlaces places;
  places.count = shape.elements();
  for (const PlaceDim& dim : merged_dims(shape, strides)) {
    places.size[places.rank] = dim.size;
    places.stride[places.rank++] = dim.stride;
  }
  for (size_t i = 0; i < starts.size(); ++i) {
    places.start[i] = starts[i].as<const int64_t>();
    places.start_stride[i] = start_strides[i];
  }
  places.starts = static_cast<int>(starts.size());
  return places;
}

// ---- random_uniform -----------------------------------------------------------------------------

void run_uniform(const KernelArgs& args) {
  std::vector<TensorType> types;
  for (const TensorView& operand : args.operands) types.push_back(operand.type);
  const OpCall call{types, args.instruction.attributes};
  const TensorView& result = args.results[0];
  const RandomPlaces places =
      places_of(result.type.shape, ops::random_strides(call), args.operands, ops::random_start_strides(call));
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
  return refuse_places(results[0].shape, ops::random_strides(call), call.operands.size());
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
  const RandomPlaces places = places_of(bits.type.shape, source.strides(), starts, start_strides);
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
  return refuse_places(results[1].shape, source_of(call.attributes).strides(), call.operands.size() - 1);
}

}  // namespace

void register_random(KernelTable& table) {
  table.add(ops::kRandomUniform, make_kernel("cuda.random_uniform", accept_uniform, run_uniform));
  table.add(ops::kRngBitGenerator, make_kernel("cuda.rng_bit_generator", accept_bits, run_bits));
}

}  // namespace tessera::cuda

#include "core/ops/rng.h"

#include <bit>

#include "core/ir/padding.h"
#include "core/ops/philox.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

bool is_philox(const OpCall& call) {
  return call.attributes.get<std::string>(Attr::rng_algorithm) != "three_fry";
}

// The shape of the whole tensor: after localize limit_indices, as `shape` is that of a shard.
Shape whole_shape(const OpCall& call) {
  return Shape(call.attributes.ints(call.attributes.has(Attr::limit_indices) ? Attr::limit_indices
                                                                             : Attr::shape));
}

std::vector<int> dims_with_start(const Shape& whole) {
  std::vector<int> dims;
  for (int d = 0; d < whole.rank(); ++d)
    if (whole[d] > 1) dims.push_back(d);
  return dims;
}

std::vector<TensorType> infer(const OpCall& call) {
  const TensorType type{call.attributes.get<DType>(Attr::dtype),
                        Shape(call.attributes.ints(Attr::shape))};
  const Shape whole = whole_shape(call);
  const auto& algorithm = call.attributes.get<std::string>(Attr::rng_algorithm);
  check_operand_count("rng_bit_generator", call, 1, type.rank());
  const TensorType& state = call.operands[0];
  require(algorithm == "philox" || algorithm == "three_fry" || algorithm == "default",
          "rng_bit_generator: algorithm \"", algorithm, "\" is not philox, three_fry or default");
  require(state == TensorType{DType::u64, {2}} ||
              (is_philox(call) && state == TensorType{DType::u64, {3}}),
          "rng_bit_generator: the state of ", algorithm, " is u64[2]",
          is_philox(call) ? " or u64[3]" : "", ", not ", state, ", for ", type);
  require(is_integer(type.dtype), "rng_bit_generator: gives integers, not ", type);
  require(
      whole.rank() == type.rank() &&
          (call.operands.size() == 1 || call.operands.size() == 1 + dims_with_start(whole).size()),
      "rng_bit_generator: ", call.operands.size() - 1, " starts for ", type, " of ", whole);
  return {state, type};
}

uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t high(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

// A counter of 128 bits, with the key before it.
struct State {
  uint64_t key = 0, counter[2] = {0, 0};
  State advanced(uint64_t blocks) const {
    State next = *this;
    next.counter[0] += blocks;
    if (next.counter[0] < blocks) ++next.counter[1];
    return next;
  }
};

State state_of(const HostTensor& tensor) {
  State state;
  state.key = state.counter[1] = static_cast<uint64_t>(tensor.get_int(0));
  for (int64_t i = 1; i < tensor.elements(); ++i)
    state.counter[i - 1] = static_cast<uint64_t>(tensor.get_int(i));
  return state;
}

uint64_t philox_bits(const State& state, uint64_t index, bool is_wide) {
  const uint64_t block = is_wide ? index / 2 : index / 4;
  const State at = state.advanced(block);
  const PhiloxCounter words = philox4x32_10(
      {low(at.counter[0]), high(at.counter[0]), low(at.counter[1]), high(at.counter[1])},
      {low(at.key), high(at.key)});
  if (!is_wide) return words[index % 4];
  const size_t first = 2 * (index % 2);
  return uint64_t{words[first + 1]} << 32 | words[first];
}

// Which block and word of three_fry an element of up to 32 bits is.
class WordPairs {
 public:
  explicit WordPairs(const Shape& whole) {
    int split = -1;
    for (int d = 0; d < whole.rank() && split < 0; ++d)
      if (whole[d] % 2 == 0) split = d;
    for (int d = 0; d < whole.rank() && (split < 0 || whole[split] % 2 != 0); ++d)
      if (split < 0 || whole[d] > whole[split]) split = d;
    if (split < 0) return;
    size_ = whole[split];
    for (int d = 0; d < whole.rank(); ++d)
      if (d != split) (d < split ? outer_ : inner_) *= whole[d];
  }
  uint64_t blocks() const { return static_cast<uint64_t>(outer_ * half() * inner_); }
  size_t word(int64_t index) const { return static_cast<size_t>(along(index) % 2); }
  uint64_t block(int64_t index) const {
    const int64_t outer = index / (inner_ * size_);
    return static_cast<uint64_t>((outer * half() + along(index) / 2) * inner_ + index % inner_);
  }

 private:
  int64_t half() const { return (size_ + 1) / 2; }
  int64_t along(int64_t index) const { return index / inner_ % size_; }

  int64_t outer_ = 1, size_ = 1, inner_ = 1;  // of the whole shape, around the dim that is halved
};

uint64_t three_fry_bits(const State& state, uint64_t index, const WordPairs& pairs, bool is_wide) {
  const auto place = static_cast<int64_t>(index);
  const uint64_t counter = state.counter[0] + (is_wide ? index : pairs.block(place));
  const auto words =
      three_fry_2x32({low(counter), high(counter)}, {low(state.key), high(state.key)});
  return is_wide ? uint64_t{words[1]} << 32 | words[0] : words[pairs.word(place)];
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const Shape whole = whole_shape(call);
  const std::vector<int64_t> strides = whole.strides();
  int64_t offset = 0;
  if (x.size() > 1) {
    const std::vector<int> dims = dims_with_start(whole);
    for (size_t i = 0; i < dims.size(); ++i)
      offset += x[1 + i]->get_int(0) * strides[static_cast<size_t>(dims[i])];
  }
  const bool philox = is_philox(call), is_wide = size_of(y[1].dtype()) == 8;
  const auto count = static_cast<uint64_t>(whole.elements());
  const WordPairs pairs(whole);
  const State state = state_of(*x[0]);
  Elements<uint64_t> bits(static_cast<size_t>(y[1].elements()));
  walk(y[1].shape(), strides, y[1].shape().strides(), [&](int64_t from, int64_t to) {
    // Beyond the tensor (padding) any bits will do.
    const uint64_t index = count == 0 ? 0 : static_cast<uint64_t>(offset + from) % count;
    bits[static_cast<size_t>(to)] =
        philox ? philox_bits(state, index, is_wide) : three_fry_bits(state, index, pairs, is_wide);
  });
  set_elements<uint64_t>(y[1], bits);
  const uint64_t blocks =
      philox ? (is_wide ? (count + 1) / 2 : (count + 3) / 4) : (is_wide ? count : pairs.blocks());
  const State next = state.advanced(blocks);
  y[0] = *x[0];
  for (int64_t i = 1; i < y[0].elements(); ++i)
    y[0].set_int(i, static_cast<int64_t>(next.counter[i - 1]));
}

FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  std::vector<int> dims;
  for (int64_t size : results[1].shape)
    dims.push_back(add_factor(rule, size, FactorKind::pass_through, ReduceKind::sum, true));
  const std::vector<int> state = add_factors(rule, results[0].shape, FactorKind::need_replication);
  rule.operands = {dims_of(state)};
  rule.results = {dims_of(state), dims_of(dims)};
  add_starts(rule, call);
  return rule;
}

Attributes localize(const OpCall& global, std::span<const TensorType>,
                    std::span<const TensorType> results) {
  Attributes local = global.attributes;
  local.set(Attr::limit_indices, ints_of(whole_shape(global)));
  local.set(Attr::shape, ints_of(results[1].shape));
  return local;
}

double flops(const OpCall&, std::span<const TensorType> results) {
  return 60.0 * static_cast<double>(results[1].elements());
}

Attributes attributes_of(const TensorType& type, const std::string& algorithm) {
  return {{Attr::rng_algorithm, algorithm},
          {Attr::shape, ints_of(type.shape)},
          {Attr::dtype, type.dtype}};
}

std::vector<OpSample> samples() {
  auto sample = [](TensorType type, const std::string& algorithm, int64_t words) {
    return OpSample{{{DType::u64, {words}}}, attributes_of(type, algorithm), {{0, 1e9}}, false};
  };
  return {
      sample({DType::u32, {4, 6}}, "philox", 2),    sample({DType::u64, {4, 1, 6}}, "philox", 3),
      sample({DType::u8, {8}}, "philox", 2),        sample({DType::u32, {4, 6}}, "three_fry", 2),
      sample({DType::u32, {5, 3}}, "three_fry", 2), sample({DType::s64, {2, 4}}, "three_fry", 2),
      sample({DType::u16, {3, 5}}, "default", 2)};
}

}  // namespace

std::array<uint32_t, 2> three_fry_2x32(std::array<uint32_t, 2> x, std::array<uint32_t, 2> key) {
  constexpr int kRotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};  // table 2 of the paper
  const uint32_t keys[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA};
  x[0] += keys[0];
  x[1] += keys[1];
  for (uint32_t group = 0; group < 5; ++group) {
    for (int rotation : kRotations[group % 2]) {
      x[0] += x[1];
      x[1] = std::rotl(x[1], rotation) ^ x[0];
    }
    x[0] += keys[(group + 1) % 3];
    x[1] += keys[(group + 2) % 3] + group + 1;
  }
  return x;
}

const OpDef kRngBitGenerator{.name = "rng_bit_generator",
                             .attributes = {Attr::rng_algorithm, Attr::shape, Attr::dtype},
                             .optional_attributes = {Attr::limit_indices},
                             .infer = infer,
                             .eval = eval,
                             .factors = factors,
                             .localize = localize,
                             .pad_needs = no_pad_needs,
                             .flops = flops,
                             .samples = samples};

RandomBits rng_bit_generator(Builder& b, Value state, TensorType type,
                             const std::string& algorithm) {
  const Value first = b.emit(kRngBitGenerator, {state}, attributes_of(type, algorithm));
  return {first, {first.instruction, 1}};
}

}  // namespace tessera::ops

#include "core/ops/rng.h"

#include <bit>

#include "core/ir/padding.h"
#include "core/ops/philox.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

bool is_philox(const Attributes& attributes) {
  return attributes.get<std::string>(Attr::rng_algorithm) != "three_fry";
}

// The shape of the whole tensor: after localize limit_indices, as `shape` is that of a shard.
Shape whole_shape(const Attributes& attributes) {
  return Shape(
      attributes.ints(attributes.has(Attr::limit_indices) ? Attr::limit_indices : Attr::shape));
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
  const Shape whole = whole_shape(call.attributes);
  const auto& algorithm = call.attributes.get<std::string>(Attr::rng_algorithm);
  check_operand_count("rng_bit_generator", call, 1, type.rank());
  const TensorType& state = call.operands[0];
  require(algorithm == "philox" || algorithm == "three_fry" || algorithm == "default",
          "rng_bit_generator: algorithm \"", algorithm, "\" is not philox, three_fry or default");
  require(state == TensorType{DType::u64, {2}} ||
              (is_philox(call.attributes) && state == TensorType{DType::u64, {3}}),
          "rng_bit_generator: the state of ", algorithm, " is u64[2]",
          is_philox(call.attributes) ? " or u64[3]" : "", ", not ", state, ", for ", type);
  require(is_integer(type.dtype), "rng_bit_generator: gives integers, not ", type);
  require(
      whole.rank() == type.rank() &&
          (call.operands.size() == 1 || call.operands.size() == 1 + dims_with_start(whole).size()),
      "rng_bit_generator: ", call.operands.size() - 1, " starts for ", type, " of ", whole);
  return {state, type};
}

uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t high(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  std::vector<int64_t> starts;
  for (size_t i = 1; i < x.size(); ++i) starts.push_back(x[i]->get_int(0));
  BitSource source(call.attributes, x[0]->data<uint64_t>());
  const int64_t first = source.first_of(starts);
  Elements<uint64_t> bits(static_cast<size_t>(y[1].elements()));
  walk(y[1].shape(), source.strides(), y[1].shape().strides(),
       [&](int64_t from, int64_t to) { bits[static_cast<size_t>(to)] = source.at(first + from); });
  set_elements<uint64_t>(y[1], bits);
  const std::vector<uint64_t> next = source.next_state();
  std::copy(next.begin(), next.end(), y[0].data<uint64_t>().begin());
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
  local.set(Attr::limit_indices, ints_of(whole_shape(global.attributes)));
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

BitSource::BitSource(const Attributes& attributes, std::span<const uint64_t> state)
    : state_(state.begin(), state.end()),
      whole_(whole_shape(attributes)),
      strides_(whole_.strides()),
      is_philox_(is_philox(attributes)),
      is_wide_(size_of(attributes.get<DType>(Attr::dtype)) == 8),
      count_(whole_.elements()) {
  counter_[0] = state[1];
  counter_[1] = state.size() > 2 ? state[2] : state[0];
  int split = -1;
  for (int d = 0; d < whole_.rank() && split < 0; ++d)
    if (whole_[d] % 2 == 0) split = d;
  for (int d = 0; d < whole_.rank() && (split < 0 || whole_[split] % 2 != 0); ++d)
    if (split < 0 || whole_[d] > whole_[split]) split = d;
  if (split < 0) return;
  size_ = whole_[split];
  for (int d = 0; d < whole_.rank(); ++d)
    if (d != split) (d < split ? outer_ : inner_) *= whole_[d];
}

int64_t BitSource::first_of(std::span<const int64_t> starts) const {
  int64_t first = 0;
  const std::vector<int> dims = dims_with_start(whole_);
  for (size_t i = 0; i < starts.size(); ++i)
    first += starts[i] * strides_[static_cast<size_t>(dims[i])];
  return first;
}

void BitSource::compute(uint64_t block) {
  if (has_block_ && block == block_) return;
  const uint64_t counter = counter_[0] + block;
  if (is_philox_) {
    const uint64_t above = counter_[1] + (counter < block ? 1 : 0);
    words_ = philox4x32_10({low(counter), high(counter), low(above), high(above)},
                           {low(state_[0]), high(state_[0])});
  } else {
    const auto pair =
        three_fry_2x32({low(counter), high(counter)}, {low(state_[0]), high(state_[0])});
    words_ = {pair[0], pair[1], 0, 0};
  }
  block_ = block;
  has_block_ = true;
}

uint64_t BitSource::at(int64_t index) {
  if (count_ == 0) return 0;
  index %= count_;
  size_t word = 0;
  if (is_philox_) {
    const int64_t per_block = is_wide_ ? 2 : 4;
    compute(static_cast<uint64_t>(index / per_block));
    word = static_cast<size_t>(index % per_block) * (is_wide_ ? 2 : 1);
  } else if (is_wide_) {
    compute(static_cast<uint64_t>(index));
  } else {
    const int64_t inner = index % inner_, along = index / inner_ % size_,
                  outer = index / inner_ / size_;
    compute(static_cast<uint64_t>((outer * ((size_ + 1) / 2) + along / 2) * inner_ + inner));
    word = static_cast<size_t>(along % 2);
  }
  return is_wide_ ? uint64_t{words_[word + 1]} << 32 | words_[word] : words_[word];
}

uint64_t BitSource::blocks() const {
  if (is_philox_) return static_cast<uint64_t>(is_wide_ ? (count_ + 1) / 2 : (count_ + 3) / 4);
  return static_cast<uint64_t>(is_wide_ ? count_ : outer_ * ((size_ + 1) / 2) * inner_);
}

std::vector<uint64_t> BitSource::next_state() const {
  const uint64_t counter = counter_[0] + blocks();
  std::vector<uint64_t> next{state_[0], counter};
  if (state_.size() > 2) next.push_back(counter_[1] + (counter < counter_[0] ? 1 : 0));
  return next;
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

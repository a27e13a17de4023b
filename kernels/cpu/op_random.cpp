// rng_bit_generator: stretches of elements, each with a source of its own; dropout.
#include "core/ops/dropout.h"
#include "core/ops/rng.h"
#include "kernels/cpu/block_copy.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

void run_bits(const KernelArgs& args) {
  const TensorView &state = args.operands[0], &bits = args.results[1];
  const std::span<const uint64_t> words(state.as<const uint64_t>(),
                                        static_cast<size_t>(state.type.elements()));
  const ops::BitSource source(args.instruction.attributes, words);
  std::vector<int64_t> starts;
  for (size_t i = 1; i < args.operands.size(); ++i)
    starts.push_back(*args.operands[i].as<const int64_t>());
  const int64_t first = source.first_of(starts);
  const Places<1> places(bits.type.shape, {source.strides()});
  dispatch_dtype(bits.type.dtype, [&]<typename T>() {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
      parallel_ranges(places.count(), 8192, [&](int64_t begin, int64_t end) {
        ops::BitSource own = source;
        for (int64_t i = begin; i < end; ++i)
          bits.as<T>()[i] = static_cast<T>(own.at(first + places.at(i)[0]));
      });
  });
  const std::vector<uint64_t> next = source.next_state();
  std::copy(next.begin(), next.end(), args.results[0].as<uint64_t>());
}

Refusal accept_dropout(const OpCall& call, Results) { return refuse_float(call.operands[0]); }

void run_dropout(const KernelArgs& args) {
  std::vector<TensorType> types;
  for (const TensorView& operand : args.operands) types.push_back(operand.type);
  const OpCall call{types, args.instruction.attributes};
  const auto scalar = [&](size_t operand) { return *args.operands[operand].as<int64_t>(); };
  const Ints strides = ops::dropout_strides(call), starts = ops::dropout_start_strides(call);
  int64_t first = scalar(2) * strides[0];
  for (size_t i = 0; i < starts.size(); ++i) first += scalar(3 + i) * starts[i];
  const double rate = call.attributes.number(Attr::rate);
  const DropoutMask mask{{static_cast<uint64_t>(call.attributes.integer(Attr::seed)),
                          static_cast<uint64_t>(call.attributes.integer(Attr::seed_site)),
                          static_cast<uint64_t>(scalar(1))},
                         ops::dropout_threshold(rate),
                         ops::dropout_scale(rate)};
  const ShardRuns runs(types[0].shape, strides, first);
  dispatch_kernel_float(types[0].dtype, [&]<typename T>() {
    dropout(types[0].elements(), mask, runs, args.operands[0].as<const T>(), args.results[0].as<T>());
  });
}

}  // namespace

void register_random(KernelTable& table) {
  table.add(ops::kRngBitGenerator, make_kernel("cpu.rng_bit_generator", nullptr, run_bits));
  Kernel dropout = make_kernel("cpu.dropout", accept_dropout, run_dropout);
  dropout.in_place = [](const OpCall&, int) { return 0; };
  table.add(ops::kDropout, dropout);
}

}  // namespace tessera::cpu

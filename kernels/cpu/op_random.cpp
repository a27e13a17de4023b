// rng_bit_generator: stretches of elements, each with a source of its own.
#include "core/ops/rng.h"
#include "kernels/cpu/block_copy.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

void run(const KernelArgs& args) {
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

}  // namespace

void register_random(KernelTable& table) {
  table.add(ops::kRngBitGenerator, make_kernel("cpu.rng_bit_generator", nullptr, run));
}

}  // namespace tessera::cpu

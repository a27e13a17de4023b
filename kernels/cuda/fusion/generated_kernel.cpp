#include "kernels/cuda/fusion/generated_kernel.h"

#include "kernels/cuda/fusion/kernel_compiler.h"

namespace tessera::cuda {

int alignment_of(const KernelArgs& args) {
  uintptr_t together = 16;
  for (const TensorView& view : args.operands) together |= reinterpret_cast<uintptr_t>(view.data);
  for (const TensorView& view : args.results) together |= reinterpret_cast<uintptr_t>(view.data);
  return static_cast<int>(together & (0 - together));
}

void prepare_generated(const KernelArgs& args, const FusionSource& source) {
  TESSERA_CHECK(source.refusal.empty(), source.refusal);
  context_of(args.stream).compiler->add(source.name, source.text);
}

void run_generated(const KernelArgs& args, const FusionSource& source) {
  std::vector<uint64_t> argument;  // Arguments of the prelude
  argument.reserve(1 + args.operands.size() + args.results.size());
  const auto elements = static_cast<uint64_t>(args.results[0].type.elements());
  argument.push_back(elements);
  for (const TensorView& view : args.operands) argument.push_back(reinterpret_cast<uintptr_t>(view.data));
  for (const TensorView& view : args.results) argument.push_back(reinterpret_cast<uintptr_t>(view.data));
  const uint64_t per_block = FusionSource::kThreads * static_cast<uint64_t>(source.lanes);
  const uint64_t blocks = (elements + per_block - 1) / per_block;
  TESSERA_CHECK(blocks < uint64_t{1} << 31, "a fusion of ", elements, " elements");
  context_of(args.stream).compiler->launch(source.name, static_cast<unsigned>(blocks), FusionSource::kThreads,
                                           argument.data());
}

}  // namespace tessera::cuda

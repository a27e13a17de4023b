// Every elementwise op alone, as the fusion of one instruction. Its source depends on dtypes and attributes, not on
// shapes.
#include <unordered_map>

#include "kernels/cuda/fusion/generated_kernel.h"
#include "kernels/cuda/fusion/op_function.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

FusionWalk walk_of(const Instruction& instruction, std::span<const TensorView> operands,
                   std::span<const TensorView> results) {
  std::vector<TensorType> operand_types, result_types;
  for (const TensorView& view : operands) operand_types.push_back(view.type);
  for (const TensorView& view : results) result_types.push_back(view.type);
  return walk_elementwise(instruction, operand_types, result_types);
}

// All that the source depends on.
struct Key {
  const OpDef* op;
  Attributes attributes;
  DType operands[3] = {}, result;
  bool is_large;  // positions of 64 bits
  int alignment;
  bool operator==(const Key& other) const = default;
};
struct KeyHash {
  size_t operator()(const Key& key) const {
    size_t hash = std::hash<const void*>()(key.op) ^ key.attributes.hash();
    for (DType dtype : key.operands) hash = 31 * hash + static_cast<size_t>(dtype);
    return 31 * (31 * hash + static_cast<size_t>(key.result)) + static_cast<size_t>(key.alignment);
  }
};

const FusionSource& source_of(const KernelArgs& args) {
  thread_local std::unordered_map<Key, FusionSource, KeyHash> sources;
  const Instruction& instruction = args.instruction;
  Key key{instruction.op, instruction.attributes, {}, args.results[0].type.dtype,
          args.results[0].type.elements() > int64_t{1} << 31, alignment_of(args)};
  for (size_t i = 0; i < args.operands.size() && i < 3; ++i) key.operands[i] = args.operands[i].type.dtype;
  const auto found = sources.find(key);
  if (found != sources.end()) return found->second;
  const FusionWalk walk = walk_of(instruction, args.operands, args.results);
  return sources
      .emplace(std::move(key), fusion_source(walk, static_cast<int>(args.operands.size()), alignment_of(args),
                                             std::string(instruction.op->name)))
      .first->second;
}

// Accept functions take no op, so each op has its own instance by its place in ops_with_functions().
template <size_t kIndex>
Refusal accept(const OpCall& call, Results results) {
  Instruction instruction;
  instruction.op = ops_with_functions()[kIndex];
  instruction.attributes = call.attributes;
  const std::string refusal = fusion_refusal(walk_elementwise(instruction, call.operands, results),
                                             static_cast<int>(call.operands.size()));
  if (refusal.empty()) return std::nullopt;
  return refusal;
}

void prepare(const KernelArgs& args) {
  if (args.results[0].type.elements() > 0) prepare_generated(args, source_of(args));
}

void run(const KernelArgs& args) {
  if (args.results[0].type.elements() > 0) run_generated(args, source_of(args));
}

template <size_t... kIndices>
void register_each(KernelTable& table, std::index_sequence<kIndices...>) {
  const auto add = [&](size_t index, auto accept_one) {
    if (index >= ops_with_functions().size()) return;
    Kernel kernel = make_kernel(cat("cuda.", ops_with_functions()[index]->name), accept_one, run);
    kernel.prepare = prepare;
    kernel.in_place_any = true;
    table.add(*ops_with_functions()[index], kernel);
  };
  (add(kIndices, accept<kIndices>), ...);
}

}  // namespace

void register_elementwise(KernelTable& table) {
  constexpr size_t kMost = 64;
  TESSERA_CHECK(ops_with_functions().size() <= kMost);
  register_each(table, std::make_index_sequence<kMost>());
}

}  // namespace tessera::cuda

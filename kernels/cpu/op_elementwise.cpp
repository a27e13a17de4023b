// Every elementwise op alone, as a tile program of one step.
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/tile_op_table.h"

namespace tessera::cpu {
namespace {

// Accept functions take no op, so each op has its own instance by its place in tile_ops().
template <size_t kIndex>
Refusal accept(const OpCall& call, Results results) {
  const OpDef& op = *tile_ops()[kIndex];
  const auto tile = tile_op_of(op, call.attributes);
  if (!tile) return cat("no tile operation for these attributes of ", op.name);
  const size_t typed = tile == TileOp::select ? 1 : 0;
  const DType dtype = call.operands[typed].dtype;
  if (!has_tiles(dtype)) return cat("no tiles of ", dtype);
  if (!has_tiles(results[0].dtype)) return cat("no tiles of ", results[0].dtype);
  if (!find_tile_function(*tile, dtype, results[0].dtype)) {
    return cat("no tile function for ", op.name, " of ", dtype);
  }
  return std::nullopt;
}

void run(const KernelArgs& args) {
  const TileOp op = *tile_op_of(*args.instruction.op, args.instruction.attributes);
  TileProgram program({args.results[0].type.elements()});
  int values[3];
  const void* inputs[3];
  const size_t count = args.operands.size();
  for (size_t i = 0; i < count; ++i) {
    values[i] = program.input(args.operands[i].type.dtype, {1}, static_cast<int>(i));
    inputs[i] = args.operands[i].data;
  }
  program.output(program.apply(op, args.results[0].type.dtype, {values, count}));
  program.finish();
  void* const outputs[] = {args.results[0].data};
  program.run({inputs, count}, outputs);
}

template <size_t... kIndices>
void register_each(KernelTable& table, std::index_sequence<kIndices...>) {
  const auto add = [&](size_t index, auto accept_one) {
    if (index >= tile_ops().size()) return;
    Kernel kernel = make_kernel(cat("cpu.", tile_ops()[index]->name), accept_one, run);
    kernel.in_place_any = true;
    table.add(*tile_ops()[index], kernel);
  };
  (add(kIndices, accept<kIndices>), ...);
}

}  // namespace

void register_elementwise(KernelTable& table) {
  constexpr size_t kMost = 64;
  TESSERA_CHECK(tile_ops().size() <= kMost);
  register_each(table, std::make_index_sequence<kMost>());
}

}  // namespace tessera::cpu

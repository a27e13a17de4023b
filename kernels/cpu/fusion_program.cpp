#include "kernels/cpu/fusion_program.h"

#include <algorithm>
#include <map>

#include "core/base/strings.h"
#include "kernels/common/fusion_walk.h"
#include "kernels/cpu/tile_op_table.h"

namespace tessera::cpu {
namespace {

using Step = FusionWalk::Step;

// The program's value for `step`, whose operands' values stand in `values`; or -1 with the reason.
int emit(TileProgram& program, const Step& step, const std::vector<int>& values, std::string& refusal) {
  if (!has_tiles(step.dtype)) {
    refusal = cat("no tiles of ", step.dtype);
    return -1;
  }
  if (step.kind == Step::Kind::input) return program.input(step.dtype, step.strides, step.input);
  if (step.kind == Step::Kind::constant)
    return program.constant(step.dtype, step.constant.bytes().data());
  const Instruction& instruction = *step.operation;
  const auto op = tile_op_of(*instruction.op, instruction.attributes);
  if (!op) {
    refusal = cat(instruction.op->name, " has no tile operation");
    return -1;
  }
  std::vector<int> operands;
  for (int operand : step.operands) operands.push_back(values[static_cast<size_t>(operand)]);
  const int result = program.apply(*op, step.dtype, operands);
  if (result < 0) refusal = cat("no tile function for ", instruction.op->name, " to ", step.dtype);
  return result;
}

FusionProgram compile(const Graph& body) {
  const FusionWalk walk = walk_fusion(body);
  FusionProgram result;
  result.refusal = walk.refusal;
  if (!result.refusal.empty()) return result;
  TileProgram program(walk.dims);
  std::vector<int> values;
  for (const Step& step : walk.steps) {
    values.push_back(emit(program, step, values, result.refusal));
    if (values.back() < 0) return result;
  }
  for (int output : walk.outputs) program.output(values[static_cast<size_t>(output)]);
  program.finish();
  result.program = std::move(program);
  return result;
}

}  // namespace

std::shared_ptr<const FusionProgram> fusion_program(const GraphRef& body) {
  struct Entry {
    std::weak_ptr<const Graph> body;
    std::shared_ptr<const FusionProgram> program;
  };
  thread_local std::map<const Graph*, Entry> programs;
  // Programs of other frameworks have thousands of fusions: a look at all of them must stay rare.
  thread_local size_t sweep_at = 4096;
  if (programs.size() >= sweep_at) {
    std::erase_if(programs, [](const auto& item) { return item.second.body.expired(); });
    sweep_at = std::max<size_t>(4096, 2 * programs.size());
  }
  Entry& entry = programs[body.get()];
  // The address may be a later graph's: what counts is that the body itself still lives.
  if (entry.program == nullptr || entry.body.lock() != body) {
    entry = {body, std::make_shared<const FusionProgram>(compile(*body))};
  }
  return entry.program;
}

}  // namespace tessera::cpu

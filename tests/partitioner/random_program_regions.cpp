#include <optional>

#include "core/base/error.h"
#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "tests/partitioner/random_program_writer.h"

namespace tessera::testing {

std::vector<Value> ProgramWriter::some_values(uint64_t most) {
  std::vector<Value> values;
  for (uint64_t i = 1 + draw(most); i > 0; --i) values.push_back(pick());
  return values;
}

void ProgramWriter::add_body(const std::vector<TensorType>& wanted) {
  for (uint64_t i = draw(5); i > 0; --i) add_op();
  for (size_t w = 0; w < wanted.size(); ++w) {
    if (wanted[w].dtype != DType::f64) continue;
    std::vector<Value> fitting;
    for (Value value : reals_)
      if (b_.type(value) == wanted[w]) fitting.push_back(value);
    const Value own = graph_.inputs[w].value;
    Value other = fitting[draw(fitting.size())];
    switch (draw(4)) {
      case 0:
        other = ops::add(b_, own, other);
        break;
      case 1: {
        // A sum over something, as gradients are accumulated.
        const Value square = ops::dot_general(b_, other, other, {{0}, {0}});
        const Value total = ops::reduce_all(b_, ops::scale(b_, square, 0.01));
        other = ops::add(b_, own, ops::broadcast_scalar(b_, total, wanted[w].shape));
        break;
      }
      case 2:
        other = ops::tanh(b_, ops::subtract(b_, other, own));
        break;
      default:
        break;
    }
    b_.output(other, cat("r", w));
  }
}

void ProgramWriter::add_loop() {
  std::vector<Value> carried = some_values(3);
  for (Value value : carried)
    if (b_.shape(value).rank() == 0) return;
  const TensorType counter_type{DType::s32, {}};
  carried.push_back(ops::constant(b_, 0.0, counter_type));
  const std::vector<TensorType> types = types_of(carried);
  const auto turns = static_cast<int64_t>(draw(4));
  ProgramWriter condition(*this, "condition", types);
  const Value last = condition.graph_.inputs.back().value;
  condition.b_.output(
      ops::compare(condition.b_, last,
                   ops::constant(condition.b_, static_cast<double>(turns), counter_type),
                   CompareDirection::lt),
      "more");
  ProgramWriter body(*this, "body", types);
  body.add_body(types);
  const Value count = body.graph_.inputs.back().value;
  body.b_.output(ops::add(body.b_, count, ops::constant(body.b_, 1.0, counter_type)), "count");
  std::optional<int64_t> trip_count;
  if (chance(2)) trip_count = turns;
  const std::vector<Value> results = ops::while_loop(
      b_, carried, std::make_shared<const Graph>(std::move(condition.graph_)),
      std::make_shared<const Graph>(std::move(body.graph_)), trip_count);
  for (size_t r = 0; r + 1 < results.size(); ++r) keep(results[r]);
}

void ProgramWriter::add_branches() {
  const std::vector<Value> operands = some_values(3);
  for (Value value : operands)
    if (b_.shape(value).rank() == 0) return;
  const std::vector<TensorType> types = types_of(operands);
  const bool is_call = chance(3);
  Graphs branches;
  for (uint64_t count = is_call ? 1 : 1 + draw(3); count > 0; --count) {
    ProgramWriter branch(*this, "branch", types);
    branch.add_body(types);
    branches.push_back(std::make_shared<const Graph>(std::move(branch.graph_)));
  }
  std::vector<Value> results;
  if (is_call) {
    results = ops::call(b_, branches[0], operands);
  } else {
    const Value index = ops::constant(b_, static_cast<double>(draw(6)) - 1, {DType::s32, {}});
    results = ops::case_of(b_, index, operands, branches);
  }
  for (Value result : results) keep(result);
}

// Over one axis, by which every operand is cut: what the coordinates hold differs, so results are cut
// like their operands. Nested ones are over the mesh of those around.
void ProgramWriter::add_manual() {
  const MeshPtr mesh = manual_.empty() ? random_mesh() : mesh_;
  const AxisRef axis = mesh->axis(static_cast<int>(draw(static_cast<uint64_t>(mesh->rank()))));
  if (axis.size == 1 || overlaps(manual_, axis)) return;
  std::vector<Value> operands;
  std::vector<TensorType> types;
  Shardings lyings;
  for (Value value : some_values(2)) {
    TensorType type = b_.type(value);
    for (int d = 0; d < type.rank(); ++d) {
      if (type.shape[d] % axis.size != 0) continue;
      Sharding sharding(mesh, type.rank(), /*open=*/true);
      sharding.dims[static_cast<size_t>(d)].axes = {axis};
      type.shape[d] /= axis.size;
      operands.push_back(value);
      types.push_back(std::move(type));
      lyings.push_back(std::move(sharding));
      break;
    }
  }
  if (operands.empty()) return;
  ProgramWriter body(*this, "manual", types);
  body.mesh_ = body.graph_.mesh = mesh;
  body.manual_ = concat(manual_, {axis});
  for (uint64_t i = draw(3); i > 0; --i) {
    const Value value = body.pick();
    switch (draw(3)) {
      case 0:
        body.keep(ops::scale(body.b_, ops::all_reduce(body.b_, value, {axis}), 0.25));
        break;
      case 1:
        body.keep(ops::shift(body.b_, value, {axis}, 1, chance(2)));
        break;
      default: {
        Ints sources(static_cast<size_t>(axis.size), -1);  // turned round; the first gets nothing
        for (size_t c = 1; c < sources.size(); ++c)
          sources[c] = axis.size - 1 - static_cast<int64_t>(c);
        body.keep(ops::collective_permute_from(body.b_, value, {axis}, sources));
      }
    }
  }
  body.add_body(types);
  const std::vector<Value> results =
      ops::manual_computation(b_, std::make_shared<const Graph>(std::move(body.graph_)), operands,
                              {axis}, lyings, lyings);
  for (Value result : results) keep(result);
}

}  // namespace tessera::testing

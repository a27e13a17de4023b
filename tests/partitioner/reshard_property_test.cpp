// Property: the plan between any two lyings, carried out on virtual devices, keeps the tensor.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/ir/builder.h"
#include "core/ir/text.h"
#include "core/ops/sharding.h"
#include "core/runtime/sharded_interpreter.h"
#include "partitioner/check_shardings.h"
#include "partitioner/localize.h"
#include "partitioner/reshards_to_collectives.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

// Axes, whole or halved, dealt out to dims, the partial set, or nowhere.
Sharding random_sharding(const MeshPtr& mesh, const Shape& shape) {
  Sharding sharding(mesh, shape.rank());
  sharding.partial_kind = *rc::gen::element(ReduceKind::sum, ReduceKind::max);
  std::vector<AxisRef> parts;
  for (int a = 0; a < mesh->rank(); ++a) {
    const AxisRef whole = mesh->axis(a);
    if (whole.size == 4 && *rc::gen::arbitrary<bool>()) {
      parts.push_back({a, 1, 2});
      parts.push_back({a, 2, 2});
    } else {
      parts.push_back(whole);
    }
  }
  while (!parts.empty()) {
    const auto which = *rc::gen::inRange<size_t>(0, parts.size());
    const AxisRef part = parts[which];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(which));
    const int where = *rc::gen::inRange(0, shape.rank() + 2);
    if (where == shape.rank()) {
      sharding.partial = concat(sharding.partial, {part});
    } else if (where < shape.rank()) {
      AxisList& axes = sharding.dims[static_cast<size_t>(where)].axes;
      if (shape[where] % (size_of(axes) * part.size) == 0) axes = concat(axes, {part});
    }
  }
  std::sort(sharding.partial.begin(), sharding.partial.end());
  sharding.partial = canonical(sharding.partial);
  return sharding;
}

RC_GTEST_PROP(ReshardPlans, KeepTheTensor, ()) {
  const MeshPtr mesh =
      mesh_of(*rc::gen::element("x=2", "x=2,y=2", "x=4", "x=4,y=2", "x=2,y=2,z=2"));
  const Shape shape = *rc::gen::element(Shape{8, 8}, Shape{4, 8, 2}, Shape{16}, Shape{2, 12});
  Graph graph;
  graph.mesh = mesh;
  Builder b(graph);
  const Value a = b.input(InputKind::data, "a", {DType::f64, shape});
  const Sharding from = random_sharding(mesh, shape), to = random_sharding(mesh, shape);
  graph.info(a).sharding = from;
  const Value r = ops::reshard(b, a, to);
  graph.info(r).sharding = to;
  b.output(r, "r");
  graph.outputs[0].sharding = to;
  ReshardPlanner planner(mesh, machine_model("cpu-shm"));
  const Graph collectives = reshards_to_collectives(graph, planner);
  check_shardings(collectives);
  const Graph local = localize(collectives);
  const std::vector<HostTensor> inputs = random_inputs(graph, 5);
  for (const Graph* stage : std::initializer_list<const Graph*>{&graph, &collectives, &local}) {
    const double error = error_between(inputs[0], interpret_sharded(*stage, inputs)[0]);
    if (!(error < 1e-13)) RC_FAIL(cat("off by ", error, "\n", print_graph(*stage)));
  }
  RC_ASSERT(planner.fallbacks() == 0);
}

}  // namespace
}  // namespace tessera::testing

// Every collective, for real: a tensor is carried from one random lying to another by the
// collectives of the reshard search, run by the executor on threads, and must come out as it went
// in.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <random>

#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/runtime/thread_run.h"
#include "partitioner/localize.h"
#include "partitioner/reshards_to_collectives.h"

namespace tessera {
namespace {

const Shape kShape{16, 8, 24};

// Each axis, or each half of it, goes to a dim, to the partial axes, or nowhere.
Sharding random_sharding(const MeshPtr& mesh, std::mt19937_64& random, bool may_be_partial) {
  std::vector<AxisRef> parts;
  for (int axis = 0; axis < mesh->rank(); ++axis) {
    const AxisRef whole = mesh->axis(axis);
    if (whole.size == 4 && random() % 3 == 0) {
      parts.push_back({axis, 1, 2});
      parts.push_back({axis, 2, 2});
    } else {
      parts.push_back(whole);
    }
  }
  std::shuffle(parts.begin(), parts.end(), random);
  Sharding sharding(mesh, kShape.rank());
  for (const AxisRef& part : parts) {
    const auto place = static_cast<int>(random() % 5);
    if (place < 3) {
      AxisList& axes = sharding.dims[static_cast<size_t>(place)].axes;
      axes = concat(axes, {part});
    } else if (place == 3 && may_be_partial) {
      sharding.partial.push_back(part);
    }
  }
  std::sort(sharding.partial.begin(), sharding.partial.end());
  sharding.partial = canonical(sharding.partial);
  return sharding;
}

RC_GTEST_PROP(ReshardRun, AnyLyingToAnyOther, ()) {
  std::mt19937_64 random(*rc::gen::inRange<uint64_t>(0, 1 << 30));
  const char* const meshes[] = {"x=2", "x=4", "x=2,y=4", "x=2,y=2,z=2", "x=4,y=2"};
  const auto mesh = std::make_shared<const Mesh>(parse_mesh(meshes[random() % std::size(meshes)]));
  const DType dtypes[] = {DType::f64, DType::f64, DType::s32, DType::bf16};
  const DType dtype = dtypes[random() % std::size(dtypes)];
  const Sharding from = random_sharding(mesh, random, dtype == DType::f64);
  const Sharding to = random_sharding(mesh, random, dtype == DType::f64);

  Graph graph;
  graph.mesh = mesh;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {dtype, kShape});
  graph.info(x).sharding = from;
  const Value y = ops::reshard(b, x, to);
  graph.info(y).sharding = to;
  b.output(y, "y");
  graph.outputs[0].sharding = to;
  ReshardPlanner planner(mesh, machine_model("cpu-shm"));
  const Graph local = localize(reshards_to_collectives(graph, planner));

  HostTensor input({dtype, kShape});
  for (int64_t i = 0; i < input.elements(); ++i)
    input.set_real(i, static_cast<double>(i % 251) - 100);
  const std::vector<HostTensor> outputs =
      run_on_threads(local, KernelTable(), std::vector<HostTensor>{input});
  RC_ASSERT(max_relative_error(outputs[0], input, 1) <= 1e-12);
}

}  // namespace
}  // namespace tessera

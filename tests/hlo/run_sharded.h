// Small modules in tests of what depends on devices: imported, interpreted as a whole, partitioned,
// and run on shards.
#pragma once

#include "core/mesh/sharding.h"
#include "core/runtime/sharded_interpreter.h"
#include "partitioner/partition.h"
#include "tests/hlo/run_module.h"

namespace tessera::hlo::testing {

struct ShardedRun {
  Imported imported;
  Graph local;                       // after partitioning
  std::vector<HostTensor> whole;     // what the program gives as for one device
  std::vector<HostTensor> sharded;   // what its shards give together
};

// `inputs` are those of the module.
inline ShardedRun run_sharded(std::string_view text, const std::vector<HostTensor>& inputs,
                              int64_t devices) {
  ShardedRun run;
  run.imported = import(parse(text), {devices});
  verify(run.imported.graph, GraphStage::built);
  run.whole = interpret(run.imported.graph, inputs);
  const Graph simple = simplify_imported(run.imported.graph);
  run.local = partition(simple, run.imported.mesh, {});
  run.sharded = interpret_sharded(run.local, inputs);
  return run;
}

// The outputs on the module's devices; `devices` 0: as many as it speaks of. All must be equal.
inline std::vector<HostTensor> expect_equal_on_shards(std::string_view text,
                                                      const std::vector<HostTensor>& inputs,
                                                      int64_t devices = 0) {
  const ShardedRun run = run_sharded(text, inputs, devices);
  EXPECT_EQ(run.whole.size(), run.sharded.size());
  for (size_t o = 0; o < run.whole.size(); ++o)
    expect_near(run.sharded[o], reals(run.whole[o]));
  return run.sharded;
}

// How an output of the imported program lies after partitioning.
inline std::string output_lying(const ShardedRun& run, size_t output) {
  return cat(*run.local.outputs[output].sharding);
}

}  // namespace tessera::hlo::testing

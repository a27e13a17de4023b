#include "core/ir/graph.h"
#include "core/passes/common_subexpressions.h"
#include "core/passes/dead_code.h"
#include "core/passes/inline_calls.h"
#include "core/passes/loop_invariants.h"
#include "core/passes/pass_runner.h"
#include "core/passes/simplify_case.h"
#include "core/passes/trip_count.h"
#include "partitioner/hlo/import.h"

namespace tessera::hlo {

// Not simplify_algebra: a constraint is an instruction that changes nothing. Not fold_constants:
// the text's constants are as its author left them, and trip counts see through what JAX writes.
Graph simplify_imported(const Graph& source) {
  PassRunner passes;
  Graph graph = source;
  auto run = [&](std::string_view name, auto&& pass) {
    graph =
        passes.run(name, GraphStage::built, graph, [&](const Graph& each) { return pass(each); });
  };
  // JAX calls functions to share their text only.
  run("inline_calls", inline_calls);
  // What was imported for completeness, such as tuples' leaves that nobody reads.
  run("dead_code", eliminate_dead_code);
  // The same computation, inlined twice, is one.
  run("common_subexpressions", merge_common_subexpressions);
  // A case whose index came in as a constant.
  run("simplify_case", simplify_case);
  // What loops carry unchanged, or compute anew each turn, is computed before them.
  run("loop_invariants", [](const Graph& each) { return hoist_loop_invariants(each); });
  // Now bounds that were carried are constants.
  run("trip_counts", find_trip_counts);
  run("dead_code", eliminate_dead_code);
  return graph;
}

}  // namespace tessera::hlo

#include "partitioner/partition.h"


#include "core/base/error.h"
#include "core/base/steady_clock.h"
#include "core/ir/verifier.h"
#include "partitioner/annotate.h"
#include "partitioner/bucket_collectives.h"
#include "partitioner/bucket_shards.h"
#include "partitioner/carried_partials.h"
#include "partitioner/check_program.h"
#include "partitioner/check_shardings.h"
#include "partitioner/choose_op_shardings.h"
#include "partitioner/collective_matmul.h"
#include "partitioner/expand_norms.h"
#include "partitioner/implicit_reshards.h"
#include "partitioner/insert_reshards.h"
#include "partitioner/localize.h"
#include "partitioner/mask_padding.h"
#include "partitioner/move_reshards.h"
#include "partitioner/other_meshes.h"
#include "partitioner/pad_dims.h"
#include "partitioner/peepholes.h"
#include "partitioner/place_reductions.h"
#include "partitioner/propagate.h"
#include "partitioner/recognize_rotations.h"
#include "partitioner/regions.h"
#include "partitioner/report.h"
#include "partitioner/reshards_to_collectives.h"
#include "partitioner/split_constants.h"

namespace tessera {
namespace {

// What is known of the program at each point, for verification.
enum class Stage { built, sharded, explicit_reshards, local };

// Runs, times, verifies and shows one pass.
class PassRunner {
 public:
  PassRunner(const PartitionOptions& options, ReshardPlanner& planner, PartitionReport* report)
      : options_(options), planner_(planner), report_(report) {}

  template <typename Pass>
  Graph run(std::string_view name, Stage stage, const Pass& pass) {
    const double start = steady_seconds();
    Graph graph = pass();
    if (report_) report_->pass_seconds.emplace_back(name, steady_seconds() - start);
    if (options_.verify) {
      verify(graph, stage == Stage::built   ? GraphStage::built
                    : stage == Stage::local ? GraphStage::local
                                            : GraphStage::sharded);
      if (stage == Stage::explicit_reshards) check_shardings(graph);
    }
    if (options_.observe) options_.observe(name, graph);
    return graph;
  }

  // A pass that treats each region as a graph of its own, with a fixed boundary.
  Graph run_on_regions(std::string_view name, Stage stage, const Graph& graph,
                       const GraphPass& pass) {
    return run(name, stage, [&] {
      return with_regions(graph, {}, [&](const Graph& each, const AxisList& manual) {
        planner_.set_manual(manual);
        return pass(each);
      });
    });
  }

 private:
  const PartitionOptions& options_;
  ReshardPlanner& planner_;
  PartitionReport* report_;
};

}  // namespace

std::vector<std::string> partition_passes() {
  return {"onto_one_mesh",
          "recognize_rotations",
          "split_constants",
          "annotate",
          "propagate",
          "expand_norms",
          "choose_op_shardings",
          "insert_reshards",
          "place_reductions",
          "move_reshards",
          "merge_reshards",
          "pad_dims",
          "reshards_to_collectives",
          "make_reduce_scatters",
          "mask_padding",
          "localize",
          "collective_matmul",
          "bucket_collectives",
          "bucket_shards",
          "restore_boundary"};
}

Graph partition(const Graph& source, const MeshPtr& mesh, const ShardingConfig& config,
                const PartitionOptions& options, PartitionReport* report) {
  const double start = steady_seconds();
  PartitionReport unread;
  PartitionReport& notes = report ? *report : unread;
  ReshardPlanner planner(mesh, options.machine);
  PassRunner passes(options, planner, &notes);
  Origins origins;

  check_program(source);
  // What lies over another mesh of these devices is partitioned over this one.
  ForeignBoundary boundary;
  Graph graph = passes.run("onto_one_mesh", Stage::built,
                           [&] { return onto_one_mesh(source, mesh, boundary); });
  // Two slices that are one roll become one op.
  graph = passes.run("recognize_rotations", Stage::built,
                     [&] { return recognize_rotations(graph); });
  // Constants get one copy per use, so that users do not disagree through them.
  graph =
      passes.run("split_constants", Stage::built, [&] { return split_constants(graph); });
  // Inputs and named activations get mesh axes by the rules and overrides of the config.
  AnnotateNotes annotate_notes;
  graph = passes.run("annotate", Stage::sharded,
                     [&] { return annotate(graph, mesh, config, &origins, &annotate_notes); });
  // Their shardings flow along the ops' factors to all other tensors.
  graph = passes.run("propagate", Stage::sharded, [&] {
    PropagateResult result = propagate(graph, origins, options.machine);
    notes.conflicts = std::move(result.conflicts);
    return std::move(result.graph);
  });
  if (options.propagated) options.propagated(graph, origins, notes.conflicts);
  report_shardings(graph, origins, notes);
  // A norm whose rows are wanted in shards becomes reductions of its statistics.
  graph = passes.run_on_regions("expand_norms", Stage::sharded, graph,
                                [&](const Graph& each) { return expand_norms(each); });
  // Each op decides along which of its factors it is computed in shards.
  graph = passes.run_on_regions(
      "choose_op_shardings", Stage::sharded, offer_carried_partials(graph), [&](const Graph& each) {
        return choose_op_shardings(settle_carried_partials(each), planner);
      });
  // Where an operand lies otherwise than its op demands, an explicit reshard is put in.
  graph = passes.run_on_regions("insert_reshards", Stage::explicit_reshards, graph,
                                [&](const Graph& each) { return insert_reshards(each); });
  // Partial sums are reduced where that costs least.
  graph = passes.run_on_regions("place_reductions", Stage::explicit_reshards, graph,
                                [&](const Graph& each) { return place_reductions(each, planner); });
  // Reshards move below what makes values smaller and above what makes them larger.
  graph = passes.run_on_regions("move_reshards", Stage::explicit_reshards, graph,
                                [&](const Graph& each) { return move_reshards(each, planner); });
  // The same reshard of the same value is done once, memory permitting.
  graph = passes.run_on_regions("merge_reshards", Stage::explicit_reshards, graph,
                                [&](const Graph& each) { return merge_reshards(each); });
  check_implicit_reshards(graph, planner, config.max_implicit_reshard_bytes, options.strict,
                          notes.warnings);
  // Dims that their axes do not divide are stored larger.
  PadNotes pad_notes;
  graph = passes.run_on_regions("pad_dims", Stage::explicit_reshards, graph,
                                [&](const Graph& each) { return pad_dims(each, planner, &pad_notes); });
  if (options.strict) refuse_much_padding(pad_notes);
  // A search turns every reshard into its cheapest sequence of collectives.
  graph = passes.run_on_regions("reshards_to_collectives", Stage::explicit_reshards, graph,
                                [&](const Graph& each) { return reshards_to_collectives(each, planner); });
  // all_reduce followed by all_slice is reduce_scatter.
  graph = passes.run_on_regions("make_reduce_scatters", Stage::explicit_reshards, graph,
                                [&](const Graph& each) { return make_reduce_scatters(each); });
  // Padding that would reach a valid element is overwritten by what the op can bear.
  graph = passes.run_on_regions("mask_padding", Stage::explicit_reshards, graph,
                                [&](const Graph& each) { return mask_padding(each); });
  // Shapes become those of one device's shards; the device's place enters as axis_index.
  graph = passes.run_on_regions("localize", Stage::local, graph,
                                [&](const Graph& each) { return localize(each); });
  // Products beside gathers and scatters become rings, where that is asked for.
  const CollectiveMatmulOptions rings{ring_directions(config.collective_matmul), options.machine};
  graph = passes.run_on_regions("collective_matmul", Stage::local, graph,
                                [&](const Graph& each) { return collective_matmul(each, rings); });
  // Gradient reductions that are ready one after the other are joined into buckets.
  graph = passes.run_on_regions("bucket_collectives", Stage::local, graph,
                                [&](const Graph& each) { return bucket_collectives(each, options.bucket_bytes); });
  // So are small gathers and scatters of one block.
  graph = passes.run_on_regions("bucket_shards", Stage::local, graph, [&](const Graph& each) {
    return bucket_shards(each, options.bucket_bytes, options.machine);
  });
  // Inputs and outputs over other meshes move to and from the devices that those name.
  graph = passes.run("restore_boundary", Stage::local,
                     [&] { return restore_boundary(graph, boundary); });

  report_program(graph, options.machine, notes);
  notes.warnings.insert(notes.warnings.end(), annotate_notes.warnings.begin(),
                        annotate_notes.warnings.end());
  notes.warnings.insert(notes.warnings.end(), pad_notes.warnings.begin(), pad_notes.warnings.end());
  notes.padded = std::move(pad_notes.tensors);
  notes.reshard_searches = planner.searches();
  notes.reshard_fallbacks = planner.fallbacks();
  if (planner.fallbacks() > 0)
    notes.warnings.push_back(
        cat(planner.fallbacks(),
            " reshard plans were found greedily because their search was cut off"));
  if (planner.over_memory() > 0)
    notes.warnings.push_back(
        cat(planner.over_memory(),
            " reshard plans hold more than twice the larger of source and target on the way"));
  notes.seconds = steady_seconds() - start;
  return graph;
}

}  // namespace tessera

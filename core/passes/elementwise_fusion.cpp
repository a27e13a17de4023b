#include "core/passes/elementwise_fusion.h"

#include <algorithm>
#include <limits>
#include <map>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/fusion.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

constexpr int kNoBound = std::numeric_limits<int>::max();
constexpr int kNone = -1;

struct Cluster {
  std::vector<int> members;  // in program order
  int bound = kNoBound;      // position of the first user outside
};

// Which instruction belongs to which cluster.
class Clustering {
 public:
  explicit Clustering(const Graph& graph) : graph_(graph), of_(graph.instructions.size(), kNone) {
    for (int i = 0; i < static_cast<int>(graph.instructions.size()); ++i) visit(i);
  }

  const std::vector<Cluster>& clusters() const { return clusters_; }
  int cluster_of(int instruction) const { return of_[static_cast<size_t>(instruction)]; }

  // Constants and broadcasts are copied into the clusters that read them.
  bool is_absorbed(int instruction) const {
    const Instruction& it = graph_.instructions[instruction];
    if (!it.results[0].name.empty()) return false;
    if (it.is(ops::kConstant)) return it.attributes.has(Attr::scalar) || it.results[0].type.elements() == 1;
    return it.is(ops::kBroadcastInDim) && graph_.type(it.operands[0]).elements() < it.results[0].type.elements();
  }

 private:
  bool is_candidate(int i) const {
    const Instruction& it = graph_.instructions[i];
    return it.op->elementwise && it.results.size() == 1 && ops::is_fusible(*it.op);
  }

  void visit(int i) {
    if (is_candidate(i)) {
      const int target = cluster_to_join(i);
      of_[i] = target != kNone ? target : static_cast<int>(clusters_.size());
      if (target == kNone) clusters_.emplace_back();
      clusters_[of_[i]].members.push_back(i);
    }
    if (!is_absorbed(i)) note_uses(i, i);
  }

  // Bounds the clusters whose results instruction `reader` reads at position `position`.
  void note_uses(int reader, int position) {
    for (Value operand : graph_.instructions[reader].operands) {
      const int producer = operand.instruction;
      if (is_absorbed(producer)) {
        note_uses(producer, position);
        // The broadcast is read through; whoever else needs it whole keeps it.
        continue;
      }
      const int cluster = of_[producer];
      if (cluster == kNone || cluster == of_[position]) continue;
      clusters_[cluster].bound = std::min(clusters_[cluster].bound, position);
    }
  }

  int cluster_to_join(int i) const {
    const Instruction& it = graph_.instructions[i];
    int best = kNone, best_producer = kNone;
    for (Value operand : it.operands) {
      const int cluster = of_[operand.instruction];
      if (cluster == kNone || operand.instruction < best_producer) continue;
      const Instruction& first = graph_.instructions[clusters_[cluster].members.front()];
      if (first.recompute != it.recompute || first.results[0].type.shape != it.results[0].type.shape) continue;
      if (!may_join(i, cluster)) continue;
      best = cluster;
      best_producer = operand.instruction;
    }
    return best;
  }

  bool may_join(int reader, int cluster) const {
    const int bound = clusters_[cluster].bound;
    if (bound == kNoBound) return true;
    for (Value operand : graph_.instructions[reader].operands) {
      const int producer = operand.instruction;
      if (of_[producer] == cluster) continue;
      if (is_absorbed(producer) ? !may_join(producer, cluster)
          : of_[producer] == kNone ? producer >= bound
                                   : clusters_[of_[producer]].bound >= bound)
        return false;
    }
    return true;
  }

  const Graph& graph_;
  std::vector<int> of_;
  std::vector<Cluster> clusters_;
};

// Writes the new graph: clusters of more than one thing become fusions.
class FusionWriter {
 public:
  explicit FusionWriter(const Graph& graph)
      : graph_(graph), clustering_(graph), rewriter_(graph), uses_(graph.uses()),
        done_(graph.instructions.size(), false), is_output_(graph.instructions.size(), false) {
    for (const GraphOutput& output : graph.outputs) is_output_[output.value.instruction] = true;
  }

  Graph run() {
    // Program order, except that what an instruction needs is written before it.
    for (int i = 0; i < static_cast<int>(graph_.instructions.size()); ++i)
      if (!is_deferred(i)) write(i);
    for (int i = 0; i < static_cast<int>(graph_.instructions.size()); ++i) write(i);
    return rewriter_.finish();
  }

 private:
  // A cluster member waits until the last member is reached or a user asks for it; an absorbed
  // instruction until somebody needs it whole.
  bool is_deferred(int i) const {
    const int cluster = clustering_.cluster_of(i);
    if (cluster != kNone) return clustering_.clusters()[cluster].members.back() != i;
    return clustering_.is_absorbed(i);
  }

  void write(int i) {
    if (done_[i]) return;
    const int cluster = clustering_.cluster_of(i);
    if (cluster != kNone && worth_fusing(clustering_.clusters()[cluster])) return write_fusion(clustering_.clusters()[cluster]);
    done_[i] = true;
    if (clustering_.is_absorbed(i) && !is_output_[i]) return;
    for (Value operand : graph_.instructions[i].operands) write_operand(operand.instruction);
    rewriter_.copy(i);
  }

  void write_operand(int producer) {
    if (clustering_.is_absorbed(producer)) write_whole(producer);
    else write(producer);
  }

  // An absorbed instruction that is needed as it is.
  void write_whole(int i) {
    if (rewriter_.has({i, 0})) return;
    for (Value operand : graph_.instructions[i].operands) write_operand(operand.instruction);
    done_[i] = true;
    rewriter_.copy(i);
  }

  bool worth_fusing(const Cluster& cluster) const {
    if (cluster.members.size() > 1) return true;
    for (Value operand : graph_.instructions[cluster.members[0]].operands)
      if (clustering_.is_absorbed(operand.instruction)) return true;
    return false;
  }

  bool is_read_outside(int member, int cluster) const {
    for (const Graph::Use& use : uses_[member])
      if (clustering_.cluster_of(use.user) != cluster) return true;
    return is_output_[member];
  }

  void write_fusion(const Cluster& cluster) {
    const int number = clustering_.cluster_of(cluster.members[0]);
    for (int member : cluster.members) done_[member] = true;
    auto body = std::make_shared<Graph>();
    body->name = "body";
    Body state{Builder(*body), {}, {}};
    Instruction fused;
    for (int member : cluster.members) add_to_body(member, number, state);
    std::vector<int> results;
    for (int member : cluster.members) {
      if (!is_read_outside(member, number)) continue;
      state.builder.output(state.made.at({member, 0}), cat("y", results.size()));
      results.push_back(member);
      fused.results.push_back(graph_.instructions[member].results[0]);
    }
    for (Value operand : state.operands) write(operand.instruction);
    const Instruction& last = graph_.instructions[cluster.members.back()];
    fused.op = &ops::kFusion;
    fused.attributes.set(Attr::body, GraphRef(std::move(body)));
    fused.scope = last.scope;
    fused.recompute = last.recompute;
    for (Value operand : state.operands) fused.operands.push_back(rewriter_.mapped(operand));
    if (results.empty()) return;
    const Value made = rewriter_.append(std::move(fused));
    for (size_t r = 0; r < results.size(); ++r)
      rewriter_.replace({results[r], 0}, {made.instruction, static_cast<int>(r)});
  }

  struct Body {
    Builder builder;
    std::map<Value, Value> made;   // value of the graph -> value of the body
    std::vector<Value> operands;   // of the fusion, in the order of the body's inputs
  };

  // Copies a member, or what is absorbed, into the body.
  void add_to_body(int i, int cluster, Body& body) {
    if (body.made.count({i, 0})) return;
    const Instruction& source = graph_.instructions[i];
    std::vector<Value> operands;
    for (Value operand : source.operands) {
      const int producer = operand.instruction;
      if (clustering_.cluster_of(producer) == cluster || clustering_.is_absorbed(producer)) {
        add_to_body(producer, cluster, body);
      } else if (!body.made.count(operand)) {
        body.made[operand] = body.builder.input(InputKind::data, cat("x", body.operands.size()), graph_.type(operand));
        body.operands.push_back(operand);
      }
      operands.push_back(body.made.at(operand));
    }
    body.made[{i, 0}] = body.builder.emit(*source.op, std::move(operands), source.attributes);
  }

  const Graph& graph_;
  Clustering clustering_;
  GraphRewriter rewriter_;
  std::vector<std::vector<Graph::Use>> uses_;
  std::vector<bool> done_;
  std::vector<bool> is_output_;  // instruction
};

}  // namespace

Graph fuse_elementwise(const Graph& graph) {
  return with_regions(graph, [](const Graph& source) { return FusionWriter(source).run(); });
}

}  // namespace tessera

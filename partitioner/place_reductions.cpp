#include "partitioner/place_reductions.h"

#include <cmath>
#include <deque>
#include <limits>
#include <numeric>
#include <optional>

#include "core/base/error.h"
#include "core/ops/sharding.h"
#include "partitioner/insert_reshards.h"
#include "partitioner/op_layout.h"

namespace tessera {
namespace {

// Vertex cut by edge capacities: vertex v is the edge (2v -> 2v+1); s and t are extra nodes.
class FlowNetwork {
 public:
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max() / 4;

  explicit FlowNetwork(int nodes) : edges_of_(static_cast<size_t>(nodes)) {}

  void add(int from, int to, int64_t capacity) {
    edges_of_[static_cast<size_t>(from)].push_back(static_cast<int>(edges_.size()));
    edges_.push_back({to, capacity});
    edges_of_[static_cast<size_t>(to)].push_back(static_cast<int>(edges_.size()));
    edges_.push_back({from, 0});
  }

  // Saturates the network (Edmonds-Karp); then the nodes still reachable from s.
  std::vector<bool> reachable_after_max_flow(int s, int t) {
    for (;;) {
      std::vector<int> via(edges_of_.size(), -1);
      std::vector<bool> seen(edges_of_.size(), false);
      std::deque<int> queue = {s};
      seen[static_cast<size_t>(s)] = true;
      while (!queue.empty() && !seen[static_cast<size_t>(t)]) {
        const int node = queue.front();
        queue.pop_front();
        for (int e : edges_of_[static_cast<size_t>(node)])
          if (const Edge& edge = edges_[static_cast<size_t>(e)];
              edge.capacity > 0 && !seen[static_cast<size_t>(edge.to)]) {
            seen[static_cast<size_t>(edge.to)] = true;
            via[static_cast<size_t>(edge.to)] = e;
            queue.push_back(edge.to);
          }
      }
      if (!seen[static_cast<size_t>(t)]) return seen;
      int64_t flow = kUnlimited;
      for (int node = t; node != s;
           node = edges_[static_cast<size_t>(via[static_cast<size_t>(node)] ^ 1)].to)
        flow = std::min(flow, edges_[static_cast<size_t>(via[static_cast<size_t>(node)])].capacity);
      for (int node = t; node != s;
           node = edges_[static_cast<size_t>(via[static_cast<size_t>(node)] ^ 1)].to) {
        edges_[static_cast<size_t>(via[static_cast<size_t>(node)])].capacity -= flow;
        edges_[static_cast<size_t>(via[static_cast<size_t>(node)] ^ 1)].capacity += flow;
      }
    }
  }

 private:
  struct Edge {
    int to;
    int64_t capacity;
  };
  std::vector<Edge> edges_;  // edge e and its reverse e ^ 1
  std::vector<std::vector<int>> edges_of_;
};

// A partial value of the graph.
struct Node {
  Value value;
  bool is_source = false;
  bool has_sink = false;
  std::vector<int> carried_to;     // nodes that carry it on
  std::optional<Sharding> wanted;  // by the direct users that need it whole ...
  bool wants_agree = true;         // ... if they want the same
};

class Placer {
 public:
  Placer(const Graph& graph, ReshardPlanner& planner) : graph_(graph), planner_(planner) {}

  // Which values to reduce right after they are made, and to what.
  std::map<Value, Sharding> cut() {
    find_nodes();
    for (Node& node : nodes_) find_uses(node);
    std::map<Value, Sharding> resolve;
    for (const std::vector<int>& region : regions()) cut_region(region, resolve);
    return resolve;
  }

 private:
  void find_nodes() {
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      const Instruction& instruction = graph_.instructions[i];
      for (size_t r = 0; r < instruction.results.size(); ++r) {
        const Value value{static_cast<int>(i), static_cast<int>(r)};
        if (!graph_.sharding(value).is_partial() || is_made_partial(instruction)) continue;
        number_of_[value] = static_cast<int>(nodes_.size());
        nodes_.push_back({value, false, false, {}, {}, true});
      }
    }
    uses_ = graph_.uses();
    for (Node& node : nodes_)
      node.is_source = makes_partial(graph_.at(node.value), graph_.sharding(node.value));
  }

  // A reshard of a whole value to a partial one: nothing to reduce there.
  bool is_made_partial(const Instruction& instruction) const {
    return instruction.is(ops::kReshard) && !graph_.sharding(instruction.operands[0]).is_partial();
  }

  // Whether partial axes begin here rather than coming from an operand.
  bool makes_partial(const Instruction& instruction, const Sharding& result) const {
    if (instruction.operands.empty()) return true;
    // A reshard that resolved part of the axes begins a new region with the rest.
    if (instruction.is(ops::kReshard))
      return !without(graph_.sharding(instruction.operands[0]).partial, result.partial).empty();
    AxisList incoming;
    for (Value operand : instruction.operands) {
      const AxisList& partial = graph_.sharding(operand).partial;
      const Value base =
          graph_.at(operand).is(ops::kReshard) ? graph_.at(operand).operands[0] : operand;
      if (graph_.sharding(base).is_partial())
        incoming = concat(incoming, without(partial, incoming));
    }
    return !without(result.partial, incoming).empty();
  }

  void find_uses(Node& node) {
    for (const Graph::Use& use : uses_[static_cast<size_t>(node.value.instruction)]) {
      if (use.result != node.value.result) continue;
      const Instruction& user = graph_.instructions[static_cast<size_t>(use.user)];
      if (user.is(ops::kReshard)) {
        const Sharding& after = *user.results[0].sharding;
        const AxisList& before = graph_.sharding(node.value).partial;
        if (!without(before, after.partial).empty())
          sink(node, after);
        else
          carry(node, {use.user, 0});  // more partial axes, or other dims
      } else {
        for (size_t r = 0; r < user.results.size(); ++r)
          carry(node, {use.user, static_cast<int>(r)});
      }
    }
  }

  void carry(Node& node, Value to) {
    if (const auto found = number_of_.find(to); found != number_of_.end())
      node.carried_to.push_back(found->second);
  }

  static void sink(Node& node, const Sharding& wanted) {
    node.has_sink = true;
    if (node.wanted && !node.wanted->same_layout(wanted)) node.wants_agree = false;
    if (!node.wanted) node.wanted = wanted;
  }

  // Nodes joined by carrying, each region in ascending order.
  std::vector<std::vector<int>> regions() const {
    std::vector<int> parent(nodes_.size());
    std::iota(parent.begin(), parent.end(), 0);
    auto find = [&](int n) {
      while (parent[static_cast<size_t>(n)] != n)
        n = parent[static_cast<size_t>(n)] =
            parent[static_cast<size_t>(parent[static_cast<size_t>(n)])];
      return n;
    };
    for (size_t n = 0; n < nodes_.size(); ++n)
      for (int to : nodes_[n].carried_to)
        parent[static_cast<size_t>(find(to))] = find(static_cast<int>(n));
    std::map<int, std::vector<int>> by_root;
    for (size_t n = 0; n < nodes_.size(); ++n)
      by_root[find(static_cast<int>(n))].push_back(static_cast<int>(n));
    std::vector<std::vector<int>> regions;
    for (auto& [root, members] : by_root) regions.push_back(std::move(members));
    return regions;
  }

  // Where the value goes when it is reduced on the spot.
  Sharding resolved(const Node& node) const {
    const Sharding& now = graph_.sharding(node.value);
    if (node.has_sink && node.wants_agree && node.carried_to.empty()) return node.wanted->closed();
    return now.without_partial();
  }

  void cut_region(const std::vector<int>& region, std::map<Value, Sharding>& resolve) {
    const int size = static_cast<int>(region.size()), s = 2 * size, t = s + 1;
    std::map<int, int> place;  // node -> position in the region
    for (int i = 0; i < size; ++i) place[region[static_cast<size_t>(i)]] = i;
    FlowNetwork network(2 * size + 2);
    for (int i = 0; i < size; ++i) {
      const Node& node = nodes_[static_cast<size_t>(region[static_cast<size_t>(i)])];
      const double seconds =
          planner_.seconds(graph_.sharding(node.value), resolved(node), graph_.type(node.value));
      network.add(2 * i, 2 * i + 1, std::max<int64_t>(1, std::llround(seconds * 1e12)));
      if (node.is_source) network.add(s, 2 * i, FlowNetwork::kUnlimited);
      if (node.has_sink) network.add(2 * i + 1, t, FlowNetwork::kUnlimited);
      for (int to : node.carried_to)
        network.add(2 * i + 1, 2 * place.at(to), FlowNetwork::kUnlimited);
    }
    const std::vector<bool> reachable = network.reachable_after_max_flow(s, t);
    for (int i = 0; i < size; ++i) {
      const Node& node = nodes_[static_cast<size_t>(region[static_cast<size_t>(i)])];
      if (reachable[static_cast<size_t>(2 * i)] && !reachable[static_cast<size_t>(2 * i + 1)])
        resolve.emplace(node.value, resolved(node));
    }
  }

  const Graph& graph_;
  ReshardPlanner& planner_;
  std::vector<Node> nodes_;
  std::map<Value, int> number_of_;
  std::vector<std::vector<Graph::Use>> uses_;
};

}  // namespace

Graph place_reductions(const Graph& graph, ReshardPlanner& planner) {
  const std::map<Value, Sharding> cut = Placer(graph, planner).cut();
  std::vector<int> map_back;
  const Graph stripped = strip_reshards(graph, &map_back);
  // The cut names values of `graph`; those of plain reshards vanish with them, and lay_out then
  // reduces at the use as before.
  std::vector<int> number_in_stripped(graph.instructions.size(), -1);
  for (size_t i = 0; i < map_back.size(); ++i)
    number_in_stripped[static_cast<size_t>(map_back[i])] = static_cast<int>(i);
  std::map<Value, Sharding> resolve;
  for (const auto& [value, sharding] : cut)
    if (const int number = number_in_stripped[static_cast<size_t>(value.instruction)]; number >= 0)
      resolve.emplace(Value{number, value.result}, sharding);
  return lay_out(stripped, resolve);
}

}  // namespace tessera

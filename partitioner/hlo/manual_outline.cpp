// Old style: what lies between SPMDFullToShardShape and SPMDShardToFullShape, found by following
// the values, becomes a computation.
//
//     s = Sharding(x)                              body(y):
//     y = SPMDFullToShardShape(s)                    c = constant; b = broadcast(c)
//     c = constant; b = broadcast(c)         ->      z = multiply(y, b)
//     z = multiply(y, b)                           s = Sharding(x)
//     r = SPMDShardToFullShape(z)                  r = kManualCall(s), to_apply=body
//
// The depth of a value is how many FullToShard lead to it less the ShardToFull. What has depth 1 or
// more and hangs together is one region; deeper ones inside it are left as they are. Values of
// depth 0 that a region uses are made again inside, where they depend on no parameter (constants,
// partition-id), and are operands that every device has whole otherwise.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "partitioner/hlo/manual_regions.h"
#include "partitioner/hlo/stated_sharding.h"

namespace tessera::hlo {
namespace {

struct OutlinedRegion {
  std::vector<int> takes, inside, gives;  // FullToShard, instructions, ShardToFull; ascending
  std::vector<int> operands;              // outer values, in the order of the parameters
  std::vector<HloSharding> in, out;
  IntLists in_unspecified, out_unspecified;
  HloComputation body;
};

class Outliner {
 public:
  Outliner(HloModule& module, int c)
      : source_(module.computations[static_cast<size_t>(c)]),
        all_(source_.instructions),
        size_(all_.size()),
        depth_(size_, 0),
        is_inside_(size_, false),
        is_rootless_(size_, false),
        group_(size_) {
    for (const HloComputation& computation : module.computations) names_.insert(computation.name);
  }

  // The new computations; the source is rewritten.
  std::vector<HloComputation> run() {
    measure();
    find_regions();
    for (OutlinedRegion& region : regions_) build(region);
    rewrite();
    std::vector<HloComputation> bodies;
    for (OutlinedRegion& region : regions_) bodies.push_back(std::move(region.body));
    return bodies;
  }

 private:
  const HloInstruction& at(int index) const { return all_[static_cast<size_t>(index)]; }
  int depth_of_operands(const HloInstruction& instruction) const {
    int depth = 0;
    for (int operand : instruction.operands)
      depth = std::max(depth, depth_[static_cast<size_t>(operand)]);
    return depth;
  }
  bool takes(int i) const {  // at the border of a region
    return is_custom_call(at(i), kFullToShard) && !is_inside_[static_cast<size_t>(i)];
  }
  bool gives(int i) const {
    return is_custom_call(at(i), kShardToFull) && !is_inside_[static_cast<size_t>(i)];
  }
  // Part of a region: inside, or the border where values come in.
  bool is_local(int i) const { return is_inside_[static_cast<size_t>(i)] || takes(i); }

  void measure() {
    for (size_t i = 0; i < size_; ++i) {
      const HloInstruction& it = all_[i];
      const int before = depth_of_operands(it);
      const bool is_take = is_custom_call(it, kFullToShard),
                 is_give = is_custom_call(it, kShardToFull);
      if ((is_take || is_give) && (it.operands.size() != 1 || it.shape.is_tuple))
        throw_user_error(where(it),
                         ": a change between full and shard shape takes and gives one array");
      depth_[i] = is_take ? before + 1 : is_give ? std::max(0, before - 1) : before;
      is_inside_[i] = is_take ? before >= 1 : depth_[i] >= 1;
      is_rootless_[i] =
          it.opcode != "parameter" && !is_take && !is_give && !it.shape.leaves().empty() &&
          std::all_of(it.operands.begin(), it.operands.end(),
                      [&](int operand) { return is_rootless_[static_cast<size_t>(operand)]; });
    }
    if (is_local(source_.root))
      throw_user_error(where(at(source_.root)), ": the root of ", source_.name,
                       " is inside a manual region; bring it back by SPMDShardToFullShape");
  }

  int find(int i) {
    while (group_[static_cast<size_t>(i)] != i) i = group_[static_cast<size_t>(i)];
    return i;
  }

  void find_regions() {
    std::iota(group_.begin(), group_.end(), 0);
    for (int i = 0; i < static_cast<int>(size_); ++i)
      if (is_inside_[static_cast<size_t>(i)] || gives(i))
        for (int operand : at(i).operands)
          if (is_local(operand)) {
            const int a = find(i), b = find(operand);
            group_[static_cast<size_t>(std::max(a, b))] = std::min(a, b);
          }
    std::map<int, OutlinedRegion> found;
    for (int i = 0; i < static_cast<int>(size_); ++i) {
      if (takes(i)) found[find(i)].takes.push_back(i);
      if (is_inside_[static_cast<size_t>(i)]) found[find(i)].inside.push_back(i);
      if (gives(i)) found[find(i)].gives.push_back(i);
    }
    for (auto& [first, region] : found)
      if (!region.gives.empty()) regions_.push_back(std::move(region));
  }

  // ---- The body of a region
  // -----------------------------------------------------------------------

  // The sharding attribute; where there is none and the shapes are the same: the whole on each
  // device.
  HloSharding sharding_of(const HloInstruction& stating, const HloInstruction& border) const {
    if (const auto* sharding = stating.get<HloSharding>("sharding")) return *sharding;
    if (!all_[static_cast<size_t>(border.operands[0])].shape.same_as(border.shape))
      throw_user_error(where(border), ": how ", stating.name,
                       " is cut into shards is not said; it needs a sharding attribute");
    return HloSharding{};
  }

  static Ints all_dims(const HloShape& shape) {
    Ints dims(static_cast<size_t>(shape.dims.rank()));
    std::iota(dims.begin(), dims.end(), 0);
    return dims;
  }

  int add_parameter(OutlinedRegion& region, const HloInstruction& like, int outer) {
    HloInstruction parameter;
    parameter.name = like.name;
    parameter.shape = like.shape;
    parameter.opcode = "parameter";
    parameter.parameter_number = static_cast<int64_t>(region.operands.size());
    parameter.line = like.line;
    region.operands.push_back(outer);
    region.body.instructions.push_back(std::move(parameter));
    return static_cast<int>(region.body.instructions.size()) - 1;
  }

  // Values of depth 0 that the region reads.
  std::set<int> captured(const OutlinedRegion& region) const {
    std::set<int> values;
    for (const auto* list : {&region.inside, &region.gives})
      for (int i : *list)
        for (int operand : at(i).operands)
          if (!is_local(operand)) values.insert(operand);
    return values;
  }

  std::set<int> with_operands(const std::set<int>& values) const {
    std::set<int> closure;
    std::vector<int> open(values.begin(), values.end());
    while (!open.empty()) {
      const int i = open.back();
      open.pop_back();
      if (!closure.insert(i).second) continue;
      open.insert(open.end(), at(i).operands.begin(), at(i).operands.end());
    }
    return closure;
  }

  void build(OutlinedRegion& region) {
    std::map<int, int> number;  // instruction -> its place in the body
    for (int take : region.takes) {
      const HloInstruction& whole = at(at(take).operands[0]);
      number[take] = add_parameter(region, at(take), at(take).operands[0]);
      region.in.push_back(sharding_of(whole, at(take)));
      region.in_unspecified.lists.push_back(unspecified_dims(whole));
    }
    std::set<int> again;
    for (int value : captured(region)) {
      if (is_rootless_[static_cast<size_t>(value)]) {
        again.insert(value);
        continue;
      }
      if (at(value).shape.is_tuple)
        throw_user_error(where(at(value)),
                         ": a tuple from outside is used in a manual region; "
                         "bring its arrays in by SPMDFullToShardShape");
      number[value] = add_parameter(region, at(value), value);
      region.in.emplace_back();
      region.in_unspecified.lists.push_back(all_dims(at(value).shape));
    }
    for (int i : with_operands(again)) copy(region.body, i, number);
    for (int i : region.inside) copy(region.body, i, number);
    finish(region, number);
  }

  void copy(HloComputation& body, int i, std::map<int, int>& number) const {
    HloInstruction instruction = at(i);
    for (int& operand : instruction.operands) operand = number.at(operand);
    number[i] = static_cast<int>(body.instructions.size());
    body.instructions.push_back(std::move(instruction));
  }

  void finish(OutlinedRegion& region, const std::map<int, int>& number) {
    HloComputation& body = region.body;
    HloInstruction root;
    root.opcode = "tuple";
    root.shape.is_tuple = true;
    root.name = unused_name(cat("results.", region.gives[0]), body);
    for (int give : region.gives) {
      const int inner = at(give).operands[0];
      root.operands.push_back(number.at(inner));
      root.shape.elements.push_back(at(inner).shape);
      region.out.push_back(sharding_of(at(give), at(give)));
      region.out_unspecified.lists.push_back(unspecified_dims(at(give)));
    }
    root.line = body.line = at(region.gives[0]).line;
    body.root = root.operands[0];
    if (region.gives.size() > 1) {
      body.root = static_cast<int>(body.instructions.size());
      body.instructions.push_back(std::move(root));
    }
    for (int i = 0; body.name.empty() || names_.count(body.name); ++i)
      body.name = cat("manual_region.", source_.name, ".", i);
    names_.insert(body.name);
  }

  static std::string unused_name(std::string name, const HloComputation& body) {
    while (body.find(name) >= 0) name += "_";
    return name;
  }

  // ---- The computation without its regions
  // ----------------------------------------------------------

  HloInstruction call_of(const OutlinedRegion& region) const {
    const HloInstruction& give = at(region.gives[0]);
    HloInstruction call;
    call.opcode = "custom-call";
    call.name = give.name;
    call.shape = give.shape;
    call.line = give.line;
    if (region.gives.size() > 1) {
      call.name = unused_name(region.body.name, source_);
      call.shape = HloShape{};
      call.shape.is_tuple = true;
      for (int each : region.gives) call.shape.elements.push_back(at(each).shape);
    }
    const HloSharding *manual = nullptr, *outside = nullptr;
    if (!region.takes.empty()) {
      const HloInstruction& take = at(region.takes[0]);
      manual = take.get<HloSharding>("sharding");
      outside = at(take.operands[0]).get<HloSharding>("sharding");
    } else {
      manual = at(give.operands[0]).get<HloSharding>("sharding");
      outside = give.get<HloSharding>("sharding");
    }
    HloSharding everything;
    everything.kind = HloSharding::Kind::manual;
    call.attributes = {{"custom_call_target", std::string(kManualCall), call.line},
                       {"to_apply", Name{region.body.name}, call.line},
                       {"in_shardings", tuple_of(region.in), call.line},
                       {"out_shardings", tuple_of(region.out), call.line},
                       {"in_unspecified", region.in_unspecified, call.line},
                       {"out_unspecified", region.out_unspecified, call.line},
                       {"manual", manual ? *manual : everything, call.line},
                       {"outside", outside ? *outside : HloSharding{}, call.line}};
    return call;
  }

  // Instructions that stay keep their numbers as nodes, region r is node size_ + r. In an order in
  // which operands stand first, near to the order of the text.
  void rewrite() {
    std::vector<int> region_of(size_, -1);  // of what gives
    for (size_t r = 0; r < regions_.size(); ++r)
      for (int give : regions_[r].gives) region_of[static_cast<size_t>(give)] = static_cast<int>(r);
    const int nodes = static_cast<int>(size_ + regions_.size());
    auto operands_of = [&](int node) -> std::vector<int> {
      if (node >= static_cast<int>(size_))
        return regions_[static_cast<size_t>(node) - size_].operands;
      const int region = region_of[static_cast<size_t>(node)];
      return region < 0 ? at(node).operands : std::vector<int>{static_cast<int>(size_) + region};
    };
    auto stays = [&](int node) { return node >= static_cast<int>(size_) || !is_local(node); };
    const std::vector<int> order = sorted(nodes, stays, operands_of);
    std::vector<int> number(static_cast<size_t>(nodes), -1);
    std::vector<HloInstruction> made;
    std::vector<bool> candidates;
    for (int node : order) {
      const bool is_call = node >= static_cast<int>(size_);
      const int region =
          is_call ? node - static_cast<int>(size_) : region_of[static_cast<size_t>(node)];
      const bool is_only = region >= 0 && regions_[static_cast<size_t>(region)].gives.size() == 1;
      if (is_only && !is_call) {  // the call itself
        number[static_cast<size_t>(node)] = number[static_cast<size_t>(operands_of(node)[0])];
        continue;
      }
      HloInstruction instruction =
          is_call ? call_of(regions_[static_cast<size_t>(region)]) : at(node);
      if (!is_call && region >= 0)
        make_element(instruction, node, regions_[static_cast<size_t>(region)]);
      instruction.operands.clear();
      for (int operand : operands_of(node))
        instruction.operands.push_back(number[static_cast<size_t>(operand)]);
      number[static_cast<size_t>(node)] = static_cast<int>(made.size());
      made.push_back(std::move(instruction));
      candidates.push_back(!is_call && is_rootless_[static_cast<size_t>(node)]);
    }
    source_.root = number[static_cast<size_t>(source_.root)];
    source_.instructions = std::move(made);
    drop_unused(source_, std::vector<bool>(candidates.size(), false), candidates);
  }

  static void make_element(HloInstruction& instruction, int node, const OutlinedRegion& region) {
    const auto place = std::find(region.gives.begin(), region.gives.end(), node);
    instruction.opcode = "get-tuple-element";
    instruction.attributes = {
        {"index", static_cast<int64_t>(place - region.gives.begin()), instruction.line}};
  }

  template <typename Stays, typename OperandsOf>
  std::vector<int> sorted(int nodes, const Stays& stays, const OperandsOf& operands_of) const {
    std::vector<int> waits(static_cast<size_t>(nodes), 0);
    std::vector<std::vector<int>> users(static_cast<size_t>(nodes));
    auto place = [&](int node) {
      return node < static_cast<int>(size_)
                 ? 2 * node
                 : 2 * regions_[static_cast<size_t>(node) - size_].gives[0] - 1;
    };
    std::set<std::pair<int, int>> ready;
    size_t count = 0;
    for (int node = 0; node < nodes; ++node) {
      if (!stays(node)) continue;
      ++count;
      for (int operand : operands_of(node)) {
        ++waits[static_cast<size_t>(node)];
        users[static_cast<size_t>(operand)].push_back(node);
      }
      if (waits[static_cast<size_t>(node)] == 0) ready.emplace(place(node), node);
    }
    std::vector<int> order;
    while (!ready.empty()) {
      const int node = ready.begin()->second;
      ready.erase(ready.begin());
      order.push_back(node);
      for (int user : users[static_cast<size_t>(node)])
        if (--waits[static_cast<size_t>(user)] == 0) ready.emplace(place(user), user);
    }
    if (order.size() != count)
      throw_user_error(where(at(regions_[0].gives[0])), ": the manual regions of ", source_.name,
                       " cannot be taken apart: a value goes out of one and comes back into it");
    return order;
  }

  HloComputation& source_;
  std::vector<HloInstruction>& all_;
  const size_t size_;
  std::vector<int> depth_;
  std::vector<bool> is_inside_, is_rootless_;
  std::vector<int> group_;
  std::set<std::string> names_;
  std::vector<OutlinedRegion> regions_;
};

}  // namespace

int outline_shard_shapes(HloModule& module, int c) {
  std::vector<HloComputation> bodies = Outliner(module, c).run();
  const auto count = static_cast<int>(bodies.size());
  module.computations.insert(module.computations.begin() + c,
                             std::make_move_iterator(bodies.begin()),
                             std::make_move_iterator(bodies.end()));
  if (module.entry >= c) module.entry += count;
  return count;
}

}  // namespace tessera::hlo

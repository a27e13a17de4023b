#include "partitioner/collective_matmul.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "core/base/error.h"
#include "core/ir/rewriter.h"
#include "core/ops/contraction.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "partitioner/reshard_moves.h"
#include "partitioner/uses.h"

namespace tessera {
namespace {

constexpr int64_t kMostDevices = 16;

// Where a dim of a product's operand is found in its result and in the other operand; -1: nowhere.
struct DotDim {
  int result = -1;
  int other = -1;
  bool is_contracted = false;
};

DotDim trace(const Graph& graph, const Instruction& dot, int operand, int dim) {
  const char side = operand == 0 ? 'l' : 'r';
  auto list = [&](Attr lhs, Attr rhs) -> std::pair<const Ints&, const Ints&> {
    const Ints &l = dot.attributes.ints(lhs), &r = dot.attributes.ints(rhs);
    return side == 'l' ? std::pair<const Ints&, const Ints&>{l, r}
                       : std::pair<const Ints&, const Ints&>{r, l};
  };
  const auto [contracted, other_contracted] = list(Attr::lhs_contracting, Attr::rhs_contracting);
  const auto [batch, other_batch] = list(Attr::lhs_batch, Attr::rhs_batch);
  DotDim found;
  for (size_t i = 0; i < contracted.size(); ++i)
    if (contracted[i] == dim)
      return {-1, static_cast<int>(other_contracted[i]), true};
  for (size_t i = 0; i < batch.size(); ++i)
    if (batch[i] == dim) return {static_cast<int>(i), static_cast<int>(other_batch[i]), false};
  // Free dims keep their order: the left operand's, then the right one's.
  const Ints& lhs_contracted = dot.attributes.ints(Attr::lhs_contracting);
  int place = static_cast<int>(batch.size());
  if (operand == 1)
    place += graph.type(dot.operands[0]).rank() - static_cast<int>(batch.size()) -
             static_cast<int>(lhs_contracted.size());
  for (int d = 0; d < dim; ++d)
    if (!std::count(contracted.begin(), contracted.end(), d) &&
        !std::count(batch.begin(), batch.end(), d))
      ++place;
  found.result = place;
  return found;
}

class Rings {
 public:
  Rings(const Graph& source, const CollectiveMatmulOptions& options)
      : source_(source), options_(options), uses_(source), rewriter_(source) {}

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      const int index = static_cast<int>(i);
      const Instruction& instruction = source_.instructions[i];
      builder_.set_scope(instruction.scope);
      builder_.set_recompute(instruction.recompute);
      if (instruction.is(ops::kAllGather) && is_gather_of_products(index))
        gather(index);
      else if (instruction.is(ops::kDotGeneral) && product_of_gather(instruction))
        multiply_gathered(index);
      else if (instruction.is(ops::kDotGeneral) && scatter_of(index))
        scattered_.insert(*scatter_of(index));  // made where the reduce_scatter is
      else if (scattered_.count(index))
        multiply_and_scatter(index);
      else
        rewriter_.copy(index);
    }
    return rewriter_.finish();
  }

 private:
  // A block of a gathered value: that of the device `offset` further along the ring.
  struct Block {
    Value value;
    int64_t offset;
  };
  struct Ring {
    AxisList axes;
    std::vector<Block> blocks;  // that have come so far
    Value up, down;             // what the next hop sends on
    int64_t next_hop = 1, hops = 0;
    bool both_ways = false;
  };

  const Instruction& at(int index) const {
    return source_.instructions[static_cast<size_t>(index)];
  }
  static AxisList axes_of(const Instruction& collective) {
    return collective.attributes.get<AxisList>(Attr::axes);
  }
  bool is_ring(const Instruction& collective) const {
    const int64_t n = size_of(axes_of(collective));
    return n > 1 && n <= kMostDevices && collective.operands.size() == 1;
  }

  // ---- all_gather -> dot_general ------------------------------------------------------------

  bool is_gather_of_products(int index) const {
    const Instruction& gather = at(index);
    const auto& uses = uses_.of(index);
    if (!is_ring(gather) || uses.empty() || uses_.is_output({index, 0})) return false;
    const int dim = static_cast<int>(gather.attributes.integer(Attr::dimension));
    double product_seconds = 0;
    for (const Graph::Use& use : uses) {
      const Instruction& user = at(use.user);
      if (!user.is(ops::kDotGeneral) || user.operands[0] == user.operands[1]) return false;
      if (trace(source_, user, use.operand, dim).is_contracted) return false;
      product_seconds += seconds_of(user);
      // A product of two gathers follows the first of them.
      const Instruction& other = source_.at(user.operands[use.operand == 0 ? 1 : 0]);
      if (other.is(ops::kAllGather) && user.operands[0].instruction != index) return false;
    }
    return pays(gather, source_.type(gather.operands[0]).bytes(), MoveKind::all_gather,
                product_seconds);
  }

  // The operand number that is a gather to be cut.
  std::optional<int> product_of_gather(const Instruction& dot) const {
    for (int o : {0, 1})
      if (rings_.count(dot.operands[static_cast<size_t>(o)])) return o;
    return std::nullopt;
  }

  // The ring starts with the device's own block; hops are made as the first product needs them.
  void gather(int index) {
    const Instruction& gather = at(index);
    const AxisList axes = axes_of(gather);
    const int64_t n = size_of(axes);
    const Value own = rewriter_.mapped(gather.operands[0]);
    const bool both = options_.directions == RingDirections::two_way;
    rings_[{index, 0}] = {axes, {{own, 0}}, own, own, 1, both ? n / 2 : n - 1, both};
  }

  // The next hop's blocks. It stands before the product of the block that came last, so that it
  // travels beside that.
  void make_hop(Ring& ring) {
    const int64_t n = size_of(ring.axes), hop = ring.next_hop++;
    ring.up = ops::shift(builder_, ring.up, ring.axes, -1, /*wrap=*/true);
    ring.blocks.push_back({ring.up, hop});
    if (!ring.both_ways || n - hop == hop) return;
    ring.down = ops::shift(builder_, ring.down, ring.axes, 1, /*wrap=*/true);
    ring.blocks.push_back({ring.down, n - hop});
  }

  void multiply_gathered(int index) {
    const Instruction& dot = at(index);
    const int operand = *product_of_gather(dot);
    const Value whole = dot.operands[static_cast<size_t>(operand)];
    const Instruction& gather = source_.at(whole);
    const int dim = static_cast<int>(gather.attributes.integer(Attr::dimension));
    const DotDim place = trace(source_, dot, operand, dim);
    const AxisList axes = axes_of(gather);
    const int64_t block = source_.type(gather.operands[0]).shape[dim];
    const Value other = rewriter_.mapped(dot.operands[operand == 0 ? 1 : 0]);
    const ResultInfo& info = dot.results[0];
    Value result = ops::broadcast_scalar(
        builder_, ops::constant(builder_, 0.0, {info.type.dtype, {}}), info.type.shape);
    Ring& ring = rings_.at(whole);
    for (size_t i = 0; i < ring.blocks.size(); ++i) {
      if (i + 1 == ring.blocks.size() && ring.next_hop <= ring.hops) make_hop(ring);
      const Block one = ring.blocks[i];
      const Value start = block_start(axes, one.offset, block);
      // A batch dim is cut in both operands.
      const Value part =
          place.other < 0
              ? other
              : ops::dynamic_slice_dim(builder_, other, place.other, start, block);
      const Value product = product_of(dot, operand == 0 ? one.value : part,
                                       operand == 0 ? part : one.value);
      result = ops::dynamic_update_slice_dim(builder_, result, product, place.result, start);
    }
    finish(index, result);
  }

  // ---- dot_general -> reduce_scatter --------------------------------------------------------

  // The reduce_scatter that alone uses this product, if it is to be cut.
  std::optional<int> scatter_of(int index) const {
    if (!uses_.has_one_use({index, 0})) return std::nullopt;
    const int user = uses_.of(index)[0].user;
    const Instruction& scatter = at(user);
    if (!scatter.is(ops::kReduceScatter) || !is_ring(scatter) ||
        scatter.attributes.get<ReduceKind>(Attr::reduce_kind) != ReduceKind::sum)
      return std::nullopt;
    const double product_seconds = seconds_of(at(index));
    if (!pays(scatter, scatter.results[0].type.bytes(), MoveKind::reduce_scatter, product_seconds))
      return std::nullopt;
    return user;
  }

  void multiply_and_scatter(int index) {
    const Instruction& scatter = at(index);
    const Instruction& dot = source_.at(scatter.operands[0]);
    const int dim = static_cast<int>(scatter.attributes.integer(Attr::dimension));
    const int64_t block = scatter.results[0].type.shape[dim];
    const bool both = options_.directions == RingDirections::two_way && block % 2 == 0;
    Value result;
    if (both) {
      const Value low = scattered(dot, scatter, dim, block / 2, 0, 1);
      const Value high = scattered(dot, scatter, dim, block / 2, block / 2, -1);
      result = ops::concatenate(builder_, {low, high}, dim);
    } else {
      result = scattered(dot, scatter, dim, block, 0, 1);
    }
    finish(index, result);
  }

  // Rows [first, first + size) of every block of the product's dim, summed on the way around; sums
  // travel by `step` places.
  Value scattered(const Instruction& dot, const Instruction& scatter, int dim, int64_t size,
                  int64_t first, int64_t step) {
    const AxisList axes = axes_of(scatter);
    const int64_t n = size_of(axes), block = scatter.results[0].type.shape[dim];
    Value sum;
    for (int64_t hop = 0; hop < n; ++hop) {
      const int64_t offset = step > 0 ? n - 1 - hop : (hop + 1) % n;
      Value start = block_start(axes, offset, block);
      if (first > 0) start = ops::add(builder_, start, scalar(first));
      const Value operands[2] = {cut(dot, 0, dim, start, size), cut(dot, 1, dim, start, size)};
      // The hop first, so that it is on its way while the product runs.
      const Value arrived =
          hop == 0 ? Value{} : ops::shift(builder_, sum, axes, step, /*wrap=*/true);
      const Value product = product_of(dot, operands[0], operands[1]);
      sum = hop == 0 ? product : ops::add(builder_, arrived, product);
    }
    return sum;
  }

  // The operand, cut where it has the result's dim.
  Value cut(const Instruction& dot, int operand, int result_dim, Value start, int64_t size) {
    const Value whole = dot.operands[static_cast<size_t>(operand)];
    for (int d = 0; d < source_.type(whole).rank(); ++d)
      if (trace(source_, dot, operand, d).result == result_dim)
        return ops::dynamic_slice_dim(builder_, rewriter_.mapped(whole), d, start, size);
    return rewriter_.mapped(whole);
  }

  // ---- Shared -------------------------------------------------------------------------------

  Value product_of(const Instruction& dot, Value lhs, Value rhs) {
    return builder_.emit(ops::kDotGeneral, {lhs, rhs}, dot.attributes);
  }
  Value scalar(int64_t value) {
    return ops::constant(builder_, static_cast<double>(value), {DType::s64, {}});
  }
  // ((own coordinate + offset) mod n) * block
  Value block_start(const AxisList& axes, int64_t offset, int64_t block) {
    Value place = ops::axis_index(builder_, axes);
    if (offset != 0) {
      place = ops::add(builder_, place, scalar(offset));
      const Value beyond = ops::subtract(builder_, place, scalar(size_of(axes)));
      place = ops::select(
          builder_, ops::compare(builder_, beyond, scalar(0), CompareDirection::lt), place,
          beyond);
    }
    return ops::multiply(builder_, place, scalar(block));
  }
  void finish(int index, Value result) {
    const ResultInfo& from = at(index).results[0];
    ResultInfo& to = rewriter_.result().info(result);
    TESSERA_CHECK(to.type == from.type, "a ring makes ", to.type, " in place of ", from.type);
    to = from;
    rewriter_.replace({index, 0}, result);
  }

  double seconds_of(const Instruction& dot) const {
    const double flops = with_call(source_, dot, [&](const OpCall& call) {
      return flop_count(*dot.op, call, Graph::result_types(dot));
    });
    return flops / options_.machine.flops(source_.type(dot.operands[0]).dtype);
  }
  bool pays(const Instruction& collective, int64_t block_bytes, MoveKind kind,
            double product_seconds) const {
    if (!options_.only_where_it_pays) return true;
    const MachineModel& machine = options_.machine;
    const AxisList axes = axes_of(collective);
    const auto n = static_cast<double>(size_of(axes));
    const Link link = machine.link(*source_.mesh, axes);
    const double whole = move_seconds(kind, source_.type(collective.operands[0]).bytes(), axes,
                                      *source_.mesh, machine);
    const double hop = link.latency + static_cast<double>(block_bytes) / link.bandwidth;
    const double part = product_seconds / n + machine.kernel_latency;
    return part + (n - 1) * std::max(hop, part) < product_seconds + whole;
  }

  const Graph& source_;
  const CollectiveMatmulOptions& options_;
  const Uses uses_;
  GraphRewriter rewriter_;
  Builder& builder_ = rewriter_.builder();
  std::map<Value, Ring> rings_;  // of gathers
  std::set<int> scattered_;                    // reduce_scatters whose product waits for them
};

}  // namespace

RingDirections ring_directions(std::string_view name) {
  if (name.empty() || name == "off") return RingDirections::none;
  if (name == "one_way") return RingDirections::one_way;
  if (name == "two_way") return RingDirections::two_way;
  throw_config_error("collective_matmul is \"", name, "\"; known: off, one_way, two_way");
}

Graph collective_matmul(const Graph& graph, const CollectiveMatmulOptions& options) {
  return options.directions == RingDirections::none ? graph : Rings(graph, options).run();
}

}  // namespace tessera

#include "launch/hlo/hlo_rank.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/base/error.h"
#include "core/runtime/thread_run.h"

namespace tessera {
namespace {

constexpr int64_t kPieceBytes = 8 << 20;  // of a shard on its way to rank 0

// What of a shard at `start` is no padding; `start` is pulled into the tensor.
Shape valid_part(const Shape& global, const Shape& shard, std::vector<int64_t>& start) {
  Shape valid = shard;
  for (int d = 0; d < shard.rank(); ++d) {
    int64_t& first = start[static_cast<size_t>(d)];
    first = std::min(first, global[d]);
    valid[d] = std::clamp<int64_t>(global[d] - first, 0, shard[d]);
  }
  return valid;
}

// One device for each different shard, the first that holds it.
std::vector<int> owners_of(const Sharding& sharding) {
  const Mesh& mesh = *sharding.mesh;
  AxisList all;
  for (int axis = 0; axis < mesh.rank(); ++axis) all.push_back(mesh.axis(axis));
  const AxisList unused = without(all, sharding.used_axes());
  std::vector<int> owners;
  for (int64_t device = 0; device < mesh.devices(); ++device)
    if (mesh.coordinate(device, unused) == 0) owners.push_back(static_cast<int>(device));
  return owners;
}

}  // namespace

HloRank::HloRank(const HloProgram& program, Backend& backend, World& world)
    : program_(program), backend_(backend), world_(world), store_(backend, &world) {
  executor_ = std::make_unique<Executor>(*program.compiled.executable, backend, &world, world.rank(), store_,
                                         ExecutorOptions{.check_uniform = true});
}

void HloRank::feed(const ProgramInputs& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) feed(inputs, static_cast<int>(i));
}

void HloRank::feed_overwritten(const ProgramInputs& inputs) {
  for (const GraphOutput& output : executor_->executable().graph.outputs)
    if (output.alias_input >= 0) feed(inputs, output.alias_input);
}

void HloRank::feed(const ProgramInputs& inputs, int index) {
  const Graph& graph = executor_->executable().graph;
  const Value value = graph.inputs[static_cast<size_t>(index)].value;
  const TensorView view = executor_->input(index);
  const Shape global = global_type(graph, value).shape;
  std::vector<int64_t> start = graph.sharding(value).shard_start(global, world_.rank());
  const Shape valid = valid_part(global, view.type.shape, start);
  HostTensor block = inputs.block(static_cast<size_t>(index), start, valid);
  if (valid != view.type.shape) {
    HostTensor padded(view.type);
    if (block.elements() > 0) padded.put(std::vector<int64_t>(start.size(), 0), block);
    block = std::move(padded);
  }
  backend_.copy_to_device(view.data, block.bytes().data(), view.type.bytes());
}

double HloRank::step() {
  world_.barrier();
  const auto start = std::chrono::steady_clock::now();
  executor_->run();
  backend_.synchronize();
  world_.barrier();
  // Where cores are few, a rank may wake up late from the first barrier: the longest time counts.
  const std::chrono::nanoseconds mine = std::chrono::steady_clock::now() - start;
  return static_cast<double>(world_.all_reduce_max(mine.count())) * 1e-9;
}

HostTensor HloRank::scalar(int output) const {
  const TensorView view = executor_->output(output);
  TESSERA_CHECK(view.type.rank() == 0, "output ", output, " is ", view.type);
  HostTensor value(view.type);
  backend_.copy_to_host(value.bytes().data(), view.data, view.type.bytes());
  return value;
}

HostTensor HloRank::gather(int index) {
  const Graph& graph = executor_->executable().graph;
  const Value value = graph.outputs[static_cast<size_t>(index)].value;
  const Sharding& sharding = graph.sharding(value);
  TESSERA_CHECK(!sharding.is_partial(), "output ", index, " lies as ", sharding);
  const TensorView mine = executor_->output(index);
  const TensorType global = global_type(graph, value);
  HostTensor whole(world_.rank() == 0 ? global : TensorType{global.dtype, {0}});
  HostTensor shard(mine.type);
  for (int owner : owners_of(sharding)) {
    receive(owner, mine, shard);
    if (world_.rank() != 0) continue;
    std::vector<int64_t> start = sharding.shard_start(global.shape, owner);
    const Shape valid = valid_part(global.shape, mine.type.shape, start);
    if (valid.elements() == 0) continue;
    const std::vector<int64_t> origin(start.size(), 0);
    whole.put(start, valid == mine.type.shape ? shard : shard.slice(origin, valid));
  }
  return whole;
}

// The shard of rank `from` to rank 0, in pieces; the others only take part.
void HloRank::receive(int from, const TensorView& mine, HostTensor& shard) {
  const int64_t bytes = mine.type.bytes();
  if (from == world_.rank()) backend_.copy_to_host(shard.bytes().data(), mine.data, bytes);
  if (from == 0) return;
  if (!everyone_) {
    std::vector<int> ranks(static_cast<size_t>(world_.size()));
    std::iota(ranks.begin(), ranks.end(), 0);
    everyone_ = world_.create_group(ranks, "outputs");
  }
  for (int64_t at = 0; at < bytes; at += kPieceBytes)
    everyone_->run({.kind = CollectiveKind::permute,
                    .input = shard.bytes().data() + at,
                    .output = shard.bytes().data() + at,
                    .dtype = DType::u8,
                    .shape = {std::min(kPieceBytes, bytes - at)},
                    .send_to = world_.rank() == from ? 0 : -1,
                    .receive_from = world_.rank() == 0 ? from : -1,
                    .tensor = "output"});
}

}  // namespace tessera

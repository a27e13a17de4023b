#include "launch/engine/state_store.h"

#include <algorithm>

#include "core/base/error.h"
#include "launch/checkpoint/crc32c.h"
#include "launch/engine/initial_shard.h"
#include "models/training_step.h"

namespace tessera {
namespace {

// "adamw.m/block.0.mlp.up.weight" -> the parameter's own name and its role in a checkpoint.
struct StateName {
  std::string parameter;
  std::string role;
};

StateName parse_state_name(const std::string& name) {
  const size_t slash = name.find('/');
  if (slash == std::string::npos) return {name, "parameter"};
  const std::string parameter = name.substr(slash + 1);
  if (name == models::names::first_moment(parameter)) return {parameter, "moment1"};
  if (name == models::names::second_moment(parameter)) return {parameter, "moment2"};
  return {parameter, "accumulator"};
}

}  // namespace

StateStore::StateStore(Backend& backend, World& world, std::vector<models::ParameterSpec> parameters,
                       std::span<const Executable* const> executables)
    : backend_(backend), device_(world.rank()), parameters_(std::move(parameters)), buffers_(backend, &world) {
  for (size_t i = 0; i < parameters_.size(); ++i) by_name_[parameters_[i].name] = i;
  buffers_.add_inputs(executables);
  for (const Executable* executable : executables) add_state(executable->graph);
}

const models::ParameterSpec& StateStore::parameter_of(const std::string& name) const {
  const auto found = by_name_.find(parse_state_name(name).parameter);
  TESSERA_CHECK(found != by_name_.end(), "state \"", name, "\" belongs to no parameter");
  return parameters_[found->second];
}

void StateStore::add_state(const Graph& graph) {
  for (const GraphInput& input : graph.inputs) {
    if (input.kind == InputKind::data || input.kind == InputKind::scalar) continue;
    const ResultInfo& info = graph.info(input.value);
    const Sharding& sharding = graph.sharding(input.value);
    const auto have = std::find_if(tensors_.begin(), tensors_.end(),
                                   [&](const Tensor& tensor) { return tensor.name == info.name; });
    if (have != tensors_.end()) {
      TESSERA_CHECK(have->sharding.same_layout(sharding), "\"", info.name, "\" lies as ", have->sharding,
                    " in one graph and as ", sharding, " in graph ", graph.name);
      continue;
    }
    Tensor tensor{info.name, input.kind, {}, info.type, sharding, buffers_.get(info.name)};
    const StateName name = parse_state_name(info.name);
    // Accumulators of loss and weight belong to no parameter; they are never saved.
    if (input.kind != InputKind::accumulator) {
      const models::ParameterSpec& spec = parameter_of(info.name);
      tensor.global = {info.type.dtype, spec.type.shape};
      tensor.logical = {info.name, name.role, tensor.global};
      if (spec.valid_rows >= 0) tensor.logical.type.shape[0] = spec.valid_rows;
    }
    tensors_.push_back(std::move(tensor));
  }
}

void StateStore::initialise_parameters(int64_t seed) {
  for (Tensor& tensor : tensors_) {
    if (tensor.kind != InputKind::parameter) continue;
    const HostTensor values = initial_shard(parameter_of(tensor.logical.name), seed,
                                            tensor.sharding.shard_start(tensor.global.shape, device_),
                                            tensor.view.type.shape);
    backend_.copy_to_device(tensor.view.data, values.bytes().data(), tensor.view.type.bytes());
  }
}

void StateStore::zero(InputKind kind) {
  for (Tensor& tensor : tensors_)
    if (tensor.kind == kind) backend_.zero(tensor.view.data, tensor.view.type.bytes());
}

std::string StateStore::differing_replica(World& world) const {
  // One line a tensor that has replicas: which shard, and its checksum.
  std::string mine;
  for (const Tensor& tensor : tensors_) {
    if (tensor.kind == InputKind::accumulator || tensor.sharding.replication() == 1) continue;
    HostTensor values(tensor.view.type);
    backend_.copy_to_host(values.bytes().data(), tensor.view.data, tensor.view.type.bytes());
    mine += cat(tensor.name, " [", join(tensor.sharding.shard_start(tensor.global.shape, device_), ","), "] ",
                crc32c(values.bytes().data(), values.bytes().size()), "\n");
  }
  std::map<std::string, std::pair<std::string, size_t>> seen;  // tensor and shard -> checksum, rank
  const std::vector<std::string> all = world.all_gather_text(mine);
  for (size_t rank = 0; rank < all.size(); ++rank)
    for (const std::string& line : split(all[rank], '\n')) {
      const size_t space = line.rfind(' ');
      if (space == std::string::npos) continue;
      const std::string shard = line.substr(0, space), checksum = line.substr(space + 1);
      const auto [first, is_new] = seen.try_emplace(shard, checksum, rank);
      if (!is_new && first->second.first != checksum)
        return cat(shard, " on ranks ", first->second.second, " and ", rank);
    }
  return "";
}

std::vector<TensorSpec> StateStore::specs() const {
  std::vector<TensorSpec> specs;
  for (const Tensor& tensor : tensors_)
    if (tensor.kind != InputKind::accumulator) specs.push_back(tensor.logical);
  return specs;
}

TensorTarget StateStore::target_of(const Tensor& tensor) {
  TensorTarget target{tensor.logical, tensor.sharding.shard_start(tensor.global.shape, device_),
                      tensor.view.type.shape};
  const TensorView view = tensor.view;
  if (backend_.is_host())
    target.data = view.as<std::byte>();
  else
    target.deliver = [this, view](const std::byte* box) {
      backend_.copy_to_device(view.data, box, view.type.bytes());
    };
  return target;
}

TensorSlice StateStore::slice_of(const Tensor& tensor) {
  TensorSlice slice{tensor.logical, tensor.sharding.shard_start(tensor.global.shape, device_),
                    tensor.view.type.shape};
  const TensorView view = tensor.view;
  if (backend_.is_host())
    slice.data = view.as<std::byte>();
  else
    slice.fetch = [this, view](std::byte* to, int64_t offset, int64_t bytes) {
      backend_.copy_to_host(to, view.as<std::byte>() + offset, bytes);
    };
  return slice;
}

std::vector<TensorTarget> StateStore::targets() {
  std::vector<TensorTarget> targets;
  for (Tensor& tensor : tensors_)
    if (tensor.kind != InputKind::accumulator)
      targets.push_back(target_of(tensor));
  return targets;
}

bool StateStore::owns(const Tensor& tensor) const {
  const Mesh& mesh = *tensor.sharding.mesh;
  AxisList all;
  for (int axis = 0; axis < mesh.rank(); ++axis) all.push_back(mesh.axis(axis));
  return mesh.coordinate(device_, without(all, tensor.sharding.used_axes())) == 0;
}

std::vector<TensorSlice> StateStore::owned_slices() {
  std::vector<TensorSlice> slices;
  for (Tensor& tensor : tensors_) {
    if (tensor.kind == InputKind::accumulator || !owns(tensor)) continue;
    slices.push_back(slice_of(tensor));
  }
  return slices;
}

}  // namespace tessera

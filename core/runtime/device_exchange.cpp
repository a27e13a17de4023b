#include "core/runtime/device_exchange.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "core/base/error.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/runtime/ordered_reduce.h"
#include "core/runtime/pad_regions.h"

namespace tessera {
namespace {

HostTensor combine(std::span<const HostTensor* const> parts, ReduceKind kind) {
  HostTensor result(parts[0]->type());
  std::vector<const std::byte*> sources;
  for (const HostTensor* part : parts) sources.push_back(part->bytes().data());
  std::byte* destination = result.bytes().data();
  ordered_reduce(sources, std::span(&destination, 1), result.elements(), result.dtype(), kind);
  return result;
}

// Tensors that combine to `whole`, the first of which makes up for the random others.
std::vector<HostTensor> split_partial(const HostTensor& whole, int64_t count, ReduceKind kind,
                                      uint64_t seed) {
  std::vector<HostTensor> parts(static_cast<size_t>(count), HostTensor(whole.type()));
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> unit(-1, 1);
  for (int64_t i = 0; i < whole.elements(); ++i) {
    if (!is_float(whole.dtype())) {
      // Integers: random addends for sum, everything on part 0 and ties elsewhere for max and min.
      int64_t rest = whole.get_int(i);
      for (size_t p = 1; p < parts.size(); ++p) {
        // A pred has no negative: its addends are zeros but for one.
        const int64_t addend = kind != ReduceKind::sum            ? whole.get_int(i)
                               : whole.dtype() == DType::pred ? (random() % 2 ? rest : 0)
                                                              : static_cast<int64_t>(random() % 17) - 8;
        parts[p].set_int(i, addend);
        if (kind == ReduceKind::sum) rest -= addend;
      }
      parts[0].set_int(i, rest);
      continue;
    }
    double rest = whole.get_real(i);
    const size_t owner = kind == ReduceKind::sum ? 0 : static_cast<size_t>(random() % parts.size());
    for (size_t p = 0; p < parts.size(); ++p) {
      if (p == owner) continue;
      const double noise = unit(random);
      const double value = kind == ReduceKind::sum   ? noise
                           : kind == ReduceKind::max ? whole.get_real(i) - std::abs(noise)
                                                     : whole.get_real(i) + std::abs(noise);
      parts[p].set_real(i, value);
      if (kind == ReduceKind::sum) rest -= parts[p].get_real(i);
    }
    parts[owner].set_real(i, rest);
  }
  return parts;
}

Shape global_shape(const Shape& local, const Sharding& sharding) {
  Shape global = local;
  for (int d = 0; d < global.rank(); ++d)
    global[d] *= size_of(sharding.dims[static_cast<size_t>(d)].axes);
  return global;
}

HostTensor block_of(const HostTensor& whole, int dim, int64_t blocks, int64_t block) {
  std::vector<int64_t> start(static_cast<size_t>(whole.shape().rank()), 0);
  Shape shape = whole.shape();
  shape[dim] /= blocks;
  start[static_cast<size_t>(dim)] = block * shape[dim];
  return whole.slice(start, shape);
}

HostTensor side_by_side(std::span<const HostTensor> parts, int dim) {
  TensorType type = parts[0].type();
  const int64_t step = type.shape[dim];
  type.shape[dim] *= static_cast<int64_t>(parts.size());
  HostTensor whole(type);
  std::vector<int64_t> start(static_cast<size_t>(type.rank()), 0);
  for (const HostTensor& part : parts) {
    whole.put(start, part);
    start[static_cast<size_t>(dim)] += step;
  }
  return whole;
}

// One exchange of the devices of a group after the other.
class Exchange {
 public:
  Exchange(const OpDef& op, const Attributes& attributes, const Mesh& mesh, const Shards& in,
           const Devices& devices)
      : op_(op), attributes_(attributes), mesh_(mesh), in_(in), devices_(devices) {}

  Shards run() const {
    Shards out(static_cast<size_t>(mesh_.devices()));
    for (int64_t device : devices_) out[static_cast<size_t>(device)] = result_on(device);
    return out;
  }

 private:
  bool is(const OpDef& op) const { return &op_ == &op; }
  int dim(Attr key) const { return static_cast<int>(attributes_.integer(key)); }
  ReduceKind kind() const { return attributes_.get<ReduceKind>(Attr::reduce_kind); }

  std::vector<const HostTensor*> group_of(int64_t device, const AxisList& axes) const {
    std::vector<const HostTensor*> group;
    for (int64_t member : mesh_.group(device, axes)) {
      if (!std::binary_search(devices_.begin(), devices_.end(), member))
        throw InternalError(cat(op_.name, " over {", print_axes(mesh_, axes), "} joins devices ",
                                device, " and ", member,
                                ", of which only one is here: the predicate of a loop or branch "
                                "around it differs between them"));
      group.push_back(&in_[static_cast<size_t>(member)]);
    }
    return group;
  }

  HostTensor result_on(int64_t device) const {
    const auto& axes = attributes_.get<AxisList>(Attr::axes);
    const int64_t n = size_of(axes), coordinate = mesh_.coordinate(device, axes);
    if (is(ops::kAxisIndex)) return HostTensor::of<int64_t>({}, std::span(&coordinate, 1));
    const HostTensor& own = in_[static_cast<size_t>(device)];
    if (is(ops::kAllSlice)) return block_of(own, dim(Attr::dimension), n, coordinate);
    if (is(ops::kReplicatedToPartial))
      return coordinate == 0
                 ? own
                 : HostTensor::filled(own.type(), ops::identity_of(kind(), own.dtype()));
    const std::vector<const HostTensor*> group = group_of(device, axes);
    if (is(ops::kShift)) return shifted(own, group, coordinate);
    if (is(ops::kAllReduce)) return combine(group, kind());
    if (is(ops::kReduceScatter))
      return block_of(combine(group, kind()), dim(Attr::dimension), n, coordinate);
    if (is(ops::kCollectivePermute)) {
      const int64_t sender =
          attributes_.has(Attr::sources)
              ? attributes_.ints(Attr::sources)[static_cast<size_t>(coordinate)]
              : mesh_.coordinate(device, attributes_.get<AxisList>(Attr::target_axes));
      return sender < 0 ? HostTensor::filled(own.type(), 0) : *group[static_cast<size_t>(sender)];
    }
    Shards parts;
    if (is(ops::kAllGather)) {
      for (const HostTensor* member : group) parts.push_back(*member);
      return side_by_side(parts, dim(Attr::dimension));
    }
    TESSERA_CHECK(is(ops::kAllToAll), "the interpreters do not know the collective ", op_.name);
    for (const HostTensor* member : group)
      parts.push_back(block_of(*member, dim(Attr::split_dimension), n, coordinate));
    return side_by_side(parts, dim(Attr::concat_dimension));
  }

  HostTensor shifted(const HostTensor& own, std::span<const HostTensor* const> group,
                     int64_t coordinate) const {
    const auto n = static_cast<int64_t>(group.size());
    int64_t sender = coordinate - attributes_.integer(Attr::shift);
    if (attributes_.flag(Attr::wrap)) sender = (sender + n) % n;
    return sender < 0 || sender >= n ? HostTensor::filled(own.type(), 0)
                                     : *group[static_cast<size_t>(sender)];
  }

  const OpDef& op_;
  const Attributes& attributes_;
  const Mesh& mesh_;
  const Shards& in_;
  const Devices& devices_;
};

}  // namespace

Devices all_devices(const Mesh& mesh) {
  Devices devices(static_cast<size_t>(mesh.devices()));
  std::iota(devices.begin(), devices.end(), 0);
  return devices;
}

bool is_exchange(const OpDef& op) {
  return op.communicates || &op == &ops::kAllSlice || &op == &ops::kReplicatedToPartial ||
         &op == &ops::kAxisIndex;
}

Shards exchange(const OpDef& op, const Attributes& attributes, const Mesh& mesh, const Shards& in,
                const Devices& devices) {
  return Exchange(op, attributes, mesh, in, devices).run();
}

Shards shard_over(const HostTensor& global, const Sharding& sharding, uint64_t seed,
                  const Devices& devices, const std::optional<Shape>& stored) {
  const Shape extents = stored ? *stored : sharding.padded_shape(global.shape());
  if (extents != global.shape()) {
    HostTensor padded({global.dtype(), extents});
    padded.put(std::vector<int64_t>(static_cast<size_t>(extents.rank()), 0), global);
    Shards shards = shard_over(padded, sharding, seed, devices, extents);
    for (int64_t device : devices)
      fill_padding(shards[static_cast<size_t>(device)], sharding, global.shape(), device,
                   garbage(global.dtype()));
    return shards;
  }
  const Mesh& mesh = *sharding.mesh;
  const std::vector<HostTensor> parts =
      sharding.is_partial()
          ? split_partial(global, size_of(sharding.partial), sharding.partial_kind, seed)
          : std::vector<HostTensor>{global};
  const Shape local = sharding.local_shape(extents);
  Shards shards(static_cast<size_t>(mesh.devices()));
  for (int64_t device : devices) {
    const int64_t part = sharding.is_partial() ? mesh.coordinate(device, sharding.partial) : 0;
    shards[static_cast<size_t>(device)] = parts[static_cast<size_t>(part)].slice(
        sharding.shard_start(global.shape(), device), local);
  }
  return shards;
}

HostTensor assemble_from(std::span<const HostTensor> shards, const Sharding& sharding,
                         const Devices& devices) {
  const Mesh& mesh = *sharding.mesh;
  TESSERA_CHECK(static_cast<int64_t>(shards.size()) == mesh.devices() && !devices.empty());
  const HostTensor& first = shards[static_cast<size_t>(devices[0])];
  const TensorType type{first.dtype(), global_shape(first.shape(), sharding)};
  std::vector<HostTensor> parts(static_cast<size_t>(size_of(sharding.partial)), HostTensor(type));
  std::map<std::pair<std::vector<int64_t>, int64_t>, int64_t> first_holder;
  for (int64_t device : devices) {
    const HostTensor& own = shards[static_cast<size_t>(device)];
    TESSERA_CHECK(own.type() == first.type(), "device ", device, " holds ", own.type(), ", device ",
                  devices[0], " ", first.type());
    const std::vector<int64_t> start = sharding.shard_start(type.shape, device);
    const int64_t part = sharding.is_partial() ? mesh.coordinate(device, sharding.partial) : 0;
    const auto [holder, is_new] = first_holder.try_emplace({start, part}, device);
    if (is_new)
      parts[static_cast<size_t>(part)].put(start, own);
    else
      TESSERA_CHECK(own == shards[static_cast<size_t>(holder->second)], "devices ", holder->second,
                    " and ", device, " should hold the same shard of ", type, " ", sharding,
                    ", but differ");
  }
  if (parts.size() == 1) return std::move(parts[0]);
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& part : parts) pointers.push_back(&part);
  return combine(pointers, sharding.partial_kind);
}

}  // namespace tessera

#include "partitioner/reshard_moves.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"

namespace tessera {

std::string_view name_of(MoveKind kind) {
  static constexpr std::array<std::string_view, 7> kNames = {
      "all_slice",  "all_gather",     "all_to_all",           "collective_permute",
      "all_reduce", "reduce_scatter", "replicated_to_partial"};
  return kNames[static_cast<size_t>(kind)];
}

std::string print_move(const ReshardMove& move) {
  const Mesh& mesh = *move.result.mesh;
  std::string text = cat(name_of(move.kind), "{");
  if (move.kind == MoveKind::all_to_all)
    text += cat("split=", move.dim, ", concat=", move.concat_dim, ", ");
  else if (move.dim >= 0)
    text += cat(move.dim, ", ");
  text += print_axes(mesh, move.axes);
  if (!move.target_axes.empty()) text += cat(" -> ", print_axes(mesh, move.target_axes));
  return text + "}";
}

double wire_bytes(MoveKind kind, int64_t local_bytes, int64_t group_size) {
  const double bytes = static_cast<double>(local_bytes), n = static_cast<double>(group_size);
  switch (kind) {
    case MoveKind::all_gather:
      return bytes * (n - 1);
    case MoveKind::all_to_all:
      return bytes * (n - 1) / n;
    case MoveKind::permute:
      return bytes;
    case MoveKind::all_reduce:
      return 2 * bytes * (n - 1) / n;
    case MoveKind::reduce_scatter:
      return bytes * (n - 1) / n;
    case MoveKind::slice:
    case MoveKind::replicated_to_partial:
      return 0;
  }
  return 0;
}

double move_seconds(MoveKind kind, int64_t local_bytes, const AxisList& axes, const Mesh& mesh,
                    const MachineModel& machine) {
  // A slice writes what it keeps; making a value partial costs coordinate 0 nothing.
  if (kind == MoveKind::replicated_to_partial) return machine.kernel_latency * 0.1;
  if (kind == MoveKind::slice)
    return machine.kernel_latency * 0.1 +
           static_cast<double>(local_bytes / size_of(axes)) / machine.memory_bandwidth;
  const Link link = machine.link(mesh, axes);
  return link.latency + wire_bytes(kind, local_bytes, size_of(axes)) / link.bandwidth;
}

Sharding apply_move(Sharding at, const ReshardMove& move, ReduceKind made) {
  auto dim = [&](int d) -> AxisList& { return at.dims[static_cast<size_t>(d)].axes; };
  auto cut = [&](int d) {
    // The suffix may end inside an axis of the list, so cut at common borders.
    AxisList whole = dim(d), suffix = move.axes;
    split_to_common(whole, suffix);
    whole.resize(whole.size() - suffix.size());
    dim(d) = canonical(whole);
  };
  switch (move.kind) {
    case MoveKind::slice:
      dim(move.dim) = concat(dim(move.dim), move.axes);
      break;
    case MoveKind::all_gather:
      cut(move.dim);
      break;
    case MoveKind::all_to_all:
      cut(move.concat_dim);
      dim(move.dim) = concat(dim(move.dim), move.axes);
      break;
    case MoveKind::all_reduce:
      at.partial = without(at.partial, move.axes);
      break;
    case MoveKind::reduce_scatter:
      at.partial = without(at.partial, move.axes);
      dim(move.dim) = concat(dim(move.dim), move.axes);
      break;
    case MoveKind::replicated_to_partial:
      if (at.partial.empty()) at.partial_kind = made;
      at.partial = concat(at.partial, move.axes);
      std::sort(at.partial.begin(), at.partial.end());
      at.partial = canonical(at.partial);
      break;
    case MoveKind::permute:
      break;  // the caller knows the dims
  }
  return at;
}

}  // namespace tessera

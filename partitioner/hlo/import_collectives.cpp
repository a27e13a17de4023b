// Collectives, which a program states inside manual regions only (manual_regions.h). Groups of
// devices become axes of the mesh, and every collective one of ours.
#include "core/base/error.h"
#include "core/ops/combiner.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "partitioner/hlo/collective_groups.h"
#include "partitioner/hlo/device_moves.h"
#include "partitioner/hlo/import_support.h"

namespace tessera::hlo {
namespace {

Ints ints_of(const Shape& shape) { return {shape.begin(), shape.end()}; }

// ---- The collectives as they are inside a manual computation: with their local shapes
// -------------

Value gather_along(Builder& b, Value x, int64_t dim, const AxisList& axes) {
  if (size_of(axes) == 1) return x;
  Shape shape = b.shape(x);
  shape[static_cast<int>(dim)] *= size_of(axes);
  return b.emit(ops::kAllGather, {x},
                {{Attr::dimension, dim}, {Attr::axes, axes}, {Attr::shape, ints_of(shape)}});
}

// Block i along `split` goes to coordinate i; what comes stands side by side along `concat`.
Value exchange_blocks(Builder& b, Value x, int64_t split, int64_t concat, const AxisList& axes) {
  Shape shape = b.shape(x);
  shape[static_cast<int>(split)] /= size_of(axes);
  shape[static_cast<int>(concat)] *= size_of(axes);
  return b.emit(ops::kAllToAll, {x},
                {{Attr::split_dimension, split},
                 {Attr::concat_dimension, concat},
                 {Attr::axes, axes},
                 {Attr::shape, ints_of(shape)}});
}

Shape with_leading(const Shape& shape, std::initializer_list<int64_t> leading) {
  Ints dims(leading);
  dims.insert(dims.end(), shape.begin(), shape.end());
  return Shape(dims);
}

// [n, ...]: what each coordinate along the axes has.
Value all_of_group(Builder& b, Value x, const AxisList& axes) {
  return gather_along(b, ops::reshape(b, x, with_leading(b.shape(x), {1})), 0, axes);
}

// Element number `axis_index` of a table.
Value own_entry(Builder& b, HostTensor table, const AxisList& axes) {
  const Value entry =
      ops::dynamic_slice(b, ops::constant(b, std::move(table)), {ops::axis_index(b, axes)}, {1});
  return ops::reshape(b, entry, Shape{});
}

// ---- What all have in common
// ------------------------------------------------------------------------

AxisList axes_of_groups(ImportContext& c, bool any_order = false) {
  return axes_of_replica_groups(own_devices(c.own_mesh(), c.mesh()), c.instruction(), any_order);
}

// Of to_apply; nullopt after it has been listed as unsupported.
std::optional<ReduceKind> combiner_kind(ImportContext& c) {
  const GraphRef region = flat_region(c, "to_apply");
  const std::optional<ReduceKind> kind = ops::as_reduce_kind(*region);
  if (!kind)
    c.unsupported(cat("combiner ", region->name, " of ", c.instruction().opcode,
                      " (known are add, multiply, maximum, minimum, and `and`, `or` of pred)"));
  return kind;
}

int64_t checked_dimension(ImportContext& c, Value x) {
  const Ints& dims = c.ints("dimensions");
  if (dims.size() != 1 || dims[0] < 0 || dims[0] >= c.builder().shape(x).rank())
    c.fail(
        cat(c.instruction().opcode, " needs dimensions={d} with one dim of ", c.builder().type(x)));
  return dims[0];
}

void check_divides(ImportContext& c, Value x, int64_t dim, int64_t devices) {
  if (c.builder().shape(x)[static_cast<int>(dim)] % devices != 0)
    c.fail(cat("dim ", dim, " of ", c.builder().type(x), " does not divide by the ", devices,
               " devices of a group"));
}

// ---- Opcodes
// ------------------------------------------------------------------------------------------

void import_all_reduce(ImportContext& c) {
  const AxisList axes = axes_of_groups(c, true);
  const std::optional<ReduceKind> kind = combiner_kind(c);
  if (!kind) return;
  Builder& b = c.builder();
  std::vector<Value> results;
  for (Value x : c.all_operands()) {
    ops::check_kind("all-reduce", *kind, b.type(x));
    results.push_back(size_of(axes) == 1 ? x
                                         : ops::all_reduce(b, x, axes, ops::numeric_kind(*kind)));
  }
  c.set(std::move(results));
}

void import_all_gather(ImportContext& c) {
  const AxisList axes = axes_of_groups(c);
  std::vector<Value> results;
  for (Value x : c.all_operands())
    results.push_back(gather_along(c.builder(), x, checked_dimension(c, x), axes));
  c.set(std::move(results));
}

void import_reduce_scatter(ImportContext& c) {
  const AxisList axes = axes_of_groups(c);
  const std::optional<ReduceKind> kind = combiner_kind(c);
  if (!kind) return;
  Builder& b = c.builder();
  const int64_t devices = size_of(axes);
  std::vector<Value> results;
  for (Value x : c.all_operands()) {
    const int64_t dim = checked_dimension(c, x);
    check_divides(c, x, dim, devices);
    ops::check_kind("reduce-scatter", *kind, b.type(x));
    Shape shape = b.shape(x);
    shape[static_cast<int>(dim)] /= devices;
    results.push_back(devices == 1 ? x
                                   : b.emit(ops::kReduceScatter, {x},
                                            {{Attr::dimension, dim},
                                             {Attr::axes, axes},
                                             {Attr::reduce_kind, ops::numeric_kind(*kind)},
                                             {Attr::shape, ints_of(shape)}}));
  }
  c.set(std::move(results));
}

// One array: n blocks along a dim, block i to device i, what comes stands along the same dim.
Value exchange_along(ImportContext& c, Value x, const AxisList& axes) {
  Builder& b = c.builder();
  const int64_t dim = checked_dimension(c, x), n = size_of(axes);
  check_divides(c, x, dim, n);
  if (n == 1) return x;
  const Shape shape = b.shape(x);
  Ints split;  // [..., n, 1, size / n, ...]
  for (int d = 0; d < shape.rank(); ++d) {
    if (d == dim) split.insert(split.end(), {n, 1});
    split.push_back(d == dim ? shape[d] / n : shape[d]);
  }
  const Value blocks = ops::reshape(b, x, Shape(split));
  return ops::reshape(b, exchange_blocks(b, blocks, dim, dim + 1, axes), shape);
}

// n arrays: the i-th to device i; results in the order of the senders.
std::vector<Value> exchange_arrays(ImportContext& c, const AxisList& axes) {
  Builder& b = c.builder();
  const std::vector<Value> xs = c.all_operands();
  const int64_t n = size_of(axes);
  if (static_cast<int64_t>(xs.size()) != n)
    c.fail(cat("all-to-all of ", xs.size(), " arrays among groups of ", n, " devices"));
  if (n == 1) return xs;
  const Shape shape = b.shape(xs[0]);
  std::vector<Value> rows;
  for (Value x : xs) {
    if (!(b.type(x) == b.type(xs[0])))
      c.fail(cat("all-to-all of ", b.type(xs[0]), " and ", b.type(x), "; all must be alike"));
    rows.push_back(ops::reshape(b, x, with_leading(shape, {1, 1})));
  }
  const Value all = exchange_blocks(b, ops::concatenate(b, rows, 0), 0, 1, axes);
  std::vector<Value> results;
  for (int64_t i = 0; i < n; ++i)
    results.push_back(ops::reshape(b, ops::slice_dim(b, all, 1, i, i + 1), shape));
  return results;
}

void import_all_to_all(ImportContext& c) {
  const AxisList axes = axes_of_groups(c);
  if (!c.instruction().find("dimensions")) return c.set(exchange_arrays(c, axes));
  std::vector<Value> results;
  for (Value x : c.all_operands()) results.push_back(exchange_along(c, x, axes));
  c.set(std::move(results));
}

// Zeros on the coordinates that receive nothing.
Value zero_unless_received(Builder& b, Value x, const DeviceMove& move, const AxisList& axes) {
  HostTensor receives({DType::pred, {static_cast<int64_t>(move.source.size())}});
  for (size_t i = 0; i < move.source.size(); ++i)
    receives.set_int(static_cast<int64_t>(i), move.source[i] >= 0 ? 1 : 0);
  return ops::select(b, own_entry(b, std::move(receives), axes), x, ops::zeros_like(b, x));
}

// Everyone sees all that the group has, and takes one of it.
Value take_from_all(Builder& b, Value x, const DeviceMove& move, const AxisList& axes) {
  HostTensor table({DType::s64, {static_cast<int64_t>(move.source.size())}});
  for (size_t i = 0; i < move.source.size(); ++i)
    table.set_int(static_cast<int64_t>(i), std::max<int64_t>(move.source[i], 0));
  const Shape shape = b.shape(x);
  const Value taken = ops::dynamic_slice_dim(b, all_of_group(b, x, axes), 0,
                                             own_entry(b, std::move(table), axes), 1);
  return ops::reshape(b, taken, shape);
}

Value moved(Builder& b, Value x, const DeviceMove& move, const OwnDevices& own) {
  const AxisList axes = own.in_program(move.axes);
  switch (move.kind) {
    case DeviceMove::Kind::none:
      return move.source[0] < 0 ? ops::zeros_like(b, x) : x;
    case DeviceMove::Kind::shift:
      if (move.places != 0) x = ops::shift(b, x, axes, move.places, move.wrap);
      break;
    case DeviceMove::Kind::relabel:
      x = ops::collective_permute(b, x, axes, own.in_program(move.target_axes));
      break;
    case DeviceMove::Kind::gather:
      x = take_from_all(b, x, move, axes);
      break;
  }
  return move.is_complete ? x : zero_unless_received(b, x, move, axes);
}

// collective-permute, and collective-broadcast from the first of each group to all of it.
void import_moves(ImportContext& c) {
  const OwnDevices own = own_devices(c.own_mesh(), c.mesh());
  const DeviceMove move = find_move(senders(own, c.instruction()), own.mesh);
  if (move.kind == DeviceMove::Kind::gather && c.instruction().opcode == "collective-permute")
    c.note(cat("collective-permute follows no axes of the mesh ", own.mesh,
               "; it is done as an "
               "all-gather over {",
               print_axes(own.mesh, move.axes), "}, which moves ", size_of(move.axes),
               " times the bytes"));
  std::vector<Value> results;
  for (Value x : c.all_operands()) results.push_back(moved(c.builder(), x, move, own));
  c.set(std::move(results));
}

void import_partition_id(ImportContext& c) {
  const OwnDevices own = own_devices(c.own_mesh(), c.mesh());
  Builder& b = c.builder();
  const AxisList axes = own.all_axes();
  const int64_t devices = own.mesh.devices();
  Value id = devices == 1 ? ops::constant(b, 0.0, {DType::s64, {}}) : Value{};
  if (devices > 1 && own.mesh.device_order().empty()) id = ops::axis_index(b, axes);
  if (devices > 1 && !own.mesh.device_order().empty()) {
    HostTensor order({DType::s64, {devices}});
    for (int64_t i = 0; i < devices; ++i)
      order.set_int(i, own.mesh.device_order()[static_cast<size_t>(i)]);
    id = own_entry(b, std::move(order), axes);
  }
  c.set({ops::convert(b, id, c.result_type().dtype)});
}

void import_replica_id(ImportContext& c) {
  if (c.module().replica_count.value_or(1) > 1)
    return c.unsupported(cat("replica_count=", *c.module().replica_count,
                             " (one program per partition is what there is)"));
  c.set({ops::constant(c.builder(), 0.0, c.result_type())});
}

constexpr OpcodeEntry kCollectiveOpcodes[] = {
    {"all-reduce", import_all_reduce},         {"all-gather", import_all_gather},
    {"reduce-scatter", import_reduce_scatter}, {"all-to-all", import_all_to_all},
    {"collective-permute", import_moves},      {"collective-broadcast", import_moves},
    {"partition-id", import_partition_id},     {"replica-id", import_replica_id},
};

}  // namespace

std::span<const OpcodeEntry> collective_opcodes() { return kCollectiveOpcodes; }

}  // namespace tessera::hlo

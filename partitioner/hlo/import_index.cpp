// Opcodes whose positions are data: dynamic slices, gather, scatter.
#include <algorithm>

#include "core/ops/combiner.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/gather.h"
#include "core/ops/index_map.h"
#include "core/ops/structure.h"
#include "partitioner/hlo/import_support.h"

namespace tessera::hlo {
namespace {

// One scalar per dim, all of one integer type. Older text has a vector of them as one operand.
std::vector<Value> starts_of(ImportContext& c, int first, int rank) {
  Builder& b = c.builder();
  std::vector<Value> starts;
  for (int i = first; i < c.operand_count(); ++i) starts.push_back(c.operand(i));
  if (starts.size() == 1 && b.shape(starts[0]).rank() == 1) {
    const Value vector = starts[0];
    const int64_t count = b.shape(vector)[0];
    starts.clear();
    for (int64_t d = 0; d < count && d < rank; ++d)
      starts.push_back(ops::reshape(b, ops::slice(b, vector, {d}, {d + 1}), {}));
    if (count != rank) c.fail(cat("start indices ", b.type(vector), " for a rank of ", rank));
  }
  if (static_cast<int>(starts.size()) != rank)
    c.fail(cat(starts.size(), " start indices for a rank of ", rank));
  const bool is_mixed = std::any_of(starts.begin(), starts.end(), [&](Value start) {
    return b.dtype(start) != b.dtype(starts[0]);
  });
  for (Value& start : starts) {
    if (b.shape(start).rank() != 0 || !is_integer(b.dtype(start)))
      c.fail(cat("the start index ", b.type(start), " is no scalar of integers"));
    if (is_mixed) start = ops::convert(b, start, DType::s64);
  }
  return starts;
}

void dynamic_slice(ImportContext& c) {
  const Value x = c.operand(0);
  const int rank = c.builder().shape(x).rank();
  const Ints sizes = c.ints_or_empty("dynamic_slice_sizes");
  if (static_cast<int>(sizes.size()) != rank)
    c.fail(cat("dynamic_slice_sizes={", join(sizes, ","), "} of ", c.builder().type(x)));
  const std::vector<Value> starts = starts_of(c, 1, rank);
  if (rank == 0) return c.set({x});
  c.set({ops::dynamic_slice(c.builder(), x, starts, sizes)});
}

void dynamic_update_slice(ImportContext& c) {
  const Value x = c.operand(0), update = c.operand(1);
  const int rank = c.builder().shape(x).rank();
  const std::vector<Value> starts = starts_of(c, 2, rank);
  if (rank == 0 && c.builder().type(x) == c.builder().type(update)) return c.set({update});
  c.set({ops::dynamic_update_slice(c.builder(), x, update, starts)});
}

void check_batching(const ImportContext& c, const ops::GatherDims& dims) {
  if (dims.operand_batching_dims.size() != dims.start_indices_batching_dims.size())
    c.fail(cat(dims.operand_batching_dims.size(), " batching dims of the operand, but ",
               dims.start_indices_batching_dims.size(), " of the indices"));
}

void gather(ImportContext& c) {
  expect_operands(c, 2);
  const ops::GatherDims dims{
      c.ints_or_empty("offset_dims"),           c.ints_or_empty("collapsed_slice_dims"),
      c.ints_or_empty("start_index_map"),       c.integer("index_vector_dim"),
      c.ints_or_empty("operand_batching_dims"), c.ints_or_empty("start_indices_batching_dims")};
  check_batching(c, dims);
  c.set(
      {ops::gather(c.builder(), c.operand(0), c.operand(1), dims, c.ints_or_empty("slice_sizes"))});
}

// ---- scatter ------------------------------------------------------------------------------------

bool is_replacement(const Graph& region) {
  return region.inputs.size() == 2 && region.outputs.size() == 1 &&
         region.outputs[0].value == region.inputs[1].value;
}

// XLA leaves out every window that does not lie wholly inside, StableHLO and kScatter only the
// elements outside. Windows of one element per indexed dim are the same in both; others are moved
// outside as a whole where a part of them is.
Value whole_windows(Builder& b, Value indices, const ops::IndexMap& map) {
  std::vector<int64_t> last(static_cast<size_t>(map.components()), 0), beyond = last;
  bool is_needed = false;
  for (int d = 0; d < map.operand.rank(); ++d) {
    const ops::IndexMap::Dim& dim = map.dims[static_cast<size_t>(d)];
    if (dim.component < 0) continue;
    last[static_cast<size_t>(dim.component)] = map.operand[d] - dim.size;
    beyond[static_cast<size_t>(dim.component)] = map.operand[d];
    is_needed = is_needed || dim.size > 1;
  }
  if (!is_needed) return indices;
  const Shape shape = b.shape(indices);
  const Value starts = ops::convert(b, indices, DType::s64);
  const Value limit = ops::by_component(b, last, map, shape);
  const Value is_inside =
      ops::logical_and(b, ops::compare(b, starts, ops::zeros_like(b, starts), CompareDirection::ge),
                       ops::compare(b, starts, limit, CompareDirection::le));
  return b.emit(ops::kSelect, {is_inside, starts, ops::by_component(b, beyond, map, shape)});
}

void scatter(ImportContext& c) {
  Builder& b = c.builder();
  const int count = c.operand_count() / 2;
  if (count == 0 || c.operand_count() != 2 * count + 1)
    c.fail(cat("scatter takes inputs, indices and as many updates, not ", c.operand_count(),
               " operands"));
  const ops::GatherDims dims{c.ints_or_empty("update_window_dims"),
                             c.ints_or_empty("inserted_window_dims"),
                             c.ints_or_empty("scatter_dims_to_operand_dims"),
                             c.integer("index_vector_dim"),
                             c.ints_or_empty("input_batching_dims"),
                             c.ints_or_empty("scatter_indices_batching_dims")};
  check_batching(c, dims);
  Attributes attributes = ops::scatter_attributes(dims);
  if (c.flag("unique_indices")) attributes.set(Attr::unique_indices, true);
  if (c.flag("indices_are_sorted")) attributes.set(Attr::indices_are_sorted, true);
  std::vector<Value> operands;
  for (int i = 0; i < c.operand_count(); ++i) operands.push_back(c.operand(i));
  const GraphRef region = flat_region(c, "to_apply");
  const std::optional<ReduceKind> kind =
      count == 1 && !is_replacement(*region) ? ops::as_reduce_kind(*region) : std::nullopt;
  if (kind)
    attributes.set(Attr::reduce_kind, *kind);
  else
    attributes.set(Attr::combiner, region);
  std::vector<TensorType> types;
  for (Value operand : operands) types.push_back(b.type(operand));
  Value& indices = operands[static_cast<size_t>(count)];
  indices = whole_windows(b, indices, ops::scatter_map({types, attributes}));
  c.set(results_of(b, b.emit(ops::kScatter, std::move(operands), attributes)));
}

}  // namespace

std::span<const OpcodeEntry> index_opcodes() {
  static constexpr OpcodeEntry kEntries[] = {
      {"dynamic-slice", dynamic_slice},
      {"dynamic-update-slice", dynamic_update_slice},
      {"gather", gather},
      {"scatter", scatter},
      {"rng-bit-generator", import_rng_bit_generator},
  };
  return kEntries;
}

}  // namespace tessera::hlo

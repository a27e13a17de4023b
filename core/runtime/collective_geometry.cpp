#include "core/runtime/collective_geometry.h"

#include <cstring>

#include "core/base/error.h"
#include "core/runtime/block_copy.h"
#include "core/runtime/ordered_reduce.h"

namespace tessera {
namespace {

void check_dim(const CollectiveCall& call, int dim) {
  TESSERA_CHECK(dim >= 0 && dim < call.shape.rank(), name_of(call.kind), " of '", call.tensor, "' ",
                call.dtype, call.shape, ": dim ", dim, " does not exist");
}

void check_divides(const CollectiveCall& call, int group_size) {
  TESSERA_CHECK(call.shape[call.split_dim] % group_size == 0, name_of(call.kind), " of '",
                call.tensor, "' ", call.dtype, call.shape, ": dim ", call.split_dim, " of size ",
                call.shape[call.split_dim], " does not divide over ", group_size, " ranks");
}

}  // namespace

void become_output_shape(Shape& shape, const CollectiveCall& call, int group_size) {
  switch (call.kind) {
    case CollectiveKind::all_reduce:
    case CollectiveKind::permute:
    case CollectiveKind::broadcast:
      return;
    case CollectiveKind::all_gather:
      check_dim(call, call.concat_dim);
      shape[call.concat_dim] *= group_size;
      return;
    case CollectiveKind::reduce_scatter:
      check_dim(call, call.split_dim);
      check_divides(call, group_size);
      shape[call.split_dim] /= group_size;
      return;
    case CollectiveKind::all_to_all:
      check_dim(call, call.split_dim);
      check_dim(call, call.concat_dim);
      check_divides(call, group_size);
      shape[call.split_dim] /= group_size;
      shape[call.concat_dim] *= group_size;
      return;
  }
}

Shape output_shape(const CollectiveCall& call, int group_size) {
  Shape shape = call.shape;
  become_output_shape(shape, call, group_size);
  return shape;
}

void CollectiveGeometry::assign(const CollectiveCall& call, int group_size) {
  kind = call.kind;
  dtype = call.dtype;
  reduce = call.reduce;
  split_dim = call.split_dim;
  concat_dim = call.concat_dim;
  element_bytes = size_of(call.dtype);
  input = call.shape;
  output = call.shape;
  become_output_shape(output, call, group_size);
  piece = call.shape;
  split_step = concat_step = 0;
  if (kind == CollectiveKind::all_to_all || kind == CollectiveKind::reduce_scatter) {
    piece[split_dim] /= group_size;
    split_step = piece[split_dim];
  }
  if (kind == CollectiveKind::all_to_all || kind == CollectiveKind::all_gather)
    concat_step = piece[concat_dim];
  if (kind == CollectiveKind::all_reduce || kind == CollectiveKind::reduce_scatter)
    check_reducible(dtype, reduce);
  start_.assign(static_cast<size_t>(input.rank()), 0);
  zero_.assign(static_cast<size_t>(input.rank()), 0);
}

void CollectiveGeometry::copy_piece(std::byte* output_data, const std::byte* input_data, int sender,
                                    int receiver) {
  if (kind == CollectiveKind::all_gather)
    return copy_dim_block(output_data, output, sender * concat_step, input_data, input, 0,
                          concat_dim, concat_step, element_bytes);
  if (kind != CollectiveKind::all_to_all) {
    if (output_data != input_data)
      std::memcpy(output_data, input_data, static_cast<size_t>(input_bytes()));
    return;
  }
  // start_ serves both sides, one after the other, so the input's start is folded into the pointer.
  int64_t inner = element_bytes;
  for (int dim = split_dim + 1; dim < input.rank(); ++dim) inner *= input[dim];
  start_[static_cast<size_t>(concat_dim)] = sender * concat_step;
  copy_block(output_data, output, start_, input_data + receiver * split_step * inner, input, zero_,
             piece, element_bytes);
  start_[static_cast<size_t>(concat_dim)] = 0;
}

void CollectiveGeometry::pack_piece(std::byte* message, const std::byte* input_data, int receiver) {
  if (split_step == 0) {
    std::memcpy(message, input_data, static_cast<size_t>(piece_bytes()));
    return;
  }
  copy_dim_block(message, piece, 0, input_data, input, receiver * split_step, split_dim, split_step,
                 element_bytes);
}

void CollectiveGeometry::unpack_piece(std::byte* output_data, const std::byte* message,
                                      int sender) {
  if (concat_step == 0) {
    std::memcpy(output_data, message, static_cast<size_t>(piece_bytes()));
    return;
  }
  copy_dim_block(output_data, output, sender * concat_step, message, piece, 0, concat_dim,
                 concat_step, element_bytes);
}

void CollectiveGeometry::reduce_pieces(std::byte* output_data,
                                       std::span<const std::byte* const> inputs, int receiver) {
  int64_t inner = 1, outer = 1;
  for (int dim = 0; dim < split_dim; ++dim) outer *= input[dim];
  for (int dim = split_dim + 1; dim < input.rank(); ++dim) inner *= input[dim];
  const int64_t run = split_step * inner;  // contiguous elements
  rows_.resize(inputs.size());
  for (int64_t row = 0; row < outer; ++row) {
    const int64_t from = (row * input[split_dim] * inner + receiver * run) * element_bytes;
    for (size_t i = 0; i < inputs.size(); ++i) rows_[i] = inputs[i] + from;
    std::byte* to = output_data + row * run * element_bytes;
    ordered_reduce(rows_, {&to, 1}, run, dtype, reduce);
  }
}

uint64_t CollectiveGeometry::signature(int root) const {
  uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&hash](int64_t value) {
    hash = (hash ^ static_cast<uint64_t>(value)) * 0x100000001b3u;
    hash ^= hash >> 29;
  };
  mix(static_cast<int64_t>(kind));
  mix(static_cast<int64_t>(dtype));
  for (const int64_t size : input) mix(size);
  if (kind == CollectiveKind::all_reduce || kind == CollectiveKind::reduce_scatter)
    mix(static_cast<int64_t>(reduce));
  if (split_step != 0) mix(split_dim);
  if (concat_step != 0) mix(100 + concat_dim);
  if (kind == CollectiveKind::broadcast) mix(root);
  return hash;
}

}  // namespace tessera

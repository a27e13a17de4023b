// Which block of whose input goes where in whose output: one description for all transports.
//
// A *piece* is what rank p's input holds for rank r's output. With shape [4, 6] on each of 2 ranks:
//
//     all_gather, concat_dim 1      piece [4, 6]    from [0, 0]       to [0, 6 p]    out [4, 12]
//     all_to_all, split 0, concat 1 piece [2, 6]    from [2 r, 0]     to [0, 6 p]    out [2, 12]
//     reduce_scatter, split_dim 0   piece [2, 6]    from [2 r, 0]     combined       out [2, 6]
//     all_reduce, permute, broadcast: the piece is the whole tensor
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/runtime/communicator.h"

namespace tessera {

struct CollectiveGeometry {
  CollectiveKind kind = CollectiveKind::all_reduce;
  DType dtype = DType::f32;
  ReduceKind reduce = ReduceKind::sum;
  int split_dim = 0, concat_dim = 0;
  int64_t element_bytes = 4;
  Shape input, output, piece;
  int64_t split_step = 0;   // elements of split_dim between the pieces of two receivers; 0: shared
  int64_t concat_step = 0;  // elements of concat_dim between the pieces of two senders

  // Refills this description, reusing its memory. InternalError where `call` makes no sense.
  void assign(const CollectiveCall& call, int group_size);

  int64_t input_bytes() const { return input.elements() * element_bytes; }
  int64_t output_bytes() const { return output.elements() * element_bytes; }
  int64_t piece_bytes() const { return piece.elements() * element_bytes; }

  // Rank `sender`'s piece for `receiver`, from the sender's whole input to the receiver's output.
  void copy_piece(std::byte* output_data, const std::byte* input_data, int sender, int receiver);
  // The same in two steps through a dense message of piece_bytes().
  void pack_piece(std::byte* message, const std::byte* input_data, int receiver);
  void unpack_piece(std::byte* output_data, const std::byte* message, int sender);
  // reduce_scatter: combines the pieces for `receiver` in the given inputs, in order.
  void reduce_pieces(std::byte* output_data, std::span<const std::byte* const> inputs,
                     int receiver);

  // The same on every rank that calls the same collective on the same shape.
  uint64_t signature(int root) const;

 private:
  std::vector<int64_t> start_, zero_;
  std::vector<const std::byte*> rows_;
};

// Turns the shape of an input into the shape of the output. InternalError where it cannot be.
void become_output_shape(Shape& shape, const CollectiveCall& call, int group_size);

}  // namespace tessera

// The steps whose result depends on which device runs them and that move no bytes over a wire.
#pragma once

#include <span>

#include "core/ir/graph.h"
#include "core/runtime/backend.h"

namespace tessera {

// axis_index, all_slice or replicated_to_partial, for the device at `coordinate` along the
// instruction's axes, in the backend's order of work. Allocates nothing.
void compute_rank_data(Backend& backend, const Instruction& instruction, int64_t coordinate,
                       std::span<const TensorView> operands, const TensorView& result);

// Which group ranks a device sends to and receives from in a collective_permute; -1: none, which only
// `sources` can say. With U the axes of the group, the device with coordinate a on `axes` and r on
// the rest of U sends to the one with a on `target_axes` and r on what U has beside those.
struct PermuteRoute {
  int send_to = -1;
  int receive_from = -1;
};
PermuteRoute permute_route(const Mesh& mesh, const AxisList& group, const Attributes& permute,
                           int64_t device);

}  // namespace tessera

// Several meshes in one program: what is annotated over another mesh of the same devices (in another
// order, or with other axes) is partitioned over the program's own, and only at the program's boundary
// do tiles move to the devices that the other mesh names.
//
//     %0 = parameter : f32[8,4] [{x}, {}] on <x=4, device_order=[0,3,1,2]>
//                            -> parameter : [{x}, {}] on <...>, then collective_permute{a,b} to [{a,b}, {}]
//
// Between, which device holds which tile of a value cannot be told from outside, so that an annotation
// over another mesh says only how the value is tiled, and a manual computation over another mesh only
// how many coordinates it has along its axes:
//
//     manual_computation over x of <x=4> { all_reduce{x} }
//                            -> manual_computation over a, b of <a=2, b=2> { all_reduce{a,b} }
#pragma once

#include <map>

#include "core/ir/graph.h"

namespace tessera {

// Inputs and outputs that lie over other meshes, by their number.
struct ForeignBoundary {
  struct Lying {
    Sharding outside, inside;  // the same tiles
  };
  std::map<size_t, Lying> inputs, outputs;
};

// Before anything else: all shardings over `mesh`. An input or output over another mesh is closed. An
// output that overwrites such an input lies as it. Throws ConfigError where a mesh has another number
// of devices.
Graph onto_one_mesh(const Graph& graph, const MeshPtr& mesh, ForeignBoundary& boundary);

// After localize: inputs and outputs lie as they were annotated.
Graph restore_boundary(const Graph& local, const ForeignBoundary& boundary);

}  // namespace tessera

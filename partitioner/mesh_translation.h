// From another mesh of the same devices to the program's: whatever lies over the one can lie over the
// other in the same tiles, held by other devices.
//
//     <x=4> -> <a=2, b=2>                                 {x} is {a,b}, every tile where it was
//     <a=2, b=2, device_order=[0,2,1,3]> -> <a=2, b=2>    {a} is {b} and {b} is {a}
//     <a=4, device_order=[0,1,3,2]> -> <a=4>              {a} is {a}, tiles 2 and 3 change places
//
// Both meshes are cut into atoms of prime size. As they have the same devices they have the same
// atoms, and each atom is taken for one of its size: for the one along which all devices stand where they
// did (if so for all of its axis), else for its namesake, else for the one along which most do.
#pragma once

#include <map>
#include <span>

#include "core/ir/attributes.h"
#include "core/mesh/sharding.h"

namespace tessera {

class MeshTranslation {
 public:
  // `used`: shardings over `other` that will be translated. Throws ConfigError where the meshes have
  // other numbers of devices, or where sub-axes of one axis cut it in ways that do not nest.
  MeshTranslation(const Mesh& other, MeshPtr home, std::span<const Sharding> used);

  // The same tiles over the program's mesh.
  Sharding translate(const Sharding& sharding) const;
  // The axes along which as many coordinates stand in the same order.
  AxisList translate(const AxisList& axes) const;

 private:
  MeshPtr home_;
  std::map<AxisRef, AxisRef> atoms_;  // of the other mesh
};

// How tiles get from the devices that hold them under `from` to those that hold them under `to`, of
// which each is over `home` or a translation away from it: the `sources` of a collective_permute over
// all axes of `home`. Empty where every tile is where it should be.
Ints relabelling(const Sharding& from, const Sharding& to, const Mesh& home);

// All axes of a mesh.
AxisList axes_of(const Mesh& mesh);

}  // namespace tessera

// collective-permute: who sends to whom, as moves along axes of the mesh.
//
//     {{0,1},{1,2},{2,3}}             shift by 1 along the axis; device 0 receives nothing
//     {{0,1},{1,2},{2,3},{3,0}}       the same, wrapped
//     {{0,0},{1,2},{2,1},{3,3}}       on <a=2, b=2>: what stands at (a, b) goes to (b, a)
//     {{0,1}}                         a shift that only device 1 takes part in
//     anything else                   everyone sees all, and takes its own
#pragma once

#include <optional>
#include <vector>

#include "core/mesh/mesh.h"

namespace tessera::hlo {

struct DeviceMove {
  enum class Kind : uint8_t { none, shift, relabel, gather };
  Kind kind = Kind::none;  // none: nobody receives anything but from itself
  AxisList axes;           // along which it happens; the same on all other coordinates
  int64_t places = 0;      // shift
  bool wrap = false;       // shift
  AxisList target_axes;    // relabel
  // By coordinate along `axes`: where what it has comes from, -1: nowhere. `is_complete`: the move
  // itself gives just that; else what comes in on a coordinate of -1 must be made zero.
  std::vector<int64_t> source;
  bool is_complete = true;
};

// `source[d]`: the device that d receives from, or -1.
DeviceMove find_move(const std::vector<int64_t>& source, const Mesh& mesh);

}  // namespace tessera::hlo

// Arrangements of devices as HLO writes them: a list, or arange(n) reshaped, transposed, reshaped:
// [4,2]<=[2,4]T(1,0).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::hlo {

struct DeviceList {
  std::vector<int64_t> dims;       // of the arrangement: tile dims, or [groups, size]
  bool is_iota = true;
  std::vector<int64_t> reshape;    // iota: arange(product) reshaped to this ...
  std::vector<int64_t> transpose;  // ... transposed by this (empty: not) and reshaped to dims
  std::vector<int64_t> list;       // not iota: the devices in row-major order of dims

  int64_t devices() const;         // product of dims
  std::vector<int64_t> expand() const;  // the devices in row-major order
  bool operator==(const DeviceList&) const = default;
};

// Named notation: mesh['a'=2,'b'=4] with device_ids, and axes 'a' or parts 'b':(2)2.
struct NamedAxis {
  std::string name;
  int64_t pre = 1;
  int64_t size = 0;  // 0: the whole axis
  bool operator==(const NamedAxis&) const = default;
};
struct NamedMesh {
  std::string name;  // "mesh", or what stands before the bracket
  std::vector<NamedAxis> axes;         // pre 1, size set
  std::optional<DeviceList> device_ids;  // unset: in order
  int64_t maximal_device = -1;         // maximal_mesh[device_id=5]
  bool operator==(const NamedMesh&) const = default;
};

}  // namespace tessera::hlo

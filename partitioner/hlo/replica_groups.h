// Which devices meet in a collective: {{0,1},{2,3}}, [2,2]<=[4], [2,2]<=[2,2]T(1,0), or named by
// mesh axes, mesh['x'=2,'y'=2] {'y'}.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "partitioner/hlo/device_list.h"

namespace tessera::hlo {

struct ReplicaGroups {
  enum class Kind : uint8_t { lists, iota, named };
  Kind kind = Kind::lists;
  std::vector<std::vector<int64_t>> lists;  // empty: all devices in one group
  DeviceList iota;                          // dims [groups, group size]
  std::optional<NamedMesh> mesh;            // named
  std::vector<NamedAxis> axes;

  // The groups, spelled out for `devices` devices.
  std::vector<std::vector<int64_t>> expand(int64_t devices) const;
  bool operator==(const ReplicaGroups&) const = default;
};

// Throw UserError that shows the text and the place.
ReplicaGroups parse_replica_groups(std::string_view text);
std::string print(const ReplicaGroups& groups);

}  // namespace tessera::hlo

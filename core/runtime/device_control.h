// Loops and branches as the reference interpreters run them: on many devices at once, of which each
// may turn as often, and take the arm, as its own values say.
#pragma once

#include <functional>
#include <vector>

#include "core/runtime/device_exchange.h"

namespace tessera {

struct DeviceControl {
  // Runs a region on some devices; the results of the others are left empty.
  std::function<std::vector<Shards>(const Graph&, const std::vector<Shards>&, const Devices&)> run;
  // Those of `among` for whose integer or pred `is_way` holds.
  std::function<Devices(const Shards& ways, const Devices& among,
                        const std::function<bool(int64_t)>& is_way)>
      choose;
};

// Results of a `while` and a `case` with these attributes, of the devices that take part. Throws
// UserError where a loop goes on after its trip_count.
std::vector<Shards> run_loop(const DeviceControl& control, const Attributes& attributes,
                             std::vector<Shards> carried, const Devices& devices);
std::vector<Shards> run_branch(const DeviceControl& control, const Attributes& attributes,
                               std::vector<Shards> operands, const Devices& devices);

}  // namespace tessera

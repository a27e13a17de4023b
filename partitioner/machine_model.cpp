#include "partitioner/machine_model.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"

namespace tessera {

bool MachineModel::crosses_hosts(const Mesh& mesh, AxisRef ref) const {
  if (mesh.devices() <= devices_per_host) return false;
  // Neighbours along the part are `stride` apart, and a group spans stride * size devices.
  int64_t stride = 1;
  for (int a = ref.axis + 1; a < mesh.rank(); ++a)
    stride *= mesh.axes()[static_cast<size_t>(a)].size;
  stride *= mesh.axes()[static_cast<size_t>(ref.axis)].size / (ref.pre * ref.size);
  return devices_per_host % (stride * ref.size) != 0;
}

Link MachineModel::link(const Mesh& mesh, const AxisList& axes) const {
  Link slowest{0, std::numeric_limits<double>::infinity()};
  for (const AxisRef& axis : axes) {
    const Link& one = crosses_hosts(mesh, axis) ? between_hosts : inside_host;
    slowest.latency = std::max(slowest.latency, one.latency);
    slowest.bandwidth = std::min(slowest.bandwidth, one.bandwidth);
  }
  return slowest;
}

namespace {

// Figures are round numbers from vendors' data sheets, derated to what collectives reach.
const std::vector<MachineModel>& profiles() {
  static const std::vector<MachineModel> kProfiles = {
      {"cpu-shm", 6e10, 6e10, 1e10, 2e-6, 64, {5e-6, 5e9}, {5e-5, 1e9}},
      {"cpu-cluster", 4e12, 2e12, 2e11, 2e-6, 8, {5e-6, 2e10}, {3e-5, 1e10}},
      {"a100-nvlink-ib", 2e14, 1.5e13, 1.5e12, 4e-6, 8, {1e-5, 2.4e11}, {2.5e-5, 2.2e10}},
      {"h100-nvlink-ib", 4.5e14, 5e13, 3e12, 4e-6, 8, {1e-5, 3.6e11}, {2.5e-5, 4.5e10}},
  };
  return kProfiles;
}

}  // namespace

std::vector<std::string> machine_model_names() {
  std::vector<std::string> names;
  for (const MachineModel& model : profiles()) names.push_back(model.name);
  return names;
}

MachineModel machine_model(std::string_view name) {
  for (const MachineModel& model : profiles())
    if (model.name == name) return model;
  throw_config_error("there is no machine profile \"", name,
                     "\"; known profiles: ", join(machine_model_names()));
}

}  // namespace tessera

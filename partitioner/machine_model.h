// What the cost model believes of a machine: how fast a device computes, and how fast mesh axes
// are.
//
// An axis of the mesh is as fast as its slowest hop: devices are numbered row-major over the mesh
// and hosts hold `devices_per_host` consecutive ones, so an axis stays inside a host exactly when
// all its groups do. Costs decide between plans; they are not promises (see docs/partitioner.md).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/mesh/mesh.h"
#include "core/types/dtype.h"

namespace tessera {

struct Link {
  double latency = 0;    // seconds per collective
  double bandwidth = 1;  // bytes per second that one device sends (and receives)
};

struct MachineModel {
  std::string name;
  double flops_narrow = 1;      // per second of one device, matrix products in 16 bits ...
  double flops_f32 = 1;         // ... and in 32; f64 counts as half of that
  double memory_bandwidth = 1;  // bytes per second of one device
  double kernel_latency = 0;    // seconds per kernel
  int64_t devices_per_host = 1;
  Link inside_host;
  Link between_hosts;
  // What part of a gradient's reduction costs time: the rest runs beside the backward pass, and
  // with accumulation it happens once for many microbatches.
  double exposed_gradients = 0.1;

  double flops(DType dtype) const {
    return size_of(dtype) < 4 ? flops_narrow : size_of(dtype) == 4 ? flops_f32 : flops_f32 / 2;
  }
  bool crosses_hosts(const Mesh& mesh, AxisRef axis) const;
  // The slowest of the axes: least bandwidth, most latency. An empty list costs nothing.
  Link link(const Mesh& mesh, const AxisList& axes) const;
};

// "cpu-shm" (ranks of one host), "cpu-cluster", "a100-nvlink-ib", "h100-nvlink-ib".
// Throws ConfigError naming the known ones.
MachineModel machine_model(std::string_view name);
std::vector<std::string> machine_model_names();

}  // namespace tessera

#include "kernels/cuda/backend/placement.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/strings.h"
#include "kernels/cuda/backend/device_info.h"

namespace tessera::cuda {
namespace {

std::vector<int> read_cpu_list(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  return parse_cpu_list(text);
}

// More CPUs than a cpu_set_t holds are left alone.
std::vector<int> allowed_cpus() {
  cpu_set_t set;
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

// All threads of the process: those of MPI exist already, and new ones inherit.
void keep_to(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus)
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  std::error_code ignored;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    const std::string name = task.path().filename();
    int thread = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), thread).ec == std::errc())
      (void)sched_setaffinity(thread, sizeof set, &set);
  }
}

void keep_near(int numa_node) {
  if (numa_node < 0) return;
  const std::vector<int> allowed = allowed_cpus();
  if (allowed.empty() || allowed != read_cpu_list("/sys/devices/system/cpu/online")) return;
  const std::vector<int> near = read_cpu_list(cat("/sys/devices/system/node/node", numa_node, "/cpulist"));
  if (near.empty() || near.size() >= allowed.size()) return;
  keep_to(near);
  log_debug("kept to the CPUs ", print_cpu_list(near), " of NUMA node ", numa_node);
}

}  // namespace

std::vector<int> parse_cpu_list(const std::string& text) {
  std::vector<int> cpus;
  for (const std::string& range : split(text, ',')) {
    const char* const end = range.data() + range.size();
    int first = 0, last = 0;
    const auto [middle, error] = std::from_chars(range.data(), end, first);
    if (error != std::errc()) return {};
    last = first;
    if (middle != end && *middle == '-' && std::from_chars(middle + 1, end, last).ec != std::errc()) return {};
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

std::string print_cpu_list(const std::vector<int>& cpus) {
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    text += cat(i == 0 ? "" : ",", cpus[i], last > i ? cat("-", cpus[last]) : "");
    i = last + 1;
  }
  return text;
}

int place_rank(World& world) {
  const std::vector<DeviceInfo> devices = list_devices();
  if (devices.empty())
    throw_user_error("CUDA: rank ", world.rank(), " on host ", world.host_name(),
                     " sees no GPU (CUDA_VISIBLE_DEVICES may hide those of the machine)");
  const int device = world.local_rank() % static_cast<int>(devices.size());
  if (!world.shares_process()) keep_near(devices[static_cast<size_t>(device)].numa_node);
  return device;
}

std::string placement_table(World& world, int device) {
  const std::vector<DeviceInfo> devices = list_devices();
  TESSERA_CHECK(device >= 0 && static_cast<size_t>(device) < devices.size(), "device ", device);
  const DeviceInfo& info = devices[static_cast<size_t>(device)];
  const auto known = [](int node) { return node < 0 ? std::string("-") : cat(node); };
  std::vector<std::vector<std::string>> rows = {
      {"host", "rank", "GPU", "PCI bus", "NUMA node", "CPUs", "name"}};
  const std::string own = cat(world.host_name(), '\t', world.rank(), '\t', info.index, '\t', info.pci_bus, '\t',
                              known(info.numa_node), '\t', print_cpu_list(allowed_cpus()), '\t', info.name);
  for (const std::string& line : world.all_gather_text(own)) rows.push_back(split(line, '\t'));
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows)
    for (size_t c = 0; c < row.size() && c < widths.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  std::string table;
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size() && c < widths.size(); ++c) {
      line += row[c];
      if (c + 1 < row.size()) line.append(widths[c] - row[c].size() + 2, ' ');
    }
    table += line + "\n";
  }
  return table;
}

}  // namespace tessera::cuda

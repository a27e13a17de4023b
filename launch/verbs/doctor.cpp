#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "kernels/comm/mpi_world.h"
#include "kernels/cpu/library_info.h"
#include "kernels/cuda/plugin/open.h"
#include "launch/trainer/provenance.h"
#include "launch/verbs/verbs.h"

namespace tessera {
namespace {

enum class Health { good, warning, bad };

struct Finding {
  Health health;
  std::string subject;
  std::string text;
  std::string advice;  // what to do; "" when good
};

Finding processor() {
  const std::string lacking = cpu::missing_instructions();
  if (!lacking.empty())
    return {Health::bad, "processor",
            cat("lacks ", lacking, ", which the kernels were compiled for"),
            "build on this machine, or with -DTESSERA_NATIVE=OFF"};
  return {Health::good, "processor",
          cat(std::thread::hardware_concurrency(), " cores, kernels use ", cpu::instruction_set()), ""};
}

Finding memory() {
  const double bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  return {Health::good, "memory", human_bytes(bytes), ""};
}

Finding mpi() {
  const std::string library = mpi_library_version();
  if (library == "none")
    return {Health::warning, "MPI", "built without MPI: one process only",
            "install Open MPI (libopenmpi-dev openmpi-bin) and build again; --virtual-devices needs none"};
  return {Health::good, "MPI", cat(library, " (", mpi_library_path(), ")"), ""};
}

std::string find_on_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  for (const std::string& folder : split(path ? path : "", ':'))
    if (access((folder + "/" + program).c_str(), X_OK) == 0) return folder + "/" + program;
  return "";
}

Finding launcher() {
  for (const char* name : {"mpirun", "mpiexec", "srun"})
    if (const std::string found = find_on_path(name); !found.empty())
      return {Health::good, "launcher", found, ""};
  return {Health::warning, "launcher", "no mpirun, mpiexec or srun on PATH",
          "install openmpi-bin, or load the site's MPI module"};
}

// Ranks of a host read each other's buffers through memfd, or through files in /dev/shm.
Finding shared_memory() {
  struct statvfs room {};
  const bool has_shm = statvfs("/dev/shm", &room) == 0;
  const double bytes = has_shm ? static_cast<double>(room.f_bavail) * static_cast<double>(room.f_frsize) : 0;
  const int descriptor = memfd_create("tessera-doctor", MFD_CLOEXEC);
  if (descriptor >= 0) close(descriptor);
  const std::string shm = has_shm ? cat(human_bytes(bytes), " free in /dev/shm") : "no /dev/shm";
  if (descriptor >= 0) return {Health::good, "shared memory", cat("memfd works; ", shm), ""};
  if (bytes > 256e6) return {Health::good, "shared memory", cat("no memfd; ", shm), ""};
  return {Health::warning, "shared memory", cat("no memfd and ", shm),
          "start the container with a larger --shm-size; collectives go through MPI, several times slower"};
}

// What of CUDA is here: devices, and the plugin that uses them.
Finding gpu() {
  const bool has_device = std::filesystem::exists("/dev/nvidia0");
  const auto lacking = [&](const std::string& why) {
    return Finding{has_device ? Health::warning : Health::good, "GPU",
                   cat(has_device ? "a device is here, but " : "none; runs on the CPU. ", why),
                   has_device ? "runs on the CPU until then" : ""};
  };
  try {
    const cuda::Plugin& plugin = cuda::open_plugin();
    const std::string libraries = cat(cuda::plugin_path(), ": ", join(plugin.versions()));
    try {
      const std::vector<cuda::DeviceInfo> devices = plugin.devices();
      if (devices.empty()) return lacking(cat("no CUDA device is visible (", libraries, ")"));
      std::string text;
      for (const cuda::DeviceInfo& device : devices)
        text += cat(text.empty() ? "" : "; ", device.index, " ", device.name, ", ",
                    human_bytes(static_cast<double>(device.memory_bytes)), ", compute capability ", device.major, ".",
                    device.minor);
      return {Health::good, "GPU", cat(text, " (", libraries, "); --device cuda uses it"), ""};
    } catch (const UserError& error) {
      return lacking(cat(error.what(), " (", libraries, ")"));
    }
  } catch (const UserError& error) {
    return lacking(error.what());
  }
}

const char* mark(Health health) {
  switch (health) {
    case Health::good: return "ok  ";
    case Health::warning: return "warn";
    case Health::bad: return "BAD ";
  }
  return "";
}

}  // namespace

int run_doctor(const DoctorArguments& arguments) {
  const std::vector<Finding> findings = {processor(), memory(), mpi(), launcher(), shared_memory(), gpu()};
  bool bad = false;
  nlohmann::json report = {{"findings", nlohmann::json::array()}, {"libraries", library_versions()}};
  std::string text = version_text() + "\n";
  for (const Finding& finding : findings) {
    bad |= finding.health == Health::bad;
    text += cat(mark(finding.health), "  ", finding.subject, ": ", finding.text,
                finding.advice.empty() ? "" : cat(" -> ", finding.advice), "\n");
    report["findings"].push_back({{"health", std::string(trim(mark(finding.health)))}, {"subject", finding.subject},
                                  {"text", finding.text}, {"advice", finding.advice}});
  }
  if (arguments.json != "-") std::cout << text << std::flush;
  if (!arguments.json.empty()) write_report(arguments.json, report.dump(2));
  return bad ? 1 : 0;
}

}  // namespace tessera

#include "launch/trainer/provenance.h"

#include <google/protobuf/stubs/common.h>

#include "core/base/version.h"
#include "kernels/comm/mpi_world.h"
#include "kernels/cpu/library_info.h"
#include "launch/config/load.h"

namespace tessera {

std::map<std::string, std::string> library_versions() {
  return {
      {"mpi", mpi_library_version()},
      {"onednn", cpu::onednn_version()},
      {"protobuf", google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION)},
      {"spdlog", log_library_version()},
  };
}

std::string version_text() {
  std::string text = cat("tessera ", version(), " (commit ", source_commit(), ", ", compiler(), ")");
  for (const auto& [library, number] : library_versions()) text += cat("\n  ", library, " ", number);
  return text;
}

CheckpointInfo provenance(const CompiledJob& job) {
  CheckpointInfo info;
  info.seed = job.config.train.seed;
  info.config_text = effective_text(job.config);
  info.commit = std::string(source_commit());
  info.libraries = library_versions();
  info.determinism = {{"threads", cat(job.config.train.threads)},
                      {"instruction_set", cpu::instruction_set()},
                      {"compiler", std::string(compiler())}};
  for (const MeshAxis& axis : job.mesh->axes()) info.mesh.emplace_back(axis.name, axis.size);
  return info;
}

}  // namespace tessera

#include "launch/checkpoint/inspect.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/types/host_tensor.h"

namespace tessera {
namespace {

// One stored slice at a time, so that a checkpoint larger than the memory can be inspected.
double norm_of(CheckpointReader& checkpoint, const TensorRecord& record) {
  double sum = 0;
  for (const SliceRecord& slice : record.slices) {
    HostTensor block({record.tensor.type.dtype, slice.box.shape});
    checkpoint.read({record.tensor, slice.box.start, slice.box.shape, block.bytes().data()});
    for (int64_t i = 0; i < block.elements(); ++i) sum += std::norm(block.get_real(i));
  }
  return std::sqrt(sum);
}

}  // namespace

CheckpointReport inspect_checkpoint(CheckpointReader& checkpoint, bool norms) {
  CheckpointReport report{checkpoint.path(), checkpoint.info(), {}, checkpoint.bytes(), 0};
  for (const TensorRecord& record : checkpoint.tensors()) {
    TensorReport line{record.tensor, static_cast<int64_t>(record.slices.size()), std::nullopt};
    if (norms && is_float(record.tensor.type.dtype)) line.norm = norm_of(checkpoint, record);
    if (record.tensor.role == "parameter") report.parameters += record.tensor.type.elements();
    report.tensors.push_back(std::move(line));
  }
  if (norms) checkpoint.verify();
  return report;
}

std::string describe(const CheckpointReport& report) {
  const CheckpointInfo& info = report.info;
  std::vector<std::string> mesh;
  for (const auto& [name, size] : info.mesh) mesh.push_back(cat(name, "=", size));
  std::string text =
      cat(report.path, ": step ", info.step, ", ", human_count(static_cast<double>(info.tokens)),
          " tokens seen, ", report.tensors.size(), " tensors, ", report.parameters, " parameters, ",
          human_bytes(static_cast<double>(report.bytes)));
  if (info.loss) text += cat(", loss ", print_double(*info.loss));
  text += cat("\ndata: ", info.data, " of ", info.epoch_size, "; saved on mesh ",
              mesh.empty() ? "of 1" : join(mesh), " by commit ",
              info.commit.empty() ? "unknown" : info.commit, "\n");
  size_t name_width = 4, type_width = 4;
  for (const TensorReport& tensor : report.tensors) {
    name_width = std::max(name_width, tensor.tensor.name.size());
    type_width = std::max(type_width, cat(tensor.tensor.type).size());
  }
  for (const TensorReport& tensor : report.tensors) {
    char line[1024];
    std::snprintf(line, sizeof line, "%-*s  %-*s  %-12s %10s  %3lld slice%s",
                  static_cast<int>(name_width), tensor.tensor.name.c_str(),
                  static_cast<int>(type_width), cat(tensor.tensor.type).c_str(),
                  tensor.tensor.role.c_str(),
                  human_bytes(static_cast<double>(tensor.tensor.type.bytes())).c_str(),
                  static_cast<long long>(tensor.slices), tensor.slices == 1 ? " " : "s");
    text += line;
    if (tensor.norm) {
      std::snprintf(line, sizeof line, "  norm %.6g", *tensor.norm);
      text += line;
    }
    text += "\n";
  }
  return text;
}

}  // namespace tessera

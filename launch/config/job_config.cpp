#include "launch/config/job_config.h"

#include <array>

#include "core/base/strings.h"

namespace tessera::config {
namespace {

// Names in the order of the C++ enum; tests/config checks them against proto/*.proto.
template <size_t kCount, typename Enum>
std::string_view pick(const std::array<std::string_view, kCount>& names, Enum value) {
  const auto index = static_cast<size_t>(value);
  return index < kCount ? names[index] : std::string_view("?");
}

}  // namespace

std::string_view name_of(ModelFamily value) {
  return pick(std::to_array<std::string_view>({"gpt2", "llama"}), value);
}
std::string_view name_of(ModelPosition value) {
  return pick(std::to_array<std::string_view>({"learned", "rotary", "alibi", "relative"}), value);
}
std::string_view name_of(Tokenizer value) {
  return pick(std::to_array<std::string_view>({"bytes"}), value);
}
std::string_view name_of(OptimizerKind value) {
  return pick(std::to_array<std::string_view>({"adamw"}), value);
}
std::string_view name_of(ScheduleKind value) {
  return pick(std::to_array<std::string_view>({"constant", "cosine", "rsqrt"}), value);
}
std::string_view name_of(RematPolicy value) {
  return pick(std::to_array<std::string_view>({"none", "full", "dots"}), value);
}
std::string_view name_of(MatmulDType value) {
  return pick(std::to_array<std::string_view>({"compute", "fp8"}), value);
}
std::string_view name_of(ResumeMode value) {
  return pick(std::to_array<std::string_view>({"auto", "must", "never"}), value);
}
std::string_view name_of(ProgressMode value) {
  return pick(std::to_array<std::string_view>({"auto", "live", "plain"}), value);
}
std::string_view name_of(LogLevelName value) {
  return pick(std::to_array<std::string_view>({"debug", "info", "warning", "error"}), value);
}

std::string_view name_of(DeviceBackend value) {
  return pick(std::to_array<std::string_view>({"cpu", "cuda"}), value);
}
std::string_view name_of(DeviceTransport value) {
  return pick(std::to_array<std::string_view>({"auto", "nccl", "staged"}), value);
}

std::string Origin::text() const {
  switch (kind) {
    case Kind::built_in:
      return "default";
    case Kind::derived:
      return cat("default: ", note);
    case Kind::file:
      return cat(file, ":", line, note.empty() ? "" : " ", note);
    case Kind::mesh_flag:
      return cat("--mesh ", note);
    case Kind::set_flag:
      return cat("--set ", note);
  }
  return "?";
}

}  // namespace tessera::config

#include "launch/hlo/report_failure.h"

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/command_line.h"
#include "launch/verbs/verbs.h"
#include "partitioner/hlo/import.h"

namespace tessera {
namespace {

int report(const std::string& json, const nlohmann::json& content, const std::exception& error, int code) {
  log_error("tessera: ", error.what());
  flush_log();
  if (!json.empty()) write_report(json, content.dump(2));
  return code;
}

}  // namespace

int report_failure(const std::string& json, const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const hlo::UnsupportedHlo& error) {
    return report(json, {{"unsupported", error.unsupported}}, error, kExitUsage);
  } catch (const ConfigError& error) {
    return report(json, {{"error", error.what()}}, error, kExitUsage);
  } catch (const std::exception& error) {
    return report(json, {{"error", error.what()}}, error, kExitFailed);
  }
}

int with_failures_reported(const std::string& json, const std::function<int()>& verb) {
  const StandardOutputForReport keep(json);
  try {
    return verb();
  } catch (const std::exception&) {
    return report_failure(json, std::current_exception());
  }
}

}  // namespace tessera

#include "core/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <spdlog/version.h>

#include <memory>
#include <vector>

#include "core/base/error.h"
#include "core/base/version.h"

namespace tessera {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
  }
  return spdlog::level::info;
}

// The process's one logger: console at `info` until init_logging says otherwise.
std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> instance = [] {
    auto console = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    console->set_pattern("%v");
    auto created = std::make_shared<spdlog::logger>("tessera", console);
    created->set_level(spdlog::level::info);
    return created;
  }();
  return instance;
}

}  // namespace

void init_logging(const LogConfig& config) {
  std::vector<spdlog::sink_ptr> sinks;
  auto console = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  console->set_pattern("%v");
  console->set_level(to_spdlog(config.console_level));
  sinks.push_back(console);
  if (!config.file.empty()) {
    try {
      auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(config.file);
      file->set_pattern(cat("%Y-%m-%d %H:%M:%S.%e [", config.rank, "] %l %v"));
      file->set_level(to_spdlog(config.file_level));
      sinks.push_back(file);
    } catch (const spdlog::spdlog_ex& error) {
      throw_user_error("log file ", config.file, " cannot be opened: ", error.what());
    }
  }
  auto created = std::make_shared<spdlog::logger>("tessera", sinks.begin(), sinks.end());
  created->set_level(spdlog::level::debug);
  created->flush_on(spdlog::level::warn);
  logger() = created;
}

void log_line(LogLevel level, std::string_view text) {
  logger()->log(to_spdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

void flush_log() { logger()->flush(); }

std::string log_library_version() {
  return cat(SPDLOG_VER_MAJOR, ".", SPDLOG_VER_MINOR, ".", SPDLOG_VER_PATCH);
}

}  // namespace tessera

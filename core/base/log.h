// A thin logging header; spdlog stands only behind log.cpp.
#pragma once

#include <string>
#include <string_view>

#include "core/base/strings.h"

namespace tessera {

enum class LogLevel { debug, info, warning, error };

// Where log lines go. `file` may be empty. `console_level` is what reaches standard error.
struct LogConfig {
  std::string file;
  LogLevel file_level = LogLevel::debug;
  LogLevel console_level = LogLevel::info;
  int rank = 0;
};

void init_logging(const LogConfig& config);
void log_line(LogLevel level, std::string_view text);
void flush_log();

template <typename... Parts>
void log_debug(const Parts&... parts) { log_line(LogLevel::debug, cat(parts...)); }
template <typename... Parts>
void log_info(const Parts&... parts) { log_line(LogLevel::info, cat(parts...)); }
template <typename... Parts>
void log_warning(const Parts&... parts) { log_line(LogLevel::warning, cat(parts...)); }
template <typename... Parts>
void log_error(const Parts&... parts) { log_line(LogLevel::error, cat(parts...)); }

}  // namespace tessera

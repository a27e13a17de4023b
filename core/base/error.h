// The two families of errors: what the user can mend, and what only we can.
//
// A library throws and never exits; launch/main.cpp maps each family to an exit code.
// A message says where, what was wrong, both values, and what to do about it.
#pragma once

#include <stdexcept>
#include <string>

#include "core/base/strings.h"

namespace tessera {

// Something the user gave or the machine lacks (a file, a full disk, a lost peer): exit code 1.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Wrong use or configuration, found before any work was done: exit code 2.
class ConfigError : public UserError {
 public:
  using UserError::UserError;
};

// A broken promise inside Tessera: exit code 1, and the message asks for a report.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

template <typename... Parts>
[[noreturn]] void throw_user_error(const Parts&... parts) {
  throw UserError(cat(parts...));
}

template <typename... Parts>
[[noreturn]] void throw_config_error(const Parts&... parts) {
  throw ConfigError(cat(parts...));
}

[[noreturn]] void throw_internal_error(const char* file, int line, const char* condition,
                                       const std::string& message);

}  // namespace tessera

// Checks a promise of our own code. The parts after the condition are concatenated only on failure.
#define TESSERA_CHECK(condition, ...)                                              \
  do {                                                                             \
    if (!(condition)) [[unlikely]]                                                 \
      ::tessera::throw_internal_error(__FILE__, __LINE__, #condition,              \
                                      ::tessera::cat("" __VA_OPT__(, ) __VA_ARGS__)); \
  } while (false)

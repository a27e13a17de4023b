#include "core/base/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "core/base/version.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

TEST(Log, the_file_gets_levels_the_console_does_not) {
  const fs::path file = fs::temp_directory_path() / cat("tessera_log_", ::getpid(), ".log");
  testing::internal::CaptureStderr();
  init_logging({.file = file, .console_level = LogLevel::warning, .rank = 3});
  log_debug("loss ", 1.5);
  log_info("100% {} done");  // not a format string
  log_warning("careful");
  flush_log();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "careful\n");
  init_logging({});

  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  fs::remove(file);
  EXPECT_NE(text.str().find("[3] debug loss 1.5\n"), std::string::npos) << text.str();
  EXPECT_NE(text.str().find("[3] info 100% {} done\n"), std::string::npos) << text.str();
  EXPECT_NE(text.str().find("careful\n"), std::string::npos) << text.str();
}

TEST(Log, a_file_that_cannot_be_opened_is_a_user_error_that_names_it) {
  try {
    init_logging({.file = "/proc/none/rank_00000.log"});
    FAIL() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("/proc/none/rank_00000.log"), std::string::npos)
        << error.what();
  }
}

TEST(Version, names_release_commit_and_compiler) {
  EXPECT_EQ(split(version(), '.').size(), 3u);
  EXPECT_FALSE(source_commit().empty());
  EXPECT_EQ(split(log_library_version(), '.').size(), 3u);
  EXPECT_TRUE(compiler().substr(0, 3) == "gcc" || compiler().substr(0, 5) == "clang");
}

}  // namespace
}  // namespace tessera

#include "launch/checkpoint/output_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/runtime/thread_world.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

TEST(OutputFolder, IsMadeWithItsParents) {
  TempFolder base;
  prepare_output_folder(base / "a/b/c");
  EXPECT_TRUE(std::filesystem::is_directory(base / "a/b/c"));
  EXPECT_TRUE(std::filesystem::is_empty(base / "a/b/c"));
  prepare_output_folder(base / "a/b/c");
}

TEST(OutputFolder, UnwritableSaysWhy) {
  TempFolder base;
  base.write("file", "x");
  const std::string message =
      message_of<UserError>([&] { prepare_output_folder(base / "file/out"); });
  EXPECT_NE(message.find("Not a directory"), std::string::npos) << message;
  EXPECT_NE(message.find("output_dir"), std::string::npos) << message;
  EXPECT_THROW(prepare_output_folder("/proc/tessera"), UserError);
}

TEST(OutputLock, SecondWriterIsRefusedUntilTheFirstIsGone) {
  TempFolder out;
  {
    OutputLock first(out.path());
    const std::string message = message_of<UserError>([&] { OutputLock second(out.path()); });
    EXPECT_NE(message.find(cat("is in use by another run: process ", ::getpid(), " on host ")),
              std::string::npos)
        << message;
  }
  OutputLock third(out.path());
}

TEST(OutputLock, IsFreeAfterItsHolderWasKilled) {
  TempFolder out;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    OutputLock lock(out.path());
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    ::pause();
  }
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_NE(
      message_of<UserError>([&] { OutputLock lock(out.path()); }).find(cat("process ", child)),
      std::string::npos);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  OutputLock lock(out.path());
}

TEST(SharedFolder, AllRanksSeeIt) {
  TempFolder out;
  run_thread_ranks(3, [&](World& world) { check_shared_folder(out.path(), world); });
  EXPECT_TRUE(std::filesystem::is_empty(out.path()));
}

// Ranks with different folders under "one path", as hosts that share nothing have.
TEST(SharedFolder, OneThatIsNotSharedIsRefusedByAll) {
  TempFolder shared, other;
  std::array<std::string, 3> messages;
  run_thread_ranks(3, [&](World& world) {
    const std::string path = world.rank() == 1 ? other.path() : shared.path();
    messages[static_cast<size_t>(world.rank())] =
        message_of<UserError>([&] { check_shared_folder(path, world); });
  });
  for (const std::string& message : messages) {
    EXPECT_NE(message.find("is not shared by all hosts: rank 0 wrote '"), std::string::npos)
        << message;
    EXPECT_NE(message.find("No such file"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace tessera

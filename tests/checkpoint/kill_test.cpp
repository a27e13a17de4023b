// A run may be killed at any moment, and a good checkpoint must be found afterwards.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/checkpoint/restore.h"
#include "tests/checkpoint/checkpoint_fixture.h"

namespace tessera {
namespace {

void save(const std::string& out, int64_t step, uint32_t seed, FileSystem& files, int64_t keep) {
  CheckpointWriter writer(out, keep, nullptr, files);
  CheckpointInfo info;
  info.step = step;
  info.seed = seed;
  writer.save(info, whole_slices(small_model(seed)).slices);
}

// The seed of the model in the newest checkpoint, all of whose bytes are checked, and which must be
// readable at the first attempt: -1 where there is none.
int64_t newest_seed(const std::string& out) {
  const std::vector<TensorSpec> specs = specs_of(small_model(0));
  const auto restored = restore_checkpoint({.candidates = list_checkpoints(out), .model = specs});
  if (!restored) return -1;
  EXPECT_TRUE(restored->skipped.empty());
  expect_model(restored->path, small_model(static_cast<uint32_t>(restored->info.seed)));
  return restored->info.seed;
}

// Step 1 is saved; then `second` saves seed 2 and is killed after each number of operations in
// turn. What is found must be seed 1 or 2, never less, and once 2 then always 2. Afterwards a run
// goes on as if nothing had been.
void kill_everywhere(int64_t keep, int64_t second_step, bool can_exchange) {
  bool complete = false;
  int64_t found = 1;
  for (int64_t operations = 0; !complete; ++operations) {
    TempFolder out;
    save(out.path(), 1, 1, posix_file_system(), keep);
    MortalFileSystem files(operations);
    files.can_exchange = can_exchange;
    try {
      save(out.path(), second_step, 2, files, keep);
      complete = true;
    } catch (const Killed&) {
    }
    const int64_t now = newest_seed(out.path());
    ASSERT_TRUE(now == 2 || (now == 1 && found == 1)) << now << " after " << operations;
    found = now;
    save(out.path(), second_step + 1, 3, posix_file_system(), keep);
    ASSERT_EQ(newest_seed(out.path()), 3);
    ASSERT_EQ(list_checkpoints(out.path()).size(),
              std::min<size_t>(static_cast<size_t>(keep), found == 2 && second_step > 1 ? 3 : 2));
    for (const auto& entry : std::filesystem::directory_iterator(checkpoints_folder(out.path())))
      ASSERT_EQ(entry.path().extension(), "") << entry.path() << " after " << operations;
  }
  EXPECT_EQ(found, 2);
}

TEST(Kill, AtAnyOperationKeepingOne) { kill_everywhere(1, 2, true); }
TEST(Kill, AtAnyOperationKeepingThree) { kill_everywhere(3, 2, true); }
TEST(Kill, AtAnyOperationWhileReplacingAStep) { kill_everywhere(1, 1, true); }
TEST(Kill, AtAnyOperationWhileReplacingAStepByTwoRenames) { kill_everywhere(1, 1, false); }

// A real process, killed by a real signal, over and over in one folder.
TEST(Kill, BySignalAtRandomMoments) {
  TempFolder out;
  std::mt19937 random(7);
  int64_t step = 0;
  save(out.path(), step, 0, posix_file_system(), 2);
  for (int round = 0; round < 30; ++round) {
    int line[2];
    ASSERT_EQ(::pipe(line), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {  // saves as fast as it can, and says each step that is complete
      for (int64_t s = step + 1;; ++s) {
        save(out.path(), s, static_cast<uint32_t>(s), posix_file_system(), 2);
        if (::write(line[1], &s, sizeof s) < 0) ::_exit(1);
      }
    }
    ::close(line[1]);
    ::usleep(static_cast<useconds_t>(random() % 30000));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    int64_t said;
    while (::read(line[0], &said, sizeof said) == sizeof said) step = said;
    ::close(line[0]);
    const int64_t found = newest_seed(out.path());
    ASSERT_GE(found, step);      // all that was said to be complete is
    ASSERT_LE(found, step + 1);  // and at most the one that was not yet said
    step = found;
  }
  EXPECT_GT(step, 0);
}

}  // namespace
}  // namespace tessera

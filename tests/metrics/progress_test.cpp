#include "launch/metrics/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <limits>

#include "core/base/strings.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

// Collects what a progress display writes.
class Screen {
 public:
  Screen() : file_(::open(folder_.write("screen", "").c_str(), O_WRONLY | O_APPEND)) {}
  ~Screen() { ::close(file_); }
  int descriptor() const { return file_; }
  std::string text() const { return read_whole_file(folder_ / "screen"); }

 private:
  TempFolder folder_;
  int file_;
};

StepMetrics at(int64_t step) {
  return {.step = step, .loss = 2.25, .grad_norm = 1.5, .lr = 0.001, .tokens_per_second = 51234};
}

TEST(Progress, PlainPrintsFirstEveryIntervalEvaluationsAndLast) {
  Screen screen;
  {
    Progress progress({.mode = ProgressMode::plain,
                       .first_step = 0,
                       .total_steps = 25,
                       .interval = 10,
                       .descriptor = screen.descriptor()});
    for (int64_t step = 1; step <= 25; ++step) {
      StepMetrics metrics = at(step);
      if (step == 13) metrics.eval_loss = 2.125;
      progress.step(metrics);
      if (step == 20) progress.message("saved");
    }
  }
  std::vector<std::string> lines = split(screen.text(), '\n');
  ASSERT_EQ(lines.size(), 7u) << screen.text();
  EXPECT_EQ(lines[0], "step 1/25  loss 2.2500  grad 1.5  lr 0.001  51.2 K tokens/s");
  EXPECT_TRUE(lines[1].starts_with("step 10/25  ")) << lines[1];
  EXPECT_TRUE(lines[1].ends_with("s left")) << lines[1];
  EXPECT_TRUE(lines[2].starts_with("step 13/25  loss 2.2500  eval 2.1250  ")) << lines[2];
  EXPECT_TRUE(lines[3].starts_with("step 20/25  "));
  EXPECT_EQ(lines[4], "saved");
  EXPECT_TRUE(lines[5].starts_with("step 25/25  "));
  EXPECT_EQ(lines[5].find("left"), std::string::npos);
  EXPECT_EQ(screen.text().find('\x1b'), std::string::npos);
  EXPECT_EQ(screen.text().find('\r'), std::string::npos);
}

TEST(Progress, LiveDrawsOneLineAnew) {
  Screen screen;
  Progress progress({.mode = ProgressMode::live,
                     .first_step = 100,
                     .total_steps = 104,
                     .descriptor = screen.descriptor(),
                     .columns = 40});
  progress.step(at(101));
  EXPECT_EQ(screen.text(), "\r\x1b[Kstep 101/104  loss 2.2500  51.2 K token");  // 39 columns
  progress.step(at(102));  // at once: not drawn
  progress.message("saved");
  EXPECT_TRUE(screen.text().ends_with("token\r\x1b[Ksaved\n")) << screen.text();
  ::usleep(110'000);
  progress.step(at(103));
  progress.step(at(104));
  EXPECT_TRUE(screen.text().ends_with("\r\x1b[Kstep 104/104  loss 2.2500  51.2 K token\n"));
}

TEST(Progress, ClosedOutputDoesNotStopTheRun) {
  Progress progress({.mode = ProgressMode::plain, .total_steps = 2, .descriptor = -1});
  progress.step(at(1));
  progress.finish();
}

TEST(Progress, Durations) {
  EXPECT_EQ(human_duration(0.4), "0s");
  EXPECT_EQ(human_duration(59.4), "59s");
  EXPECT_EQ(human_duration(59.9), "1m00s");
  EXPECT_EQ(human_duration(92), "1m32s");
  EXPECT_EQ(human_duration(7384), "2h03m");
  EXPECT_EQ(human_duration(200000), "2d07h");
  EXPECT_EQ(human_duration(std::numeric_limits<double>::infinity()), "?");
}

}  // namespace
}  // namespace tessera

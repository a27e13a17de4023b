#include "launch/metrics/metrics_log.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cmath>

#include "core/base/error.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

StepMetrics step_metrics(int64_t step) {
  return {.step = step,
          .loss = 2.5 - 0.125 * static_cast<double>(step),
          .grad_norm = 0.75,
          .lr = 1e-8,
          .tokens_per_second = 51234.5};
}

TEST(MetricsLog, LineHoldsEveryNumber) {
  StepMetrics metrics = step_metrics(4);
  EXPECT_EQ(to_json(metrics),
            R"({"step":4,"loss":2,"grad_norm":0.75,"lr":1e-08,"tokens_per_second":51234.5})");
  metrics.eval_loss = 2.125;
  metrics.mfu = 0.5;
  metrics.extra = {{"z_loss", 0.1}};
  metrics.loss = std::nan("");
  EXPECT_EQ(to_json(metrics),
            R"({"step":4,"loss":null,"eval_loss":2.125,"grad_norm":0.75,"lr":1e-08,)"
            R"("tokens_per_second":51234.5,"mfu":0.5,"z_loss":0.1})");
}

std::string lines(int64_t first, int64_t last) {
  std::string text;
  for (int64_t step = first; step <= last; ++step) text += to_json(step_metrics(step)) + "\n";
  return text;
}

TEST(MetricsLog, AppendsALineAStep) {
  TempFolder folder;
  MetricsLog log(folder / "metrics.jsonl", 0);
  for (int64_t step = 1; step <= 3; ++step) {
    log.append(step_metrics(step));
    EXPECT_EQ(read_whole_file(folder / "metrics.jsonl"), lines(1, step));  // flushed
  }
}

TEST(MetricsLog, ResumeCutsLaterStepsAndTornLines) {
  TempFolder folder;
  const std::string path = folder.write("metrics.jsonl", lines(1, 9) + R"({"step":10,"lo)");
  {
    MetricsLog log(path, 6);
    EXPECT_EQ(read_whole_file(path), lines(1, 6));
    log.append(step_metrics(7));
  }
  MetricsLog again(path, 7);
  again.append(step_metrics(8));
  EXPECT_EQ(read_whole_file(path), lines(1, 8));
}

// Killed at any byte, a line is whole or gone after the resume.
TEST(MetricsLog, AnyCutLeavesWholeLines) {
  const std::string text = lines(1, 3);
  const size_t one = lines(1, 1).size(), two = lines(1, 2).size();
  for (size_t size = 0; size <= text.size(); ++size) {
    const size_t expected = size < one ? 0 : size < two ? one : size < text.size() ? two : size;
    EXPECT_EQ(bytes_up_to_step(text.substr(0, size), 99), static_cast<int64_t>(expected));
  }
}

TEST(MetricsLog, NewRunStartsAnew) {
  TempFolder folder;
  const std::string path = folder.write("metrics.jsonl", lines(1, 9));
  MetricsLog log(path, 0);
  EXPECT_EQ(read_whole_file(path), "");
}

TEST(MetricsLog, UnwritableSaysWhy) {
  EXPECT_NE(message_of<UserError>([] {
              MetricsLog log("/proc/nope/metrics.jsonl", 0);
            }).find("No such file or directory"),
            std::string::npos);
}

TEST(MetricsLog, FullDiskSaysWhy) {
  MetricsLog log("/dev/full", 0);
  const std::string message = message_of<UserError>([&] { log.append(step_metrics(3)); });
  EXPECT_NE(message.find("/dev/full cannot be written at step 3: No space left on device"),
            std::string::npos)
      << message;
}

TEST(MetricsLog, FullDiskLeavesWholeLines) {
  TempFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=16k") != 0)
    GTEST_SKIP() << "may not mount a tmpfs here";
  const std::string path = folder / "metrics.jsonl";
  {
    MetricsLog log(path, 0);
    EXPECT_THROW(for (int64_t step = 1; step < 10000; ++step) log.append(step_metrics(step)),
                 UserError);
  }
  const std::string text = read_whole_file(path);
  EXPECT_GT(text.size(), 1000u);
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(bytes_up_to_step(text, 10000), static_cast<int64_t>(text.size()));
  ::umount2(folder.path().c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace tessera

#include "launch/metrics/event_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/error.h"
#include "proto/tensorboard.pb.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

TEST(EventFile, ReadsBackWhatWasWritten) {
  TempFolder folder;
  EventFile file(folder / "tensorboard", 0);
  EXPECT_NE(file.path().find("/events.out.tfevents.1"), std::string::npos);
  file.append({.step = 3, .loss = 2.5, .eval_loss = 2.25, .grad_norm = 1, .lr = 0.5, .mfu = 0.25});
  file.append(4, {{"x", -1.5}});
  file.append_text("config", "model { }");
  const std::vector<EventRecord> records = read_event_file(file.path());
  ASSERT_EQ(records.size(), 9u);
  EXPECT_EQ(records[0].kind, "version");
  EXPECT_EQ(records[0].text, "brain.Event:2");
  const std::vector<std::pair<std::string, double>> expected = {{"train/loss", 2.5},
                                                                {"eval/loss", 2.25},
                                                                {"train/grad_norm", 1},
                                                                {"train/lr", 0.5},
                                                                {"speed/tokens_per_second", 0},
                                                                {"speed/mfu", 0.25}};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(records[1 + i].kind, "scalar");
    EXPECT_EQ(records[1 + i].step, 3);
    EXPECT_GT(records[1 + i].wall_time, 1.5e9);
    EXPECT_EQ(records[1 + i].tag, expected[i].first);
    EXPECT_EQ(records[1 + i].value, expected[i].second);
  }
  EXPECT_EQ(records[7].step, 4);
  EXPECT_EQ(records[7].value, -1.5);
  EXPECT_EQ(records[8].kind, "text");
  EXPECT_EQ(records[8].text, "model { }");
}

// The first record byte for byte, as every TensorFlow writer begins a file; the time is ours.
TEST(EventFile, FirstRecordIsFramedAsTensorFlowFramesIt) {
  TempFolder folder;
  EventFile file(folder.path(), 0);
  const std::string bytes = read_whole_file(file.path());
  ASSERT_EQ(bytes.size(), 12u + 24u + 4u);
  // Length 24 and its masked checksum, known from files in the wild.
  EXPECT_EQ(bytes.substr(0, 12), std::string("\x18\0\0\0\0\0\0\0\xa3\x7fK\"", 12));
  EXPECT_EQ(bytes.substr(12 + 9, 15), "\x1a\rbrain.Event:2");
}

TEST(EventFile, ResumeTellsFromWhichStepPointsAreTakenBack) {
  TempFolder folder;
  EventFile first(folder.path(), 0), second(folder.path(), 20);
  EXPECT_NE(first.path(), second.path());
  const std::vector<EventRecord> records = read_event_file(second.path());
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[1].kind, "start");
  EXPECT_EQ(records[1].step, 21);
}

TEST(EventFile, EveryFlippedBitIsFound) {
  TempFolder folder;
  EventFile file(folder.path(), 0);
  file.append(1, {{"a", 1}});
  const std::string good = read_whole_file(file.path());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] ^= static_cast<char>(1 << bit % 8);
    const std::string path = folder.write("bad", bad);
    EXPECT_THROW(read_event_file(path), UserError) << bit;
  }
  const std::string path = folder.write("bad", good.substr(0, good.size() - 1));
  EXPECT_NE(message_of<UserError>([&] { read_event_file(path); }).find("cut short"),
            std::string::npos);
}

TEST(EventFile, UnwritableFolderSaysWhy) { EXPECT_THROW(EventFile("/proc/nope", 0), UserError); }

}  // namespace
}  // namespace tessera

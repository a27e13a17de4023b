#include "launch/checkpoint/checkpoint_writer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/mount.h>

#include "core/runtime/thread_world.h"
#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/restore.h"
#include "tests/checkpoint/checkpoint_fixture.h"

namespace tessera {
namespace {

CheckpointInfo info_of(int64_t step) {
  return {.step = step,
          .data = {2, 17},
          .epoch_size = 999,
          .corpus_fingerprint = 0xdeadbeef,
          .seed = 42,
          .tokens = 123456789012,
          .loss = 1.25,
          .config_text = "model { }\n",
          .commit = "0123456789ab",
          .libraries = {{"protobuf", "3.21.12"}},
          .determinism = {{"threads", "2"}},
          .mesh = {{"data", 2}, {"model", 2}}};
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(CheckpointWriter, RoundTripOfEverything) {
  TempFolder out;
  const TestModel model = small_model(1);
  CheckpointWriter writer(out.path(), 2);
  const SaveReport report = writer.save(info_of(100), whole_slices(model).slices);
  EXPECT_EQ(report.path, out / "checkpoints/step_00000100");
  EXPECT_EQ(names_in(report.path),
            (std::vector<std::string>{"data_00000.bin", "manifest.crc32c", "manifest.pb"}));
  expect_model(report.path, model);
  EXPECT_EQ(CheckpointReader(report.path).info(), info_of(100));
  EXPECT_EQ(CheckpointReader(report.path).bytes(), report.bytes);
}

TEST(CheckpointWriter, KeepsByCount) {
  TempFolder out;
  CheckpointWriter writer(out.path(), 2);
  for (const int64_t step : {10, 20, 30, 40})
    writer.save(info_of(step), whole_slices(small_model(step)).slices);
  EXPECT_EQ(names_in(out / "checkpoints"),
            (std::vector<std::string>{"step_00000030", "step_00000040"}));
  EXPECT_THROW(CheckpointWriter(out.path(), 0), ConfigError);
}

TEST(CheckpointWriter, SameStepAgainReplaces) {
  for (const bool can_exchange : {true, false}) {
    TempFolder out;
    MortalFileSystem files(1 << 20);
    files.can_exchange = can_exchange;
    CheckpointWriter writer(out.path(), 2, nullptr, files);
    writer.save(info_of(10), whole_slices(small_model(1)).slices);
    writer.save(info_of(10), whole_slices(small_model(2)).slices);
    EXPECT_EQ(names_in(out / "checkpoints"), std::vector<std::string>{"step_00000010"});
    expect_model(out / "checkpoints/step_00000010", small_model(2));
  }
}

TEST(CheckpointWriter, LaterStepsOfAnAbandonedRunAreSetAside) {
  TempFolder out;
  CheckpointWriter writer(out.path(), 3);
  for (const int64_t step : {10, 20, 30, 15})
    writer.save(info_of(step), whole_slices(small_model(1)).slices);
  EXPECT_EQ(names_in(out / "checkpoints"),
            (std::vector<std::string>{"step_00000010", "step_00000015", "step_00000020.abandoned",
                                      "step_00000030.abandoned"}));
  EXPECT_EQ(list_checkpoints(out.path()).front().step, 15);
}

// Everything must be on the disk before the name is, and the name before the old one goes.
TEST(CheckpointWriter, SyncsInTheRightOrder) {
  TempFolder out;
  MortalFileSystem files(1 << 20);
  CheckpointWriter writer(out.path(), 1, nullptr, files);
  writer.save(info_of(10), whole_slices(small_model(1)).slices);
  const size_t first = files.log().size();
  writer.save(info_of(20), whole_slices(small_model(2)).slices);
  std::vector<std::string> log(files.log().begin() + static_cast<int64_t>(first),
                               files.log().end());
  for (std::string& line : log)
    for (size_t at; (at = line.find(out.path())) != std::string::npos;)
      line.erase(at, out.path().size());
  std::erase_if(log, [](const std::string& line) { return line.starts_with("append"); });
  const std::string tmp = "/checkpoints/step_00000020.tmp";
  const std::vector<std::string> begin = {"create_folders /checkpoints",
                                          "create_folders " + tmp,
                                          "create " + tmp + "/data_00000.bin",
                                          "sync " + tmp + "/data_00000.bin",
                                          "sync_folder " + tmp,
                                          "create " + tmp + "/manifest.pb",
                                          "sync " + tmp + "/manifest.pb",
                                          "create " + tmp + "/manifest.crc32c",
                                          "sync " + tmp + "/manifest.crc32c",
                                          "sync_folder " + tmp,
                                          "rename " + tmp + " /checkpoints/step_00000020",
                                          "sync_folder /checkpoints"};
  ASSERT_GT(log.size(), begin.size());
  EXPECT_EQ(std::vector(log.begin(), log.begin() + static_cast<int64_t>(begin.size())), begin);
  for (size_t i = begin.size(); i < log.size(); ++i)
    EXPECT_NE(log[i].find("step_00000010"), std::string::npos) << log[i];
}

TEST(CheckpointWriter, SlicesThatDoNotCoverAreOurFault) {
  TempFolder out;
  CheckpointWriter writer(out.path(), 2);
  const TestModel model = small_model(1);
  RankBoxes boxes;
  boxes.add(model[0], {{0, 0}, {36, 12}});
  EXPECT_NE(message_of<InternalError>([&] {
              writer.save(info_of(1), boxes.slices);
            }).find("432 elements of tensor embed.table f32[37,12] of 444"),
            std::string::npos);
  RankBoxes twice;
  twice.add(model[2], {{0}, {6}});
  twice.add(model[2], {{4}, {6}});
  EXPECT_NE(message_of<InternalError>([&] {
              writer.save(info_of(1), twice.slices);
            }).find("two ranks gave the same part of tensor layers.0.norm.scale"),
            std::string::npos);
  EXPECT_TRUE(list_checkpoints(out.path()).empty());
}

TestSharding random_sharding(const Shape& shape) {
  TestSharding sharding;
  for (int d = 0; d < shape.rank(); ++d)
    sharding.parts.push_back(*rc::gen::elementOf(std::vector<int64_t>{1, 1, 2, 3, 4}));
  return sharding;
}

// Saved by R ranks with random shardings, loaded by Q ranks with others.
RC_GTEST_PROP(CheckpointProperty, LoadsOnAnyOtherSharding, ()) {
  TempFolder out;
  std::mt19937 random(*rc::gen::arbitrary<uint32_t>());
  TestModel model;
  const int tensors = *rc::gen::inRange(1, 5);
  for (int t = 0; t < tensors; ++t) {
    TensorType type;
    type.dtype = *rc::gen::elementOf(std::vector{DType::f32, DType::bf16, DType::u8, DType::f64});
    for (int d = *rc::gen::inRange(0, 4); d > 0; --d)
      type.shape.push_back(*rc::gen::inRange<int64_t>(1, 12));
    model.push_back({{cat("t", t), "parameter", type}, random_tensor(type, random)});
  }
  const int savers = *rc::gen::inRange(1, 6), loaders = *rc::gen::inRange(1, 6);
  std::vector<RankBoxes> saved(static_cast<size_t>(savers)), loaded(static_cast<size_t>(loaders));
  struct Expected {
    size_t rank, target;
    std::vector<std::byte> bytes;
  };
  std::vector<Expected> expected;
  for (const TestTensor& tensor : model) {
    const Shape& shape = tensor.spec.type.shape;
    const TestSharding from = random_sharding(shape), to = random_sharding(shape);
    for (int64_t s = 0; s < from.shards(); ++s)
      saved[random() % saved.size()].add(tensor, from.shard(shape, s));
    for (int64_t s = 0; s < to.shards(); ++s) {
      const size_t rank = random() % loaded.size();
      const Box box = to.shard(shape, s);
      // Padding is zero when loaded.
      std::vector<std::byte> bytes = cut_out(tensor.value, box);
      const HostTensor inside = [&] {
        HostTensor ones(tensor.spec.type);
        std::memset(ones.bytes().data(), 0xff, ones.bytes().size());
        return ones;
      }();
      const std::vector<std::byte> mask = cut_out(inside, box);
      for (size_t i = 0; i < bytes.size(); ++i)
        if (mask[i] != std::byte{0xff}) bytes[i] = std::byte{0};
      expected.push_back({rank, loaded[rank].targets.size(), bytes});
      loaded[rank].add_target(tensor, box);
    }
  }
  run_thread_ranks(savers, [&](World& world) {
    CheckpointWriter writer(out.path(), 2, &world);
    writer.save(info_of(7), saved[static_cast<size_t>(world.rank())].slices);
  });
  expect_model(out / "checkpoints/step_00000007", model);
  const std::vector<TensorSpec> specs = specs_of(model);
  run_thread_ranks(loaders, [&](World& world) {
    const auto restored =
        restore_checkpoint({.candidates = list_checkpoints(out.path()),
                            .model = specs,
                            .targets = loaded[static_cast<size_t>(world.rank())].targets},
                           &world);
    RC_ASSERT(restored.has_value());
    RC_ASSERT(restored->info == info_of(7));
  });
  for (const Expected& e : expected) {
    const TensorTarget& target = loaded[e.rank].targets[e.target];
    RC_ASSERT(std::memcmp(target.data, e.bytes.data(), e.bytes.size()) == 0);
  }
}

TEST(CheckpointWriter, LargeTensorsAreCutIntoPieces) {
  TempFolder out;
  std::mt19937 random(1);
  const TensorType type{DType::f32, {3000, 2000}};  // 24 MB
  const TestModel model = {{{"big", "parameter", type}, random_tensor(type, random)}};
  CheckpointWriter(out.path(), 1).save(info_of(1), whole_slices(model).slices);
  expect_model(out / "checkpoints/step_00000001", model);
  EXPECT_EQ(CheckpointReader(out / "checkpoints/step_00000001").tensors()[0].slices.size(), 2u);
}

// One rank's error reaches all, and nothing of the failed checkpoint is left.
TEST(CheckpointWriter, ErrorOfOneRankReachesAll) {
  TempFolder out;
  const TestModel model = small_model(1);
  class FullDisk : public MortalFileSystem {
   public:
    using MortalFileSystem::MortalFileSystem;
    std::unique_ptr<OutputFile> create_file(const std::string& path) override {
      throw IoError(path + " cannot be written", ENOSPC);
    }
  };
  CheckpointWriter(out.path(), 2).save(info_of(1), whole_slices(model).slices);
  std::array<std::string, 3> messages;
  run_thread_ranks(3, [&](World& world) {
    FullDisk full(1 << 20);
    FileSystem& files = world.rank() == 2 ? full : posix_file_system();
    CheckpointWriter writer(out.path(), 2, &world, files);
    RankBoxes boxes = world.rank() == 0 ? whole_slices(model) : RankBoxes();
    messages[static_cast<size_t>(world.rank())] =
        message_of<UserError>([&] { writer.save(info_of(2), boxes.slices); });
    world.barrier();
  });
  for (const std::string& message : messages) {
    EXPECT_NE(message.find("checkpoint of step 2 could not be saved"), std::string::npos)
        << message;
    EXPECT_NE(message.find("rank 2: "), std::string::npos) << message;
    EXPECT_NE(message.find("No space left on device"), std::string::npos) << message;
    EXPECT_NE(message.find("step_00000001, is intact"), std::string::npos) << message;
  }
  EXPECT_EQ(names_in(out / "checkpoints"), std::vector<std::string>{"step_00000001"});
  expect_model(out / "checkpoints/step_00000001", model);
}

// A file system of its own, a megabyte large; skipped where tests may not mount.
class TinyDisk {
 public:
  explicit TinyDisk(const std::string& options)
      : mounted_(::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, options.c_str()) == 0) {}
  ~TinyDisk() {
    if (mounted_) ::umount2(folder_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
  bool mounted_;
};

TEST(CheckpointWriter, FullDiskKeepsTheCheckpointBefore) {
  TinyDisk disk("size=1m");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a tmpfs here";
  std::mt19937 random(1);
  const TensorType type{DType::f32, {150'000}};
  const TestModel model = {{{"t", "parameter", type}, random_tensor(type, random)}};
  CheckpointWriter writer(disk.path(), 1);
  writer.save(info_of(1), whole_slices(model).slices);
  for (int attempt = 0; attempt < 3; ++attempt) {
    const std::string message =
        message_of<UserError>([&] { writer.save(info_of(2), whole_slices(model).slices); });
    EXPECT_NE(message.find("No space left on device. It needs 585.9 KiB and "), std::string::npos)
        << message;
    EXPECT_NE(message.find("step_00000001, is intact"), std::string::npos) << message;
    expect_model(disk.path() + "/checkpoints/step_00000001", model);
    EXPECT_EQ(names_in(disk.path() + "/checkpoints"), std::vector<std::string>{"step_00000001"});
  }
}

TEST(CheckpointWriter, UnwritableFolderSaysWhy) {
  TempFolder out;
  out.write("file", "x");
  CheckpointWriter writer(out / "file", 1);
  const std::string message =
      message_of<UserError>([&] { writer.save(info_of(2), whole_slices(small_model(1)).slices); });
  EXPECT_NE(message.find("Not a directory"), std::string::npos) << message;
  EXPECT_NE(message.find("there is no earlier checkpoint"), std::string::npos) << message;
}

TEST(CheckpointWriter, ReadOnlyDiskSaysWhy) {
  TinyDisk disk("size=1m,ro");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a tmpfs here";
  ::mount("tmpfs", disk.path().c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=1m");
  CheckpointWriter writer(disk.path(), 1);
  const std::string message =
      message_of<UserError>([&] { writer.save(info_of(2), whole_slices(small_model(1)).slices); });
  EXPECT_NE(message.find("Read-only file system"), std::string::npos) << message;
}

}  // namespace
}  // namespace tessera

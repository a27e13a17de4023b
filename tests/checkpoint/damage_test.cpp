// Checkpoints that rotted: every damage is found, named, and passed over for the checkpoint before.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>

#include "core/runtime/thread_world.h"
#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/checkpoint/inspect.h"
#include "launch/checkpoint/restore.h"
#include "tests/checkpoint/checkpoint_fixture.h"

namespace tessera {
namespace {

class Damage : public testing::Test {
 protected:
  Damage() {
    for (const uint32_t step : {1, 2}) {
      CheckpointInfo info;
      info.step = step;
      CheckpointWriter(out.path(), 2).save(info, whole_slices(small_model(step)).slices);
    }
  }

  std::string newest(const std::string& file) const {
    return out / ("checkpoints/step_00000002/" + file);
  }

  // Loads into fresh memory and checks that it is the model of the step that was found.
  std::optional<Restored> restore() const {
    const TestModel reference = small_model(1);
    RankBoxes boxes;
    for (const TestTensor& tensor : reference)
      boxes.add_target(tensor, {std::vector<int64_t>(static_cast<size_t>(tensor.spec.type.rank())),
                                tensor.spec.type.shape});
    const std::vector<TensorSpec> specs = specs_of(reference);
    auto restored = restore_checkpoint(
        {.candidates = list_checkpoints(out.path()), .model = specs, .targets = boxes.targets});
    if (restored) {
      const TestModel model = small_model(static_cast<uint32_t>(restored->info.step));
      for (size_t t = 0; t < model.size(); ++t)
        EXPECT_EQ(std::memcmp(boxes.targets[t].data, model[t].value.bytes().data(),
                              model[t].value.bytes().size()),
                  0);
    }
    return restored;
  }

  TempFolder out;
};

TEST_F(Damage, NoneFindsTheNewest) {
  const auto restored = restore();
  EXPECT_EQ(restored->info.step, 2);
  EXPECT_TRUE(restored->skipped.empty());
}

// Each bit of the manifest's files, and a random sample of the data's: alignment gaps between
// slices are the only bytes that nothing depends on.
TEST_F(Damage, AnyFlippedBitIsFoundAndThePreviousTaken) {
  std::mt19937 random(3);
  int harmless = 0, tried = 0;
  for (const char* name : {"manifest.pb", "manifest.crc32c", "data_00000.bin"}) {
    const std::string good = read_whole_file(newest(name));
    for (int i = 0; i < 150; ++i) {
      std::string bad = good;
      bad[random() % bad.size()] ^= static_cast<char>(1 << random() % 8);
      out.write(std::string("checkpoints/step_00000002/") + name, bad);
      const auto restored = restore();
      ASSERT_TRUE(restored.has_value());
      ++tried;
      if (restored->info.step == 2) {
        ++harmless;
        ASSERT_STREQ(name, "data_00000.bin");
      } else {
        ASSERT_EQ(restored->skipped.size(), 1u);
        ASSERT_NE(restored->skipped[0].find("step_00000002"), std::string::npos);
      }
    }
    out.write(std::string("checkpoints/step_00000002/") + name, good);
  }
  EXPECT_EQ(tried, 450);
  EXPECT_LT(harmless, 40);
  EXPECT_EQ(restore()->info.step, 2);
}

TEST_F(Damage, AnyTruncationIsFound) {
  for (const char* name : {"manifest.pb", "manifest.crc32c", "data_00000.bin"}) {
    const std::string good = read_whole_file(newest(name));
    for (size_t size = 0; size < good.size(); size += 1 + good.size() / 50) {
      out.write(std::string("checkpoints/step_00000002/") + name, good.substr(0, size));
      const auto restored = restore();
      ASSERT_EQ(restored->info.step, 1) << name << " " << size;
    }
    out.write(std::string("checkpoints/step_00000002/") + name, good);
  }
}

TEST_F(Damage, MessagesNameFileAndTensor) {
  std::string bytes = read_whole_file(newest("data_00000.bin"));
  bytes[5] ^= 1;  // the first tensor that was written
  out.write("checkpoints/step_00000002/data_00000.bin", bytes);
  std::string why = restore()->skipped[0];
  EXPECT_NE(
      why.find("step_00000002/data_00000.bin is damaged in tensor embed.table at bytes [0,1776)"),
      std::string::npos)
      << why;
  out.write("checkpoints/step_00000002/data_00000.bin", bytes.substr(0, 1780));
  why = restore()->skipped[0];
  EXPECT_NE(why.find("data_00000.bin is truncated: it has 1780 of "), std::string::npos) << why;
  EXPECT_NE(why.find("tensor step lies where it ends"), std::string::npos) << why;
  std::filesystem::remove(newest("data_00000.bin"));
  why = restore()->skipped[0];
  EXPECT_NE(why.find("data_00000.bin cannot be read: No such file"), std::string::npos) << why;
}

TEST_F(Damage, AllDamagedIsAnErrorThatListsThem) {
  for (const char* step : {"1", "2"})
    out.write(std::string("checkpoints/step_0000000") + step + "/manifest.pb", "junk");
  const std::string message = message_of<UserError>([&] { restore(); });
  EXPECT_NE(message.find("no checkpoint can be read, of 2"), std::string::npos) << message;
  EXPECT_NE(message.find("step_00000001/manifest.pb is damaged"), std::string::npos) << message;
}

// Only one of four ranks reads the damaged tensor; all must take the same checkpoint.
TEST_F(Damage, RanksFallBackTogether) {
  std::string bytes = read_whole_file(newest("data_00000.bin"));
  bytes[5] ^= 1;
  out.write("checkpoints/step_00000002/data_00000.bin", bytes);
  const TestModel model = small_model(1);
  const std::vector<TensorSpec> specs = specs_of(model);
  run_thread_ranks(4, [&](World& world) {
    RankBoxes boxes;
    const TestTensor& mine = model[static_cast<size_t>(world.rank())];
    boxes.add_target(mine, {std::vector<int64_t>(static_cast<size_t>(mine.spec.type.rank())),
                            mine.spec.type.shape});
    const auto restored = restore_checkpoint(
        {.candidates = list_checkpoints(out.path()), .model = specs, .targets = boxes.targets},
        &world);
    EXPECT_EQ(restored->info.step, 1);
    EXPECT_EQ(
        std::memcmp(boxes.targets[0].data, mine.value.bytes().data(), mine.value.bytes().size()),
        0);
  });
}

TEST_F(Damage, NoCheckpointAtAllIsNotAnError) {
  TempFolder empty;
  EXPECT_FALSE(restore_checkpoint({.candidates = list_checkpoints(empty.path())}).has_value());
}

TEST_F(Damage, AnotherModelListsWhatDiffers) {
  std::vector<TensorSpec> specs = specs_of(small_model(1));
  specs[0].type.shape = {64, 12};
  specs[1].name = "layers.0.attention.key";
  for (int i = 0; i < 30; ++i)
    specs.push_back({cat("layers.", i + 1, ".mlp"), "parameter", {DType::f32, {2}}});
  const std::string message = message_of<UserError>(
      [&] { restore_checkpoint({.candidates = list_checkpoints(out.path()), .model = specs}); });
  for (const char* part :
       {"step_00000002 is of another model than the job:",
        "31 missing (the job has them, the checkpoint not):\n    layers.0.attention.key "
        "bf16[12,3,4]",
        "... and 11 more",
        "1 unexpected (the checkpoint has them, the job not):\n    layers.0.attention.query",
        "1 misshapen:\n    embed.table: f32[37,12] in the checkpoint, f32[64,12] in the job"})
    EXPECT_NE(message.find(part), std::string::npos) << part << "\nin " << message;
}

TEST_F(Damage, ParametersAloneCanBeWanted) {
  std::vector<TensorSpec> specs = specs_of(small_model(1));
  std::erase_if(specs, [](const TensorSpec& spec) { return spec.role != "parameter"; });
  EXPECT_EQ(
      restore_checkpoint({.candidates = list_checkpoints(out.path()), .model = specs})->info.step,
      2);
}

TEST_F(Damage, ARefusalEndsTheSearch) {
  const auto refuse = [](const CheckpointInfo&) { throw_user_error("the tokenizer differs"); };
  EXPECT_EQ(message_of<UserError>([&] {
              restore_checkpoint({.candidates = list_checkpoints(out.path()), .accept = refuse});
            }),
            "the tokenizer differs");
  // Its family, and so the exit code, stays what it was.
  const auto config = [](const CheckpointInfo&) { throw_config_error("the model differs"); };
  run_thread_ranks(2, [&](World& world) {
    EXPECT_THROW(
        restore_checkpoint({.candidates = list_checkpoints(out.path()), .accept = config}, &world),
        ConfigError);
  });
}

TEST_F(Damage, FindTakesAnyOfThreeNames) {
  for (const std::string& path : {out.path(), out / "checkpoints"})
    EXPECT_EQ(find_checkpoints(path)[0].path, out / "checkpoints/step_00000002");
  EXPECT_EQ(find_checkpoints(out / "checkpoints/step_00000001")[0].step, 1);
  EXPECT_NE(message_of<UserError>([&] { find_checkpoints(out / "nope"); }).find("does not exist"),
            std::string::npos);
  EXPECT_NE(message_of<UserError>([] { find_checkpoints("/tmp/.."); }).find("holds no checkpoint"),
            std::string::npos);
}

TEST_F(Damage, InspectListsTensors) {
  CheckpointReader reader(out / "checkpoints/step_00000002");
  const CheckpointReport report = inspect_checkpoint(reader, true);
  EXPECT_EQ(report.tensors.size(), 6u);
  EXPECT_EQ(report.parameters, 37 * 12 + 144 + 12);
  const std::string text = describe(report);
  EXPECT_NE(text.find("step 2"), std::string::npos) << text;
  EXPECT_NE(text.find("embed.table"), std::string::npos);
  EXPECT_NE(text.find("bf16[12,3,4]"), std::string::npos);
  EXPECT_FALSE(report.tensors.back().norm.has_value());  // "step" is an integer
}

TEST(Inspect, NormIsEuclidean) {
  TempFolder out;
  const std::vector<float> values = {3, 4};
  const HostTensor tensor = HostTensor::of<float>({2}, values);
  const TestModel model = {{{"t", "parameter", tensor.type()}, tensor}};
  CheckpointWriter(out.path(), 1).save({}, whole_slices(model).slices);
  CheckpointReader reader(out / "checkpoints/step_00000000");
  EXPECT_EQ(inspect_checkpoint(reader, true).tensors[0].norm, 5);
}

}  // namespace
}  // namespace tessera

// The jobs and presets in launch/configs load, and say what they promise.
#include "core/base/strings.h"
#include "tests/config/config_test_util.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

const std::string kConfigs = std::string(TESSERA_SOURCE_DIR) + "/launch/configs/";

JobConfig load_shipped(const std::string& name, int64_t devices, const std::string& preset = "") {
  LoadOptions options;
  options.device_count = devices;
  options.purpose = LoadPurpose::plan;
  if (!preset.empty()) options.sharding_file = kConfigs + "sharding/" + preset + ".textproto";
  return load_job(kConfigs + name, options);
}

// Weights of the big matrices of a decoder, padded vocabulary included.
int64_t parameters(const config::ModelConfig& model) {
  return model.layers * 12 * model.embed * model.embed +
         (model.padded_vocab() + model.context) * model.embed;
}

TEST(Shipped, EveryJobLoads) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(kConfigs)) {
    if (entry.path().extension() != ".textproto") continue;
    SCOPED_TRACE(entry.path().string());
    const JobConfig job = load_shipped(entry.path().filename(), 8);
    EXPECT_EQ(job.batch_shards * job.train.microbatch * job.train.accumulate,
              job.train.global_batch);
    EXPECT_TRUE(job.warnings.empty());
    ++count;
  }
  EXPECT_EQ(count, 4);
}

TEST(Shipped, EveryPresetFitsEveryJob) {
  const char* const presets[] = {"data",   "zero1",           "fsdp", "hsdp",
                                 "tensor", "tensor_sequence", "2d"};
  int files = 0;
  for (const auto& entry : fs::directory_iterator(kConfigs + "sharding")) {
    files += entry.path().extension() == ".textproto";
  }
  EXPECT_EQ(files, static_cast<int>(std::size(presets)));
  for (const char* job : {"quickstart.textproto", "llama-tiny.textproto", "gpt2-124m.textproto"}) {
    for (const char* preset : presets) {
      for (const int64_t devices : {2, 4, 8}) {
        SCOPED_TRACE(cat(job, " ", preset, " ", devices));
        const JobConfig loaded = load_shipped(job, devices, preset);
        EXPECT_EQ(loaded.device_count, devices);
        EXPECT_TRUE(loaded.warnings.empty());
      }
    }
  }
}

TEST(Shipped, PresetsDiffer) {
  const auto sharding = [](const std::string& preset) {
    return load_shipped("quickstart.textproto", 4, preset).sharding;
  };
  EXPECT_TRUE(sharding("data").parameter_rules.empty());
  EXPECT_TRUE(sharding("zero1").parameter_rules.empty());
  EXPECT_FALSE(sharding("zero1").optimizer_rules.empty());
  const ShardingConfig fsdp = sharding("fsdp");
  EXPECT_EQ(fsdp.parameter_rules[0], (AxisRule{"embed", {"data"}, false}));
  EXPECT_EQ(&fsdp.rules_of_optimizer(), &fsdp.parameter_rules);
  EXPECT_EQ(sharding("hsdp").activation_rules[0].mesh_axes,
            (std::vector<std::string>{"host", "data"}));
  EXPECT_EQ(sharding("tensor_sequence").activation_rules.back(),
            (AxisRule{"length", {"model"}, false}));
}

TEST(Shipped, SizesAreAsPromised) {
  const JobConfig quickstart = load_shipped("quickstart.textproto", 2);
  EXPECT_EQ(quickstart.batch_shards, 2);
  EXPECT_GE(parameters(quickstart.model), 800'000);
  EXPECT_LE(parameters(quickstart.model), 2'000'000);
  EXPECT_NEAR(parameters(load_shipped("gpt2-124m.textproto", 1).model), 124e6, 1e6);
  for (const int64_t devices : {2048, 8192}) {
    const JobConfig gpt3 = load_shipped("gpt3-175b.textproto", devices);
    EXPECT_NEAR(parameters(gpt3.model), 175e9, 1e9);
    EXPECT_EQ(gpt3.train.global_batch, 2048);
    EXPECT_EQ(gpt3.train.sequence_length, 2048);
  }
}

TEST(Shipped, EveryJobTakesStepsAndOutputFolder) {
  for (const char* name : {"quickstart.textproto", "llama-tiny.textproto", "gpt2-124m.textproto"}) {
    const JobConfig job =
        load_job(kConfigs + name, on_devices(2, {"train.steps=3", "output_dir=/tmp/x"}));
    EXPECT_EQ(job.train.steps, 3);
    EXPECT_EQ(job.output_dir, "/tmp/x");
  }
}

}  // namespace
}  // namespace tessera

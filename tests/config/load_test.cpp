// Precedence, --set, paths, derived values, and the text of the effective config.
#include "launch/config/set_flag.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/base/strings.h"
#include "tests/config/config_test_util.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

TEST(Load, DefaultsFillWhatTheJobLeavesOut) {
  const JobConfig job = small_job();
  const config::OptimizerConfig defaults;
  EXPECT_EQ(job.optimizer, defaults);
  EXPECT_EQ(job.output_dir, "runs/small");
  EXPECT_EQ(job.model.kv_heads, 4);
  EXPECT_EQ(job.model.head_dim, 8);
  EXPECT_EQ(job.model.mlp, 128);
  EXPECT_EQ(job.model.context, 16);
  EXPECT_TRUE(job.model.tied_embeddings);
  EXPECT_EQ(job.model.padded_vocab(), 384);
  EXPECT_EQ(job.schedule.decay_steps, 100);
}

TEST(Load, DerivedValuesOfLlama) {
  const JobConfig job = small_job(on_devices(1, {"model.family=llama", "model.kv_heads=2"}));
  EXPECT_EQ(job.model.kv_heads, 2);
  EXPECT_EQ(job.model.mlp, 256);
  EXPECT_FALSE(job.model.tied_embeddings);
  EXPECT_EQ(job.model.position, config::ModelPosition::rotary);
  EXPECT_EQ(small_job().model.position, config::ModelPosition::learned);
}

TEST(Load, ZeroDiffersFromUnset) {
  const JobConfig job = small_job(on_devices(1, {"optimizer.weight_decay=0", "train.clip_norm=0"}));
  EXPECT_EQ(job.optimizer.weight_decay, 0);
  EXPECT_EQ(job.train.clip_norm, 0);
}

TEST(Load, F64ComputesAndReducesInF64) {
  const JobConfig job = small_job(on_devices(1, {"train.compute_dtype=f64"}));
  EXPECT_EQ(job.train.reduce_dtype, DType::f64);
  EXPECT_EQ(job.train.parameter_dtype, DType::f64);
  EXPECT_EQ(job.optimizer.moment_dtype, DType::f64);
}

TEST(Load, ShortRunsKeepALongWarmup) {
  const JobConfig job = small_job(on_devices(1, {"schedule.warmup_steps=50", "train.steps=5"}));
  EXPECT_EQ(job.schedule.decay_steps, 50);
}

TEST(Load, PurposeDecidesWhatMustBeNamed) {
  const std::string model = "model { family: gpt2 layers: 1 embed: 8 heads: 1 }\n";
  LoadOptions options = on_devices(1);
  options.purpose = LoadPurpose::plan;
  load_job_text(model + "train { steps: 1 global_batch: 1 sequence_length: 4 }", "a", options);
  options.purpose = LoadPurpose::use;
  load_job_text(model, "a", options);
  // Whatever the batch was, a trained model can be used on one device.
  options.mesh = "1";
  const std::string batch = "train { steps: 1 global_batch: 8 microbatch: 2 accumulate: 2 }";
  EXPECT_EQ(load_job_text(model + batch, "a", options).device_count, 1);
}

// Each source sets the same value, and the later one wins.
TEST(Precedence, DefaultsJobShardingFileMeshSet) {
  const TemporaryFolder folder;
  const std::string rules = "activation_rules { logical: \"batch\" axes: \"data\" }\n";
  folder.write("a.textproto", cat("mesh { name: \"data\" size: 1 }\n", rules));
  const std::string b =
      folder.write("b.textproto", cat("mesh { name: \"data\" size: 2 }\n", rules));
  const std::string job =
      folder.write("job.textproto", cat(kSmallJob, "sharding_file: \"a.textproto\""));

  LoadOptions options;
  EXPECT_EQ(load_job(job, options).device_count, 1);
  options.sharding_file = b;
  EXPECT_EQ(load_job(job, options).device_count, 2);
  options.mesh = "data=4";
  EXPECT_EQ(load_job(job, options).device_count, 4);
  options.sets = {"sharding.mesh[0].size=2", "sharding.mesh[0].size=8"};
  const JobConfig last = load_job(job, options);
  EXPECT_EQ(last.device_count, 8);
  EXPECT_EQ(last.origins.at("sharding.mesh[0].size").text(), "--set sharding.mesh[0].size=8");
  EXPECT_EQ(last.origins.at("sharding.mesh[0].name").text(), "--mesh data=4");
  EXPECT_EQ(last.origins.at("sharding.activation_rules[0].logical").text(), cat(b, ":2"));
  EXPECT_EQ(last.origins.at("train.steps").text(), cat(job, ":9"));
}

TEST(Precedence, SetMayNameTheShardingFile) {
  const TemporaryFolder folder;
  const std::string file = folder.write(
      "b.textproto",
      "mesh { name: \"data\" size: 2 } activation_rules { logical: \"batch\" axes: \"data\" }");
  EXPECT_EQ(small_job({.sharding_file = "",
                       .mesh = "",
                       .sets = {"sharding_file=" + file},
                       .device_count = 2,
                       .purpose = LoadPurpose::train})
                .device_count,
            2);
}

TEST(Precedence, AShardingFileReplacesInlineSharding) {
  const TemporaryFolder folder;
  LoadOptions options;
  options.sharding_file = folder.write(
      "b.textproto",
      "mesh { name: \"x\" size: 2 } activation_rules { logical: \"batch\" axes: \"x\" }");
  const JobConfig job = load_job_text(
      cat(kSmallJob, "sharding { mesh { name: \"y\" size: 3 } overrides { tensor: \".*\" } }"),
      "job", options);
  ASSERT_EQ(job.sharding.axes.size(), 1u);
  EXPECT_EQ(job.sharding.axes[0].name, "x");
  EXPECT_TRUE(job.sharding.overrides.empty());
}

TEST(Paths, AreRelativeToTheFileOrToTheWorkingFolder) {
  const TemporaryFolder folder;
  const std::string job = folder.write("jobs/job.textproto", kSmallJob);
  EXPECT_EQ(load_job(job, on_devices(1)).data.paths[0], folder.path("jobs/corpus.txt"));
  EXPECT_EQ(load_job(job, on_devices(1, {"data.paths=../x/"})).data.paths[0],
            (fs::current_path().parent_path() / "x").string());
  const JobConfig both = load_job(job, on_devices(1, {"data.paths+=/y", "output_dir=out"}));
  EXPECT_EQ(both.data.paths, (std::vector<std::string>{folder.path("jobs/corpus.txt"), "/y"}));
  EXPECT_EQ(both.output_dir, "out");
}

TEST(Set, TakesEveryFormOfValue) {
  const JobConfig job = small_job(on_devices(
      1, {"output_dir=/tmp/some where=else", "data.paths=[a,b/c.txt]", "data.paths+=\"d\"",
          "data.paths+=['e f', \"g\"]", "data.paths[0]=z", "data.document_separator=\"\\n%\\n\"",
          "train.remat=dots", "eval.at_end=false", "schedule.learning_rate=1e-3", "train.seed = 7",
          "checkpoint={keep: 5 resume: never}",
          "sharding.parameter_rules+={logical: \"embed\" axes: \"data\" if_divides: true}",
          "sharding.groups=[{tensors: ['wte', 'head'] strict: true}]",
          "sharding.overrides=[{tensor: 'wte' dims {} dims {axes: ['data', '?']} priority: 2}]"}));
  EXPECT_EQ(job.output_dir, "/tmp/some where=else");
  std::vector<std::string> names;
  for (const std::string& path : job.data.paths) names.push_back(fs::path(path).filename());
  EXPECT_EQ(names, (std::vector<std::string>{"z", "c.txt", "d", "e f", "g"}));
  EXPECT_EQ(job.data.document_separator, "\n%\n");
  EXPECT_EQ(job.train.remat, config::RematPolicy::dots);
  EXPECT_FALSE(job.eval.at_end);
  EXPECT_EQ(job.schedule.learning_rate, 1e-3);
  EXPECT_EQ(job.train.seed, 7);
  EXPECT_EQ(job.checkpoint.keep, 5);
  EXPECT_EQ(job.checkpoint.resume, config::ResumeMode::never);
  ASSERT_EQ(job.sharding.parameter_rules.size(), 1u);
  EXPECT_EQ(job.sharding.parameter_rules[0], (AxisRule{"embed", {"data"}, true}));
  ASSERT_EQ(job.sharding.overrides.size(), 1u);
  EXPECT_EQ(job.sharding.overrides[0].dims,
            (std::vector<std::vector<std::string>>{{}, {"data", "?"}}));
  EXPECT_EQ(job.sharding.overrides[0].priority, 2);
  ASSERT_EQ(job.sharding.groups.size(), 1u);
  EXPECT_EQ(job.sharding.groups[0], (TensorGroup{{"wte", "head"}, true}));
}

TEST(Set, SplitsAtTheFirstEquals) {
  EXPECT_EQ(config::split_set("a=b=c").value, "b=c");
  EXPECT_EQ(config::split_set("a+=b").path, "a");
  EXPECT_TRUE(config::split_set("a+=b").append);
  EXPECT_EQ(config::split_set("a").path, "");
}

TEST(Effective, EveryValueSaysWhereItIsFrom) {
  const std::string text = print_effective(small_job(on_devices(2, {"train.seed=3"})));
  const auto line_with = [&](const std::string& start) {
    for (const std::string& line : split(text, '\n')) {
      if (trim(line).starts_with(start)) return line.substr(line.find("# from"));
    }
    return std::string("no such line");
  };
  EXPECT_EQ(line_with("layers:"), "# from small.textproto:3");
  EXPECT_EQ(line_with("mlp:"), "# from default: 4 x embed");
  EXPECT_EQ(line_with("beta1:"), "# from default");
  EXPECT_EQ(line_with("seed: 3"), "# from --set train.seed=3");
  EXPECT_EQ(line_with("size:"), "# from default: (-1 of 2 devices)");
  EXPECT_EQ(line_with("microbatch:"), "# from default: 8 / (2 shards x accumulate 1)");
  EXPECT_TRUE(text.starts_with(
      "# Effective config of small.textproto on 2 devices (mesh data=2): global batch 8 = 2 data "
      "shards x microbatch 4 x accumulate 1\n"));
  EXPECT_EQ(load_job_text(text, "printed", on_devices(2)),
            small_job(on_devices(2, {"train.seed=3"})));
}

TEST(Effective, TextLoadsOnAnotherMesh) {
  LoadOptions options = on_devices(4);
  options.mesh = "data=4";
  EXPECT_EQ(load_job_text(effective_text(small_job()), "saved", options).train.microbatch, 2);
}

// Random values in random fields: what comes out of effective_text is the same config.
RC_GTEST_PROP(Effective, RoundTrips, ()) {
  const std::vector<std::string> choices = {
      cat("train.seed=", *rc::gen::arbitrary<int64_t>()),
      cat("schedule.learning_rate=",
          print_double(
              *rc::gen::map(rc::gen::inRange(0, 1 << 30), [](int i) { return i * 1e-9 / 3; }))),
      cat("data.document_separator=", *rc::gen::container<std::string>(rc::gen::inRange('a', 'z'))),
      cat("data.paths+=", *rc::gen::nonEmpty(rc::gen::container<std::string>(
                              rc::gen::inRange<char>(' ' + 2, '~')))),
      cat("model.family=", *rc::gen::element<std::string>("gpt2", "llama")),
      cat("train.compute_dtype=", *rc::gen::element<std::string>("f32", "bf16", "f64")),
      cat("schedule.kind=", *rc::gen::element<std::string>("constant", "cosine", "rsqrt")),
      cat("sharding.parameter_rules+={logical: 'embed' axes: 'data' if_divides: ",
          *rc::gen::element<std::string>("true", "false"), "}"),
      cat("train.microbatch=", *rc::gen::element(1, 2, 4)),
  };
  std::vector<std::string> sets;
  for (const std::string& choice : choices) {
    const bool has_quote =
        choice.starts_with("data.paths+=") && choice.find_first_of("'\"[\\") != std::string::npos;
    if (*rc::gen::arbitrary<bool>() && !has_quote) sets.push_back(choice);
  }
  const JobConfig job = small_job(on_devices(2, sets));
  const std::string text = effective_text(job);
  const JobConfig again = load_job_text(text, "saved", on_devices(2));
  RC_ASSERT(again == job);
  RC_ASSERT(effective_text(again) == text);
  RC_ASSERT(diff_configs(text, job).empty());
}

}  // namespace
}  // namespace tessera

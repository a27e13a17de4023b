// What a user sees of a run, and the other verbs.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/strings.h"
#include "kernels/cpu/register.h"
#include "launch/config/load.h"
#include "launch/engine/compiled_job.h"
#include "tests/launch/program.h"
#include "tests/launch/tiny_job.h"

namespace tessera::test {
namespace {

TEST(Verbs, HelpIsGoodAndWrongUseIs2) {
  for (const char* verb : {"train", "plan", "eval", "generate", "inspect", "bench", "doctor"}) {
    const Outcome run = run_program({verb, "--help"});
    EXPECT_EQ(run.exit_code, 0) << verb << run.all();
    EXPECT_TRUE(run.says("--json")) << run.all();
  }
  for (const char* verb : {"shardings", "run", "check"}) {
    const Outcome run = run_program({"hlo", verb, "--help"});
    EXPECT_EQ(run.exit_code, 0) << verb << run.all();
    EXPECT_TRUE(run.says("--json") && run.says("Examples:")) << run.all();
  }
  EXPECT_EQ(run_program({"--help"}).exit_code, 0);
  EXPECT_TRUE(run_program({"--version"}).says("commit"));
  for (const std::vector<std::string>& wrong : std::vector<std::vector<std::string>>{{}, {"fly"}, {"train"}, {"train", "nowhere.textproto"}})
    EXPECT_EQ(run_program(wrong).exit_code, 2);
}

TEST(Verbs, CheckPrintsOriginsAndWritesNothing) {
  const TinyJob job;
  const Outcome run = run_program(job.train("out", {"--check"}));
  EXPECT_EQ(run.exit_code, 0) << run.all();
  for (const char* text : {"# from default", "job.textproto:", "--set output_dir="}) EXPECT_TRUE(run.says(text)) << text << run.all();
  EXPECT_FALSE(std::filesystem::exists(job.output("out")));
}

TEST(Verbs, JsonIsAloneOnStandardOutput) {
  const TinyJob job;
  const Outcome run = run_program(job.train("out", {"--json", "-"}));
  ASSERT_EQ(run.exit_code, 0) << run.all();
  const nlohmann::json report = nlohmann::json::parse(run.out);
  EXPECT_EQ(report.at("losses").size(), 20u);
  EXPECT_EQ(report.at("steps"), 20);
  EXPECT_NE(run.err.find("done at step 20"), std::string::npos) << run.err;
}

TEST(Verbs, FilesOfARun) {
  const TinyJob job;
  const ProgramOptions options{.ranks = have_mpirun() ? 2 : 0};
  const Outcome run = run_program(
      job.train("out", {"--progress", "auto", "--set", "metrics.tensorboard=true", "--set", "metrics.print_interval=5"}), options);
  ASSERT_EQ(run.exit_code, 0) << run.all();
  // Output of the launcher is a file, so the lines are plain.
  EXPECT_EQ(run.out.find('\r'), std::string::npos) << run.out;
  EXPECT_EQ(run.out.find('\033'), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("\nstep 10/20"), std::string::npos) << run.out;
  const auto lines = read_metrics(job.output("out"));
  ASSERT_EQ(lines.size(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(lines[static_cast<size_t>(i)].step, i + 1);
  EXPECT_FALSE(std::filesystem::is_empty(job.output("out") + "/tensorboard"));
  EXPECT_TRUE(std::filesystem::exists(job.output("out") + "/logs/rank_00000.log"));
  if (options.ranks == 2) {
    EXPECT_TRUE(std::filesystem::exists(job.output("out") + "/logs/rank_00001.log"));
  }
}

TEST(Verbs, EvalGenerateAndInspectReadARun) {
  const TinyJob job;
  const Outcome run = run_program(job.train("out", {"--json", "-"}));
  ASSERT_EQ(run.exit_code, 0) << run.all();
  const double trained = nlohmann::json::parse(run.out).at("eval_loss");

  const Outcome eval = run_program({"eval", job.output("out"), "--json", "-"});
  ASSERT_EQ(eval.exit_code, 0) << eval.all();
  EXPECT_EQ(nlohmann::json::parse(eval.out).at("loss").get<double>(), trained);
  const Outcome elsewhere = run_program({"eval", job.output("out"), "--virtual-devices", "2", "--sharding",
                                         shipped_sharding("fsdp"), "--mesh", "data=2", "--json", "-"});
  ASSERT_EQ(elsewhere.exit_code, 0) << elsewhere.all();
  EXPECT_NEAR(nlohmann::json::parse(elsewhere.out).at("loss").get<double>(), trained, 1e-5 * trained);

  const auto generate = [&](const char* seed) {
    const Outcome text = run_program({"generate", job.output("out"), "--prompt", "the ", "--tokens", "30", "--seed", seed});
    EXPECT_EQ(text.exit_code, 0) << text.all();
    EXPECT_EQ(text.out.rfind("the ", 0), 0u) << text.out;
    return text.out;
  };
  EXPECT_EQ(generate("1"), generate("1"));
  EXPECT_NE(generate("1"), generate("2"));

  const Outcome inspect = run_program({"inspect", job.output("out")});
  EXPECT_EQ(inspect.exit_code, 0) << inspect.all();
  EXPECT_TRUE(inspect.says("embedding.weight") && inspect.says("block.1.")) << inspect.all();
  EXPECT_EQ(run_program({"inspect", job.output("nowhere")}).exit_code, 1);
  EXPECT_EQ(run_program({"eval", job.output("nowhere")}).exit_code, 1);
}

// Runs `command` with a reader that leaves at once, or after a line; its exit code as a shell sees it.
int code_with_reader(const std::string& command, const std::string& reader) {
  const TempFolder folder;
  const std::string code = folder / "code";
  EXPECT_EQ(std::system(cat("( ", command, "; echo $? > ", code, " ) | ", reader, " > /dev/null").c_str()), 0);
  return std::stoi(read_whole_file(code));
}

TEST(ClosedPipe, ReportsEndQuietly) {
  const TempFolder folder;
  const std::string plan = cat(TESSERA_PROGRAM, " plan ", TESSERA_SOURCE_DIR,
                               "/launch/configs/gpt2-124m.textproto --devices 8");
  // Whoever starts us may have the signal ignored, as Python and some job systems do.
  for (const char* before : {"", "trap '' PIPE; "})
    for (const char* json : {"", " --json -"})
      for (const char* reader : {"true", "head -1"}) {
        const std::string errors = folder / "err";
        const std::string command = cat(before, plan, json, " 2> ", errors);
        const int code = code_with_reader(command, reader);
        // 141: ended by SIGPIPE. 0 where all was written before the reader left.
        EXPECT_TRUE(code == 141 || code == 0) << command << ": " << code;
        EXPECT_EQ(read_whole_file(errors), "") << command;
      }
}

TEST(ClosedPipe, TrainingGoesOn) {
  const TinyJob job;
  std::string command = TESSERA_PROGRAM;
  for (const std::string& word : job.train("out", set("metrics.print_interval", "1"))) command += cat(" '", word, "'");
  EXPECT_EQ(code_with_reader(command, "true"), 0);
  EXPECT_EQ(read_metrics(job.output("out")).size(), 20u);
}

// No op of weight falls to a reference kernel, in any shipped sharding.
class Strict : public testing::TestWithParam<const char*> {};

TEST_P(Strict, QuickstartCompiles) {
  const std::string sharding = GetParam();
  const bool has_model = sharding == "tensor" || sharding == "tensor_sequence" || sharding == "2d";
  const KernelTable kernels = cpu_kernel_table();
  for (const char* name : {"quickstart", "llama-tiny"})
    for (const char* dtype : {"f32", "bf16"})
      for (const char* accumulate : {"1", "2"}) {
        const JobConfig job = load_job(
            cat(TESSERA_SOURCE_DIR, "/launch/configs/", name, ".textproto"),
            {.sharding_file = shipped_sharding(sharding),
             .mesh = has_model ? "data=2,model=2" : sharding == "hsdp" ? "host=2,data=2" : "data=4",
             .sets = {cat("train.compute_dtype=", dtype), cat("train.accumulate=", accumulate)},
             .device_count = 4});
        EXPECT_NO_THROW(compile_job(job, kernels, {.strict = true})) << name << " " << dtype;
      }
}

INSTANTIATE_TEST_SUITE_P(Presets, Strict,
                         testing::Values("data", "zero1", "fsdp", "hsdp", "tensor", "tensor_sequence", "2d"),
                         [](const auto& info) { return cat("p_", info.param); });

TEST(Verbs, UnknownOnesGetTheNearestName) {
  const Outcome near = run_program({"trian", "job.textproto"});
  EXPECT_EQ(near.exit_code, 2);
  EXPECT_TRUE(near.says("there is no verb \"trian\"; did you mean \"train\"?")) << near.all();
  const Outcome far = run_program({"xyz"});
  EXPECT_EQ(far.exit_code, 2);
  EXPECT_TRUE(far.says("the verbs are train, plan, eval, generate, inspect, bench, doctor")) << far.all();
}

}  // namespace
}  // namespace tessera::test

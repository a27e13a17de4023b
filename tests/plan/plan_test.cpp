#include <gtest/gtest.h>

#include <regex>

#include "tests/plan/plan_testing.h"

namespace tessera::plan_testing {
namespace {

struct Preset {
  const char* name;
  const char* mesh;
};

class PlanOfPreset : public testing::TestWithParam<Preset> {};

TEST_P(PlanOfPreset, HasAllKeysAndSections) {
  const Output output = run(quickstart(GetParam().name, GetParam().mesh));
  for (const char* key : {"shardings", "collectives", "memory_per_device", "parameters", "flops_per_token",
                          "partition_seconds", "predicted_step_seconds", "exposed_communication", "crossing_axes",
                          "saved_activations_per_layer", "warnings"})
    EXPECT_TRUE(output.json.contains(key)) << key;
  for (const Json& one : output.json.at("collectives"))
    for (const char* key : {"op", "axes", "count", "bytes"}) EXPECT_TRUE(one.contains(key)) << key;
  for (const char* kind : {"parameters", "gradients", "optimizer", "activations"})
    EXPECT_GT(memory(output.json, kind), 0) << kind;
  EXPECT_EQ(output.json.at("devices"), 4);
  EXPECT_EQ(output.json.at("parameters"), 1299360);
  EXPECT_GT(output.json.at("predicted_step_seconds").get<double>(), 0);
  EXPECT_LE(output.json.at("exposed_communication").at("seconds").get<double>(),
            output.json.at("predicted_step_seconds").get<double>());
  for (const Json& one : output.json.at("shardings")) EXPECT_NE(one.at("reason"), "") << one.at("tensor");
  for (const char* section : {"Shardings", "because activation rule batch -> ", "Collectives of \"step\"",
                              "Predicted times", "Memory per device", "Activations kept", "partition "})
    EXPECT_NE(output.text.find(section), std::string::npos) << section;
}

INSTANTIATE_TEST_SUITE_P(Shipped, PlanOfPreset,
                         testing::Values(Preset{"data", "data=4"}, Preset{"zero1", "data=4"}, Preset{"fsdp", "data=4"},
                                         Preset{"hsdp", "host=2,data=2"}, Preset{"tensor", "data=2,model=2"},
                                         Preset{"tensor_sequence", "data=2,model=2"}, Preset{"2d", "data=2,model=2"}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Plan, RepeatedLayersAreShownOnce) {
  const std::string text = run(quickstart("tensor", "data=2,model=2")).text;
  const size_t line = text.find("block.*.mlp.up.weight");
  ASSERT_NE(line, std::string::npos);
  const std::string rest = text.substr(line, text.find('\n', line) - line);
  EXPECT_NE(rest.find("[{}, {model}]"), std::string::npos) << rest;
  EXPECT_NE(rest.find(" 4  m, v"), std::string::npos) << rest;
  EXPECT_EQ(text.find("mlp.up.weight", line + 10), std::string::npos);
  EXPECT_NE(text.find("dim 1 {model} because parameter rule mlp -> model", line), std::string::npos);
}

TEST(Plan, OneDeviceHasNoCollectives) {
  const Output output = run(quickstart("data", "1"));
  EXPECT_TRUE(output.json.at("collectives").empty());
  EXPECT_EQ(output.json.at("devices"), 1);
  EXPECT_NE(output.text.find("  none\n"), std::string::npos);
}

TEST(Plan, OtherGraphs) {
  for (const char* graph : {"evaluate", "predict"}) {
    PlanArguments arguments = quickstart("tensor", "data=2,model=2");
    arguments.graph = graph;
    const Output output = run(arguments);
    EXPECT_EQ(output.json.at("graph"), graph);
    EXPECT_EQ(memory(output.json, "optimizer"), 0);
    EXPECT_EQ(entry(output.json, "all_reduce", "model").layer_count, 2);  // forward only
  }
}

// Accumulated gradients stay unreduced until the last microbatch.
TEST(Plan, AccumulationCountsItsRuns) {
  const Output output = run(quickstart("data", "data=4", {"train.microbatch=2"}));
  ASSERT_TRUE(output.json.contains("accumulate"));
  const Json& before = output.json.at("accumulate");
  EXPECT_EQ(before.at("runs"), 3);
  EXPECT_TRUE(before.at("collectives").empty()) << before.at("collectives");
  EXPECT_GT(output.json.at("predicted_step_seconds").get<double>(), 3 * before.at("seconds").get<double>());
}

TEST(Plan, AfterPrintsTheGraph) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  auto after = [&](const char* pass) {
    arguments.after = pass;
    return run(arguments).text;
  };
  const std::string annotated = after("annotate");
  EXPECT_TRUE(annotated.starts_with("graph \"step\" mesh <data=2, model=2>")) << annotated.substr(0, 200);
  EXPECT_EQ(annotated.find("all_reduce"), std::string::npos);
  EXPECT_NE(after("localize").find("all_reduce"), std::string::npos);
  EXPECT_NE(after("fuse_elementwise").find("fusion"), std::string::npos);
  EXPECT_TRUE(after("build").starts_with("graph \"step\""));
}

TEST(Plan, ExplainGivesTheReason) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  arguments.explain = "block.2.mlp.up.weight";
  EXPECT_EQ(run(arguments).text,
            "block.2.mlp.up.weight f32[160,640] lies [{}, {model}]\n"
            "dim 1 {model} because parameter rule mlp -> model\n");
}

// Activations bear their scope, op and logical axes; what no rule names has a chain of causes.
TEST(Plan, ExplainFollowsPropagation) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  arguments.explain = "block.1/mlp/add(batch,length,mlp)";
  EXPECT_EQ(run(arguments).text,
            "block.1/mlp/add(batch,length,mlp) f32[32,128,640] lies [{data}, {}, {model}]\n"
            "dim 0 {data} because activation rule batch -> data\n"
            "dim 2 {model} because activation rule mlp -> model\n");
  // Without rules for activations, the lying of the weights decides.
  arguments.job.sharding_file = source_path("tests/plan/weights_only.textproto");
  const std::string text = run(arguments).text;
  EXPECT_NE(text.find("dim 2 {model} because "), std::string::npos) << text;
  EXPECT_NE(text.find("block.1.mlp.up."), std::string::npos) << text;
  EXPECT_NE(text.find("because parameter rule mlp -> model"), std::string::npos) << text;
}

// Under 2-D sharding the weight lies along `data`, which the batch wants: after the reasons the conflicts
// at the ops that meet both, forward and backward.
TEST(Plan, ExplainTellsOfConflicts) {
  PlanArguments arguments = quickstart("2d", "data=2,model=2");
  arguments.explain = "block.1.mlp.up.weight";
  const std::string weight = "\"block.1.mlp.up.weight\" (%*) lies [{data}, {model}]";
  EXPECT_EQ(std::regex_replace(run(arguments).text, std::regex("%[0-9]+"), "%*"),
            "block.1.mlp.up.weight f32[160,640] lies [{data}, {model}]\n"
            "dim 1 {model} because parameter rule mlp -> model\n"
            "dim 0 {data} because parameter rule embed -> data\n"
            "conflict at dot_general %* in block.1/mlp: %*:0 (layer_norm in block.1) lies "
            "[{data}, {?}, {model}]; " + weight + "; %* (dot_general in block.1/mlp) lies "
            "[{data,?}, {?}, {model,?}]\n"
            "conflict at dot_general %* in block.1/mlp/backward: %* (gelu_grad in block.1/mlp/backward) "
            "lies [{data}, {?}, {model}]; " + weight + "; %* (dot_general in block.1/mlp/backward) lies "
            "[{data}, {?}, {model}]\n");
}

TEST(Plan, ExplainTakesRegularExpressionsAndNumbers) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  arguments.explain = "block.[01].mlp.up.weight";
  EXPECT_EQ(run(arguments).text,
            "block.0.mlp.up.weight f32[160,640] lies [{}, {model}]\n"
            "dim 1 {model} because parameter rule mlp -> model\n"
            "block.1.mlp.up.weight f32[160,640] lies [{}, {model}]\n"
            "dim 1 {model} because parameter rule mlp -> model\n");
  arguments.explain = "%0";
  EXPECT_NE(run(arguments).text.find(" (%0) "), std::string::npos) << run(arguments).text;
}

TEST(Plan, TensorParallelAcrossHostsIsWarnedOf) {
  PlanArguments arguments;
  arguments.job.job = source_path("launch/configs/gpt3-175b.textproto");
  arguments.job.mesh = "data=8,model=16";
  arguments.job.sets = {"model.layers=1"};
  arguments.profile = "h100-nvlink-ib";
  const Output output = run(arguments);
  EXPECT_EQ(output.json.at("crossing_axes"), Json({"data", "model"}));
  EXPECT_NE(output.text.find("tensor-parallel axis \"model\" of size 16 crosses hosts of 8 devices"), std::string::npos);
  arguments.job.mesh = "data=8,model=8";
  const Json inside = run(arguments).json;
  EXPECT_EQ(inside.at("crossing_axes"), Json({"data"}));
  EXPECT_TRUE(inside.at("warnings").empty()) << inside.at("warnings");
}

// Planning does not depend on the number of devices, and allocates nothing of a tensor's size: a shard of
// this model's table alone would be 77 MB, all of it 2.5 GB.
TEST(Plan, HugeModelsTakeTheSameSecondsOnAnyNumberOfDevices) {
  PlanArguments arguments;
  arguments.job.job = source_path("launch/configs/gpt3-175b.textproto");
  arguments.job.sets = {"model.layers=12"};
  auto plan = [&](int64_t devices) {
    arguments.devices = devices;
    return run(arguments).json;
  };
  const Json small = plan(2048), large = plan(8192);
  EXPECT_EQ(small.at("devices"), 2048);
  EXPECT_EQ(large.at("devices"), 8192);
  EXPECT_EQ(small.at("shardings").size(), large.at("shardings").size());
  const double a = small.at("plan_seconds"), b = large.at("plan_seconds");
  EXPECT_LT(b, 3 * a + 2);
  EXPECT_LT(a, 60);
}

}  // namespace
}  // namespace tessera::plan_testing

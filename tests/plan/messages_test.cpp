// What a wrong call of `tessera plan` gets: each message says what, where, and what to do.
#include <gtest/gtest.h>

#include "tests/plan/plan_testing.h"

namespace tessera::plan_testing {
namespace {

void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << part << "\nnot in: " << message;
}

TEST(PlanMessages, UnknownPassListsAll) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  arguments.after = "propagat";
  expect_parts(message_of(arguments), {"no pass \"propagat\"", "did you mean \"propagate\"?", "annotate, ", "localize", "fuse_elementwise"});
}

TEST(PlanMessages, UnknownTensorNamesTheNearest) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  arguments.explain = "block.2.mlp.up.wieght";
  expect_parts(message_of(arguments), {"no tensor \"block.2.mlp.up.wieght\"", "did you mean \"block.2.mlp.up.weight\"?"});
}

TEST(PlanMessages, UnknownValueTellsTheRange) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  arguments.explain = "%99999";
  expect_parts(message_of(arguments), {"no value %99999", "it has %0 to %", "--after=propagate"});
}

TEST(PlanMessages, UnknownProfileListsAll) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  arguments.profile = "tpu";
  expect_parts(message_of(arguments), {"\"tpu\"", "cpu-shm", "h100-nvlink-ib"});
}

TEST(PlanMessages, PaddedTensorsAreListedWithTheirWaste) {
  const std::string text = run(quickstart("tensor", "data=1,model=3")).text;
  expect_parts(text, {"Padding of dims that their axes do not divide", "attention.query.weight", "%"});
  EXPECT_EQ(run(quickstart("tensor", "data=1,model=2")).text.find("Padding of dims"), std::string::npos);
}

// The message names op, tensor, lyings, bytes and the rule that would help; without --strict it is a
// warning.
TEST(PlanMessages, ImplicitReshardsAboveTheLimit) {
  PlanArguments arguments =
      quickstart("2d", "data=2,model=2", {"sharding.max_implicit_reshard_bytes=100000"});
  const Json warnings = run(arguments).json["warnings"];
  ASSERT_FALSE(warnings.empty());
  EXPECT_NE(warnings.dump().find("implicit reshard"), std::string::npos) << warnings;
  arguments.strict = true;
  expect_parts(message_of(arguments),
               {"--strict", "max_implicit_reshard_bytes (100000)", "each device sends",
                "for operand", " of ", "block.", " lies [", "is needed [", "would avoid it"});
  arguments.job.sets = {"sharding.max_implicit_reshard_bytes=1000000000"};
  EXPECT_NO_THROW(run(arguments));
}

TEST(PlanMessages, MissingDevicesNamesTheOption) {
  expect_parts(message_of(quickstart("tensor", "")), {"data", "--devices"});
}

TEST(PlanMessages, DevicesThatDoNotFitTheMesh) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  arguments.devices = 6;
  expect_parts(message_of(arguments), {"4", "6"});
}

}  // namespace
}  // namespace tessera::plan_testing

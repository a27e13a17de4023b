// The program bounds the spinning of OpenMP threads before the library starts; libgomp says what it
// was told.
#include <gtest/gtest.h>

#include "tests/launch/program.h"

namespace tessera::test {
namespace {

Outcome settings(std::vector<std::pair<std::string, std::string>> environment) {
  environment.emplace_back("OMP_DISPLAY_ENV", "verbose");
  return run_program({"--version"}, {.environment = environment});
}

TEST(WaitPolicy, SpinningIsBounded) {
  const Outcome plain = settings({});
  ASSERT_EQ(plain.exit_code, 0) << plain.all();
  if (!plain.says("GOMP_SPINCOUNT")) GTEST_SKIP() << "not GNU's OpenMP library";
  EXPECT_TRUE(plain.says("GOMP_SPINCOUNT = '1000'")) << plain.all();
}

TEST(WaitPolicy, TheUsersChoiceStands) {
  EXPECT_FALSE(settings({{"OMP_WAIT_POLICY", "active"}}).says("GOMP_SPINCOUNT = '1000'"));
  EXPECT_FALSE(settings({{"GOMP_SPINCOUNT", "77"}}).says("GOMP_SPINCOUNT = '1000'"));
}

}  // namespace
}  // namespace tessera::test

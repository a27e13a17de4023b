#include "core/base/error.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

template <typename Error, typename Body>
std::string message_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Error, a_config_error_is_a_user_error_and_an_internal_error_is_not) {
  EXPECT_EQ(message_of<UserError>([] { throw_config_error("mesh ", 4, " != ", 2); }),
            "mesh 4 != 2");
  EXPECT_EQ(message_of<ConfigError>([] { throw_config_error("x"); }), "x");
  EXPECT_THROW(throw_user_error("x"), UserError);
  EXPECT_FALSE((std::is_base_of_v<UserError, InternalError>));
}

TEST(Error, check_says_where_what_and_the_values) {
  const int a = 1, b = 2;
  const std::string text =
      message_of<InternalError>([&] { TESSERA_CHECK(a == b, "a is ", a, ", b is ", b); });
  EXPECT_NE(text.find("error_test.cpp:"), std::string::npos) << text;
  EXPECT_NE(text.find("a is 1, b is 2"), std::string::npos) << text;
  EXPECT_NE(text.find("(failed: a == b)"), std::string::npos) << text;
  EXPECT_NE(message_of<InternalError>([&] { TESSERA_CHECK(a == b); }).find("a == b"),
            std::string::npos);
}

TEST(Error, check_evaluates_its_message_only_on_failure) {
  int evaluated = 0;
  TESSERA_CHECK(true, ++evaluated);
  EXPECT_EQ(evaluated, 0);
}

}  // namespace
}  // namespace tessera

#include "core/base/strings.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

namespace tessera {
namespace {

TEST(Strings, cat_and_join_print_what_streams_print) {
  EXPECT_EQ(cat(), "");
  EXPECT_EQ(cat("a", 1, 'c', 2.5, std::string("d")), "a1c2.5d");
  EXPECT_EQ(join(std::vector<int>{}), "");
  EXPECT_EQ(join(std::vector<int>{1}), "1");
  EXPECT_EQ(join(std::vector<int>{1, 2, 3}), "1, 2, 3");
  EXPECT_EQ(join(std::vector<std::string>{"x", "y"}, "/"), "x/y");
}

TEST(Strings, split_keeps_empty_parts) {
  using Parts = std::vector<std::string>;
  EXPECT_EQ(split("", ','), Parts{""});
  EXPECT_EQ(split("a", ','), Parts{"a"});
  EXPECT_EQ(split(",a,,b,", ','), (Parts{"", "a", "", "b", ""}));
}

RC_GTEST_PROP(Strings, join_inverts_split, (const std::string& text)) {
  RC_ASSERT(join(split(text, ','), ",") == text);
}

TEST(Strings, trim_takes_blanks_from_both_ends_only) {
  EXPECT_EQ(trim(""), "");
  EXPECT_EQ(trim(" \t\r\n"), "");
  EXPECT_EQ(trim("  a b\n"), "a b");
}

TEST(Strings, edit_distance_of_known_pairs) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("flaw", "lawn"), 2);
}

RC_GTEST_PROP(Strings, edit_distance_is_a_metric,
              (const std::string& a, const std::string& b, const std::string& c)) {
  RC_ASSERT(edit_distance(a, b) == edit_distance(b, a));
  RC_ASSERT((edit_distance(a, b) == 0) == (a == b));
  RC_ASSERT(edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c));
}

TEST(Strings, nearest_name_suggests_typos_and_nothing_else) {
  const std::vector<std::string> names = {"data", "model", "learning_rate", "heads", "kv_heads"};
  EXPECT_EQ(nearest_name("dta", names), "data");
  EXPECT_EQ(nearest_name("modle", names), "model");
  EXPECT_EQ(nearest_name("learnin_rat", names), "learning_rate");
  EXPECT_EQ(nearest_name("kvheads", names), "kv_heads");
  EXPECT_EQ(nearest_name("pipeline", names), "");
  EXPECT_EQ(nearest_name("x", names), "");
  EXPECT_EQ(nearest_name("data", {}), "");
}

TEST(Strings, human_sizes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.50 KiB");
  EXPECT_EQ(human_bytes(64.0 * 1024 * 1024), "64.0 MiB");
  EXPECT_EQ(human_bytes(80e9), "74.5 GiB");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1234567), "1.23 M");
  EXPECT_EQ(human_count(175e9), "175.0 B");
}

TEST(Strings, human_sizes_never_show_a_full_next_unit) {
  EXPECT_EQ(human_bytes(1024.0 * 1024 - 1), "1.00 MiB");
  EXPECT_EQ(human_count(999999), "1.00 M");
}

TEST(Strings, print_double_is_short) {
  EXPECT_EQ(print_double(0.1), "0.1");
  EXPECT_EQ(print_double(1e-8), "1e-08");
  EXPECT_EQ(print_double(3), "3");
  EXPECT_EQ(print_double(-0.0), "-0");
  EXPECT_EQ(print_double(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(print_double(-std::numeric_limits<double>::infinity()), "-inf");
  EXPECT_EQ(print_double(std::nan("")), "nan");
}

RC_GTEST_PROP(Strings, print_double_reads_back, (double value)) {
  RC_ASSERT(std::stod(print_double(value)) == value);
}

}  // namespace
}  // namespace tessera

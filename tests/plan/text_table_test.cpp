#include "launch/plan/text_table.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(TextTable, ColumnsAreAligned) {
  TextTable table({"op", "bytes"}, {false, true});
  EXPECT_TRUE(table.empty());
  table.add({"all_reduce", "7"});
  table.add_note("    why");
  table.add({"x", "12345"});
  EXPECT_EQ(table.print(),
            "  op          bytes\n"
            "  all_reduce      7\n"
            "    why\n"
            "  x           12345\n");
}

TEST(TextTable, Numbers) {
  EXPECT_EQ(grouped_digits(7), "7");
  EXPECT_EQ(grouped_digits(174604259328), "174,604,259,328");
  EXPECT_EQ(grouped_digits(-1234), "-1,234");
  EXPECT_EQ(human_seconds(1.5), "1.5 s");
  EXPECT_EQ(human_seconds(0.00123), "1.23 ms");
  EXPECT_EQ(human_seconds(2e-6), "2 us");
}

TEST(TextTable, LayersLoseTheirNumbers) {
  EXPECT_EQ(without_numbers("block.12.mlp.up.weight"), "block.*.mlp.up.weight");
  EXPECT_EQ(without_numbers("%123 (dot_general in block.3/mlp) dim 1"), "%* (dot_general in block.*/mlp) dim 1");
  EXPECT_EQ(without_numbers("no.7 100 %"), "no.7 100 %");
}

}  // namespace
}  // namespace tessera

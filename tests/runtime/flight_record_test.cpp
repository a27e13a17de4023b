#include "core/runtime/flight_record.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/error.h"

namespace tessera {
namespace {

FlightRecord record_of(int rank, std::vector<FlightGroup> groups, std::vector<FlightEntry> entries) {
  FlightRecord record;
  record.rank = rank;
  record.ranks = 4;
  record.host = "node1";
  record.reason = "a test";
  record.groups = std::move(groups);
  record.entries = std::move(entries);
  return record;
}

FlightEntry all_reduce(int group, uint64_t sequence, std::string tensor, bool finished) {
  return {group, sequence, CollectiveKind::all_reduce, std::move(tensor), 4096, 100 * sequence,
          finished ? 100 * sequence + 50 : 0};
}

TEST(FlightRecord, IsReadAsItWasWritten) {
  const FlightRecord record = record_of(3, {{"data", {1, 3}, 9, 8, 7}, {"model", {2, 3}, 1, 1, 1}},
                                        {all_reduce(0, 8, "layers/0/w", false), all_reduce(1, 1, "", true)});
  const std::string text = print_flight_record(record);
  EXPECT_EQ(print_flight_record(parse_flight_record(text, "here")), text);
  const FlightRecord again = parse_flight_record(text, "here");
  EXPECT_EQ(again.groups[0].members, (std::vector<int>{1, 3}));
  EXPECT_EQ(again.entries[0].tensor, "layers/0/w");
  EXPECT_EQ(describe(again, again.entries[0]), "all_reduce #8 of 'layers/0/w' (4.00 KiB) in group 'data'");
}

TEST(FlightRecord, WhatIsNoRecordIsRefusedWithItsLine) {
  EXPECT_THROW(parse_flight_record("hello", "file"), UserError);
  try {
    parse_flight_record("tessera flight record 1\nrank\t1\ttwo\thost\n", "file.txt");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("file.txt, line 2"), std::string::npos) << error.what();
  }
}

// Rank 3 never comes to the group of 2 and 3; rank 2 is late in the other group because of it.
TEST(FlightRecord, TheRankThatWaitsForNobodyIsTheCulprit) {
  const FlightGroup left{"data", {0, 2}, 5, 5, 4}, late{"data", {0, 2}, 4, 4, 4};
  const FlightGroup stuck{"model", {2, 3}, 2, 2, 1}, absent{"model", {2, 3}, 1, 1, 1};
  const std::vector<FlightRecord> records = {
      record_of(0, {left}, {all_reduce(0, 5, "a", false)}),
      record_of(2, {late, stuck}, {all_reduce(0, 4, "z", true), all_reduce(1, 2, "b", false)}),
      record_of(3, {absent}, {all_reduce(0, 1, "c", true)})};
  const FlightVerdict verdict = compare_flight_records(records);
  EXPECT_EQ(verdict.culprit, 3);
  EXPECT_NE(verdict.text.find("rank 3 lags in group 'model': rank 2 waits in all_reduce #2 of 'b'"), std::string::npos)
      << verdict.text;
  EXPECT_NE(verdict.text.find("rank 2 lags in group 'data'"), std::string::npos) << verdict.text;
  EXPECT_NE(verdict.text.find("rank 3 holds the others up"), std::string::npos) << verdict.text;
}

TEST(FlightRecord, ARankWithoutARecordIsNamed) {
  const std::vector<FlightRecord> records = {
      record_of(0, {{"data", {0, 1}, 5, 5, 4}}, {all_reduce(0, 5, "a", false)})};
  const FlightVerdict verdict = compare_flight_records(records);
  EXPECT_EQ(verdict.culprit, 1);
  EXPECT_NE(verdict.text.find("rank 1 left no record"), std::string::npos) << verdict.text;
}

TEST(FlightRecord, DifferentCollectivesUnderOneNumberAreShown) {
  std::vector<FlightRecord> records = {
      record_of(0, {{"data", {0, 1}, 5, 5, 4}}, {all_reduce(0, 5, "a", false)}),
      record_of(1, {{"data", {0, 1}, 5, 5, 4}}, {all_reduce(0, 5, "b", false)})};
  EXPECT_NE(compare_flight_records(records).text.find("the order differs: rank 0 does all_reduce #5 of 'a'"),
            std::string::npos);
  records[1].entries[0].tensor = "a";
  EXPECT_NE(compare_flight_records(records).text.find("all ranks of group 'data' have started"), std::string::npos);
  EXPECT_EQ(compare_flight_records(records).culprit, -1);
}

TEST(FlightRecord, FilesOfAFolder) {
  const std::string folder = ::testing::TempDir() + "/flight_record_test";
  std::filesystem::remove_all(folder);
  EXPECT_THROW(read_flight_records(folder), UserError);
  write_flight_record(record_of(1, {}, {}), folder);
  write_flight_record(record_of(0, {{"data", {0, 1}, 5, 5, 5}}, {}), folder);
  const std::vector<FlightRecord> records = read_flight_records(folder);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].rank, 0);
  EXPECT_EQ(compare_flight_records(records).text, "no rank waits in a collective\n");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tessera

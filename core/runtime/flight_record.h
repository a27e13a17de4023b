// What a rank's last collectives were, as a file that outlives the rank, and who held the others up
// according to the files of all of them.
//
//     tessera flight record 1
//     rank     1     2       node17                                       rank, ranks, host
//     reason   rank 0 has waited 600 s in ...
//     group    data  0,1     412   412   411            members; enqueued, started, finished
//     did      data  0,1     412   all_reduce  grad/w   4096   1763720000123456789   0
//
// (tabs between the fields; times in ns of the device's clock, 0: not yet). A communicator counts its
// collectives from 1, and all its ranks count the same ones. `enqueued` is what the host submitted itself:
// work that is replayed from a recording is only seen when the device starts it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/runtime/communicator.h"

namespace tessera {

struct FlightGroup {
  std::string name;
  std::vector<int> members;  // world ranks
  uint64_t enqueued = 0, started = 0, finished = 0;
};

struct FlightEntry {
  int group = 0;  // index in FlightRecord::groups
  uint64_t sequence = 0;
  CollectiveKind kind = CollectiveKind::all_reduce;
  std::string tensor;
  int64_t bytes = 0;  // of the input
  uint64_t started_at = 0, finished_at = 0;
};

struct FlightRecord {
  int rank = 0, ranks = 1;
  std::string host, reason;
  std::vector<FlightGroup> groups;
  std::vector<FlightEntry> entries;  // oldest first
};

// "all_reduce #412 of 'grad/w' (4.00 KiB) in group 'data'"
std::string describe(const FlightRecord& record, const FlightEntry& entry);

std::string print_flight_record(const FlightRecord& record);
// UserError that names `where` and the line.
FlightRecord parse_flight_record(std::string_view text, std::string_view where);

// FOLDER/flight-rank_00001.txt, made with its folder; returns the path. UserError where it cannot be written.
std::string write_flight_record(const FlightRecord& record, const std::string& folder);
// Whether a folder has one.
bool holds_flight_records(const std::string& folder);
// All records of a folder, by rank. UserError where there is none.
std::vector<FlightRecord> read_flight_records(const std::string& folder);

struct FlightVerdict {
  int culprit = -1;  // world rank; -1: none can be named
  std::string text;  // a line for each thing found
};
// Who lags: the rank that others wait for and that waits for nobody itself. Says also where ranks do
// different collectives under one number, and whose record is missing.
FlightVerdict compare_flight_records(std::span<const FlightRecord> records);

}  // namespace tessera

#include "core/runtime/flight_record.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "core/base/error.h"
#include "core/base/strings.h"

namespace tessera {
namespace {

constexpr std::string_view kTitle = "tessera flight record 1";

// Fields are separated by tabs and lines by newlines, so neither may stand in a name.
std::string plain(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c == '\t' || c == '\n' || c == '\r') c = ' ';
  return result;
}

class LineReader {
 public:
  LineReader(std::string_view line, std::string_view where, int number)
      : fields_(split(line, '\t')), where_(where), number_(number) {}

  const std::string& name() const { return fields_[0]; }
  const std::string& text(size_t field) const {
    if (field >= fields_.size()) fail("has too few fields");
    return fields_[field];
  }
  template <typename T>
  T integer(size_t field) const {
    const std::string& digits = text(field);
    T value{};
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size())
      fail(cat("has \"", digits, "\" where a number is expected"));
    return value;
  }
  std::vector<int> members(size_t field) const {
    std::vector<int> ranks;
    for (const std::string& rank : split(text(field), ',')) {
      int value = 0;
      if (std::from_chars(rank.data(), rank.data() + rank.size(), value).ec != std::errc())
        fail(cat("has \"", text(field), "\" where ranks are expected"));
      ranks.push_back(value);
    }
    return ranks;
  }
  CollectiveKind kind(size_t field) const {
    for (int kind = 0; kind <= static_cast<int>(CollectiveKind::broadcast); ++kind)
      if (name_of(static_cast<CollectiveKind>(kind)) == text(field)) return static_cast<CollectiveKind>(kind);
    fail(cat("names no collective: \"", text(field), "\""));
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw_user_error(where_, ", line ", number_, " ", what);
  }

 private:
  std::vector<std::string> fields_;
  std::string_view where_;
  int number_;
};

using GroupKey = std::pair<std::string, std::vector<int>>;

int find_group(const FlightRecord& record, const GroupKey& key) {
  for (size_t g = 0; g < record.groups.size(); ++g)
    if (record.groups[g].name == key.first && record.groups[g].members == key.second) return static_cast<int>(g);
  return -1;
}

const FlightEntry* find_entry(const FlightRecord& record, int group, uint64_t sequence) {
  for (const FlightEntry& entry : record.entries)
    if (entry.group == group && entry.sequence == sequence) return &entry;
  return nullptr;
}

std::string describe_or_number(const FlightRecord& record, int group, uint64_t sequence) {
  if (const FlightEntry* entry = find_entry(record, group, sequence)) return describe(record, *entry);
  return cat("collective #", sequence, " in group '", record.groups[static_cast<size_t>(group)].name, "'");
}

// One group, as those of its members saw it whose records there are.
struct Seen {
  const FlightRecord* record;
  int group;
  const FlightGroup& counts() const { return record->groups[static_cast<size_t>(group)]; }
};

void compare_calls(const std::vector<Seen>& seen, uint64_t sequence, std::string& text) {
  const FlightEntry* first = nullptr;
  const FlightRecord* whose = nullptr;
  for (const Seen& one : seen) {
    const FlightEntry* entry = find_entry(*one.record, one.group, sequence);
    if (!entry) continue;
    if (!first) {
      first = entry;
      whose = one.record;
    } else if (entry->kind != first->kind || entry->tensor != first->tensor || entry->bytes != first->bytes) {
      text += cat("the order differs: rank ", whose->rank, " does ", describe(*whose, *first), ", rank ",
                  one.record->rank, " does ", describe(*one.record, *entry), "\n");
      return;
    }
  }
}

std::vector<std::filesystem::path> record_files(const std::string& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;  // no folder: no files
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().filename().string().starts_with("flight-rank_") && entry.path().extension() == ".txt")
      files.push_back(entry.path());
  return files;
}

}  // namespace

std::string describe(const FlightRecord& record, const FlightEntry& entry) {
  return cat(entry.kind, " #", entry.sequence, entry.tensor.empty() ? "" : cat(" of '", entry.tensor, "'"), " (",
             human_bytes(static_cast<double>(entry.bytes)), ") in group '",
             record.groups[static_cast<size_t>(entry.group)].name, "'");
}

std::string print_flight_record(const FlightRecord& record) {
  std::ostringstream out;
  out << kTitle << "\nrank\t" << record.rank << '\t' << record.ranks << '\t' << plain(record.host) << "\nreason\t"
      << plain(record.reason) << '\n';
  const auto group_fields = [](const FlightGroup& group) {
    return cat(plain(group.name), '\t', join(group.members, ","));
  };
  for (const FlightGroup& group : record.groups)
    out << "group\t" << group_fields(group) << '\t' << group.enqueued << '\t' << group.started << '\t'
        << group.finished << '\n';
  for (const FlightEntry& entry : record.entries)
    out << "did\t" << group_fields(record.groups[static_cast<size_t>(entry.group)]) << '\t' << entry.sequence << '\t'
        << entry.kind << '\t' << plain(entry.tensor) << '\t' << entry.bytes << '\t' << entry.started_at << '\t'
        << entry.finished_at << '\n';
  return std::move(out).str();
}

FlightRecord parse_flight_record(std::string_view text, std::string_view where) {
  FlightRecord record;
  const std::vector<std::string> lines = split(text, '\n');
  if (lines.empty() || lines[0] != kTitle)
    throw_user_error(where, ": is no flight record (its first line would be \"", kTitle, "\")");
  for (size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const LineReader line(lines[i], where, static_cast<int>(i) + 1);
    if (line.name() == "rank") {
      record.rank = line.integer<int>(1);
      record.ranks = line.integer<int>(2);
      record.host = line.text(3);
    } else if (line.name() == "reason") {
      record.reason = line.text(1);
    } else if (line.name() == "group") {
      record.groups.push_back({line.text(1), line.members(2), line.integer<uint64_t>(3), line.integer<uint64_t>(4),
                               line.integer<uint64_t>(5)});
    } else if (line.name() == "did") {
      const int group = find_group(record, {line.text(1), line.members(2)});
      if (group < 0) line.fail("names a group that was not listed before");
      record.entries.push_back({group, line.integer<uint64_t>(3), line.kind(4), line.text(5), line.integer<int64_t>(6),
                                line.integer<uint64_t>(7), line.integer<uint64_t>(8)});
    } else {
      line.fail(cat("begins with \"", line.name(), "\", which is none of rank, reason, group, did"));
    }
  }
  return record;
}

std::string write_flight_record(const FlightRecord& record, const std::string& folder) {
  char name[64];
  std::snprintf(name, sizeof name, "flight-rank_%05d.txt", record.rank);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::string path = std::filesystem::path(folder) / name;
  std::ofstream file(path, std::ios::trunc);
  file << print_flight_record(record);
  file.close();
  if (!file) throw_user_error(path, ": the flight record cannot be written");
  return path;
}

bool holds_flight_records(const std::string& folder) { return !record_files(folder).empty(); }

std::vector<FlightRecord> read_flight_records(const std::string& folder) {
  std::vector<FlightRecord> records;
  for (const std::filesystem::path& path : record_files(folder)) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    records.push_back(parse_flight_record(text.str(), path.string()));
  }
  if (records.empty()) throw_user_error(folder, ": holds no flight records (flight-rank_*.txt)");
  std::sort(records.begin(), records.end(),
            [](const FlightRecord& a, const FlightRecord& b) { return a.rank < b.rank; });
  return records;
}

FlightVerdict compare_flight_records(std::span<const FlightRecord> records) {
  FlightVerdict verdict;
  std::map<GroupKey, std::vector<Seen>> groups;
  std::map<int, bool> waits;  // by rank with a record: whether it waits for anybody
  for (const FlightRecord& record : records) {
    waits.emplace(record.rank, false);
    for (size_t g = 0; g < record.groups.size(); ++g)
      groups[{record.groups[g].name, record.groups[g].members}].push_back({&record, static_cast<int>(g)});
  }
  std::vector<int> late;
  for (const auto& [key, seen] : groups) {
    uint64_t furthest = 0;
    const Seen* waiting = nullptr;
    for (const Seen& one : seen) {
      furthest = std::max(furthest, one.counts().started);
      if (one.counts().started == one.counts().finished) continue;
      waits[one.record->rank] = true;
      if (!waiting || one.counts().started > waiting->counts().started) waiting = &one;
    }
    if (!waiting) continue;
    compare_calls(seen, waiting->counts().started, verdict.text);
    std::vector<int> behind;
    for (const int member : key.second) {
      const auto found = std::find_if(seen.begin(), seen.end(),
                                      [member = member](const Seen& one) { return one.record->rank == member; });
      if (found != seen.end() && found->counts().started < waiting->counts().started) {
        behind.push_back(member);
        verdict.text += cat("rank ", member, " lags in group '", key.first, "': rank ", waiting->record->rank,
                            " waits in ", describe_or_number(*waiting->record, waiting->group,
                                                             waiting->counts().started),
                            ", rank ", member, " has started ", found->counts().started, " of its collectives",
                            found->counts().started == 0
                                ? ""
                                : cat(", last ", describe_or_number(*found->record, found->group,
                                                                    found->counts().started)),
                            "\n");
      } else if (found == seen.end() && waits.count(member) == 0) {
        behind.push_back(member);
        verdict.text += cat("rank ", member, " left no record, and rank ", waiting->record->rank, " waits in ",
                            describe_or_number(*waiting->record, waiting->group, waiting->counts().started), "\n");
      }
    }
    if (behind.empty() && furthest == waiting->counts().started)
      verdict.text += cat("all ranks of group '", key.first, "' have started ",
                          describe_or_number(*waiting->record, waiting->group, furthest),
                          " and not all have finished it: look at the network and the devices between them\n");
    late.insert(late.end(), behind.begin(), behind.end());
  }
  // Of those that others wait for, the one that waits for nobody.
  for (const int rank : late) {
    const auto own = waits.find(rank);
    if (own != waits.end() && own->second) continue;
    verdict.culprit = rank;
    break;
  }
  if (verdict.text.empty()) verdict.text = "no rank waits in a collective\n";
  if (verdict.culprit >= 0) verdict.text += cat("rank ", verdict.culprit, " holds the others up\n");
  return verdict;
}

}  // namespace tessera

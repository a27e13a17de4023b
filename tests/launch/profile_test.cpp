// train --profile: the traces that come out, what they hold, and that the run is the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/strings.h"
#include "core/runtime/thread_world.h"
#include "launch/profile/clock_offset.h"
#include "launch/profile/profile_options.h"
#include "launch/profile/trace_writer.h"
#include "tests/launch/program.h"
#include "tests/launch/tiny_job.h"

namespace tessera::test {
namespace {

using Json = nlohmann::json;

struct Event {
  std::string name, category;
  int rank = 0, track = 0;
  double begin = 0, end = 0;  // microseconds
  Json args;
};

struct Trace {
  std::vector<Event> events;                            // complete ones
  std::map<std::pair<int, int>, std::string> tracks;    // (rank, track) -> name
  std::map<int, std::string> processes;

  std::vector<Event> of(int rank, const std::string& category) const {
    std::vector<Event> found;
    for (const Event& event : events)
      if (event.rank == rank && event.category == category) found.push_back(event);
    return found;
  }
};

Trace read_trace(const std::string& path) {
  Trace trace;
  const Json json = Json::parse(read_whole_file(path));
  EXPECT_TRUE(json.is_array());
  for (const Json& it : json) {
    const int rank = it.at("pid"), track = it.at("tid");
    if (it.at("ph") == "M") {
      if (it.at("name") == "thread_name") trace.tracks[{rank, track}] = it.at("args").at("name");
      if (it.at("name") == "process_name") trace.processes[rank] = it.at("args").at("name");
      continue;
    }
    EXPECT_EQ(it.at("ph"), "X");
    trace.events.push_back({it.at("name"), it.at("cat"), rank, track, it.at("ts"),
                            it.at("ts").get<double>() + it.at("dur").get<double>(), it.at("args")});
  }
  return trace;
}

// On each track an event lies inside of another one or apart from it.
void expect_nesting(const Trace& trace) {
  constexpr double kRounding = 1e-4;
  std::map<std::pair<int, int>, std::vector<Event>> tracks;
  for (const Event& event : trace.events) tracks[{event.rank, event.track}].push_back(event);
  for (auto& [key, events] : tracks) {
    EXPECT_TRUE(trace.tracks.count(key)) << "track " << key.second << " of rank " << key.first << " has no name";
    std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
    });
    std::vector<Event> open;
    for (const Event& event : events) {
      while (!open.empty() && open.back().end <= event.begin + kRounding) open.pop_back();
      if (!open.empty()) {
        EXPECT_LE(event.end, open.back().end + kRounding) << event.name << " overlaps " << open.back().name;
      }
      open.push_back(event);
    }
  }
}

double covered(const std::vector<Event>& events, const Event& by) {
  double sum = 0;
  for (const Event& event : events)
    if (by.begin <= event.begin && event.end <= by.end) sum += event.end - event.begin;
  return sum;
}

// Runs of the training graphs.
std::vector<Event> training_runs(const Trace& trace, int rank) {
  std::vector<Event> runs = trace.of(rank, "run");
  std::erase_if(runs, [](const Event& run) { return run.name.find("graph evaluate") != std::string::npos; });
  return runs;
}

// What every trace of a run holds. Returns the share of the runs of graphs that their steps account for.
double expect_whole(const Trace& trace, int ranks, int steps, int microbatches = 1) {
  expect_nesting(trace);
  double runs = 0, inside = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_EQ(trace.processes.at(rank).rfind(cat("rank ", rank, " on "), 0), 0u) << trace.processes.at(rank);
    std::vector<Event> leaves;
    for (const char* category : {"kernel", "start", "wait", "copy", "rank_data", "progress"})
      for (const Event& event : trace.of(rank, category)) leaves.push_back(event);
    EXPECT_EQ(training_runs(trace, rank).size(), static_cast<size_t>(steps * microbatches));
    for (const Event& run : training_runs(trace, rank)) {
      runs += run.end - run.begin;
      inside += covered(leaves, run);
    }
    int host_steps = 0;
    for (const Event& event : trace.of(rank, "host")) host_steps += event.name == "train step";
    EXPECT_EQ(host_steps, steps);
    // Each collective was started, waited for, and in flight in between.
    const std::vector<Event> starts = trace.of(rank, "start"), waits = trace.of(rank, "wait"),
                             flights = trace.of(rank, "collective");
    EXPECT_EQ(starts.size(), flights.size());
    EXPECT_EQ(starts.size(), waits.size());
    for (const Event& flight : flights) {
      EXPECT_GT(flight.args.at("wire_bytes").get<int64_t>(), 0);
      EXPECT_GT(flight.args.at("sequence").get<int64_t>(), 0);
      EXPECT_EQ(trace.tracks.at({rank, flight.track}).rfind("communication " + flight.args.at("axes").get<std::string>(), 0), 0u);
    }
  }
  // All ranks run the same collectives, with the same numbers.
  const auto numbered = [&](int rank) {
    std::vector<std::string> all;
    for (const Event& event : trace.of(rank, "collective"))
      all.push_back(cat(event.name, " ", event.args.at("axes"), " ", event.args.at("sequence")));
    std::sort(all.begin(), all.end());
    return all;
  };
  for (int rank = 1; rank < ranks; ++rank) EXPECT_EQ(numbered(0), numbered(rank));
  return runs > 0 ? inside / runs : 0;
}

void expect_success(const Outcome& outcome) { ASSERT_EQ(outcome.exit_code, 0) << outcome.all(); }

void expect_same_run(const TinyJob& job, const std::string& a, const std::string& b) {
  EXPECT_FALSE(read_metrics(job.output(a)).empty());
  EXPECT_EQ(read_metrics(job.output(a)), read_metrics(job.output(b)));
}

TEST(Profile, ThreadsGiveOneTraceAndTheSameRun) {
  const TinyJob job;
  const std::vector<std::string> two = {"--virtual-devices", "2", "--set", "checkpoint.interval=4"};
  expect_success(run_program(job.train("plain", two)));
  const Outcome outcome = run_program(job.train(
      "profiled", join_arguments(two, {"--profile", job.output("trace"), "--json", job.output("report.json")})));
  expect_success(outcome);
  expect_same_run(job, "plain", "profiled");
  EXPECT_TRUE(outcome.says("profiling steps 3 to 5")) << outcome.all();
  EXPECT_TRUE(outcome.says("exposed communication")) << outcome.all();

  const Trace trace = read_trace(job.output("trace") + "/trace.json");
  EXPECT_GT(expect_whole(trace, 2, 3), 0.5);
  EXPECT_FALSE(trace.of(0, "collective").empty());
  const std::vector<Event> host = trace.of(0, "host");
  for (const char* name : {"feed", "read data", "save checkpoint", "read loss"})
    EXPECT_TRUE(std::any_of(host.begin(), host.end(), [&](const Event& event) { return event.name == name; })) << name;
  // A rank's own file holds its part.
  const Trace second = read_trace(job.output("trace") + "/rank_00001.json");
  EXPECT_EQ(second.of(1, "kernel").size(), trace.of(1, "kernel").size());
  EXPECT_TRUE(second.of(0, "kernel").empty());

  const Json report = Json::parse(read_whole_file(job.output("report.json"))).at("profile");
  EXPECT_EQ(report.at("first_step"), 3);
  EXPECT_EQ(report.at("last_step"), 5);
  EXPECT_EQ(report.at("ranks"), 2);
  double sum = 0;
  for (const Json& row : report.at("ops")) sum += row.at("seconds").get<double>();
  const double whole = report.at("step_seconds");
  EXPECT_NEAR(sum, report.at("kernel_seconds").get<double>() + report.at("exposed_communication_seconds").get<double>(),
              1e-9);
  EXPECT_LE(sum, whole);
  EXPECT_GT(sum, 0.4 * whole);
}

TEST(Profile, MicrobatchesAndChosenStepsIntoAFile) {
  const TinyJob job("llama");
  const std::string file = job.output("one.json");
  const Outcome outcome =
      run_program(job.train("run", {"--set", "train.microbatch=4", "--profile", file, "--profile-steps", "19:30"}));
  expect_success(outcome);
  const Trace trace = read_trace(file);
  EXPECT_GT(expect_whole(trace, 1, /*steps=*/2, /*microbatches=*/2), 0.5);  // the run ends at 20
  EXPECT_TRUE(trace.of(0, "collective").empty());
  EXPECT_TRUE(std::filesystem::exists(job.output("one.rank_00000.json")));
  const std::vector<Event> kernels = trace.of(0, "kernel");
  const auto product = std::find_if(kernels.begin(), kernels.end(),
                                    [](const Event& event) { return event.args.at("op") == "dot_general"; });
  ASSERT_NE(product, kernels.end());
  EXPECT_GT(product->args.at("flops").get<double>(), 0);
  EXPECT_EQ(product->args.at("kernel").get<std::string>().rfind("cpu.", 0), 0u);
}

class ProfileMpi : public MpiTest {};

TEST_F(ProfileMpi, ProcessesGiveOneTrace) {
  const TinyJob job;
  const std::vector<std::string> sharded = {"--sharding", shipped_sharding("fsdp")};
  expect_success(run_program(job.train("plain", sharded), {.ranks = 2}));
  const Outcome outcome =
      run_program(job.train("profiled", join_arguments(sharded, {"--profile", job.output("trace")})), {.ranks = 2});
  expect_success(outcome);
  expect_same_run(job, "plain", "profiled");
  const Trace trace = read_trace(job.output("trace") + "/trace.json");
  expect_whole(trace, 2, 3);
  EXPECT_FALSE(trace.of(1, "collective").empty());
  // On one axis: between the begins of a step there are barriers, and no rank is a step ahead.
  const std::vector<Event> first = training_runs(trace, 0), second = training_runs(trace, 1);
  ASSERT_EQ(first.size(), second.size());
  for (size_t step = 0; step < first.size(); ++step) {
    EXPECT_LT(first[step].begin, second[step].end);
    EXPECT_LT(second[step].begin, first[step].end);
  }
}

TEST(ProfileGpu, UncapturedStepsGiveTheSameRun) {
  const TinyJob job;
  ProgramOptions options;
  options.environment = {{"TESSERA_CUDA_PLUGIN", TESSERA_BINARY_DIR "/tests/soft_gpu/libtessera_cuda.so"},
                         {"TESSERA_SOFT_GPU_DEVICES", "2"}};
  const std::vector<std::string> cuda = {"--device", "cuda", "--virtual-devices", "2", "--set", "train.steps=7"};
  expect_success(run_program(job.train("plain", cuda), options));
  const Outcome outcome = run_program(job.train("profiled", join_arguments(cuda, {"--profile", job.output("trace")})), options);
  expect_success(outcome);
  expect_same_run(job, "plain", "profiled");
  EXPECT_TRUE(outcome.says("cannot be timed inside")) << outcome.all();
  const Trace trace = read_trace(job.output("trace") + "/trace.json");
  expect_whole(trace, 2, 3);
  EXPECT_NE(trace.tracks.at({1, 2}).find("GPU 1"), std::string::npos) << trace.tracks.at({1, 2});
}

// ---- What can be wrong ----

TEST(ProfileErrors, APathThatCannotBeWritten) {
  const TinyJob job;
  const std::string file = job.folder().write("file", "no folder");
  for (const std::string& path : {file + "/trace", file}) {
    const Outcome outcome = run_program(job.train("run", {"--virtual-devices", "2", "--profile", path}));
    EXPECT_EQ(outcome.exit_code, 1) << outcome.all();
    EXPECT_TRUE(outcome.says(path)) << outcome.all();
    EXPECT_TRUE(outcome.says("cannot be")) << outcome.all();
    EXPECT_TRUE(read_metrics(job.output("run")).empty());
  }
}

TEST(ProfileErrors, StepsThatAreNoneOfTheRun) {
  const TinyJob job;
  for (const char* steps : {"5:2", "0:3", "a:b", "3:", ":3", "1:2:3"}) {
    const Outcome outcome = run_program(job.train("run", {"--profile", job.output("t"), "--profile-steps", steps}));
    EXPECT_EQ(outcome.exit_code, 2) << steps;
    EXPECT_TRUE(outcome.says("FIRST:LAST")) << outcome.all();
  }
  const Outcome late = run_program(job.train("run", {"--profile", job.output("t"), "--profile-steps", "100:101"}));
  EXPECT_EQ(late.exit_code, 2);
  EXPECT_TRUE(late.says("this run has steps 1 to 20")) << late.all();
  const Outcome nowhere = run_program(job.train("run", {"--profile-steps", "3:4"}));
  EXPECT_EQ(nowhere.exit_code, 2);
  EXPECT_TRUE(nowhere.says("without --profile PATH")) << nowhere.all();
}

// ---- The parts ----

TEST(TraceWriter, AnyNameIsAJsonString) {
  EXPECT_EQ(json_string("a\"b\\c\nd"), R"("a\"b\\c\nd")");
  for (const std::string& text : {std::string("\x01\x1f\x7f"), std::string("\xff\xfe broken"), std::string("größe"),
                                  std::string("null\0byte", 9)})
    EXPECT_TRUE(Json::accept(json_string(text))) << text;
  EXPECT_EQ(Json::parse(json_string("größe")), "größe");
}

TEST(TraceWriter, TornFilesMerge) {
  const TempFolder folder;
  TraceWriter whole(folder / "a.json", 0, 1.0);
  whole.name_process("first");
  whole.span(1, "step", "host", 1.0, 1.5, "");
  whole.close();
  TraceWriter(folder / "b.json", 1).close();
  folder.write("c.json", "[\n{\"name\":\"x\",\"ph\":\"X\",\"ts\":1,\"dur\":2,\"pid\":2,\"tid\":1,\"args\":{}},\n{\"name\":\"to");
  merge_traces({folder / "a.json", folder / "b.json", folder / "c.json"}, folder / "all.json");
  const Json all = Json::parse(read_whole_file(folder / "all.json"));
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[2].at("ts"), 0.0);
  EXPECT_EQ(all[2].at("dur"), 500000.0);
  EXPECT_EQ(all[3].at("pid"), 2);
}

TEST(Lanes, OverlapsGetLanesOfTheirOwn) {
  Lanes lanes;
  EXPECT_EQ(lanes.take(0, 5), 0);
  EXPECT_EQ(lanes.take(1, 3), 1);
  EXPECT_EQ(lanes.take(2, 4), 2);
  EXPECT_EQ(lanes.take(3, 9), 1);
  EXPECT_EQ(lanes.take(5, 6), 0);
}

TEST(ClockOffset, ThreadsHaveOneClock) {
  run_thread_ranks(3, [](World& world) {
    const ClockOffset offset = measure_clock_offset(world);
    EXPECT_LE(std::abs(offset.seconds), offset.error + 1e-9) << "rank " << world.rank();
    EXPECT_LT(offset.error, 0.05);
    EXPECT_GE(largest_clock_error(world, offset), offset.error - 1e-8);
  });
}

}  // namespace
}  // namespace tessera::test

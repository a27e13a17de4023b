// `tessera hlo`: programs in HLO text, as a user runs them.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/strings.h"
#include "core/types/host_tensor.h"
#include "launch/hlo/npy.h"
#include "tests/launch/program.h"

namespace tessera::test {
namespace {

using Json = nlohmann::json;

// A step of gradient descent on |x w - y|^2: w is cut over two devices and given back, with the loss.
constexpr const char* kDescent = R"(HloModule descent, input_output_alias={ {0}: (0, {}, may-alias) }, num_partitions=2

sum {
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  ROOT c = f32[] add(a, b)
}

ENTRY main {
  w = f32[6]{0} parameter(0), sharding={devices=[2]<=[2]}
  x = f32[8,6]{1,0} parameter(1), sharding={devices=[1,2]<=[2]}
  y = f32[8]{0} parameter(2), sharding={replicated}
  xw = f32[8]{0} dot(x, w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  error = f32[8]{0} subtract(xw, y)
  squares = f32[8]{0} multiply(error, error)
  zero = f32[] constant(0)
  loss = f32[] reduce(squares, zero), dimensions={0}, to_apply=sum
  gradient = f32[6]{0} dot(error, x), lhs_contracting_dims={0}, rhs_contracting_dims={0}
  rate = f32[] constant(0.05)
  rates = f32[6]{0} broadcast(rate), dimensions={}
  move = f32[6]{0} multiply(gradient, rates)
  next = f32[6]{0} subtract(w, move)
  ROOT result = (f32[6]{0}, f32[]) tuple(next, loss)
}
)";

// Two numbers that are each other's next value: nothing may be overwritten before it is read.
constexpr const char* kSwap = R"(HloModule swap, input_output_alias={ {0}: (0, {}, may-alias), {1}: (1, {}, may-alias) }, num_partitions=2

ENTRY main {
  a = f32[5]{0} parameter(0), sharding={devices=[2]<=[2]}
  b = f32[5]{0} parameter(1), sharding={replicated}
  s = f32[5]{0} add(a, b)
  ROOT r = (f32[5]{0}, f32[5]{0}) tuple(b, s)
}
)";

constexpr const char* kTransform = "HloModule m\n\nENTRY main {\n  a = f32[4] parameter(0)\n"
                                   "  b = f32[4] fft(a), fft_type=FFT, fft_length={4}\n"
                                   "  ROOT c = f32[4] cholesky(b), lower=true\n}\n";

class HloVerbs : public testing::Test {
 protected:
  void SetUp() override { descent_ = folder_.write("descent.hlo", kDescent); }

  Json report_of(const std::vector<std::string>& arguments, const ProgramOptions& options = {}, int code = 0) {
    const Outcome run = run_program(arguments, options);
    EXPECT_EQ(run.exit_code, code) << run.all();
    return Json::parse(run.out, nullptr, /*allow_exceptions=*/false);
  }
  HostTensor output(const std::string& folder, int number) {
    return NpyFile(cat(folder_ / folder, "/output.", number, ".npy")).all(DType::f32);
  }
  void expect_fails(const std::vector<std::string>& arguments, int code, const std::vector<std::string>& words) {
    const Outcome run = run_program(arguments);
    EXPECT_EQ(run.exit_code, code) << run.all();
    for (const std::string& word : words) EXPECT_NE(run.err.find(word), std::string::npos) << word << "\n" << run.all();
  }

  TempFolder folder_;
  std::string descent_;
};

TEST_F(HloVerbs, PrintReadsItsOwnPrint) {
  const Outcome first = run_program({"hlo", "print", descent_});
  ASSERT_EQ(first.exit_code, 0) << first.all();
  const Outcome second = run_program({"hlo", "print", folder_.write("again.hlo", first.out)});
  EXPECT_EQ(second.out, first.out);
}

TEST_F(HloVerbs, ShardingsInBothNotations) {
  const Json json = report_of({"hlo", "shardings", descent_, "--json", "-"});
  EXPECT_EQ(json.at("next").at("tile"), "{devices=[2]<=[2]}");
  EXPECT_EQ(json.at("next").at("named"), "{mesh['x0'=2], [{'x0'}]}");
  EXPECT_EQ(json.at("result").at("tile"), "{{devices=[2]<=[2]}, {replicated}}");
  const Outcome table = run_program({"hlo", "shardings", descent_, "--devices", "4"});
  EXPECT_TRUE(table.says("result {0}")) << table.all();
  EXPECT_TRUE(table.says("{devices=[2,2]<=[2,2]T(1,0) last_tile_dim_replicate}")) << table.all();
}

TEST_F(HloVerbs, CheckIsEqualWithItsCollectives) {
  const Json json = report_of({"hlo", "check", descent_, "--json", "-"});
  EXPECT_EQ(json.at("equal"), true);
  EXPECT_LT(json.at("max_rel_err").get<double>(), 1e-5);
  EXPECT_EQ(json.at("instructions"), 17);
  ASSERT_EQ(json.at("collectives").size(), 1u);
  EXPECT_EQ(json.at("collectives")[0].at("op"), "all_reduce");
  EXPECT_EQ(json.at("collectives")[0].at("count"), 1);
  EXPECT_EQ(json.at("collectives")[0].at("bytes"), 32);
  EXPECT_EQ(report_of({"hlo", "check", descent_, "--integers", "--json", "-"}).at("max_rel_err"), 0.0);
  EXPECT_EQ(report_of({"hlo", "check", descent_, "--devices", "4", "--seed", "5", "--json", "-"}).at("equal"), true);
}

TEST_F(HloVerbs, UnsupportedThingsAreAllListed) {
  const std::string file = folder_.write("fft.hlo", kTransform);
  for (const char* verb : {"check", "run", "shardings"}) {
    const Json json = report_of({"hlo", verb, file, "--json", "-"}, {}, 2);
    EXPECT_EQ(json.at("unsupported"), (std::vector<std::string>{"opcode cholesky", "opcode fft"})) << verb;
  }
  expect_fails({"hlo", "run", file}, 2, {"opcode cholesky, opcode fft"});
}

TEST_F(HloVerbs, CarriedStepsTrain) {
  const Json json = report_of({"hlo", "run", descent_, "--steps", "30", "--carry", "--json", "-", "--output-dir", folder_ / "out"});
  const std::vector<double> losses = json.at("scalars").at("out.1");
  ASSERT_EQ(losses.size(), 30u);
  EXPECT_LT(losses.back(), 0.9 * losses.front());
  EXPECT_EQ(json.at("carried"), Json::parse("[[0, 0]]"));
  EXPECT_EQ(json.at("copies"), 0);
  EXPECT_EQ(json.at("devices"), 2);
  EXPECT_EQ(json.at("ranks"), 1);
  EXPECT_EQ(json.at("steps"), 30);
  EXPECT_GT(json.at("step_seconds").at("best").get<double>(), 0);
  EXPECT_LE(json.at("step_seconds").at("best"), json.at("step_seconds").at("median"));
  EXPECT_EQ(json.at("outputs")[1].at("type"), "f32[]");
  EXPECT_EQ(output("out", 1).get_real(0), losses.back());
  // Step by step through files it is the same.
  std::vector<std::string> first = {"hlo", "run", descent_, "--steps", "29", "--carry", "--output-dir", folder_ / "half"};
  ASSERT_EQ(run_program(first).exit_code, 0);
  ASSERT_EQ(run_program({"hlo", "run", descent_, "--output-dir", folder_ / "rest", "--input", folder_ / "half/output.0.npy"}).exit_code, 0);
  EXPECT_EQ(output("rest", 0), output("out", 0));
}

TEST_F(HloVerbs, WithoutCarryEveryStepStartsAnew) {
  for (const char* steps : {"1", "3"})
    ASSERT_EQ(run_program({"hlo", "run", descent_, "--steps", steps, "--output-dir", folder_ / steps}).exit_code, 0);
  EXPECT_EQ(output("1", 0), output("3", 0));
}

TEST_F(HloVerbs, CarriedOutputsTakeTheLyingOfTheirInputs) {
  const std::string file = folder_.write("swap.hlo", kSwap);
  ASSERT_EQ(run_program({"hlo", "run", file, "--integers", "--output-dir", folder_ / "1"}).exit_code, 0);
  ASSERT_EQ(run_program({"hlo", "run", file, "--integers", "--steps", "4", "--carry", "--output-dir", folder_ / "4"}).exit_code, 0);
  HostTensor a = output("1", 0), b = output("1", 1);
  for (int step = 1; step < 4; ++step) {
    HostTensor sum = a;
    for (int64_t i = 0; i < 5; ++i) sum.set_real(i, a.get_real(i) + b.get_real(i));
    a = std::exchange(b, sum);
  }
  EXPECT_EQ(output("4", 0), a);
  EXPECT_EQ(output("4", 1), b);
}

TEST_F(HloVerbs, ParametersMayBeNamedLikePartsOfTuples) {
  const std::string file = folder_.write("names.hlo", R"(HloModule names, num_partitions=2

ENTRY main {
  p.1 = f32[6] parameter(0), sharding={devices=[2]<=[2]}
  p = (f32[2], f32[6]) parameter(1)
  a = f32[2] get-tuple-element(p), index=0
  b = f32[6] get-tuple-element(p), index=1
  ROOT r = (f32[6], f32[2], f32[6]) tuple(p.1, a, b)
}
)");
  EXPECT_EQ(report_of({"hlo", "check", file, "--check-passes", "--json", "-"}).at("equal"), true);
}

TEST_F(HloVerbs, LossesArePrintedStepByStep) {
  const Outcome run = run_program({"hlo", "run", descent_, "--steps", "2", "--carry"});
  ASSERT_EQ(run.exit_code, 0) << run.all();
  for (const char* words : {"step 1: out.1 ", "step 2: out.1 ", "1 of 2 outputs feed inputs of the next step: out.0 -> w",
                            "2 devices <x0=2>, threads of one process", "3 of 3 inputs are random"})
    EXPECT_NE(run.out.find(words), std::string::npos) << words << "\n" << run.out;
  EXPECT_EQ(run.out.find("step 3"), std::string::npos);
}

TEST_F(HloVerbs, WrongUseIsSaidClearly) {
  write_npy(folder_ / "w.npy", HostTensor(TensorType{DType::f32, {7}}));
  expect_fails({"hlo"}, 2, {"subcommand is required"});
  expect_fails({"hlo", "chekc"}, 2, {"no verb of hlo \"chekc\"", "did you mean \"check\"?"});
  expect_fails({"hlo", "run", "nowhere.hlo"}, 1, {"nowhere.hlo", "No such file"});
  expect_fails({"hlo", "run", folder_.path()}, 1, {"Is a directory"});
  expect_fails({"hlo", "print", folder_.write("text", "hello")}, 1, {"line 1", "expected HloModule"});
  expect_fails({"hlo", "run", descent_, "--devices", "3"}, 2, {"for 2 devices, which 3 devices are no multiple of"});
  expect_fails({"hlo", "run", descent_, "--input", "a", "b", "c", "d"}, 2, {"given 4 files, but the program takes 3 inputs"});
  expect_fails({"hlo", "run", descent_, "--input", folder_ / "w.npy"}, 1, {"is f32[7], but parameter 0 (w), input 0, is f32[6]"});
  expect_fails({"hlo", "run", descent_, "--output-dir", descent_}, 1, {"cannot be made"});
  expect_fails({"hlo", "run", folder_.write("one.hlo", "HloModule m\nENTRY e {\n  x = f32[4] parameter(0)\n  ROOT y = s32[4] convert(x)\n}\n"), "--carry"},
               2, {"--carry: no output can be the input of a next step"});
  const std::string vast = folder_.write("vast.hlo", "HloModule m\nENTRY e {\n  ROOT x = f32[1000000000000] parameter(0)\n}\n");
  for (const char* verb : {"run", "check"})
    expect_fails({"hlo", verb, vast, "--devices", "2"}, 1, {"needs", "on each of the 2 devices of this machine, which has", "of memory"});
  const Json json = report_of({"hlo", "check", descent_, "--devices", "3", "--json", "-"}, {}, 2);
  EXPECT_NE(json.at("error").get<std::string>().find("3 devices"), std::string::npos) << json;
}

// What threads do, processes do too.
using HloRanks = MpiTest;

TEST_F(HloRanks, GiveWhatThreadsGive) {
  const TempFolder folder;
  const std::string descent = folder.write("descent.hlo", kDescent), swap = folder.write("swap.hlo", kSwap);
  for (const std::string& file : {descent, swap}) {
    const std::vector<std::string> run = {"hlo", "run", file, "--steps", "3", "--carry", "--output-dir"};
    const auto into = [&](const std::string& name) {
      std::vector<std::string> words = run;
      words.push_back(folder / name);
      return words;
    };
    const Outcome threads = run_program(into("threads"));
    ASSERT_EQ(threads.exit_code, 0) << threads.all();
    const Outcome ranks = run_program(into("ranks"), {.ranks = 2});
    ASSERT_EQ(ranks.exit_code, 0) << ranks.all();
    EXPECT_TRUE(ranks.says("one a process")) << ranks.all();
    EXPECT_EQ(ranks.times_said("feed inputs of the next step"), 1) << ranks.all();
    for (const char* name : {"/output.0.npy", "/output.1.npy"})
      EXPECT_EQ(read_whole_file(folder / "threads" + name), read_whole_file(folder / "ranks" + name)) << file << name;
  }
  const Outcome check = run_program({"hlo", "check", swap, "--json", "-"}, {.ranks = 2});
  EXPECT_EQ(check.exit_code, 0) << check.all();
  EXPECT_EQ(Json::parse(check.out).at("equal"), true);
  EXPECT_EQ(Json::parse(check.out).at("ranks"), 2);
}

TEST_F(HloRanks, MustBeAsManyAsTheProgramIsFor) {
  const TempFolder folder;
  const std::string file = folder.write("descent.hlo", kDescent);
  const Outcome other = run_program({"hlo", "run", file, "--devices", "4"}, {.ranks = 2});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_EQ(other.times_said("--devices 4, but mpirun started 2 ranks"), 1) << other.all();
  EXPECT_FALSE(other.says("watchdog")) << other.all();
  const Outcome three = run_program({"hlo", "run", file}, {.ranks = 3});
  EXPECT_EQ(three.exit_code, 2);
  EXPECT_EQ(three.times_said("for 2 devices, which 3 devices are no multiple of"), 1) << three.all();
  const Outcome missing = run_program({"hlo", "run", file, "--input", "nowhere.npy"}, {.ranks = 2});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_EQ(missing.times_said("nowhere.npy cannot be read"), 1) << missing.all();
  const Outcome unsupported = run_program({"hlo", "run", folder.write("fft.hlo", kTransform), "--json", "-"}, {.ranks = 2});
  EXPECT_EQ(unsupported.exit_code, 2);
  const Json json = Json::parse(unsupported.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << unsupported.all();
  EXPECT_EQ(json.at("unsupported").size(), 2u);
}

}  // namespace
}  // namespace tessera::test

// fuzz_partitioner --programs N --seed S --devices D [--even] [--plain] [--straight] [--meshes]
//     [--bytes] [--run]
//
// Partitions N random programs for D virtual devices (0: 2 to 8) and runs each after every pass in
// the reference interpreters. Ends with "N equal, M differ" and exit code 1 where any differs; such a
// program is shrunk and printed. --even: only sizes that divide; --plain: none of the op table's
// samples; --straight: no loops, branches, calls and manual computations; --meshes: shardings over
// several meshes; --bytes: for a machine without latency. --run: only the result, compiled and run on
// threads with real messages.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "core/base/error.h"
#include "core/ir/text.h"
#include "tests/partitioner/random_program_shrink.h"

namespace {

using namespace tessera;
using namespace tessera::testing;

struct Arguments {
  int64_t programs = 1000;
  uint64_t seed = 1;
  RandomOptions options{.uneven = true};
  ProgramCheck check = check_program;
};

[[noreturn]] void refuse(const std::string& what) {
  std::cerr << what
            << "\nusage: fuzz_partitioner [--programs N] [--seed S] [--devices D] [--even] "
               "[--plain] [--straight] [--meshes] [--bytes] [--run]\n";
  std::exit(2);
}

Arguments read(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    auto number = [&] {
      if (i + 1 >= argc) refuse(name + " needs a number");
      char* end = nullptr;
      const int64_t value = std::strtoll(argv[++i], &end, 10);
      if (*end != 0 || value < 0) refuse(name + " needs a number, not \"" + argv[i] + "\"");
      return value;
    };
    if (name == "--programs")
      arguments.programs = number();
    else if (name == "--seed")
      arguments.seed = static_cast<uint64_t>(number());
    else if (name == "--devices")
      arguments.options.devices = number();
    else if (name == "--even")
      arguments.options.uneven = false;
    else if (name == "--plain")
      arguments.options.sample_ops = false;
    else if (name == "--straight")
      arguments.options.control = false;
    else if (name == "--meshes")
      arguments.options.other_meshes = true;
    else if (name == "--bytes")
      arguments.check = check_by_bytes;
    else if (name == "--run")
      arguments.check = [](const RandomProgram& program, uint64_t) { return run_program(program); };
    else
      refuse("unknown argument " + name);
  }
  return arguments;
}

void show(uint64_t seed, const Arguments& arguments) {
  const std::vector<uint32_t> tape =
      shrink_tape(random_tape(seed), seed, arguments.options, 400, arguments.check);
  const RandomProgram program = random_program(tape, arguments.options);
  std::cout << "seed " << seed << " differs on " << *program.mesh << "; shrunk:\n"
            << print_graph(program.graph) << arguments.check(program, seed) << "\n"
            << std::flush;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = read(argc, argv);
  int64_t equal = 0, differ = 0;
  auto last = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < arguments.programs; ++i) {
    const uint64_t seed = arguments.seed + static_cast<uint64_t>(i);
    std::string failure;
    try {
      failure = arguments.check(random_program(random_tape(seed), arguments.options), seed);
    } catch (const std::exception& error) {
      failure = std::string("no program: ") + error.what();
      std::cout << "seed " << seed << ": " << failure << "\n";
      ++differ;
      continue;
    }
    if (failure.empty()) {
      ++equal;
    } else {
      ++differ;
      show(seed, arguments);
    }
    if (const auto now = std::chrono::steady_clock::now(); now - last > std::chrono::seconds(30)) {
      last = now;
      std::cerr << i + 1 << " programs, " << differ << " differ\n";
    }
  }
  std::cout << equal << " equal, " << differ << " differ\n";
  return differ == 0 ? 0 : 1;
}

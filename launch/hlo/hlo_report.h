// What the verbs of HLO text tell: as text for people and as JSON.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launch/hlo/compare_outputs.h"
#include "launch/hlo/on_ranks.h"

namespace tessera {

// What the steps of a run gave.
struct RunRecord {
  std::vector<double> seconds;
  std::map<std::string, std::vector<double>> scalars;  // by output, a value for each step
};

struct StepTimes {
  double best = 0, median = 0;  // seconds; of several steps without the first, which warms up
};
StepTimes step_times(std::vector<double> seconds);

// "jit_step: 512 instructions on 4 devices <data=2, model=2>, ..." and the collectives.
std::string describe_program(const PreparedProgram& prepared);
// "27 of 29 outputs feed inputs of the next step: out.0 -> Arg_0.1, ..."
std::string describe_carry(const HloProgram& program);
std::string print_scalar(const HostTensor& scalar);  // floats with 7 digits
std::string print_scalar(double value);
// "out.3 f32[2,8] [0,5] is 1.25, expected 1.5"
std::string describe_difference(const HloProgram& program, const OutputDifference& difference);

// Where output `number` is written.
std::string output_file(const std::string& folder, size_t number);

// The reports as JSON (docs/hlo.md). `folder` is that of the outputs, "" where none are written.
std::string run_json(const PreparedProgram& prepared, const RunRecord& record, const std::string& folder);
std::string check_json(const PreparedProgram& prepared, const Comparison& comparison, double tolerance);

}  // namespace tessera

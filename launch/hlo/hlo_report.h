// What the verbs of HLO text tell: as text for people and as JSON.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "launch/hlo/compare_outputs.h"
#include "launch/hlo/on_ranks.h"

namespace tessera {

struct StepTimes {
  double best = 0, median = 0;  // seconds; of several steps without the first, which warms up
};
StepTimes step_times(std::vector<double> seconds);

// {"devices", "ranks", "mesh", "instructions", "collectives": [...], "notes": [...], ...}
nlohmann::json program_json(const PreparedProgram& prepared);
// "4 devices <data=2, model=2> (threads), 512 instructions; compiled in 0.41 s" and the collectives.
std::string describe_program(const PreparedProgram& prepared);
// "27 of 29 outputs feed inputs of the next step: out.0 -> Arg_0.1, ..."
std::string describe_carry(const HloProgram& program);

std::string print_scalar(const HostTensor& scalar);  // floats with 7 digits
std::string print_scalar(double value);

// "out.3 [0,5] is 1.25, expected 1.5"
std::string describe_difference(const HloProgram& program, const OutputDifference& difference);
nlohmann::json comparison_json(const HloProgram& program, const Comparison& comparison);

// Runs a verb; what it throws also becomes a report where `json` asks for one: {"unsupported": [...]}
// or {"error": "..."}. While it runs, `json` "-" keeps standard output for the report.
int report_errors(const std::string& json, const std::function<int()>& verb);

}  // namespace tessera

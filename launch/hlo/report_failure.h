// How the verbs of HLO text end when something fails.
#pragma once

#include <exception>
#include <functional>
#include <string>

namespace tessera {

// Logs what failed, and writes it as JSON where `json` names a report: {"unsupported": [...]} or
// {"error": "..."}. Returns the exit code. Both are out when it returns, so that mpirun may end the rank.
int report_failure(const std::string& json, const std::exception_ptr& failure);

// Runs a verb; what it throws is reported. While it runs, `json` "-" keeps standard output for the report.
int with_failures_reported(const std::string& json, const std::function<int()>& verb);

}  // namespace tessera

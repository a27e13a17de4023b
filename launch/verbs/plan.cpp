#include <iostream>

#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/command_line.h"
#include "launch/config/load.h"
#include "launch/plan/plan_json.h"
#include "launch/plan/plan_report.h"
#include "launch/plan/print_plan.h"
#include "launch/verbs/verbs.h"

namespace tessera {
namespace {

JobConfig load(const PlanArguments& arguments) {
  return load_job(arguments.job.job,
                  {.sharding_file = arguments.job.sharding_file, .mesh = arguments.job.mesh,
                   .sets = arguments.job.sets, .device_count = arguments.devices, .purpose = LoadPurpose::plan});
}

}  // namespace

// --after and --explain answer one question and print nothing else.
int run_plan(const PlanArguments& arguments) {
  const JobConfig job = load(arguments);
  const PlanOptions options{.graph = arguments.graph, .profile = arguments.profile, .strict = arguments.strict};
  if (!options.profile.empty()) machine_model(options.profile);  // an unknown one is refused before any work
  if (!arguments.after.empty()) {
    std::cout << graph_after(job, options, arguments.after) << std::flush;
    return kExitDone;
  }
  if (!arguments.explain.empty()) {
    std::cout << explain_tensors(job, options, arguments.explain) << std::flush;
    return kExitDone;
  }
  PlanReport report = make_plan(job, options);
  report.warnings.insert(report.warnings.begin(), job.warnings.begin(), job.warnings.end());
  if (arguments.json != "-")
    std::cout << print_plan(report) << std::flush;
  if (!arguments.json.empty()) write_report(arguments.json, plan_json(report));
  return kExitDone;
}

}  // namespace tessera

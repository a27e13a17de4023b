// A plan for programs; docs/plan.md lists the keys.
#pragma once

#include <string>

#include "launch/plan/plan_report.h"

namespace tessera {

std::string plan_json(const PlanReport& report);

}  // namespace tessera

// A plan for people: sections with tables; tensors of repeated layers are shown once.
#pragma once

#include <string>

#include "launch/plan/plan_report.h"

namespace tessera {

std::string print_plan(const PlanReport& report);

}  // namespace tessera

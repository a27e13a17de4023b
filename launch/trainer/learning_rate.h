// The learning rate of each step, a pure function of the config and the step.
#pragma once

#include <cstdint>

#include "launch/config/job_config.h"

namespace tessera {

// Rate of step `step`, counted from 0. Warmup rises linearly over `warmup_steps` and reaches the
// peak at step == warmup_steps; then, with t = step - warmup_steps:
//   constant  the peak
//   cosine    from the peak to final_fraction x peak at step decay_steps, then flat
//             (Loshchilov and Hutter 2017, SGDR, one cycle)
//   rsqrt     peak x sqrt(w / max(step, w)), w = max(warmup_steps, 1)
double learning_rate(const config::ScheduleConfig& schedule, int64_t step);

}  // namespace tessera

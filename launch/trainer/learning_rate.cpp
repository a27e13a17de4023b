#include "launch/trainer/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tessera {

double learning_rate(const config::ScheduleConfig& schedule, int64_t step) {
  const double peak = schedule.learning_rate;
  const double warmup = static_cast<double>(schedule.warmup_steps);
  const double at = static_cast<double>(step);
  if (step < schedule.warmup_steps) return peak * (at + 1) / (warmup + 1);
  switch (schedule.kind) {
    case config::ScheduleKind::constant: return peak;
    case config::ScheduleKind::rsqrt: {
      const double scale = std::max(warmup, 1.0);
      return peak * std::sqrt(scale / std::max(at, scale));
    }
    case config::ScheduleKind::cosine: {
      const double span = std::max(1.0, static_cast<double>(schedule.decay_steps) - warmup);
      const double part = std::clamp((at - warmup) / span, 0.0, 1.0);
      const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * part));
      return peak * (schedule.final_fraction + (1 - schedule.final_fraction) * cosine);
    }
  }
  return peak;
}

}  // namespace tessera

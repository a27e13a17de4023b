#include "launch/profile/clock_offset.h"

#include <algorithm>
#include <limits>
#include <sstream>

#include "core/runtime/timeline.h"

namespace tessera {
namespace {

constexpr int kBarriers = 64;

}  // namespace

ClockOffset measure_clock_offset(World& world) {
  if (world.size() == 1) return {};
  std::vector<double> enter(kBarriers), leave(kBarriers);
  for (int i = 0; i < kBarriers; ++i) {
    enter[static_cast<size_t>(i)] = steady_seconds();
    world.barrier();
    leave[static_cast<size_t>(i)] = steady_seconds();
  }
  std::ostringstream text;
  text.precision(17);
  if (world.rank() == 0)
    for (size_t i = 0; i < kBarriers; ++i) text << enter[i] << ' ' << leave[i] << ' ';
  std::istringstream zero(world.broadcast_text(text.str(), 0));
  double low = -std::numeric_limits<double>::infinity(), high = -low;
  for (size_t i = 0; i < kBarriers; ++i) {
    double enter_0 = 0, leave_0 = 0;
    zero >> enter_0 >> leave_0;
    low = std::max(low, enter[i] - leave_0);
    high = std::min(high, leave[i] - enter_0);
  }
  if (world.rank() == 0) return {};
  return {(low + high) / 2, (high - low) / 2};
}

double largest_clock_error(World& world, const ClockOffset& offset) {
  return 1e-9 * static_cast<double>(world.all_reduce_max(static_cast<int64_t>(offset.error * 1e9)));
}

}  // namespace tessera

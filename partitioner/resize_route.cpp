#include "partitioner/resize_route.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/ops/halo.h"

namespace tessera {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();

// How a dim that both lyings have in shards changes its size.
struct Meeting {
  size_t dim = 0;
  int64_t first = 0;  // its size once it is resized as it lies before
  AxisList middle;    // that cut it where it gets its last size
};

class Router {
 public:
  Router(const Sharding& before, const Sharding& after, const TensorType& type, const Shape& from,
         const Shape& to, ReshardPlanner& planner)
      : before_(before), after_(after), type_(type), from_(from), to_(to), planner_(planner) {}

  ResizeRoute best() {
    for (int d = 0; d < from_.rank(); ++d) {
      const auto dim = static_cast<size_t>(d);
      if (from_[d] != to_[d] && !axes_before(dim).empty() && !axes_after(dim).empty())
        meetings_.push_back({dim, from_[d], {}});
    }
    if (meetings_.empty()) return route();
    double least = seconds();
    for (Meeting& meeting : meetings_) {
      Meeting chosen = meeting;
      for (Meeting& option : options(meeting.dim)) {
        meeting = option;
        const double taken = seconds();
        if (taken >= least) continue;
        least = taken;
        chosen = std::move(option);
      }
      meeting = std::move(chosen);
    }
    return route();
  }

 private:
  const AxisList& axes_before(size_t dim) const { return before_.dims[dim].axes; }
  const AxisList& axes_after(size_t dim) const { return after_.dims[dim].axes; }

  // But for the whole dim. What is not possible costs kImpossible.
  std::vector<Meeting> options(size_t dim) const {
    const auto d = static_cast<int>(dim);
    const AxisList &before = axes_before(dim), &after = axes_after(dim);
    const int64_t both = std::lcm(size_of(before), size_of(after));
    return {{dim, to_[d], after},
            {dim, from_[d], after},
            {dim, from_[d], common_prefix(before, after)},
            {dim, ops::ceil_div(type_.shape[d], both) * both, after}};
  }

  // By the meetings as they are. No axis stands twice in the middle: a dim has there what it has
  // afterwards, or less.
  ResizeRoute route() const {
    ResizeRoute route{from_, after_.closed()};
    for (size_t d = 0; d < before_.dims.size(); ++d)
      if (axes_before(d).empty()) route.first[static_cast<int>(d)] = to_[static_cast<int>(d)];
    for (const Meeting& meeting : meetings_) {
      route.first[static_cast<int>(meeting.dim)] = meeting.first;
      route.middle.dims[meeting.dim].axes = meeting.middle;
      route.whole += meeting.middle.empty();
    }
    return route;
  }

  double seconds() {
    const ResizeRoute way = route();
    const double resizing = resize_seconds(before_, from_, way.first) +
                            resize_seconds(way.middle, way.first, to_);
    if (resizing == kImpossible) return kImpossible;
    return resizing + planner_.seconds(before_, way.middle, {type_.dtype, way.first}) +
           planner_.seconds(way.middle, after_, {type_.dtype, to_});
  }

  // By halos along the dims in shards, one dim after the other.
  double resize_seconds(const Sharding& lying, Shape stored, const Shape& wanted) const {
    double seconds = 0;
    for (int d = 0; d < stored.rank(); ++d) {
      if (stored[d] == wanted[d]) continue;
      const AxisList& axes = lying.dims[static_cast<size_t>(d)].axes;
      const int64_t parts = size_of(axes);
      if (stored[d] % parts != 0 || wanted[d] % parts != 0) return kImpossible;
      if (!axes.empty()) {
        const ops::CutDim cut{d, type_.shape[d], stored[d] / parts, axes};
        const int64_t length = wanted[d] / parts;
        const double rows = ops::halo_rows(cut, {{length}, length});
        if (rows < 0) return kImpossible;
        const Shape local = lying.local_shape(stored);
        const auto row = static_cast<double>(local.elements() / local[d]) *
                         static_cast<double>(size_of(type_.dtype));
        const Link link = planner_.machine().link(*planner_.mesh(), axes);
        // A send carries a shard at most.
        seconds += std::ceil(rows / static_cast<double>(cut.shard)) * link.latency +
                   rows * row / link.bandwidth;
      }
      stored[d] = wanted[d];
    }
    return seconds;
  }

  const Sharding &before_, &after_;
  const TensorType& type_;
  const Shape &from_, &to_;
  ReshardPlanner& planner_;
  std::vector<Meeting> meetings_;
};

}  // namespace

ResizeRoute resize_route(const Sharding& before, const Sharding& after, const TensorType& type,
                         const Shape& from, const Shape& to, ReshardPlanner& planner) {
  return Router(before, after, type, from, to, planner).best();
}

}  // namespace tessera

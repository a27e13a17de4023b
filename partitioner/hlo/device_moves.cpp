#include "partitioner/hlo/device_moves.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace tessera::hlo {
namespace {

class MoveFinder {
 public:
  MoveFinder(const std::vector<int64_t>& source, const Mesh& mesh) : source_(source), mesh_(mesh) {}

  DeviceMove run() {
    AxisList axes = involved_axes();
    if (axes.empty() && !is_same_along({})) axes = {first_axis()};
    while (!is_same_along(axes)) axes.push_back(missing_axis(axes));
    std::sort(axes.begin(), axes.end());
    DeviceMove move;
    move.axes = axes;
    move.source = sources_along(axes);
    if (axes.empty()) return move;
    if (is_identity(move.source)) return move;
    if (find_shift(move) || find_relabel(move)) return move;
    move.kind = DeviceMove::Kind::gather;
    move.source = sources_along(move.axes);
    move.is_complete = std::count(move.source.begin(), move.source.end(), -1) == 0;
    return move;
  }

 private:
  AxisRef first_axis() const {
    for (int axis = 0; axis < mesh_.rank(); ++axis)
      if (mesh_.axes()[static_cast<size_t>(axis)].size > 1) return mesh_.axis(axis);
    TESSERA_CHECK(false, "a mesh of one device has nobody to tell apart");
  }

  // The axes along which some device sends to another coordinate.
  AxisList involved_axes() const {
    AxisList axes;
    for (int axis = 0; axis < mesh_.rank(); ++axis)
      for (int64_t d = 0; d < mesh_.devices(); ++d)
        if (const int64_t from = source_[static_cast<size_t>(d)];
            from >= 0 &&
            mesh_.coordinate(from, mesh_.axis(axis)) != mesh_.coordinate(d, mesh_.axis(axis))) {
          axes.push_back(mesh_.axis(axis));
          break;
        }
    return axes;
  }

  AxisRef missing_axis(const AxisList& axes) const {
    for (int axis = 0; axis < mesh_.rank(); ++axis)
      if (!overlaps(axes, mesh_.axis(axis)) && mesh_.axes()[static_cast<size_t>(axis)].size > 1)
        return mesh_.axis(axis);
    TESSERA_CHECK(false, "a move that no axes tell");
  }

  int64_t source_along(int64_t device, const AxisList& axes) const {
    const int64_t from = source_[static_cast<size_t>(device)];
    return from < 0 ? -1 : mesh_.coordinate(from, axes);
  }

  // Whether devices with one coordinate along the axes all receive from one coordinate.
  bool is_same_along(const AxisList& axes) const {
    std::vector<int64_t> seen(static_cast<size_t>(size_of(axes)), -2);
    for (int64_t d = 0; d < mesh_.devices(); ++d) {
      int64_t& first = seen[static_cast<size_t>(mesh_.coordinate(d, axes))];
      const int64_t from = source_along(d, axes);
      if (first == -2) first = from;
      if (first != from) return false;
    }
    return true;
  }

  std::vector<int64_t> sources_along(const AxisList& axes) const {
    std::vector<int64_t> sources(static_cast<size_t>(size_of(axes)), -1);
    for (int64_t d = 0; d < mesh_.devices(); ++d)
      sources[static_cast<size_t>(mesh_.coordinate(d, axes))] = source_along(d, axes);
    return sources;
  }

  static bool is_identity(const std::vector<int64_t>& sources) {
    for (size_t c = 0; c < sources.size(); ++c)
      if (sources[c] != static_cast<int64_t>(c)) return false;
    return true;
  }

  // In any order of the axes, of which there are few.
  bool find_shift(DeviceMove& move) const {
    AxisList order = move.axes;
    if (order.size() > 4) return false;
    do {
      const std::vector<int64_t> sources = sources_along(order);
      for (const bool wrap : {false, true})
        if (try_shift(move, order, sources, wrap)) return true;
    } while (std::next_permutation(order.begin(), order.end()));
    return false;
  }

  static bool try_shift(DeviceMove& move, const AxisList& axes, const std::vector<int64_t>& sources,
                        bool wrap) {
    const auto n = static_cast<int64_t>(sources.size());
    const auto first =
        std::find_if(sources.begin(), sources.end(), [](int64_t s) { return s >= 0; });
    if (first == sources.end()) return false;
    int64_t places = first - sources.begin() - *first;
    if (wrap) places = (places % n + n) % n;
    bool is_complete = true;
    for (int64_t c = 0; c < n; ++c) {
      int64_t from = c - places;
      if (wrap) from = (from + n) % n;
      if (from < 0 || from >= n) from = -1;
      const int64_t wanted = sources[static_cast<size_t>(c)];
      if (wanted >= 0 && wanted != from) return false;
      if (wanted < 0 && from >= 0) is_complete = false;
    }
    move.kind = DeviceMove::Kind::shift;
    move.axes = axes;
    move.places = places;
    move.wrap = wrap;
    move.source = sources;
    move.is_complete = is_complete;
    return true;
  }

  // Whole axes that change places.
  bool find_relabel(DeviceMove& move) const {
    if (move.axes.size() < 2 || move.axes.size() > 4) return false;
    AxisList target = move.axes;
    do {
      bool fits = true;
      for (int64_t d = 0; fits && d < mesh_.devices(); ++d) {
        // The sender at coordinate c along axes reaches the device at c along target_axes.
        const int64_t from = source_along(d, move.axes);
        fits = from >= 0 && from == mesh_.coordinate(d, target);
      }
      if (fits) {
        move.kind = DeviceMove::Kind::relabel;
        move.target_axes = target;
        return true;
      }
    } while (std::next_permutation(target.begin(), target.end()));
    return false;
  }

  const std::vector<int64_t>& source_;
  const Mesh& mesh_;
};

}  // namespace

DeviceMove find_move(const std::vector<int64_t>& source, const Mesh& mesh) {
  return MoveFinder(source, mesh).run();
}

}  // namespace tessera::hlo

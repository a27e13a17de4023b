#include "partitioner/hlo/manual_axes.h"

#include <algorithm>

#include "core/base/error.h"
#include "partitioner/hlo/convert_sharding.h"

namespace tessera::hlo {
namespace {

AxisList stated_axes(const HloInstruction& call, std::string_view name, const MeshPtr& mesh) {
  const auto* sharding = call.get<HloSharding>(name);
  TESSERA_CHECK(sharding != nullptr, "a manual call without ", name);
  const int rank = sharding->kind == HloSharding::Kind::tiled ? sharding->tile_rank()
                   : sharding->kind == HloSharding::Kind::named
                       ? static_cast<int>(sharding->dims.size())
                       : 0;
  ConvertedSharding converted = convert_sharding(*sharding, mesh, rank);
  if (!converted.manual.empty() && !(*converted.sharding.mesh == *mesh) && !converted.is_manual)
    throw_user_error(where(call), ": the manual region counts devices in the order of ",
                     print(*sharding), ", which is not that of the mesh ", *mesh,
                     "; give it the order of the mesh");
  return std::move(converted.manual);
}

}  // namespace

ManualAxes manual_axes_of(const HloInstruction& call, const MeshPtr& mesh) {
  ManualAxes axes;
  axes.outside = stated_axes(call, "outside", mesh);
  axes.own = stated_axes(call, "manual", mesh);
  std::sort(axes.own.begin(), axes.own.end());
  axes.own = canonical(without(axes.own, axes.outside));
  return axes;
}

}  // namespace tessera::hlo

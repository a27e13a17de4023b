// The frontend attributes xla.sdy.*, in which JAX repeats its shardings by axis names:
//
//   module  xla.sdy.meshes={mesh = #sdy.mesh<["data"=2, "model"=2]>}
//   value   xla.sdy.sharding="#sdy.sharding<@mesh, [{\"data\"}, {\"model\", ?}p1], replicated={\"x\"}>"
//   values  xla.sdy.sharding="#sdy.sharding_per_value<[<@mesh, [{}]>, <@mesh, [{}]>]>"
//   manual  xla.sdy.in_shardings, xla.sdy.out_shardings (per value), xla.sdy.manual_axes="#sdy<manual_axes{\"data\"}>"
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "partitioner/hlo/sharding.h"

namespace tessera::hlo {

// By name. Throw UserError that shows the text and the place.
std::map<std::string, NamedMesh> parse_sdy_meshes(std::string_view text);
// One sharding or one per value; all of kind named, with the mesh resolved among `meshes`. Inlined
// meshes (mesh<["a"=2]>) are understood.
std::vector<HloSharding> parse_sdy_shardings(std::string_view text,
                                             const std::map<std::string, NamedMesh>& meshes);
std::vector<std::string> parse_sdy_manual_axes(std::string_view text);

}  // namespace tessera::hlo

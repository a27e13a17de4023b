// Custom calls by target. What a sharding annotation says is put onto the values by the walk
// (annotate_values); here such a call is the identity.
#include <algorithm>
#include <charconv>

#include "core/base/error.h"
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/ops/custom_call.h"
#include "core/ops/elementwise.h"
#include "core/ops/sort.h"
#include "partitioner/hlo/convert_sharding.h"
#include "partitioner/hlo/import_support.h"
#include "partitioner/hlo/manual_axes.h"
#include "partitioner/hlo/manual_regions.h"
#include "partitioner/hlo/stated_sharding.h"

namespace tessera::hlo {
namespace {

void import_identity(ImportContext& c) { c.set(c.all_operands()); }

void import_placement(ImportContext& c) {
  c.note("annotate_device_placement: values stay in the memory of their device");
  import_identity(c);
}

// xla.sdy.ShardingGroup(x) -> (): x is in the group xla.sdy.sharding_group_id="3 : i64".
void import_group(ImportContext& c) {
  const std::string text = frontend_attribute(c.instruction(), "xla.sdy.sharding_group_id");
  int64_t id = -1;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || id < 0)
    c.fail(cat("xla.sdy.sharding_group_id=\"", text, "\" is not a number such as \"0 : i64\""));
  const ShardingGroup group = group_of(id, true);
  for (Value x : c.all_operands()) {
    std::vector<ShardingGroup>& groups = c.builder().graph().info(x).groups;
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  c.set({});
}

// TopK(x) -> values, indices: the largest along the last dim; k is the extent of the results.
void import_top_k_call(ImportContext& c) {
  expect_operands(c, 1);
  Builder& b = c.builder();
  const TensorType values = c.result_type(0), indices = c.result_type(1);
  if (values.rank() == 0) c.fail(cat("TopK gives ", values, ", which has no last dim"));
  const ops::TopK made = ops::top_k(b, c.operand(0), values.shape[values.rank() - 1]);
  c.set({made.values, ops::convert(b, made.indices, indices.dtype)});
}

void refuse_border(ImportContext& c) {
  c.fail(
      "stands alone; a manual region begins with GlobalToLocalShape, goes on with a call, and "
      "ends with LocalToGlobalShape");
}

// ---- Manual regions (manual_regions.h)
// --------------------------------------------------------------

// Of the operands or results, over the mesh: their own manual axes major in each dim, as they must
// be.
Shardings boundary(ImportContext& c, std::string_view name, const ManualAxes& axes,
                   const std::vector<TensorType>& types) {
  const auto* stated = c.instruction().get<HloSharding>(name);
  const auto* open =
      c.instruction().get<IntLists>(name == "in_shardings" ? "in_unspecified" : "out_unspecified");
  TESSERA_CHECK(stated != nullptr, "a manual call without ", name);
  if (stated->elements.size() != types.size())
    c.fail(cat(stated->elements.size(), " ", name, " for ", types.size(), " arrays"));
  Shardings shardings;
  for (size_t i = 0; i < types.size(); ++i) {
    const HloSharding& element = stated->elements[i];
    ConvertedSharding converted =
        convert_sharding(element, c.mesh(), types[i].rank(), open ? open->lists[i] : Ints{});
    Sharding& sharding = converted.sharding;
    if (!(*sharding.mesh == *c.mesh()))
      c.fail(cat("the sharding ", print(element),
                 " of a manual region has another order of devices "
                 "than the mesh ",
                 *c.mesh()));
    for (DimSharding& dim : sharding.dims) dim.axes = canonical(without(dim.axes, axes.outside));
    sharding.replicated = without(without(sharding.replicated, axes.own), axes.outside);
    shardings.push_back(std::move(sharding));
  }
  return shardings;
}

// An order of devices that is not the mesh's may go along any axis.
bool lies_along(const ResultInfo& info, const AxisList& axes, const Mesh& mesh) {
  return info.sharding && (!info.sharding->is_for(mesh) || overlaps(info.sharding->used_axes(), axes));
}

// Inside, a manual axis is nobody's to shard by, whatever an annotation says.
Graph without_axes(const Graph& graph, const AxisList& axes, const Mesh& mesh) {
  Graph stripped = with_mapped_regions(
      graph, [&](const Graph& region) { return without_axes(region, axes, mesh); });
  for (Instruction& instruction : stripped.instructions)
    for (ResultInfo& info : instruction.results) {
      if (!lies_along(info, axes, mesh)) continue;
      if (!info.sharding->is_for(mesh)) {
        info.sharding.reset();
        continue;
      }
      for (DimSharding& dim : info.sharding->dims) dim.axes = canonical(without(dim.axes, axes));
    }
  return stripped;
}

GraphRef manual_body(ImportContext& c, const AxisList& axes) {
  const GraphRef body = c.region(c.name_of("to_apply"));
  std::string named;
  for_each_region(*body, [&](const Graph& graph) {
    for (const Instruction& instruction : graph.instructions)
      for (const ResultInfo& info : instruction.results)
        if (named.empty() && lies_along(info, axes, *c.mesh()))
          named = cat(info.name, " ", print_sharding(*info.sharding, c.mesh().get()));
  });
  if (named.empty()) return body;
  c.note(cat("in the manual region ", body->name,
             " a value is annotated along manual axes, which is "
             "left out: ",
             named));
  return std::make_shared<const Graph>(without_axes(*body, axes, *c.mesh()));
}

void import_manual_call(ImportContext& c) {
  Builder& b = c.builder();
  const ManualAxes axes = manual_axes_of(c.instruction(), c.mesh());
  const GraphRef body = manual_body(c, axes.own);
  const std::vector<Value> operands = c.all_operands();
  std::vector<TensorType> taken, given;
  for (Value operand : operands) taken.push_back(b.type(operand));
  for (const HloShape* leaf : c.instruction().shape.leaves())
    given.push_back({leaf->dtype.value_or(DType::f32), leaf->dims});
  if (given.size() != body->outputs.size())
    c.fail(cat("the manual region ", body->name, " gives ", body->outputs.size(), " arrays, not ",
               given.size()));
  Shardings in = boundary(c, "in_shardings", axes, taken);
  Shardings out = boundary(c, "out_shardings", axes, given);
  // Nothing manual (a mesh of one device): a function like any other.
  if (axes.own.empty()) return c.set(ops::call(b, body, operands));
  c.set(ops::manual_computation(b, body, operands, axes.own, std::move(in), std::move(out)));
}

constexpr OpcodeEntry kTargets[] = {
    {"Sharding", import_identity},
    {"xla.sdy.FuncResultSharding", import_identity},
    {"xla.sdy.PropagationBarrier", import_identity},
    {"xla.sdy.ShardingGroup", import_group},
    {"annotate_device_placement", import_placement},
    {"TopK", import_top_k_call},
    {kManualCall, import_manual_call},
    {kFullToShard, refuse_border},
    {kShardToFull, refuse_border},
    {kGlobalToLocal, refuse_border},
    {kLocalToGlobal, refuse_border},
};

}  // namespace

std::span<const OpcodeEntry> custom_call_targets() { return kTargets; }

void import_registered_call(ImportContext& c) {
  Builder& b = c.builder();
  std::vector<TensorType> results;
  for (const HloShape* leaf : c.instruction().shape.leaves())
    results.push_back({leaf->dtype.value_or(DType::f32), leaf->dims});
  Attributes attributes{{Attr::call_target, c.name_of("custom_call_target")},
                        {Attr::result_types, join(results, ", ")}};
  if (const HloAttribute* config = c.instruction().find("backend_config"))
    if (const auto* text = std::get_if<std::string>(&config->value))
      attributes.set(Attr::backend_config, *text);
  c.set(results_of(b, b.emit(ops::kCustomCall, c.all_operands(), std::move(attributes))));
}

}  // namespace tessera::hlo

#include <map>

#include "core/ops/control.h"
#include "partitioner/projection.h"
#include "partitioner/propagation_problem.h"
#include "partitioner/regions.h"

namespace tessera {
namespace {

// Puts what each tensor got back onto the values of one graph, then of its regions.
class Writer {
 public:
  explicit Writer(const PropagationProblem& problem) {
    for (const PropagationTensor& tensor : problem.tensors)
      for (const Place& place : tensor.places)
        by_region_[place.region].emplace_back(place.value, &tensor.sharding);
  }

  void write(Graph& graph, const std::string& path) {
    const auto found = by_region_.find(path);
    if (found != by_region_.end())
      for (const auto& [value, sharding] : found->second)
        graph.info(value).sharding->dims = sharding->dims;
    for (size_t i = 0; i < graph.instructions.size(); ++i)
      write_regions(graph, static_cast<int>(i), path);
  }

 private:
  void write_regions(Graph& graph, int index, const std::string& path) {
    Instruction& instruction = graph.instructions[static_cast<size_t>(index)];
    if (!has_control_flow(instruction)) return;
    const std::vector<Region> regions = control_regions(instruction);
    const bool is_manual = instruction.is(ops::kManualComputation);
    size_t number = 0;
    map_regions(instruction, [&](const Graph& source) {
      const Region& region = regions[number++];
      Graph inner = source;
      write(inner, region_path(path, index, region));
      for (const GraphInput& input : inner.inputs) {
        std::optional<Sharding>& sharding = inner.info(input.value).sharding;
        sharding = sharding->closed();
      }
      for (size_t o = 0; o < inner.outputs.size(); ++o)
        inner.outputs[o].sharding =
            !gives_results(region) || is_manual
                ? inner.sharding(inner.outputs[o].value).closed().without_partial()
                : instruction.results[o].sharding->closed().without_partial();
      if (is_manual) keep_blocks(instruction, inner);
      return inner;
    });
    if (is_manual) write_boundary(instruction);
  }

  // Behind manual axes of a dim a free one stands only where it divides what one coordinate holds:
  // padded blocks of each coordinate would not be the blocks of the whole dim.
  static void keep_blocks(const Instruction& manual, Graph& body) {
    const AxisList axes = manual.attributes.get<AxisList>(Attr::axes);
    auto keep = [&](const Sharding& boundary, Sharding& inside, const Shape& shape) {
      for (size_t d = 0; d < inside.dims.size(); ++d)
        if (!manual_part(boundary.dims[d].axes, axes).empty())
          inside.dims[d].axes =
              dividing_prefix(inside.dims[d].axes, shape[static_cast<int>(d)]);
    };
    const auto& in = manual.attributes.get<Shardings>(Attr::in_shardings);
    const auto& out = manual.attributes.get<Shardings>(Attr::out_shardings);
    for (size_t i = 0; i < in.size(); ++i) {
      ResultInfo& info = body.info(body.inputs[i].value);
      keep(in[i], *info.sharding, info.type.shape);
    }
    for (size_t o = 0; o < out.size(); ++o)
      keep(out[o], *body.outputs[o].sharding, body.type(body.outputs[o].value).shape);
  }

  // The manual axes as given, then what the body uses of the others.
  static void write_boundary(Instruction& instruction) {
    const Graph& body = *control_regions(instruction)[0].graph;
    const AxisList manual = instruction.attributes.get<AxisList>(Attr::axes);
    auto complete = [&](const Shardings& given, auto&& inside) {
      Shardings full;
      for (size_t i = 0; i < given.size(); ++i) {
        Sharding sharding = given[i].closed();
        for (size_t d = 0; d < sharding.dims.size(); ++d)
          sharding.dims[d].axes =
              concat(manual_part(given[i].dims[d].axes, manual), inside(i).dims[d].axes);
        full.push_back(std::move(sharding));
      }
      return full;
    };
    const auto in = instruction.attributes.get<Shardings>(Attr::in_shardings);
    const auto out = instruction.attributes.get<Shardings>(Attr::out_shardings);
    instruction.attributes.set(Attr::in_shardings, complete(in, [&](size_t i) -> const Sharding& {
                                 return body.sharding(body.inputs[i].value);
                               }));
    instruction.attributes.set(Attr::out_shardings, complete(out, [&](size_t i) -> const Sharding& {
                                 return *body.outputs[i].sharding;
                               }));
  }

  std::map<std::string, std::vector<std::pair<Value, const Sharding*>>> by_region_;
};

}  // namespace

void write_back(const PropagationProblem& problem, Graph& graph) { Writer(problem).write(graph, ""); }

}  // namespace tessera

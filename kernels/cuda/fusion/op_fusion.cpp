#include "core/ops/fusion.h"

#include "kernels/cuda/fusion/generated_kernel.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// Kept per thread as long as the body lives, so that a run that is not captured finds it by an address.
const FusionSource& source_of(const KernelArgs& args) {
  struct Entry {
    std::weak_ptr<const Graph> body;
    FusionSource source;
  };
  thread_local std::map<std::pair<const Graph*, int>, Entry> sources;
  const GraphRef& body = args.instruction.attributes.get<GraphRef>(Attr::body);
  const int alignment = alignment_of(args);
  const auto key = std::pair{body.get(), alignment};
  auto found = sources.find(key);
  // The address may be a later graph's: what counts is that the body itself still lives.
  if (found != sources.end() && found->second.body.lock() == body) return found->second.source;
  if (found == sources.end()) {
    std::erase_if(sources, [](const auto& item) { return item.second.body.expired(); });
    found = sources.try_emplace(key).first;
  }
  const FusionWalk walk = walk_fusion(*body);
  found->second = {body, fusion_source(walk, static_cast<int>(body->inputs.size()), alignment, "fusion")};
  return found->second.source;
}

bool is_empty(Results results) { return results[0].elements() == 0; }

Refusal accept(const OpCall& call, Results results) {
  if (results.empty()) return "no results";
  if (is_empty(results)) return std::nullopt;
  const GraphRef& body = call.attributes.get<GraphRef>(Attr::body);
  const std::string refusal = fusion_refusal(walk_fusion(*body), static_cast<int>(body->inputs.size()));
  if (refusal.empty()) return std::nullopt;
  return refusal;
}

void prepare(const KernelArgs& args) {
  if (args.results[0].type.elements() > 0) prepare_generated(args, source_of(args));
}

void run(const KernelArgs& args) {
  if (args.results[0].type.elements() > 0) run_generated(args, source_of(args));
}

}  // namespace

void register_fusion(KernelTable& table) {
  Kernel kernel = make_kernel("cuda.fusion", accept, run);
  kernel.prepare = prepare;
  // An operand with as many elements of the same width is read at the position that is written, by the same thread
  // before it writes.
  kernel.in_place_any = true;
  table.add(ops::kFusion, kernel);
}

}  // namespace tessera::cuda

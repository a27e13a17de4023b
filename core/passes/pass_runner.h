// The one wrapper that every pass runs through: it can skip, time, verify and show each by name.
//
//     PassRunner passes(options);
//     graph = passes.run("fold", GraphStage::built, graph, [](const Graph& g) { return
//     fold_constants(g); });
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/ir/graph.h"
#include "core/ir/verifier.h"

namespace tessera {

struct PassRunnerOptions {
  bool verify = true;             // the verifier of the stage, after every pass
  std::vector<std::string> skip;  // passes that are left out; only those that keep the stage may be
  // Sees the graph after every pass (dumps, the interpreters in tests).
  std::function<void(std::string_view pass, const Graph& graph)> observe = nullptr;
};

class PassRunner {
 public:
  explicit PassRunner(PassRunnerOptions options = {}) : options_(std::move(options)) {}

  // `stage` is what holds after the pass. InternalErrors of the verifier get the pass's name.
  Graph run(std::string_view name, GraphStage stage, const Graph& graph,
            const std::function<Graph(const Graph&)>& pass);

  // In the order of the runs.
  const std::vector<std::pair<std::string, double>>& seconds() const { return seconds_; }

 private:
  PassRunnerOptions options_;
  std::vector<std::pair<std::string, double>> seconds_;
};

}  // namespace tessera

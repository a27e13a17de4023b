#include "core/passes/pass_runner.h"

#include <algorithm>
#include <chrono>

#include "core/base/error.h"

namespace tessera {

Graph PassRunner::run(std::string_view name, GraphStage stage, const Graph& graph,
                      const std::function<Graph(const Graph&)>& pass) {
  const bool skipped =
      std::find(options_.skip.begin(), options_.skip.end(), name) != options_.skip.end();
  const auto start = std::chrono::steady_clock::now();
  Graph result = skipped ? graph : pass(graph);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  seconds_.emplace_back(name, spent.count());
  if (options_.verify) {
    try {
      verify(result, stage);
    } catch (const InternalError& error) {
      throw InternalError(cat("after pass ", name, ": ", error.what()));
    }
  }
  if (options_.observe) options_.observe(name, result);
  return result;
}

}  // namespace tessera

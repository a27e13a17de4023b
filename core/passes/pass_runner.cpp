#include "core/passes/pass_runner.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/steady_clock.h"

namespace tessera {

Graph PassRunner::run(std::string_view name, GraphStage stage, const Graph& graph,
                      const std::function<Graph(const Graph&)>& pass) {
  const bool skipped =
      std::find(options_.skip.begin(), options_.skip.end(), name) != options_.skip.end();
  const double start = steady_seconds();
  Graph result = skipped ? graph : pass(graph);
  seconds_.emplace_back(name, steady_seconds() - start);
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

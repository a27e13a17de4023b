// The numbers of one training step, as every sink takes them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tessera {

struct StepMetrics {
  int64_t step = 0;                      // optimizer steps done, this one included: the first is 1
  double loss = 0;                       // nats per target, of the step's global batch
  std::optional<double> eval_loss = {};  // of the held-out text, where it was evaluated
  double grad_norm = 0;                  // before clipping
  double lr = 0;
  double tokens_per_second = 0;    // over all ranks
  std::optional<double> mfu = {};  // model FLOPs over the machine's peak, 0 to 1
  // What else a run counts ("z_loss", ...); names must not be those above.
  std::vector<std::pair<std::string, double>> extra = {};
};

}  // namespace tessera

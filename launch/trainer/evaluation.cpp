#include "launch/trainer/evaluation.h"

#include <algorithm>

#include "launch/data/batches.h"

namespace tessera {

double evaluate_dataset(Session& session, const TextDataset& heldout) {
  const JobConfig& config = session.job().config;
  const int64_t rows_per_batch = config.train.global_batch / config.train.accumulate;
  int64_t batches = evaluation_batches(heldout, rows_per_batch);
  if (config.eval.batches > 0) batches = std::min(batches, config.eval.batches * config.train.accumulate);
  EvaluationSums total;
  for (int64_t b = 0; b < batches; ++b) {
    const EvaluationSums sums =
        session.evaluate([&](int64_t, int64_t row, int64_t rows, TokenBatch& batch) {
          read_evaluation_rows(heldout, b, rows_per_batch, row, rows, batch);
        });
    total.loss += sums.loss;
    total.weight += sums.weight;
  }
  return total.loss / total.weight;
}

}  // namespace tessera

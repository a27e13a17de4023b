// Where a model drops activations while it trains.
#pragma once

#include "core/ir/builder.h"
#include "core/ops/philox.h"

namespace tessera::models {

// One for each graph that trains. Every use is a draw of its own, numbered in the order of the uses, so that
// the same model draws the same masks in every graph.
class Dropout {
 public:
  Dropout() = default;  // drops nothing: evaluation and prediction
  // `step` and `row` are s64 scalars: the step's number, and the row of the batch that the graph begins at.
  Dropout(double rate, int64_t seed, Value step, Value row) : rate_(rate), seed_(seed), step_(step), row_(row) {}

  // x [batch, ...]
  Value operator()(Builder& builder, Value x);

 private:
  double rate_ = 0;
  int64_t seed_ = 0;
  Value step_, row_;
  int64_t next_site_ = kDropoutSites;
};

}  // namespace tessera::models

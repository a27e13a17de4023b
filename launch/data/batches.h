// Which sequences make up each global batch, and where the stream of batches stands.
//
// The stream is a pure function of (dataset, seed): epoch e is the dataset in the order of
// Permutation(seed, e), epochs follow each other without a gap (a batch may straddle two), and two
// integers say where it stands. So a resume is exact, any number of times, and on any mesh: the
// global batch at a position is the same however its rows are dealt to ranks.
#pragma once

#include <cstdint>
#include <iosfwd>

#include "launch/data/text_dataset.h"

namespace tessera {

// The next sequence to be used: number `index` of epoch `epoch`, 0 <= index < sequences.
struct DataPosition {
  int64_t epoch = 0;
  int64_t index = 0;

  bool operator==(const DataPosition&) const = default;
};

std::ostream& operator<<(std::ostream& out, const DataPosition& position);

class TrainingBatches {
 public:
  // `dataset` must outlive this. Without `shuffle` every epoch is in the order of the corpus.
  TrainingBatches(const TextDataset& dataset, uint64_t seed, bool shuffle = true)
      : dataset_(&dataset), seed_(seed), shuffle_(shuffle) {}

  // `position` moved on by `sequences` sequences: where the batch after this one starts.
  DataPosition advance(DataPosition position, int64_t sequences) const;

  // Where a run goes on whose checkpoint stood at `position` of epochs of `epoch_size` sequences.
  // That is `position` itself, unless the corpus or the sequence length has changed since: then the
  // same share of the epoch has been used.
  DataPosition carry_over(DataPosition position, int64_t epoch_size) const;

  // The dataset's number of the sequence at `position`.
  int64_t sequence_at(DataPosition position) const;

  // Rows [row_begin, row_begin + rows) of the global batch that starts at `position`.
  void read(DataPosition position, int64_t row_begin, int64_t rows, TokenBatch& batch) const;

  // How many targets of the whole global batch count: what its summed loss is divided by. Reads no
  // text, so every rank knows it without asking the others.
  int64_t targets(DataPosition position, int64_t global_batch) const;

 private:
  const TextDataset* dataset_;
  uint64_t seed_;
  bool shuffle_;
};

// Rows [row_begin, row_begin + rows) of batch `batch_index` of one pass over `dataset` in order.
// Rows past the last sequence are padding of weight 0, so a pass counts every target exactly once.
void read_evaluation_rows(const TextDataset& dataset, int64_t batch_index, int64_t global_batch,
                          int64_t row_begin, int64_t rows, TokenBatch& batch);

// How many such batches a pass takes.
int64_t evaluation_batches(const TextDataset& dataset, int64_t global_batch);

// The targets that count in batch `batch_index` of a pass.
int64_t evaluation_targets(const TextDataset& dataset, int64_t batch_index, int64_t global_batch);

}  // namespace tessera

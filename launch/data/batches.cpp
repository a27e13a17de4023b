#include "launch/data/batches.h"

#include <algorithm>
#include <ostream>

#include "core/base/error.h"
#include "launch/data/permutation.h"

namespace tessera {

std::ostream& operator<<(std::ostream& out, const DataPosition& position) {
  return out << "epoch " << position.epoch << ", sequence " << position.index;
}

DataPosition TrainingBatches::advance(DataPosition position, int64_t sequences) const {
  const int64_t next = position.index + sequences;
  return {position.epoch + next / dataset_->sequences(), next % dataset_->sequences()};
}

DataPosition TrainingBatches::carry_over(DataPosition position, int64_t epoch_size) const {
  const int64_t sequences = dataset_->sequences();
  if (epoch_size == sequences) return position;
  const double share =
      epoch_size <= 0 ? 0 : static_cast<double>(position.index) / static_cast<double>(epoch_size);
  const auto index = static_cast<int64_t>(share * static_cast<double>(sequences));
  return {position.epoch, std::clamp<int64_t>(index, 0, sequences - 1)};
}

int64_t TrainingBatches::sequence_at(DataPosition position) const {
  TESSERA_CHECK(position.index >= 0 && position.index < dataset_->sequences(), position, " of ",
                dataset_->sequences());
  if (!shuffle_) return position.index;
  return Permutation(seed_, position.epoch, dataset_->sequences())(position.index);
}

void TrainingBatches::read(DataPosition position, int64_t row_begin, int64_t rows,
                           TokenBatch& batch) const {
  batch.resize(rows, dataset_->length());
  for (int64_t row = 0; row < rows; ++row)
    dataset_->read_sequence(sequence_at(advance(position, row_begin + row)), batch, row);
}

int64_t TrainingBatches::targets(DataPosition position, int64_t global_batch) const {
  int64_t count = 0;
  for (int64_t row = 0; row < global_batch; ++row)
    count += dataset_->targets_in(sequence_at(advance(position, row)));
  return count;
}

void read_evaluation_rows(const TextDataset& dataset, int64_t batch_index, int64_t global_batch,
                          int64_t row_begin, int64_t rows, TokenBatch& batch) {
  batch.resize(rows, dataset.length());
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t sequence = batch_index * global_batch + row_begin + row;
    dataset.read_sequence(sequence < dataset.sequences() ? sequence : -1, batch, row);
  }
}

int64_t evaluation_batches(const TextDataset& dataset, int64_t global_batch) {
  return (dataset.sequences() + global_batch - 1) / global_batch;
}

int64_t evaluation_targets(const TextDataset& dataset, int64_t batch_index, int64_t global_batch) {
  const int64_t begin = batch_index * global_batch;
  int64_t count = 0;
  for (int64_t s = begin; s < std::min(begin + global_batch, dataset.sequences()); ++s)
    count += dataset.targets_in(s);
  return count;
}

}  // namespace tessera

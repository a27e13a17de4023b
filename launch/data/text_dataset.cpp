#include "launch/data/text_dataset.h"

#include <algorithm>

#include "core/base/error.h"
#include "launch/data/byte_tokenizer.h"

namespace tessera {

void TokenBatch::resize(int64_t new_rows, int64_t new_length) {
  rows = new_rows;
  length = new_length;
  const size_t size = static_cast<size_t>(rows * length);
  tokens.resize(size);
  targets.resize(size);
  weights.resize(size);
}

TextDataset::TextDataset(std::shared_ptr<const Corpus> corpus, std::vector<TokenRange> ranges,
                         int64_t length)
    : corpus_(std::move(corpus)), ranges_(std::move(ranges)), length_(length) {
  TESSERA_CHECK(length >= 1, "sequence length ", length);
  std::erase_if(ranges_, [](const TokenRange& range) { return range.size() < 2; });
  first_sequence_.push_back(0);
  for (const TokenRange& range : ranges_)
    first_sequence_.push_back(sequences() + (range.size() - 1 + length - 1) / length);
  if (sequences() == 0)
    throw_user_error("corpus ", corpus_->name(), ": this part of its ", corpus_->tokens(),
                     " tokens holds no target to predict. Use more text");
}

int64_t TextDataset::targets() const {
  int64_t count = 0;
  for (const TokenRange& range : ranges_) count += range.size() - 1;
  return count;
}

TokenRange TextDataset::window(int64_t sequence) const {
  TESSERA_CHECK(sequence >= 0 && sequence < sequences(), "sequence ", sequence, " of ",
                sequences());
  const size_t r = static_cast<size_t>(
      std::upper_bound(first_sequence_.begin(), first_sequence_.end(), sequence) -
      first_sequence_.begin() - 1);
  const int64_t begin = ranges_[r].begin + (sequence - first_sequence_[r]) * length_;
  return {begin, std::min(begin + length_ + 1, ranges_[r].end)};
}

int64_t TextDataset::targets_in(int64_t sequence) const { return window(sequence).size() - 1; }

void TextDataset::read_sequence(int64_t sequence, TokenBatch& batch, int64_t row) const {
  TESSERA_CHECK(batch.length == length_ && row >= 0 && row < batch.rows, "row ", row, " of ",
                batch.rows, "x", batch.length);
  const size_t offset = static_cast<size_t>(row * length_), size = static_cast<size_t>(length_);
  const std::span<int32_t> tokens = std::span(batch.tokens).subspan(offset, size);
  const std::span<int32_t> targets = std::span(batch.targets).subspan(offset, size);
  const std::span<float> weights = std::span(batch.weights).subspan(offset, size);
  const TokenRange range = sequence < 0 ? TokenRange{0, 1} : window(sequence);
  const size_t count = static_cast<size_t>(range.size() - 1);
  if (count > 0) {
    corpus_->read(range.begin, tokens.first(count));
    corpus_->read(range.end - 1, targets.subspan(count - 1, 1));
    std::copy(tokens.begin() + 1, tokens.begin() + count, targets.begin());
  }
  std::fill(tokens.begin() + count, tokens.end(), kPadToken);
  std::fill(targets.begin() + count, targets.end(), kPadToken);
  std::fill(weights.begin(), weights.begin() + count, 1.0f);
  std::fill(weights.begin() + count, weights.end(), 0.0f);
}

TextData open_text_data(const TextDataConfig& config) {
  const int64_t length = config.length;
  auto corpus = std::make_shared<const Corpus>(Corpus::open(config.paths, config.corpus));
  CorpusSplit split =
      split_corpus(corpus->tokens(), config.eval_paths.empty() ? config.holdout : 0.0);
  int64_t training = 0;
  for (const TokenRange& range : split.training) training = std::max(training, range.size());
  if (training < length + 1)
    throw_user_error("corpus ", corpus->name(), " is shorter than a sequence: ", corpus->bytes(),
                     " bytes of text leave ", training, " tokens to train on, and a sequence of ",
                     "length ", length, " needs ", length + 1,
                     ". Use more text or a shorter length");
  if (!config.eval_paths.empty()) {
    auto other = std::make_shared<const Corpus>(Corpus::open(config.eval_paths, config.corpus));
    const TokenRange all{0, other->tokens()};
    return {std::make_unique<TextDataset>(corpus, std::move(split.training), length),
            std::make_unique<TextDataset>(other, std::vector{all}, length)};
  }
  TextData data;
  data.training = std::make_unique<TextDataset>(corpus, std::move(split.training), length);
  if (!split.heldout.empty())
    data.heldout = std::make_unique<TextDataset>(corpus, std::move(split.heldout), length);
  return data;
}

}  // namespace tessera

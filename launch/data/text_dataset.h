// A part of a corpus, packed into sequences of one length.
//
// Each token range is cut into windows of length + 1 tokens that overlap by one, so that every
// token after the first of a range is a target exactly once; documents run on inside a window,
// parted by their end tokens. With length 4:
//
//     tokens of the range   a b c d e f g
//     sequence 0            inputs a b c d   targets b c d e   weights 1 1 1 1
//     sequence 1            inputs e f . .   targets f g . .   weights 1 1 0 0
//
// The last sequence of a range is filled with pad tokens of weight 0, so nothing is lost and
// nothing is counted twice.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "launch/data/corpus.h"
#include "launch/data/corpus_split.h"

namespace tessera {

// Some rows of a global batch, each array [rows, length] row-major.
struct TokenBatch {
  int64_t rows = 0;
  int64_t length = 0;
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  std::vector<float> weights;  // 1 where the target counts, 0 where it is padding

  // Makes room; a batch that is reused for equal sizes never allocates again.
  void resize(int64_t new_rows, int64_t new_length);
};

class TextDataset {
 public:
  // length >= 1. Throws UserError where `ranges` hold fewer than 2 tokens: nothing to predict.
  TextDataset(std::shared_ptr<const Corpus> corpus, std::vector<TokenRange> ranges, int64_t length);

  int64_t length() const { return length_; }
  int64_t sequences() const { return first_sequence_.back(); }
  int64_t targets() const;                     // over all sequences
  int64_t targets_in(int64_t sequence) const;  // 1 .. length
  const std::vector<TokenRange>& ranges() const { return ranges_; }
  const Corpus& corpus() const { return *corpus_; }

  // Writes sequence `sequence` into row `row` of `batch`; -1 writes a row of padding.
  void read_sequence(int64_t sequence, TokenBatch& batch, int64_t row) const;

 private:
  TokenRange window(int64_t sequence) const;  // of inputs and targets together: 2 .. length + 1

  std::shared_ptr<const Corpus> corpus_;
  std::vector<TokenRange> ranges_;
  std::vector<int64_t> first_sequence_;  // of each range, then the total
  int64_t length_;
};

struct TextDataConfig {
  std::vector<std::string> paths = {};       // text to train on
  std::vector<std::string> eval_paths = {};  // held-out text; empty: a part of `paths`
  double holdout = 0.05;                     // which part; unused where eval_paths are given
  int64_t length = 128;                      // tokens of a sequence
  CorpusOptions corpus = {};
};

struct TextData {
  std::unique_ptr<TextDataset> training;
  std::unique_ptr<TextDataset> heldout;  // null where nothing is held out
};

// Opens, splits and packs. Throws UserError where a corpus cannot be read (see Corpus::open) or its
// training part is shorter than one sequence of `length` inputs and their last target.
TextData open_text_data(const TextDataConfig& config);

}  // namespace tessera

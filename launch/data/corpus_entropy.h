// Yardsticks for a loss: how well the text is predicted by counting bytes and pairs of bytes.
//
// A language model that has learned anything beats the unigram figures at once; beating the bigram
// figures means that it looks further back than one byte.
#pragma once

#include <cstdint>
#include <string>

#include "launch/data/text_dataset.h"

namespace tessera {

// All in nats per target (a byte or an end of document), over exactly the targets of the held-out
// dataset, so that an evaluation loss compares as it is. Divide by ln 2 for bits per byte.
struct EntropyReport {
  int64_t training_tokens = 0;  // counted
  int64_t heldout_targets = 0;

  // The held-out text's own H(X_t) and H(X_t | X_{t-1}): the least loss that any model of one or
  // two bytes can reach, even one fitted to the held-out text itself. The stricter yardstick.
  double unigram = 0;
  double bigram = 0;

  // Cross-entropies of the held-out text under counts of the training text. Unigrams are smoothed
  // by one extra count for each of the 257 outcomes, bigrams by one extra count after each byte,
  // dealt out by the smoothed unigrams: p(b|a) = (n(ab) + p(b)) / (n(a) + 1).
  double unigram_from_training = 0;
  double bigram_from_training = 0;
};

// Counts at most `most_tokens` of the training text, from its start: a quarter of a billion says
// all that 66,000 pairs can tell.
EntropyReport corpus_entropies(const TextDataset& training, const TextDataset& heldout,
                               int64_t most_tokens = int64_t{1} << 28);

double bits_of_nats(double nats);

// "held-out text: unigram entropy 3.06 nats (4.41 bits) per byte, bigram ..." in two lines.
std::string describe(const EntropyReport& report);

}  // namespace tessera

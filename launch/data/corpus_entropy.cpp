#include "launch/data/corpus_entropy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <vector>

#include "launch/data/byte_tokenizer.h"

namespace tessera {
namespace {

constexpr size_t kOutcomes = 257;  // 256 bytes and the end of a document

size_t outcome(int32_t token) { return token == kEndToken ? 256 : token - kFirstByteToken; }

// How often each outcome follows each other one, over the targets of a dataset.
struct PairCounts {
  std::vector<int64_t> pairs = std::vector<int64_t>(kOutcomes * kOutcomes);  // [before][target]
  std::array<int64_t, kOutcomes> before{};
  std::array<int64_t, kOutcomes> target{};
  int64_t total = 0;
};

PairCounts count_pairs(const TextDataset& dataset, int64_t most) {
  PairCounts counts;
  std::vector<int32_t> tokens;
  for (const TokenRange& range : dataset.ranges()) {
    constexpr int64_t kChunk = 1 << 16;
    for (int64_t begin = range.begin; begin + 1 < range.end && counts.total < most;
         begin += kChunk) {
      // One token more than a chunk: the pair across the border belongs to this chunk.
      tokens.resize(static_cast<size_t>(std::min(begin + kChunk + 1, range.end) - begin));
      dataset.corpus().read(begin, tokens);
      for (size_t i = 1; i < tokens.size(); ++i)
        ++counts.pairs[outcome(tokens[i - 1]) * kOutcomes + outcome(tokens[i])];
      counts.total += static_cast<int64_t>(tokens.size()) - 1;
    }
  }
  for (size_t a = 0; a < kOutcomes; ++a)
    for (size_t b = 0; b < kOutcomes; ++b) {
      counts.before[a] += counts.pairs[a * kOutcomes + b];
      counts.target[b] += counts.pairs[a * kOutcomes + b];
    }
  return counts;
}

}  // namespace

EntropyReport corpus_entropies(const TextDataset& training, const TextDataset& heldout,
                               int64_t most_tokens) {
  const PairCounts train = count_pairs(training, most_tokens);
  const PairCounts held = count_pairs(heldout, INT64_MAX);
  EntropyReport report;
  report.training_tokens = train.total;
  report.heldout_targets = held.total;
  const double total = static_cast<double>(held.total);
  for (size_t b = 0; b < kOutcomes; ++b) {
    if (held.target[b] == 0) continue;
    const double count = static_cast<double>(held.target[b]);
    const double smoothed = (static_cast<double>(train.target[b]) + 1) /
                            (static_cast<double>(train.total) + static_cast<double>(kOutcomes));
    report.unigram -= count / total * std::log(count / total);
    report.unigram_from_training -= count / total * std::log(smoothed);
    for (size_t a = 0; a < kOutcomes; ++a) {
      const double pairs = static_cast<double>(held.pairs[a * kOutcomes + b]);
      if (pairs == 0) continue;
      const double from_training =
          (static_cast<double>(train.pairs[a * kOutcomes + b]) + smoothed) /
          (static_cast<double>(train.before[a]) + 1);
      report.bigram -= pairs / total * std::log(pairs / static_cast<double>(held.before[a]));
      report.bigram_from_training -= pairs / total * std::log(from_training);
    }
  }
  return report;
}

double bits_of_nats(double nats) { return nats / std::numbers::ln2; }

std::string describe(const EntropyReport& report) {
  char text[512];
  std::snprintf(
      text, sizeof text,
      "held-out text (%lld bytes): unigram entropy %.3f nats (%.3f bits) per byte, bigram "
      "entropy %.3f nats (%.3f bits)\n"
      "  predicted from counts of the training text: unigram %.3f nats, bigram %.3f nats",
      static_cast<long long>(report.heldout_targets), report.unigram, bits_of_nats(report.unigram),
      report.bigram, bits_of_nats(report.bigram), report.unigram_from_training,
      report.bigram_from_training);
  return text;
}

}  // namespace tessera

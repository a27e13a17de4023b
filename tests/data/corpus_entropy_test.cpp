#include "launch/data/corpus_entropy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

TEST(CorpusEntropy, AlternatingTextIsCertainGivenTheByteBefore) {
  TempFolder folder;
  std::string text;
  for (int i = 0; i < 10000; ++i) text += i % 2 ? 'b' : 'a';
  auto corpus = std::make_shared<const Corpus>(Corpus::open(folder.write("t", text)));
  const TextDataset training(corpus, {{0, 8001}}, 10), heldout(corpus, {{8000, 10000}}, 10);
  const EntropyReport report = corpus_entropies(training, heldout);
  EXPECT_EQ(report.training_tokens, 8000);
  EXPECT_EQ(report.heldout_targets, 1999);
  EXPECT_NEAR(report.unigram, std::log(2), 1e-6);
  EXPECT_NEAR(report.bigram, 0, 1e-12);
  EXPECT_NEAR(report.unigram_from_training, std::log(2), 0.05);  // 257 extra counts among 8000
  EXPECT_NEAR(report.bigram_from_training, 0, 1e-3);
  EXPECT_NEAR(bits_of_nats(report.unigram), 1, 1e-6);
}

TEST(CorpusEntropy, UnseenBytesCostMuchButNotInfinity) {
  TempFolder folder;
  auto corpus = std::make_shared<const Corpus>(
      Corpus::open(folder.write("t", std::string(1000, 'a') + std::string(1000, 'z'))));
  const TextDataset training(corpus, {{0, 1000}}, 10), heldout(corpus, {{1000, 2000}}, 10);
  const EntropyReport report = corpus_entropies(training, heldout);
  EXPECT_NEAR(report.unigram, 0, 1e-12);
  EXPECT_NEAR(report.unigram_from_training, std::log(999 + 257), 1e-9);
  // After 'z', never seen in training, only the smoothed unigram is left.
  EXPECT_NEAR(report.bigram_from_training, std::log(999 + 257), 1e-9);
}

TEST(CorpusEntropy, RandomTextHasTheEntropyOfItsSource) {
  TempFolder folder;
  std::mt19937 random(1);
  std::string text;
  for (int i = 0; i < 400000; ++i) text += static_cast<char>('a' + random() % 8);
  const TextData data =
      open_text_data({.paths = {folder.write("t", text)}, .holdout = 0.5, .length = 64});
  const EntropyReport report = corpus_entropies(*data.training, *data.heldout);
  EXPECT_NEAR(report.unigram, std::log(8), 1e-3);
  EXPECT_NEAR(report.bigram, std::log(8), 1e-3);
  EXPECT_NEAR(report.unigram_from_training, std::log(8), 2e-3);
  EXPECT_NEAR(report.bigram_from_training, std::log(8), 2e-3);
  EXPECT_LE(report.bigram, report.unigram);  // conditioning never adds entropy
  EXPECT_LE(report.bigram, report.bigram_from_training);
  EXPECT_NE(describe(report).find("2.079 nats (3.000 bits)"), std::string::npos)
      << describe(report);
}

}  // namespace
}  // namespace tessera

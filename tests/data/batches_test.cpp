#include "launch/data/batches.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <random>

#include "core/base/error.h"
#include "launch/data/byte_tokenizer.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

std::string random_text(size_t size) {
  std::mt19937 random(5);
  std::string text;
  for (size_t i = 0; i < size; ++i) text.push_back(static_cast<char>('a' + random() % 26));
  return text;
}

std::vector<int32_t> row_of(const TokenBatch& batch, const std::vector<int32_t>& values,
                            int64_t row) {
  return {values.begin() + row * batch.length, values.begin() + (row + 1) * batch.length};
}

TEST(TextDataset, WindowsOverlapByOneAndTheLastIsPadded) {
  TempFolder folder;
  auto corpus = std::make_shared<const Corpus>(Corpus::open(folder.write("t", "abcdefgh")));
  const TextDataset dataset(corpus, {{0, 7}}, 4);
  EXPECT_EQ(dataset.sequences(), 2);
  EXPECT_EQ(dataset.targets(), 6);
  TokenBatch batch;
  batch.resize(3, 4);
  dataset.read_sequence(0, batch, 0);
  dataset.read_sequence(1, batch, 1);
  dataset.read_sequence(-1, batch, 2);
  EXPECT_EQ(row_of(batch, batch.tokens, 0), encode_bytes("abcd"));
  EXPECT_EQ(row_of(batch, batch.targets, 0), encode_bytes("bcde"));
  const int32_t e = token_of_byte('e'), f = token_of_byte('f'), g = token_of_byte('g');
  EXPECT_EQ(row_of(batch, batch.tokens, 1), (std::vector<int32_t>{e, f, 0, 0}));
  EXPECT_EQ(row_of(batch, batch.targets, 1), (std::vector<int32_t>{f, g, 0, 0}));
  EXPECT_EQ(row_of(batch, batch.tokens, 2), (std::vector<int32_t>{0, 0, 0, 0}));
  EXPECT_EQ(batch.weights, (std::vector<float>{1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0}));
}

RC_GTEST_PROP(TextDatasetProperty, EveryTargetIsSeenOnceWithWhatPrecedesIt, ()) {
  TempFolder folder;
  const auto size = *rc::gen::inRange<size_t>(50, 400);
  auto corpus = std::make_shared<const Corpus>(Corpus::open(folder.write("t", random_text(size))));
  std::vector<int32_t> stream(static_cast<size_t>(corpus->tokens()));
  corpus->read(0, stream);
  std::vector<TokenRange> ranges;
  for (int64_t at = 0; at < corpus->tokens();) {
    const int64_t begin = at + *rc::gen::inRange<int64_t>(0, 5);
    at = std::min(begin + *rc::gen::inRange<int64_t>(1, 60), corpus->tokens());
    if (begin < at) ranges.push_back({begin, at});
  }
  const auto length = *rc::gen::inRange<int64_t>(1, 40);
  std::vector<std::pair<int32_t, int32_t>> expected, seen;
  for (const TokenRange& range : ranges)
    for (int64_t i = range.begin + 1; i < range.end; ++i)
      expected.emplace_back(stream[i - 1], stream[i]);
  RC_PRE(!expected.empty());
  const TextDataset dataset(corpus, ranges, length);
  TokenBatch batch;
  batch.resize(1, length);
  for (int64_t s = 0; s < dataset.sequences(); ++s) {
    dataset.read_sequence(s, batch, 0);
    int64_t count = 0;
    for (int64_t i = 0; i < length; ++i)
      if (batch.weights[i] == 1) {
        seen.emplace_back(batch.tokens[i], batch.targets[i]);
        ++count;
      }
    RC_ASSERT(count == dataset.targets_in(s));
  }
  RC_ASSERT(seen == expected);
  RC_ASSERT(dataset.targets() == static_cast<int64_t>(expected.size()));
}

TEST(TextData, ShorterThanASequenceIsAnError) {
  TempFolder folder;
  TextDataConfig config{.paths = {folder.write("t", random_text(100))}, .length = 100};
  EXPECT_EQ(message_of<UserError>([&] { open_text_data(config); }),
            "corpus " + config.paths[0] +
                " is shorter than a sequence: 100 bytes of text leave 96 tokens to train on, and a "
                "sequence of length 100 needs 101. Use more text or a shorter length");
  config.length = 95;
  EXPECT_EQ(open_text_data(config).training->sequences(), 1);
  config.eval_paths = {folder.write("e", "xyz")};
  const TextData data = open_text_data(config);
  EXPECT_EQ(data.training->targets(), 100);
  EXPECT_EQ(data.heldout->targets(), 3);
}

class Batches : public testing::Test {
 protected:
  TempFolder folder;
  TextData data = open_text_data(
      {.paths = {folder.write("t", random_text(5000))}, .holdout = 0.1, .length = 32});
};

TEST_F(Batches, EpochUsesEverySequenceOnceAndEpochsDiffer) {
  const TrainingBatches batches(*data.training, 42);
  std::vector<std::vector<int64_t>> orders;
  DataPosition position;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::map<int64_t, int> seen;
    orders.emplace_back();
    for (int64_t i = 0; i < data.training->sequences(); ++i) {
      EXPECT_EQ(position.epoch, epoch);
      orders.back().push_back(batches.sequence_at(position));
      EXPECT_EQ(++seen[orders.back().back()], 1);
      position = batches.advance(position, 1);
    }
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
}

TEST_F(Batches, RanksReadTheRowsOfOneGlobalBatch) {
  const TrainingBatches batches(*data.training, 42);
  const DataPosition position{3, data.training->sequences() - 5};  // straddles two epochs
  TokenBatch whole;
  batches.read(position, 0, 12, whole);
  for (const int64_t ranks : {1, 2, 3, 4, 6, 12})
    for (int64_t rank = 0; rank < ranks; ++rank) {
      TokenBatch part;
      const int64_t rows = 12 / ranks;
      batches.read(position, rank * rows, rows, part);
      for (int64_t row = 0; row < rows; ++row) {
        EXPECT_EQ(row_of(part, part.tokens, row), row_of(whole, whole.tokens, rank * rows + row));
        EXPECT_EQ(row_of(part, part.targets, row), row_of(whole, whole.targets, rank * rows + row));
      }
    }
  int64_t weights = 0;
  for (const float weight : whole.weights) weights += weight == 1;
  EXPECT_EQ(batches.targets(position, 12), weights);
}

// A run of 40 steps, and the same run stopped and resumed twice from its two integers.
TEST_F(Batches, ResumeIsExactAlsoTheSecondTime) {
  const auto run = [this](DataPosition& position, int steps, std::vector<int32_t>& all) {
    const TrainingBatches batches(*data.training, 42);  // as a new process would make it
    TokenBatch batch;
    for (int step = 0; step < steps; ++step) {
      batches.read(position, 0, 24, batch);
      all.insert(all.end(), batch.tokens.begin(), batch.tokens.end());
      position = batches.advance(position, 24);
    }
  };
  std::vector<int32_t> straight, resumed;
  DataPosition a, b;
  run(a, 40, straight);
  run(b, 11, resumed);
  b = DataPosition{b.epoch, b.index};
  run(b, 13, resumed);
  run(b, 16, resumed);
  EXPECT_EQ(a, b);
  EXPECT_EQ(straight, resumed);
  EXPECT_GT(a.epoch, 2);
}

TEST_F(Batches, BatchLargerThanAnEpochWraps) {
  const int64_t sequences = data.training->sequences();
  const TrainingBatches batches(*data.training, 1, /*shuffle=*/false);
  EXPECT_EQ(batches.advance({0, 2}, 3 * sequences), (DataPosition{3, 2}));
  TokenBatch batch;
  batches.read({0, 0}, 0, 2 * sequences + 1, batch);
  EXPECT_EQ(row_of(batch, batch.tokens, 0), row_of(batch, batch.tokens, 2 * sequences));
}

TEST_F(Batches, PositionIsCarriedOverToAnEpochOfAnotherSize) {
  const TrainingBatches batches(*data.training, 1);
  const int64_t sequences = data.training->sequences();
  EXPECT_EQ(batches.carry_over({3, 7}, sequences), (DataPosition{3, 7}));
  EXPECT_EQ(batches.carry_over({3, sequences}, 2 * sequences), (DataPosition{3, sequences / 2}));
  EXPECT_EQ(batches.carry_over({3, 999}, 1000), (DataPosition{3, sequences - 1}));
  EXPECT_EQ(batches.carry_over({3, 999}, 0), (DataPosition{3, 0}));
}

TEST_F(Batches, EvaluationCountsEveryTargetOnceForAnyBatch) {
  for (const int64_t batch_size : {1, 3, 4, 7, 100}) {
    int64_t weights = 0, targets = 0;
    for (int64_t b = 0; b < evaluation_batches(*data.heldout, batch_size); ++b) {
      TokenBatch batch;
      read_evaluation_rows(*data.heldout, b, batch_size, 0, batch_size, batch);
      for (const float weight : batch.weights) weights += weight == 1;
      targets += evaluation_targets(*data.heldout, b, batch_size);
    }
    EXPECT_EQ(weights, data.heldout->targets());
    EXPECT_EQ(targets, data.heldout->targets());
  }
}

}  // namespace
}  // namespace tessera

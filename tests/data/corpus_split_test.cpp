#include "launch/data/corpus_split.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

TEST(CorpusSplit, SmallCorpusKeepsItsEnd) {
  const CorpusSplit split = split_corpus(1000, 0.1);
  EXPECT_EQ(split.training, (std::vector<TokenRange>{{0, 900}}));
  EXPECT_EQ(split.heldout, (std::vector<TokenRange>{{900, 1000}}));
}

TEST(CorpusSplit, LargeCorpusHoldsOutBlocksAllOver) {
  const CorpusSplit split = split_corpus(4'000'000, 0.05);
  ASSERT_EQ(split.heldout.size(), 3u);
  EXPECT_EQ(split.heldout[0], (TokenRange{1'333'333 - 66'666, 1'333'333}));
  EXPECT_EQ(split.heldout[2].end, 4'000'000);
}

TEST(CorpusSplit, NothingHeldOut) {
  const CorpusSplit split = split_corpus(1000, 0);
  EXPECT_EQ(split.training, (std::vector<TokenRange>{{0, 1000}}));
  EXPECT_TRUE(split.heldout.empty());
}

TEST(CorpusSplit, BadFraction) {
  EXPECT_NE(message_of<ConfigError>([] { split_corpus(10, 1.5); }).find("1.5"), std::string::npos);
  EXPECT_NE(message_of<ConfigError>([] { split_corpus(10, NAN); }).find("nan"), std::string::npos);
}

RC_GTEST_PROP(CorpusSplitProperty, PartsCoverTheCorpusOnce, ()) {
  const auto tokens = *rc::gen::inRange<int64_t>(1, 400'000'000);
  const double fraction = *rc::gen::inRange(0, 999) / 1000.0;
  const CorpusSplit split = split_corpus(tokens, fraction);
  std::vector<TokenRange> all = split.training;
  all.insert(all.end(), split.heldout.begin(), split.heldout.end());
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.begin < b.begin; });
  int64_t at = 0, heldout = 0;
  for (const TokenRange& range : all) {
    RC_ASSERT(range.begin == at);
    RC_ASSERT(range.end > range.begin);
    at = range.end;
  }
  RC_ASSERT(at == tokens);
  for (const TokenRange& range : split.heldout) heldout += range.size();
  RC_ASSERT(std::abs(static_cast<double>(heldout) - static_cast<double>(tokens) * fraction) <=
            static_cast<double>(kMostHeldoutBlocks) + 1);
}

}  // namespace
}  // namespace tessera

// Which tokens train and which are held out: a pure function of the corpus's size.
#pragma once

#include <cstdint>
#include <vector>

namespace tessera {

// Tokens [begin, end) of a corpus.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
  bool operator==(const TokenRange&) const = default;
};

struct CorpusSplit {
  std::vector<TokenRange> training;  // in order, never empty ranges
  std::vector<TokenRange> heldout;   // the rest
};

// About kHeldoutBlock tokens a block, so that neither part is one corner of the corpus: the last
// chapter of a book or the last file of a folder is a poor judge of the rest.
inline constexpr int64_t kHeldoutBlock = 64 * 1024;
inline constexpr int64_t kMostHeldoutBlocks = 64;

// Cuts [0, tokens) into n equal spans and holds out the end of each. n follows from the held-out
// size (one block per kHeldoutBlock tokens, at least 1, at most kMostHeldoutBlocks), so the split
// depends neither on the sequence length, nor on the batch, nor on the mesh.
// 0 <= fraction < 1; with 0 nothing is held out.
CorpusSplit split_corpus(int64_t tokens, double fraction);

}  // namespace tessera

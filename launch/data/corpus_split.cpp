#include "launch/data/corpus_split.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace tessera {

CorpusSplit split_corpus(int64_t tokens, double fraction) {
  if (!(fraction >= 0 && fraction < 1))
    throw_config_error("the held-out fraction of the corpus is ", print_double(fraction),
                       "; it must be at least 0 and less than 1");
  CorpusSplit split;
  const int64_t heldout = std::llround(static_cast<double>(tokens) * fraction);
  const int64_t blocks = std::clamp<int64_t>(heldout / kHeldoutBlock, 1, kMostHeldoutBlocks);
  const int64_t block = heldout / blocks;
  for (int64_t b = 0, begin = 0; b < blocks; ++b) {
    const int64_t end = (b + 1) * tokens / blocks;
    const int64_t cut = std::max(begin, end - block);
    if (cut > begin) split.training.push_back({begin, cut});
    if (end > cut) split.heldout.push_back({cut, end});
    begin = end;
  }
  return split;
}

}  // namespace tessera

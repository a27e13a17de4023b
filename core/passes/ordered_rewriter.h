// Copies a graph where several instructions become one, which stands where the first of them did: what
// its operands need is then copied before it, out of turn.
#pragma once

#include <functional>
#include <vector>

#include "core/ir/rewriter.h"

namespace tessera {

// For each instruction up to `last`, whether it comes to depend on one of `roots` (which do). Takes as long as they
// are apart.
std::vector<bool> depending(const Graph& graph, const std::vector<int>& roots, int last);
inline bool depends_on(const Graph& graph, int index, int root) {
  return depending(graph, {root}, index)[static_cast<size_t>(index)];
}

class OrderedRewriter {
 public:
  explicit OrderedRewriter(const Graph& source);

  // In place of the first of the members (in program order), or before that where another merge needs it, `put` is
  // called, which must `append` what stands for them all and `replace` every result that is read; its operands, asked
  // for by `made`, must not depend on a member.
  void merge(const std::vector<int>& members, std::function<void()> put);
  // Copies everything but members.
  Graph run();

  // The new value of an old one, which is copied with all it needs where that has not been done.
  Value made(Value old_value);

  Builder& builder() { return rewriter_.builder(); }
  Value append(Instruction instruction) { return rewriter_.append(std::move(instruction)); }
  void replace(Value old_value, Value new_value) { rewriter_.replace(old_value, new_value); }

 private:
  struct Joined {
    std::vector<int> members;
    std::function<void()> put;
  };
  void copy(int index);

  const Graph& source_;
  GraphRewriter rewriter_;
  std::vector<bool> is_done_;
  std::vector<Joined> joined_;
  std::vector<int> joined_of_;  // instruction -> number of its merge, or -1
};

}  // namespace tessera

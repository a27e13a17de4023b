// How many bytes are live while steps are issued one by one: what the scheduler watches to stay
// under its cap. Memory is counted per root buffer (core/compile/step_graph.h): live from the first
// write to the last read of any buffer in it. Persistent and constant memory does not count.
#pragma once

#include <cstdint>
#include <vector>

#include "core/compile/step_graph.h"

namespace tessera {

class LiveBytes {
 public:
  // `inside`: what each node needs while it runs beside its buffers (loops and branches); or empty.
  explicit LiveBytes(const StepGraph& steps, const std::vector<int64_t>& inside = {});

  // The node begins: what it writes becomes live.
  void begin(int node);
  // The node is complete: what it alone still read or wrote dies.
  void end(int node);

  int64_t now() const { return now_; }
  int64_t peak() const { return peak_; }
  // Bytes that begin(node) would add, and that end(node) would free.
  int64_t would_add(int node) const;
  int64_t would_free(int node) const;

 private:
  std::vector<std::vector<int>> written_, touched_;  // node -> distinct counted roots
  std::vector<int64_t> bytes_;                       // root -> bytes
  std::vector<int64_t> workspace_;                   // node -> bytes
  std::vector<int> users_left_;                      // root -> nodes not yet complete
  std::vector<bool> live_;                           // root
  int64_t now_ = 0, peak_ = 0;
};

}  // namespace tessera

#include "core/compile/live_bytes.h"

#include <algorithm>

namespace tessera {

LiveBytes::LiveBytes(const StepGraph& steps, const std::vector<int64_t>& inside)
    : written_(steps.nodes.size()),
      touched_(steps.nodes.size()),
      bytes_(steps.buffers.size(), 0),
      users_left_(steps.buffers.size(), 0),
      live_(steps.buffers.size(), false) {
  auto collect = [&](const std::vector<int>& buffers, std::vector<int>& roots) {
    for (int buffer : buffers) {
      const int root = steps.root(buffer);
      const BufferPlan& plan = steps.buffers[static_cast<size_t>(root)];
      if (plan.arena == Arena::persistent || plan.arena == Arena::constant) continue;
      if (std::find(roots.begin(), roots.end(), root) != roots.end()) continue;
      roots.push_back(root);
      bytes_[static_cast<size_t>(root)] = plan.bytes;
    }
  };
  for (size_t n = 0; n < steps.nodes.size(); ++n) {
    collect(steps.nodes[n].writes, written_[n]);
    touched_[n] = written_[n];
    collect(steps.nodes[n].reads, touched_[n]);
    for (int root : touched_[n]) ++users_left_[static_cast<size_t>(root)];
    workspace_.push_back(steps.nodes[n].workspace_bytes + (inside.empty() ? 0 : inside[n]));
  }
  // Outputs are read by the caller, after the last step.
  for (int output : steps.output_buffers) ++users_left_[static_cast<size_t>(steps.root(output))];
}

int64_t LiveBytes::would_add(int node) const {
  int64_t bytes = workspace_[static_cast<size_t>(node)];
  for (int root : written_[static_cast<size_t>(node)])
    if (!live_[static_cast<size_t>(root)]) bytes += bytes_[static_cast<size_t>(root)];
  return bytes;
}

int64_t LiveBytes::would_free(int node) const {
  int64_t bytes = 0;
  for (int root : touched_[static_cast<size_t>(node)])
    if (users_left_[static_cast<size_t>(root)] == 1) bytes += bytes_[static_cast<size_t>(root)];
  return bytes;
}

void LiveBytes::begin(int node) {
  now_ += would_add(node);
  for (int root : written_[static_cast<size_t>(node)]) live_[static_cast<size_t>(root)] = true;
  peak_ = std::max(peak_, now_);
}

void LiveBytes::end(int node) {
  now_ -= workspace_[static_cast<size_t>(node)];
  for (int root : touched_[static_cast<size_t>(node)])
    if (--users_left_[static_cast<size_t>(root)] == 0) now_ -= bytes_[static_cast<size_t>(root)];
}

}  // namespace tessera

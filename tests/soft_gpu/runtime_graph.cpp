// CUDA's runtime: captures and graphs.
#include <algorithm>

#include "tests/soft_gpu/engine.h"

using namespace soft_gpu;

namespace {

// Under queue_mutex().
std::vector<std::shared_ptr<Capture>>& active_captures() {
  static std::vector<std::shared_ptr<Capture>> captures;
  return captures;
}
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

bool is_joined(const Capture& capture, const std::vector<int>& tail) {
  std::vector<bool> reached(capture.nodes.size(), false);
  std::vector<int> open = tail;
  while (!open.empty()) {
    const auto node = static_cast<size_t>(open.back());
    open.pop_back();
    if (reached[node]) continue;
    reached[node] = true;
    open.insert(open.end(), capture.nodes[node].after.begin(), capture.nodes[node].after.end());
  }
  return std::all_of(reached.begin(), reached.end(), [](bool r) { return r; });
}

// One replay: nodes in random order, as far as their edges let them.
struct Replay {
  std::shared_ptr<const std::vector<Node>> nodes;
  std::vector<bool> done;
  size_t left = 0;
  Random random{1};

  void start() {
    done.assign(nodes->size(), false);
    left = nodes->size();
  }
  bool step() {
    if (left == 0) return true;
    size_t found = 0, chosen = 0;
    for (size_t n = 0; n < nodes->size(); ++n) {
      const auto& after = (*nodes)[n].after;
      if (done[n] || !std::all_of(after.begin(), after.end(), [&](int a) { return done[static_cast<size_t>(a)]; }))
        continue;
      if (random.below(++found) == 0) chosen = n;
    }
    if (!(*nodes)[chosen].work.step()) return false;
    done[chosen] = true;
    return --left == 0;
  }
};

}  // namespace

bool soft_gpu::unsafe_call_allowed() {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return true;
  bool allowed = true;
  for (const auto& capture : active_captures()) {
    if (capture->mode == cudaStreamCaptureModeRelaxed) continue;
    const bool own = capture->thread == this_thread_number();
    const bool forbidden = own || (capture->mode == cudaStreamCaptureModeGlobal &&
                                   thread_mode == cudaStreamCaptureModeGlobal);
    if (!forbidden) continue;
    capture->invalid = true;
    allowed = false;
  }
  return allowed;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  if (!real) return remember(cudaErrorInvalidResourceHandle);
  if (real == device_at(real->device).legacy) return remember(cudaErrorStreamCaptureImplicit);
  if (real->capture) return remember(cudaErrorInvalidValue);
  real->capture = std::make_shared<Capture>();
  real->capture->origin = real;
  real->capture->mode = mode;
  real->capture->thread = this_thread_number();
  real->capture->streams = {real};
  real->tail.clear();
  active_captures().push_back(real->capture);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(queue_mutex());
  *graph = nullptr;
  const cudaStream_t real = resolve(stream);
  if (!real || !real->capture) return remember(cudaErrorInvalidValue);
  const std::shared_ptr<Capture> capture = real->capture;
  if (capture->origin != real) {
    capture->invalid = true;
    return remember(cudaErrorStreamCaptureUnmatched);
  }
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != this_thread_number())
    return remember(cudaErrorStreamCaptureWrongThread);
  const std::vector<int> tail = real->tail;
  for (const cudaStream_t joined : capture->streams) {
    joined->capture.reset();
    joined->tail.clear();
  }
  capture->origin = nullptr;
  auto& active = active_captures();
  active.erase(std::find(active.begin(), active.end(), capture));
  if (capture->invalid) return remember(cudaErrorStreamCaptureInvalidated);
  if (!is_joined(*capture, tail)) return remember(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  if (!real) return remember(cudaErrorInvalidResourceHandle);
  *status = !real->capture           ? cudaStreamCaptureStatusNone
            : real->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                     : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (!graph) return remember(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st;
  (*executable)->nodes = std::make_shared<const std::vector<Node>>(graph->nodes);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const std::lock_guard lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  if (!real || !executable) return remember(cudaErrorInvalidResourceHandle);
  auto replay = std::make_shared<Replay>();
  replay->nodes = executable->nodes;
  replay->random = Random(device_at(real->device).launches.next());
  replay->start();
  // One graph runs once at a time.
  const After before{executable->clock, executable->launched};
  const bool captured = real->capture != nullptr;
  const cudaError_t error = submit(real,
                                   {"a graph",
                                    [replay, captured, clock = executable->clock] {
                                      if (!replay->step()) return false;
                                      replay->start();
                                      if (!captured) ++clock->done;
                                      return true;
                                    }},
                                   {before});
  if (error == cudaSuccess && !captured) ++executable->launched;
  return remember(error);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  if (!executable) return remember(cudaErrorInvalidValue);
  delete executable;  // launches hold what they need
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  if (!graph) return remember(cudaErrorInvalidValue);
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, struct CUgraphNode_st**, size_t* count) {
  *count = graph->nodes.size();
  return cudaSuccess;
}

#include "core/runtime/control_plane.h"

#include <algorithm>

namespace tessera {
namespace {

CollectiveCall integer_call(CollectiveKind kind, const int64_t* input, int64_t* output,
                            std::string_view name) {
  CollectiveCall call;
  call.kind = kind;
  call.input = input;
  call.output = output;
  call.dtype = DType::s64;
  call.shape = {1};
  call.reduce = ReduceKind::max;
  call.tensor = name;
  return call;
}

CollectiveCall text_call(CollectiveKind kind, const char* input, char* output, int64_t bytes,
                         std::string_view name) {
  CollectiveCall call;
  call.kind = kind;
  call.input = input;
  call.output = output;
  call.dtype = DType::u8;
  call.shape = {bytes};
  call.tensor = name;
  return call;
}

}  // namespace

void ControlPlane::barrier() {
  const int64_t in = 0;
  int64_t out = 0;
  all_->run(integer_call(CollectiveKind::all_reduce, &in, &out, "barrier"));
}

int64_t ControlPlane::all_reduce_max(int64_t value) {
  int64_t out = 0;
  all_->run(integer_call(CollectiveKind::all_reduce, &value, &out, "maximum"));
  return out;
}

std::string ControlPlane::broadcast_text(const std::string& text, int root) {
  const auto mine = static_cast<int64_t>(text.size());
  int64_t bytes = 0;
  CollectiveCall size = integer_call(CollectiveKind::broadcast, &mine, &bytes, "text size");
  size.root = root;
  all_->run(size);
  std::string result = all_->rank() == root ? text : std::string(static_cast<size_t>(bytes), '\0');
  if (bytes == 0) return result;
  CollectiveCall call =
      text_call(CollectiveKind::broadcast, result.data(), result.data(), bytes, "text");
  call.root = root;
  all_->run(call);
  return result;
}

std::vector<std::string> ControlPlane::all_gather_text(const std::string& text) {
  const auto n = static_cast<size_t>(all_->size());
  const auto mine = static_cast<int64_t>(text.size());
  std::vector<int64_t> sizes(n);
  all_->run(integer_call(CollectiveKind::all_gather, &mine, sizes.data(), "text sizes"));
  // One shape on all ranks: every text is padded to the longest.
  const int64_t width = *std::max_element(sizes.begin(), sizes.end());
  std::vector<std::string> texts(n);
  if (width == 0) return texts;
  std::string padded = text;
  padded.resize(static_cast<size_t>(width));
  std::string joined(n * static_cast<size_t>(width), '\0');
  all_->run(text_call(CollectiveKind::all_gather, padded.data(), joined.data(), width, "texts"));
  for (size_t i = 0; i < n; ++i)
    texts[i] = joined.substr(i * static_cast<size_t>(width), static_cast<size_t>(sizes[i]));
  return texts;
}

}  // namespace tessera

#include "kernels/cpu/block_copy.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/parallel.h"

namespace tessera::cpu {
namespace {

// Below that, waiting for the other threads costs more than they save.
constexpr int64_t kTaskBytes = 1 << 18;

// Of a size that the compiler knows, a memcpy is one move.
template <size_t kBytes>
void copy_small(const Places<2>& runs, int64_t begin, int64_t end, const std::byte* from,
                std::byte* to) {
  for (int64_t i = begin; i < end; ++i) {
    const auto [source, target] = runs.at(i);
    std::memcpy(to + target, from + source, kBytes);
  }
}

}  // namespace

template <int kMemories>
Places<kMemories>::Places(const Shape& extent,
                          const std::array<std::vector<int64_t>, kMemories>& strides) {
  count_ = extent.elements();
  for (int d = extent.rank() - 1; d >= 0; --d) {
    if (extent[d] == 1) continue;
    Dim dim{extent[d], {}};
    for (int m = 0; m < kMemories; ++m) dim.steps[m] = strides[m][static_cast<size_t>(d)];
    bool is_one = !dims_.empty();
    for (int m = 0; is_one && m < kMemories; ++m)
      is_one = dim.steps[m] == dims_.back().steps[m] * dims_.back().size;
    if (is_one)
      dims_.back().size *= dim.size;
    else
      dims_.push_back(dim);
  }
  std::reverse(dims_.begin(), dims_.end());
}

template <int kMemories>
int64_t Places<kMemories>::take_inner(int64_t step) {
  if (dims_.empty() || count_ == 0) return 1;
  for (int64_t own : dims_.back().steps)
    if (own != step) return 1;
  const int64_t size = dims_.back().size;
  dims_.pop_back();
  count_ /= size;
  return size;
}

template class Places<1>;
template class Places<2>;

Block::Block(int64_t width, const Shape& extent, const std::vector<int64_t>& from,
             const std::vector<int64_t>& to) {
  std::array<std::vector<int64_t>, 2> strides{from, to};
  for (auto& side : strides)
    for (int64_t& stride : side) stride *= width;
  runs_ = Places<2>(extent, strides);
  run_bytes_ = width * runs_.take_inner(width);
}

void Block::copy(int64_t begin, int64_t end, const std::byte* from, std::byte* to) const {
  switch (run_bytes_) {
    case 1:
      return copy_small<1>(runs_, begin, end, from, to);
    case 2:
      return copy_small<2>(runs_, begin, end, from, to);
    case 4:
      return copy_small<4>(runs_, begin, end, from, to);
    case 8:
      return copy_small<8>(runs_, begin, end, from, to);
    default:
      for (int64_t i = begin; i < end; ++i) {
        const auto [source, target] = runs_.at(i);
        std::memcpy(to + target, from + source, static_cast<size_t>(run_bytes_));
      }
  }
}

void Block::copy(const std::byte* from, std::byte* to) const {
  if (runs() == 1) {
    const auto [source, target] = run(0);
    return copy_bytes(run_bytes_, from + source, to + target);
  }
  parallel_ranges(runs(), runs_per_task(*this),
                  [&](int64_t begin, int64_t end) { copy(begin, end, from, to); });
}

int64_t runs_per_task(const Block& block) {
  return std::max<int64_t>(1, kTaskBytes / std::max<int64_t>(1, block.run_bytes()));
}

void copy_bytes(int64_t bytes, const void* from, void* to) {
  if (from == to) return;
  parallel_ranges(bytes, 4 * kTaskBytes, [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<std::byte*>(to) + begin, static_cast<const std::byte*>(from) + begin,
                static_cast<size_t>(end - begin));
  });
}

}  // namespace tessera::cpu

#include "launch/engine/initial_shard.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/threads.h"

namespace tessera {

HostTensor initial_shard(const models::ParameterSpec& spec, int64_t seed,
                         const std::vector<int64_t>& start, const Shape& shape) {
  constexpr int64_t kElementsOfATask = 1 << 16;
  HostTensor values({spec.type.dtype, shape});
  // What the shard has beyond the parameter is padding: zero.
  Shape meant = shape;
  for (int d = 0; d < shape.rank(); ++d)
    meant[d] = std::clamp<int64_t>(spec.type.shape[d] - start[static_cast<size_t>(d)], 0, shape[d]);
  if (meant != shape) {
    if (meant.elements() > 0)
      values.put(std::vector<int64_t>(start.size(), 0), initial_shard(spec, seed, start, meant));
    return values;
  }
  const int64_t row_elements = shape.elements() / std::max<int64_t>(shape[0], 1);
  const int64_t rows = std::max<int64_t>(1, kElementsOfATask / std::max<int64_t>(row_elements, 1));
  const size_t row_bytes = static_cast<size_t>(row_elements) * static_cast<size_t>(size_of(spec.type.dtype));
  cpu::run_tasks((shape[0] + rows - 1) / rows, [&](int64_t task) {
    std::vector<int64_t> piece_start = start;
    piece_start[0] += task * rows;
    Shape piece = shape;
    piece[0] = std::min(rows, shape[0] - task * rows);
    const HostTensor some = models::initial_values(spec, seed, piece_start, piece);
    std::memcpy(values.bytes().data() + static_cast<size_t>(task * rows) * row_bytes, some.bytes().data(),
                some.bytes().size());
  });
  return values;
}

}  // namespace tessera

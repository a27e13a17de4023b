#include "launch/checkpoint/tensor_slice.h"

#include <algorithm>

#include "core/base/error.h"

namespace tessera {

bool Box::empty() const { return shape.elements() == 0; }

Box intersect(const Box& a, const Box& b) {
  TESSERA_CHECK(a.shape.rank() == b.shape.rank(), a.shape, " and ", b.shape);
  Box common = a;
  for (int d = 0; d < a.shape.rank(); ++d) {
    const int64_t begin = std::max(a.start[d], b.start[d]);
    const int64_t end = std::min(a.start[d] + a.shape[d], b.start[d] + b.shape[d]);
    common.start[d] = begin;
    common.shape[d] = std::max<int64_t>(0, end - begin);
  }
  return common;
}

Box clip(const Box& box, const Shape& whole) {
  return intersect(box, {std::vector<int64_t>(static_cast<size_t>(whole.rank()), 0), whole});
}

std::vector<Box> cut_box(const Box& box, int64_t element_bytes, int64_t most_bytes) {
  if (box.empty()) return {};
  int dim = 0;
  while (dim < box.shape.rank() && box.shape[dim] == 1) ++dim;
  if (dim == box.shape.rank()) return {box};
  const int64_t row_bytes = box.shape.elements() / box.shape[dim] * element_bytes;
  const int64_t rows = std::max<int64_t>(1, most_bytes / row_bytes);
  std::vector<Box> pieces;
  for (int64_t at = 0; at < box.shape[dim]; at += rows) {
    Box piece = box;
    piece.start[dim] += at;
    piece.shape[dim] = std::min(rows, box.shape[dim] - at);
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

}  // namespace tessera

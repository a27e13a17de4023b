// A dot_general as matrix products over its operands as they lie in memory, where they do.
//
//     left [batch..., m, k], right [batch..., k, n] -> result [batch..., m, n], which is dense
//
// The dims of a matrix side must walk through memory as one dim would, and one of its two sides with unit
// stride; an operand in which they do not must first be copied to dense [batch..., rows, columns].
#pragma once

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "core/runtime/kernel_table.h"

namespace tessera {

// One operand as [batch..., rows, columns].
struct ProductSide {
  Ints batch, rows, columns;  // dims of the operand
  int64_t row_count = 1, column_count = 1;
  bool transposed = false;  // stored [columns, rows]
  int64_t leading = 1;      // elements between stored rows, at least as many as one has
  bool copied = false;
};

struct ProductLayout {
  ProductSide left, right;  // columns of the left and rows of the right are contracted
};

// A dim over which products are repeated; strides in elements.
struct ProductBatch {
  int64_t size, left, right, result;
};

namespace product_detail {

// Several dims walked as one: their size and, if they lie so, the step between neighbours.
struct Group {
  int64_t size = 1;
  std::optional<int64_t> stride = 1;
};

inline Group group_of(const Shape& shape, const Ints& dims) {
  const std::vector<int64_t> strides = shape.strides();
  Group group;
  int64_t next = 0;  // the stride that the dim before (outside) must have
  for (size_t i = dims.size(); i-- > 0;) {
    const int64_t size = shape[static_cast<int>(dims[i])],
                  stride = strides[static_cast<size_t>(dims[i])];
    if (size == 1) continue;
    if (group.size == 1)
      group.stride = stride;
    else if (stride != next)
      group.stride.reset();
    group.size *= size;
    next = stride * size;
  }
  return group;
}

inline ProductSide side_of(const Shape& shape, const Ints& batch, const Ints& rows,
                           const Ints& columns) {
  const Group row = group_of(shape, rows), column = group_of(shape, columns);
  ProductSide side{batch, rows, columns, row.size, column.size};
  const auto unit = [](const Group& group) { return group.size == 1 || group.stride == 1; };
  // A leading dimension must reach over a stored row, even where there is but one.
  const auto leads = [](const Group& outer, const Group& inner) {
    return outer.size == 1 || (outer.stride && *outer.stride >= inner.size);
  };
  if (unit(column) && leads(row, column)) {
    side.leading = row.size == 1 ? column.size : *row.stride;
  } else if (unit(row) && leads(column, row)) {
    side.transposed = true;
    side.leading = column.size == 1 ? row.size : *column.stride;
  } else {
    side.copied = true;
    side.leading = column.size;
  }
  side.leading = std::max<int64_t>(side.leading, 1);
  return side;
}

inline Ints other_dims(int rank, const Ints& a, const Ints& b) {
  Ints dims;
  for (int64_t d = 0; d < rank; ++d) {
    if (std::count(a.begin(), a.end(), d) + std::count(b.begin(), b.end(), d) == 0)
      dims.push_back(d);
  }
  return dims;
}

// Elements between neighbours along each batch dim.
inline std::vector<int64_t> batch_strides(const ProductSide& side, const Shape& shape) {
  const std::vector<int64_t> own = shape.strides();
  std::vector<int64_t> strides(side.batch.size());
  int64_t dense = side.row_count * side.column_count;
  for (size_t i = side.batch.size(); i-- > 0;) {
    strides[i] = side.copied ? dense : own[static_cast<size_t>(side.batch[i])];
    dense *= shape[static_cast<int>(side.batch[i])];
  }
  return strides;
}

}  // namespace product_detail

inline ProductLayout product_layout(const OpCall& call) {
  using namespace product_detail;
  const Attributes& attributes = call.attributes;
  const Shape &lhs = call.operands[0].shape, &rhs = call.operands[1].shape;
  const Ints &lhs_batch = attributes.ints(Attr::lhs_batch),
             &rhs_batch = attributes.ints(Attr::rhs_batch);
  // The order in which products are summed is free: ascending on the left merges most often.
  const Ints &lhs_dims = attributes.ints(Attr::lhs_contracting),
             &rhs_dims = attributes.ints(Attr::rhs_contracting);
  std::vector<size_t> order(lhs_dims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return lhs_dims[a] < lhs_dims[b]; });
  Ints lhs_contracting, rhs_contracting;
  for (size_t i : order) {
    lhs_contracting.push_back(lhs_dims[i]);
    rhs_contracting.push_back(rhs_dims[i]);
  }
  return {
      side_of(lhs, lhs_batch, other_dims(lhs.rank(), lhs_batch, lhs_contracting), lhs_contracting),
      side_of(rhs, rhs_batch, rhs_contracting, other_dims(rhs.rank(), rhs_batch, rhs_contracting))};
}

// The batch dims from the outermost, without those of size 1, neighbours that step as one merged.
inline std::vector<ProductBatch> batches_of(const ProductLayout& layout, const OpCall& call) {
  const Shape& lhs = call.operands[0].shape;
  const std::vector<int64_t> left = product_detail::batch_strides(layout.left, lhs),
                             right = product_detail::batch_strides(layout.right,
                                                                   call.operands[1].shape);
  std::vector<ProductBatch> inner_first;
  int64_t result = layout.left.row_count * layout.right.column_count;
  for (size_t i = left.size(); i-- > 0;) {
    const int64_t size = lhs[static_cast<int>(layout.left.batch[i])];
    if (size == 1) continue;
    ProductBatch* inner = inner_first.empty() ? nullptr : &inner_first.back();
    if (inner && left[i] == inner->left * inner->size && right[i] == inner->right * inner->size)
      inner->size *= size;
    else
      inner_first.push_back({size, left[i], right[i], result});
    result *= size;
  }
  return {inner_first.rbegin(), inner_first.rend()};
}

// Calls visit(left, right, result) with the element offsets of each entry of the batch dims.
template <typename Visit>
void for_each_batch(std::span<const ProductBatch> dims, Visit&& visit, int64_t left = 0,
                    int64_t right = 0, int64_t result = 0) {
  if (dims.empty()) return visit(left, right, result);
  for (int64_t i = 0; i < dims[0].size; ++i)
    for_each_batch(dims.subspan(1), visit, left + i * dims[0].left, right + i * dims[0].right,
                   result + i * dims[0].result);
}

// Dims and strides (in elements of the operand as it lies) that a copied side is gathered by.
struct ProductGather {
  Ints dims, strides;
};
inline ProductGather gather_of(const ProductSide& side, const Shape& shape) {
  const std::vector<int64_t> own = shape.strides();
  ProductGather gather;
  for (const Ints* group : {&side.batch, &side.rows, &side.columns}) {
    for (int64_t d : *group) {
      gather.dims.push_back(shape[static_cast<int>(d)]);
      gather.strides.push_back(own[static_cast<size_t>(d)]);
    }
  }
  return gather;
}

}  // namespace tessera

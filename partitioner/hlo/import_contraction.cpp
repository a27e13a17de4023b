// Products that sum: dot, ragged-dot and convolution.
//
// operand_precision and algorithm name how little precision a device may use. Ours is never less:
// operands are taken as they are and sums are f32 or better, so both are read and need no more.
#include <algorithm>

#include "core/ops/contraction.h"
#include "core/ops/convolution.h"
#include "core/ops/elementwise.h"
#include "core/ops/ragged.h"
#include "core/ops/structure.h"
#include "partitioner/hlo/import_support.h"

namespace tessera::hlo {
namespace {

// Operands of unlike types meet in the result's type, or the smallest float that holds both.
DType common_type(DType a, DType b, DType result) {
  if (a == b) return a;
  if (is_float(a) && is_float(b)) {
    const bool is_small = size_of(a) == 1 && size_of(b) == 1;
    if (is_small) return DType::f16;
    return size_of(a) == 8 || size_of(b) == 8 ? DType::f64 : DType::f32;
  }
  if (is_integer(a) && is_integer(b)) return is_integer(result) ? result : DType::s64;
  return result;
}

struct Product {
  Value lhs, rhs;
  DType dtype;      // of the product
  bool is_logical;  // of preds: any of both
};

// Of the first two operands.
Product operands_of(ImportContext& c, int operands = 2) {
  expect_operands(c, operands);
  Builder& b = c.builder();
  Product product{c.operand(0), c.operand(1), c.result_type().dtype, false};
  if (b.dtype(product.lhs) == DType::pred && b.dtype(product.rhs) == DType::pred) {
    product.is_logical = product.dtype == DType::pred;
    if (product.is_logical) product.dtype = DType::s32;
    product.lhs = ops::convert(b, product.lhs, product.dtype);
    product.rhs = ops::convert(b, product.rhs, product.dtype);
    return product;
  }
  const DType common = common_type(b.dtype(product.lhs), b.dtype(product.rhs), product.dtype);
  product.lhs = ops::convert(b, product.lhs, common);
  product.rhs = ops::convert(b, product.rhs, common);
  return product;
}

void set_product(ImportContext& c, Value made, const Product& product) {
  Builder& b = c.builder();
  if (product.is_logical)
    made = ops::compare(b, made, ops::zeros_like(b, made), CompareDirection::ne);
  c.set({made});
}

void dot(ImportContext& c) {
  if (c.instruction().find("sparsity")) return c.unsupported("attribute sparsity of dot");
  const Product product = operands_of(c);
  const ops::DotDims dims{c.ints_or_empty("lhs_contracting_dims"),
                          c.ints_or_empty("rhs_contracting_dims"),
                          c.ints_or_empty("lhs_batch_dims"), c.ints_or_empty("rhs_batch_dims")};
  set_product(c, ops::dot_general(c.builder(), product.lhs, product.rhs, dims, product.dtype),
              product);
}

// Rows in groups, with a matrix for each group, or (where the rows are summed over) one for each as result.
void ragged_dot(ImportContext& c) {
  const Product product = operands_of(c, 3);
  Builder& b = c.builder();
  const Ints rows = c.ints("lhs_ragged_dims"), groups = c.ints_or_empty("rhs_group_dims"),
             lhs_summed = c.ints_or_empty("lhs_contracting_dims"),
             rhs_summed = c.ints_or_empty("rhs_contracting_dims");
  const bool is_contraction = rows == lhs_summed;
  const TensorType sizes = b.type(c.operand(2));
  if (!is_float(product.dtype) || !is_float(b.dtype(product.lhs)) || !is_integer(sizes.dtype) ||
      sizes.rank() != 1 || b.shape(product.lhs).rank() != 2 || rows.size() != 1 ||
      b.shape(product.rhs).rank() != (is_contraction ? 2 : 3) || lhs_summed.size() != 1 ||
      rhs_summed.size() != 1 || groups.size() != (is_contraction ? 0u : 1u) ||
      !c.ints_or_empty("lhs_batch_dims").empty())
    return c.unsupported("ragged-dot of other than float rows and a matrix for each group");
  const auto rows_first = [&](Value x, int64_t dim) {
    return dim == 0 ? x : ops::transpose(b, x, {1, 0});
  };
  const Value lhs = rows_first(product.lhs, rows[0]),
              group_sizes = ops::convert(b, c.operand(2), DType::s32);
  if (is_contraction) {
    const Value rhs = rows_first(product.rhs, rhs_summed[0]);
    return set_product(c, ops::ragged_contraction(b, lhs, rhs, group_sizes, product.dtype), product);
  }
  Value rhs = product.rhs;
  const bool by_columns = groups[0] == 0 && rhs_summed[0] == 2;
  if (groups[0] != 0)
    rhs = ops::transpose(b, rhs, {groups[0], rhs_summed[0], 3 - groups[0] - rhs_summed[0]});
  const auto contracted = by_columns ? ops::RaggedRhs::by_columns : ops::RaggedRhs::by_rows;
  set_product(c, ops::ragged_dot(b, lhs, rhs, group_sizes, contracted, product.dtype), product);
}

struct SideDims {
  int64_t first, second;  // batch and feature; of kernels input and output features
  Ints spatial;
};

// "b01f": where b, f and 0, 1, ... stand.
SideDims side_of(const ImportContext& c, const std::string& labels, char first, char second) {
  SideDims side{-1, -1, Ints(labels.size() >= 2 ? labels.size() - 2 : 0, -1)};
  for (size_t d = 0; d < labels.size(); ++d) {
    const char label = labels[d];
    const auto number = static_cast<size_t>(label - '0');
    int64_t* place = label == first    ? &side.first
                     : label == second ? &side.second
                     : label >= '0' && label <= '9' && number < side.spatial.size()
                         ? &side.spatial[number]
                         : nullptr;
    if (!place || *place >= 0) c.fail(cat("dim_labels: ", labels, " does not name each dim once"));
    *place = static_cast<int64_t>(d);
  }
  if (side.first < 0 || side.second < 0 ||
      std::count(side.spatial.begin(), side.spatial.end(), -1) > 0)
    c.fail(cat("dim_labels: ", labels, " does not name each dim once"));
  return side;
}

void check_sides(ImportContext& c, const SideDims& input, const SideDims& kernel,
                 const SideDims& output, const Window& window) {
  Builder& b = c.builder();
  const size_t spatial = input.spatial.size();
  if (kernel.spatial.size() != spatial || output.spatial.size() != spatial)
    c.fail("dim_labels: input, kernel and output differ in their number of spatial dims");
  const TensorType &x = b.type(c.operand(0)), &w = b.type(c.operand(1));
  if (x.rank() != static_cast<int>(spatial) + 2 || w.rank() != static_cast<int>(spatial) + 2)
    c.fail(cat("dim_labels with ", spatial, " spatial dims for ", x, " and ", w));
  for (size_t s = 0; s < spatial; ++s)
    if (w.shape[static_cast<int>(kernel.spatial[s])] != window.size[s])
      c.fail(cat("window={size=", join(window.size, "x"), "} over the kernel ", w));
}

void convolution(ImportContext& c) {
  const auto* labels = c.instruction().get<DimLabels>("dim_labels");
  if (!labels) c.fail("convolution needs the attribute dim_labels");
  const Product product = operands_of(c);
  const SideDims input = side_of(c, labels->input, 'b', 'f'),
                 kernel = side_of(c, labels->kernel, 'i', 'o'),
                 output = side_of(c, labels->output, 'b', 'f');
  const Window window = full_window(c, c.instruction().get<Window>("window"), input.spatial.size());
  check_sides(c, input, kernel, output, window);
  ops::Convolution convolution;
  convolution.input_batch = input.first;
  convolution.input_feature = input.second;
  convolution.kernel_input_feature = kernel.first;
  convolution.kernel_output_feature = kernel.second;
  convolution.output_batch = output.first;
  convolution.output_feature = output.second;
  convolution.input_spatial = input.spatial;
  convolution.kernel_spatial = kernel.spatial;
  convolution.output_spatial = output.spatial;
  convolution.strides = window.stride;
  convolution.low = window.pad_low;
  convolution.high = window.pad_high;
  convolution.base_dilations = window.lhs_dilate;
  convolution.dilations = window.rhs_dilate;
  convolution.reversal = window.rhs_reversal;
  convolution.feature_groups = c.integer_or("feature_group_count", 1);
  convolution.batch_groups = c.integer_or("batch_group_count", 1);
  set_product(c,
              ops::convolution(c.builder(), product.lhs, product.rhs, convolution, product.dtype),
              product);
}

}  // namespace

std::span<const OpcodeEntry> contraction_opcodes() {
  static constexpr OpcodeEntry kEntries[] = {
      {"dot", dot}, {"ragged-dot", ragged_dot}, {"convolution", convolution}};
  return kEntries;
}

}  // namespace tessera::hlo

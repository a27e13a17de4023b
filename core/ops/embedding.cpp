#include "core/ops/embedding.h"

#include "core/ops/norm.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

std::vector<TensorType> infer_embedding(const OpCall& call) {
  check_operand_count("embedding", call, 2, 1);
  const TensorType &table = call.operands[0], &ids = call.operands[1];
  require(table.rank() == 2 && is_integer(ids.dtype) && table.dtype != DType::pred,
          "embedding: needs a table [V,E] and integer ids, got ", table, " and ", ids);
  Shape shape = ids.shape;
  shape.push_back(table.shape[1]);
  return {{table.dtype, shape}};
}

void eval_embedding(const OpCall& call, std::span<const HostTensor* const> x,
                    std::span<HostTensor> y) {
  const int64_t start = start_of(x, 2), rows = call.operands[0].shape[0];
  const int64_t row_bytes = call.operands[0].shape[1] * size_of(call.operands[0].dtype);
  const Elements<int64_t> ids = elements_of<int64_t>(*x[1]);
  std::fill(y[0].bytes().begin(), y[0].bytes().end(), std::byte{0});
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t row = ids[i] - start;
    if (row < 0 || row >= rows) continue;
    const auto from =
        x[0]->bytes().subspan(static_cast<size_t>(row * row_bytes), static_cast<size_t>(row_bytes));
    std::copy(from.begin(), from.end(), y[0].bytes().begin() + static_cast<int64_t>(i) * row_bytes);
  }
}

std::vector<Value> grad_embedding(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  if (!c.needs_gradient(0)) return cotangents;
  Builder& b = c.builder();
  const Value table = embedding_grad(b, c.operand(1), c.cotangent(0), c.operand_type(0).shape[0]);
  cotangents[0] = as_dtype(b, table, c.gradient_dtype(0));
  return cotangents;
}

// Shards of V give zeros for the ids that they lack, so the whole is their sum.
FactorRule embedding_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  std::vector<int> ids = add_factors(rule, call.operands[1].shape);
  const int width = add_factor(rule, call.operands[0].shape[1]);
  const int rows =
      add_factor(rule, call.operands[0].shape[0], FactorKind::reduction, ReduceKind::sum, true);
  rule.operands = {dims_of({rows, width}), dims_of(ids)};
  ids.push_back(width);
  rule.results = {dims_of(ids)};
  add_starts(rule, call);
  return rule;
}

std::vector<LinearSet> linear_embedding(const OpCall&) { return {{{0}, ReduceKind::sum}}; }

// Rows of the table, so zero along the width where it is.
std::vector<PadContents> transfer_embedding(const PadFacts& facts) {
  std::vector<PadContents> contents = transfer_constant(facts, PadContent::unknown);
  if (facts.operands[0][1] == PadContent::zero) contents[0].back() = PadContent::zero;
  return contents;
}

std::vector<OpSample> embedding_samples() {
  const TensorType ids{DType::s32, {4, 2}};
  return {{{{DType::f64, {8, 6}}, ids}, {}, {{-1, 1}, {0, 7}}},
          {{{DType::bf16, {8, 6}}, ids}, {}, {{-1, 1}, {0, 7}}, false}};
}

// ---- embedding_grad -----------------------------------------------------------------------------

std::vector<TensorType> infer_embedding_grad(const OpCall& call) {
  check_operand_count("embedding_grad", call, 2, 1);
  const TensorType &ids = call.operands[0], &dy = call.operands[1];
  require(is_integer(ids.dtype) && is_float(dy.dtype) && dy.rank() >= 1 &&
              without_last(dy.shape) == ids.shape,
          "embedding_grad: needs integer ids [...] and dy [...,E], got ", ids, " and ", dy);
  const int64_t rows = call.attributes.integer(Attr::vocab_dim);
  require(rows >= 0, "embedding_grad: vocab_dim ", rows, " for ids ", ids);
  return {{statistics_dtype(dy.dtype), {rows, last_dim(dy.shape)}}};
}

void eval_embedding_grad(const OpCall& call, std::span<const HostTensor* const> x,
                         std::span<HostTensor> y) {
  const int64_t start = start_of(x, 2), rows = call.attributes.integer(Attr::vocab_dim);
  const int64_t width = last_dim(call.operands[1].shape);
  const Elements<int64_t> ids = elements_of<int64_t>(*x[0]);
  const std::vector<double> dy = reals_of(*x[1]);
  std::vector<double> table(static_cast<size_t>(rows * width), 0);
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t row = ids[i] - start;
    if (row < 0 || row >= rows) continue;
    for (int64_t e = 0; e < width; ++e)
      table[row * width + e] += dy[static_cast<int64_t>(i) * width + e];
  }
  set_reals(y[0], table);
}

FactorRule embedding_grad_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  std::vector<int> ids = add_factors(rule, call.operands[0].shape, FactorKind::reduction);
  const int width = add_factor(rule, results[0].shape[1]);
  const int rows =
      add_factor(rule, results[0].shape[0], FactorKind::pass_through, ReduceKind::sum, true);
  rule.operands = {dims_of(ids)};
  ids.push_back(width);
  rule.operands.push_back(dims_of(ids));
  rule.results = {dims_of({rows, width})};
  add_starts(rule, call);
  return rule;
}

std::vector<LinearSet> linear_embedding_grad(const OpCall&) { return {{{1}, ReduceKind::sum}}; }

Attributes localize_embedding_grad(const OpCall& global, std::span<const TensorType>,
                                   std::span<const TensorType> local_results) {
  Attributes local = global.attributes;
  local.set(Attr::vocab_dim, local_results[0].shape[0]);
  return local;
}

// Zero along the width; rows of padding receive what ids beyond the vocabulary bring.
std::vector<PadContents> transfer_embedding_grad(const PadFacts& facts) {
  std::vector<PadContents> contents = transfer_constant(facts, PadContent::unknown);
  if (facts.operands[1].back() == PadContent::zero) contents[0].back() = PadContent::zero;
  return contents;
}

// A row of zeros may go anywhere, whatever its id.
std::vector<PadNeed> embedding_grad_needs(const PadFacts& facts) {
  std::vector<PadNeed> needs;
  for (int d = 0; d + 1 < facts.call.operands[1].rank(); ++d)
    needs.push_back({1, d, PadContent::zero});
  return needs;
}

double embedding_grad_flops(const OpCall& call, std::span<const TensorType>) {
  return static_cast<double>(call.operands[1].elements());
}

std::vector<OpSample> embedding_grad_samples() {
  const TensorType ids{DType::s32, {4, 2}};
  const Attributes attributes{{Attr::vocab_dim, int64_t{8}}};
  return {{{ids, {DType::f64, {4, 2, 6}}}, attributes, {{0, 7}}, false},
          {{ids, {DType::bf16, {4, 2, 6}}}, attributes, {{0, 7}}, false}};
}

}  // namespace

const OpDef kEmbedding{.name = "embedding",
                       .infer = infer_embedding,
                       .eval = eval_embedding,
                       .grad = grad_embedding,
                       .factors = embedding_factors,
                       .linear = linear_embedding,
                       .pad_transfer = transfer_embedding,
                       .flops = no_flops,
                       .samples = embedding_samples};
const OpDef kEmbeddingGrad{.name = "embedding_grad",
                           .attributes = {Attr::vocab_dim},
                           .infer = infer_embedding_grad,
                           .eval = eval_embedding_grad,
                           .factors = embedding_grad_factors,
                           .linear = linear_embedding_grad,
                           .localize = localize_embedding_grad,
                           .pad_transfer = transfer_embedding_grad,
                           .pad_needs = embedding_grad_needs,
                           .flops = embedding_grad_flops,
                           .samples = embedding_grad_samples};

Value embedding(Builder& b, Value table, Value ids) { return b.emit(kEmbedding, {table, ids}); }
Value embedding_grad(Builder& b, Value ids, Value dy, int64_t vocab_dim) {
  return b.emit(kEmbeddingGrad, {ids, dy}, {{Attr::vocab_dim, vocab_dim}});
}

}  // namespace tessera::ops

// What the benchmark of GPU kernels runs: each kernel family at the shapes of a model's layer.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/ir/op_def.h"

namespace tessera::bench {

// A decoder's layer, and the tokens that one microbatch brings to it.
struct LayerShape {
  std::string name;
  int64_t batch, length, embed, heads, kv_heads, head_dim, mlp, vocab;
  bool is_llama = false;  // RMSNorm, rotary and SwiGLU instead of LayerNorm and GELU

  int64_t tokens() const { return batch * length; }
};

// GPT-2 124M and 1.5B, Llama-3-8B; or with `tiny`, small ones of both kinds.
std::vector<LayerShape> layer_shapes(bool tiny);

struct Case {
  std::string family, model;
  const OpDef* op;
  Attributes attributes;
  std::vector<TensorType> operands;
  std::vector<std::pair<double, double>> ranges = {};  // as in OpSample
  // The fewest bytes that must move through device memory: each operand read and each result written once, less
  // `unread_bytes` of tables of which only some rows are read.
  int64_t unread_bytes = 0;

  std::vector<TensorType> results() const { return infer_types(*op, {operands, attributes}); }
  int64_t bytes() const;
  double flops() const;
};

std::vector<Case> cases_of(const LayerShape& shape);

// A square product in bf16 as large as is usual to name a GPU's peak by.
Case peak_product(bool tiny);

}  // namespace tessera::bench

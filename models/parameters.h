// Parameters are declared where a layer uses them: one call makes the graph input and records what
// the trainer needs to know (name, axes, initial values, weight decay), so nothing is said twice.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/ir/builder.h"

namespace tessera::models {

struct ParameterSpec {
  std::string name;                        // "block.0.attention.query.weight"; stable across meshes
  TensorType type;                         // as stored: f32 or bf16, or f64 when the model computes in f64
  std::vector<std::string> logical_axes;   // a name per dim
  double init_mean = 0;                    // normal(init_mean, init_std); std 0: filled with the mean
  double init_std = 0;
  // Rows of dim 0 that mean something; the rest is padding and stays zero. -1: all.
  int64_t valid_rows = -1;
  int64_t init_site = 0;                   // the random draw, fixed by the order of declaration
};

struct Init {
  double mean = 0;
  double std = 0;
};

// The place where layers find their parameters while a graph is built.
class ParameterScope {
 public:
  // `compute` is the dtype of activations. Parameters are stored in `stored`, by default in the wide dtype.
  ParameterScope(Builder& builder, DType compute, std::optional<DType> stored = std::nullopt);

  // The parameter in the wide dtype; declared on first use, the same value afterwards. Gradients are those
  // of this value.
  Value stored(const std::string& name, Shape shape, std::vector<std::string> logical_axes, Init init,
               int64_t valid_rows = -1);
  // The same, converted to the compute dtype.
  Value weight(const std::string& name, Shape shape, std::vector<std::string> logical_axes, Init init,
               int64_t valid_rows = -1);

  Builder& builder() { return builder_; }
  DType compute_dtype() const { return compute_; }
  // Whether linear layers multiply in fp8 (core/ops/fp8_product.h); off at first.
  void set_fp8(bool is_fp8) { is_fp8_ = is_fp8; }
  bool is_fp8() const { return is_fp8_; }
  // What gradients, sums and statistics are in: f32, or f64 when compute is f64.
  DType wide_dtype() const { return compute_ == DType::f64 ? DType::f64 : DType::f32; }

  const std::vector<ParameterSpec>& specs() const { return specs_; }
  // What `stored` gave, and the graph's input, which differ where parameters are stored in a narrower dtype.
  // Both TESSERA_CHECK that it was declared.
  Value value(const std::string& name) const;
  Value input(const std::string& name) const;

 private:
  Builder& builder_;
  DType compute_, dtype_;  // of activations; of parameters as stored
  bool is_fp8_ = false;
  std::vector<ParameterSpec> specs_;
  std::map<std::string, Value> inputs_, stored_, converted_;
};

// The initial values of one block (`start`, `shape`) of a parameter, the same on every mesh: Philox
// keyed by (seed, init_site), counted by the global row-major index.
HostTensor initial_values(const ParameterSpec& spec, int64_t seed, std::span<const int64_t> start,
                          const Shape& shape);

}  // namespace tessera::models

// What Kernel::prepare has made of each step that is a product, found again by run() without allocating.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "core/base/error.h"
#include "core/runtime/kernel_table.h"
#include "kernels/cuda/matmul/matmul_plan.h"
#include "kernels/cuda/movement/box.h"

namespace tessera::cuda {

// Elements between the first products and others of the same problem.
struct ProductOffset {
  int64_t left, right, result;
};

// A copy that makes an operand's memory a matrix.
struct OperandCopy {
  Box box;
  int64_t workspace_offset = -1;  // in bytes; -1: none is made
};

struct ProductStep {
  const MatmulPlan* plan = nullptr;  // null: the depth is 0 and the product zeros, or there is nothing to compute
  std::vector<ProductOffset> products;
  OperandCopy left, right;
};

class ProductSteps {
 public:
  // The step of the same instruction at the same addresses is replaced: another program may have been where it is.
  void put(const KernelArgs& args, ProductStep step) { steps_[key_of(args)] = std::move(step); }
  const ProductStep& at(const KernelArgs& args) const {
    const auto found = steps_.find(key_of(args));
    TESSERA_CHECK(found != steps_.end(), "a product runs that was not prepared at these addresses");
    return found->second;
  }

 private:
  struct Key {
    const void *instruction, *operands[5], *results[2], *workspace;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& key) const {
      size_t hash = 0;
      const auto add = [&](const void* part) { hash = hash * 0x9e3779b97f4a7c15ull + std::hash<const void*>()(part); };
      add(key.instruction);
      for (const void* operand : key.operands) add(operand);
      for (const void* result : key.results) add(result);
      add(key.workspace);
      return hash;
    }
  };
  static Key key_of(const KernelArgs& args) {
    Key key{&args.instruction, {}, {}, args.workspace};
    for (size_t i = 0; i < args.operands.size(); ++i) key.operands[i] = args.operands[i].data;
    for (size_t i = 0; i < args.results.size(); ++i) key.results[i] = args.results[i].data;
    return key;
  }

  std::unordered_map<Key, ProductStep, Hash> steps_;
};

}  // namespace tessera::cuda

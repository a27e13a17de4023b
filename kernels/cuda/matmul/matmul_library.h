// cuBLASLt for one device: its handle and workspace, and the plan of each product.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/cuda/backend/context.h"
#include "kernels/cuda/matmul/matmul_choices.h"
#include "kernels/cuda/matmul/matmul_plan.h"
#include "kernels/cuda/matmul/product_steps.h"

namespace tessera::cuda {

class MatmulLibrary {
 public:
  // `context` must outlive it and have its stream. Throws UserError where cuBLASLt does not start.
  MatmulLibrary(const Context& context, std::string device_name, bool autotune);
  ~MatmulLibrary();

  // The plan of a problem, with an algorithm: the one adopted, else the fastest (autotune), else cuBLASLt's first
  // proposal. Made at the first call, with a warning where cuBLASLt has the product without its epilogue only; stays
  // where it is. Throws UserError where cuBLASLt has no algorithm at all.
  const MatmulPlan& plan(const MatmulProblem& problem);

  void run(const MatmulPlan& plan, const MatmulMemory& memory) const {
    plan.run(memory, workspace_, context_.stream);
  }

  // See Plugin::choices and Plugin::adopt_choices.
  std::string choices() const;
  void adopt_choices(std::string_view text);

  // What op_dot_general.cpp and op_product_epilogue.cpp have prepared.
  ProductSteps& steps() { return steps_; }

 private:
  MatmulAlgorithm choose(const MatmulPlan& plan, const std::string& key) const;

  const Context& context_;
  bool autotune_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<std::string, std::unique_ptr<MatmulPlan>> plans_;
  MatmulChoices choices_;  // of plans, and adopted ones that no plan has used yet
  ProductSteps steps_;
};

}  // namespace tessera::cuda

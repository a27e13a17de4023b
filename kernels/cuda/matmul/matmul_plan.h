// Matrix products by cuBLASLt: descriptors and the algorithm of one problem, made once and run many times.
//
// Floor: 2 batch rows columns depth FLOPs over the rate of the matrix units, or the bytes of the three matrices
// over memory bandwidth where that is larger. On an H200 (bf16: 989 TFLOP/s dense by its data sheet, 4.8 TB/s)
// the FLOPs decide from about 200 FLOPs per byte on: a square product from 620 rows.
//
// cuBLASLt sees matrices by columns, so it computes the transposed product, result^T = right^T left^T: its A is
// our right side, its B our left one, its m our columns.
//
// An epilogue costs no FLOPs worth counting and saves a kernel that reads and writes the result: 2 x rows x columns
// elements, and as much again where sums of f32 follow. For the first product of GPT-2 124M's MLP in bf16 (4096 x 3072
// x 768: 19 GFLOP, 20 us at 989 TFLOP/s) those are 50 MB, 10 us at 4.8 TB/s. Its GELU is the tanh form, by an
// approximation that NVIDIA does not state. How much of that is left differs between GPUs, types and epilogues, so both
// ways are timed: cuBLASLt's, and the product alone with a kernel of ours behind it (epilogue.h).
//
// f8 operands: their matrix units run at twice the rate of bf16's (1979 TFLOP/s on an H200). NVIDIA's documentation of
// cublasLtMatmul wants of them on Hopper: depth contiguous in both (A transposed, B not), sides and addresses that
// are multiples of 16 bytes, at most one e5m2, f32 arithmetic. Partial sums are kept in f32 all along
// (CUBLASLT_MATMUL_DESC_FAST_ACCUM stays 0), at some cost in rate.
//
// Same bits in every run: an algorithm sums in a fixed order, but where it splits the depth among blocks it may
// let the one that comes last add to the result. Of these "reduction schemes" only that is allowed which keeps
// its partial sums apart, in f32 or f64, and adds them in a step of its own.
#pragma once

#include <cublasLt.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/matmul/matmul_problem.h"

namespace tessera::cuda {

// Memory for partial sums, shared by all products of a stream and the epilogues behind them, which run one after the
// other. What NVIDIA recommends for Hopper (cublasSetWorkspace); algorithms that need more are not considered.
inline constexpr int64_t kMatmulWorkspaceBytes = int64_t{32} << 20;

// An algorithm as cuBLASLt wrote it: opaque, to be kept and given back to the same version of the library.
struct MatmulAlgorithm {
  cublasLtMatmulAlgo_t opaque = {};
  int64_t workspace_bytes = 0;
  bool epilogue_behind = false;  // it is of the product alone
};

class MatmulPlan {
 public:
  // Throws UserError where cuBLASLt cannot describe the problem. Sizes must not be 0.
  MatmulPlan(cublasLtHandle_t handle, const MatmulProblem& problem);

  const MatmulProblem& problem() const { return problem_; }
  // At most `count` with the epilogue and as many without, what cuBLASLt thinks fastest first; none where it does not
  // have this product.
  std::vector<MatmulAlgorithm> propose(int count) const;
  // Whether cuBLASLt can run `algorithm` for this problem on the current device.
  bool accepts(const MatmulAlgorithm& algorithm) const;

  void choose(const MatmulAlgorithm& algorithm) { algorithm_ = algorithm; }
  const MatmulAlgorithm& algorithm() const { return algorithm_; }

  // Submits the product with the chosen algorithm, or with another one.
  void run(const MatmulMemory& memory, void* workspace, cudaStream_t stream) const {
    run_with(algorithm_, memory, workspace, stream);
  }
  void run_with(const MatmulAlgorithm& algorithm, const MatmulMemory& memory, void* workspace,
                cudaStream_t stream) const;

 private:
  template <typename Opaque, cublasStatus_t (*destroy)(Opaque*)>
  struct Destroy {
    void operator()(Opaque* opaque) const { destroy(opaque); }
  };
  template <typename Opaque, cublasStatus_t (*destroy)(Opaque*)>
  using Owned = std::unique_ptr<Opaque, Destroy<Opaque, destroy>>;
  using Layout = Owned<cublasLtMatrixLayoutOpaque_t, cublasLtMatrixLayoutDestroy>;

  Layout layout(DType dtype, int64_t rows, int64_t columns, bool transposed, int64_t leading,
                int64_t stride) const;
  std::vector<MatmulAlgorithm> propose(int count, bool epilogue_behind) const;
  void set_epilogue(bool behind, void* bias, void* aux) const;
  // As the choice of an algorithm looks at it.
  void set_epilogue_for_choice(bool behind) const;
  void set_scales(const void* left, const void* right) const;

  cublasLtHandle_t handle_;
  MatmulProblem problem_;
  Owned<cublasLtMatmulDescOpaque_t, cublasLtMatmulDescDestroy> product_;
  Layout right_, left_, result_;
  MatmulAlgorithm algorithm_;
};

}  // namespace tessera::cuda

// The fixture of all tests of CUDA kernels. It speaks to the plugin only, so that the same tests run on a GPU and
// on the software GPU (see tests/soft_gpu/soft_gpu.h): TESSERA_CUDA_PLUGIN says which.
//
//   using NormTest = DeviceTest;
//   TEST_F(NormTest, OddRows) {
//     check_kernel(ops::kLayerNorm, {{{DType::bf16, {3, 65}}, ...}, attributes}, {.kernel = "cuda.layer_norm"});
//   }
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/ir/op_def.h"
#include "core/runtime/backend.h"
#include "kernels/cuda/plugin/plugin.h"

namespace tessera {

struct KernelCheck {
  // What the chosen kernel's name must begin with; empty: any that is not the reference.
  std::string kernel = "";
  // The table may (or, with `kernel` = "cuda.reference", must) choose the reference; nothing is run then.
  bool may_be_reference = false;
  // |got - want| <= tolerance * max(|want|, scale), where scale is the largest finite |want| of the tensor, or of
  // the row (the last dim). Unset: 1e-5 for f32, 2^-7 for bf16, whichever of operands and results is coarsest;
  // integers and booleans exactly.
  std::optional<double> tolerance = std::nullopt;
  bool scale_by_row = false;
  // The reference computes in f64 on the exact operands. False: on the operands as they are, for ops whose
  // meaning depends on the type.
  bool in_f64 = true;
  // Draws of the random operands.
  int seeds = 1;
};

// For ops whose results are near their evaluation in f64 as `dtype` can be.
inline KernelCheck check_of(const char* kernel, DType dtype) {
  KernelCheck check;
  check.kernel = kernel;
  check.tolerance = dtype == DType::bf16 ? 1.0 / 256 : 1e-5;
  return check;
}

struct CheckedKernel {
  std::string kernel;     // its name
  bool is_reference = false;
  std::string refusals;   // of the candidates before it
  std::vector<HostTensor> results;  // of the last draw, as the device computed them
};

class DeviceTest : public ::testing::Test {
 protected:
  // Skips with "skipped: no CUDA device (REASON)".
  void SetUp() override;

  // One for the whole process, on device 0.
  static Backend& backend();
  static const cuda::Plugin& plugin();

  // Asks the backend's table for the op's kernel, and checks it on random operands (`sample.ranges` as in OpSample,
  // [-1, 1] where there is none): results beforehand are NaN bits, with guards around, the workspace is NaN bits;
  // buffers are aligned to 64 bytes and no more. Runs it twice, captured and replayed where it can be, and in
  // place where it says so, with the same bits each time, and compares with the op's eval.
  static CheckedKernel check_kernel(const OpDef& op, const OpSample& sample, const KernelCheck& check = {});
  // On these operands.
  static CheckedKernel check_kernel(const OpDef& op, const Attributes& attributes,
                                    std::vector<HostTensor> operands, const KernelCheck& check = {});

  // What the table would choose: its name.
  static std::string chosen_kernel(const OpDef& op, const OpSample& sample);
};

// Why there is no device; empty where there is one.
std::string no_device_reason();

// Memory of the device with guards on both sides, for the life of the object.
class GuardedBuffer {
 public:
  GuardedBuffer(Backend& backend, int64_t bytes);  // NaN bits
  GuardedBuffer(Backend& backend, const HostTensor& tensor);
  GuardedBuffer(GuardedBuffer&& other) noexcept;
  ~GuardedBuffer();

  std::byte* data() const { return memory_ + kGuard; }
  int64_t bytes() const { return bytes_; }
  void put(std::span<const std::byte> bytes);
  // Waits; fails the test where a guard was written over.
  HostTensor get(const TensorType& type, const std::string& what) const;

 private:
  static constexpr int64_t kGuard = 64;

  Backend& backend_;
  std::byte* memory_;
  int64_t bytes_;
};

// Launches so far of kernels whose name holds `part`; none on a real GPU.
std::optional<long> kernel_launches(const char* part);

}  // namespace tessera

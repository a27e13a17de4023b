// The kernel that the plugin chooses for an op, run on the device that tests have: a GPU, or the one in software.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/base/error.h"
#include "core/ir/op_def.h"
#include "core/types/host_tensor.h"
#include "kernels/cuda/plugin/open.h"

namespace tessera::testing {

// The backend of the first device; null where there is none.
inline Backend* test_device() {
  static const std::unique_ptr<Backend> kBackend = []() -> std::unique_ptr<Backend> {
    try {
      const cuda::Plugin& plugin = cuda::open_plugin();
      if (!plugin.devices().empty()) return plugin.create_backend({});
    } catch (const UserError&) {  // no driver
    }
    return nullptr;
  }();
  return kBackend.get();
}

#define TESSERA_NEEDS_DEVICE() \
  if (test_device() == nullptr) GTEST_SKIP() << "skipped: no CUDA device"

inline HostTensor normal_tensor(const TensorType& type, unsigned seed, double deviation = 1.0) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0.0, deviation);
  HostTensor tensor(type);
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_real(i, normal(generator));
  return tensor;
}

inline std::vector<TensorType> types_of(const std::vector<HostTensor>& tensors) {
  std::vector<TensorType> types;
  for (const HostTensor& tensor : tensors) types.push_back(tensor.type());
  return types;
}

inline KernelTable::Choice choice_for(const OpDef& op, const Attributes& attributes,
                                      const std::vector<TensorType>& operands) {
  const OpCall call{operands, attributes};
  return cuda::open_plugin().kernels().choose(op, call, infer_types(op, call));
}

// The op's own evaluation, in f64 on the very operands that the device has.
inline std::vector<HostTensor> evaluate_in_f64(const OpDef& op, const Attributes& attributes,
                                               const std::vector<HostTensor>& operands) {
  std::vector<HostTensor> wide, results;
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& operand : operands)
    wide.push_back(is_float(operand.dtype()) ? operand.cast(DType::f64) : operand);
  for (const HostTensor& operand : wide) pointers.push_back(&operand);
  const std::vector<TensorType> types = types_of(wide);
  const OpCall call{types, attributes};
  for (const TensorType& type : infer_types(op, call)) results.emplace_back(type);
  op.eval(call, pointers, results);
  return results;
}

// Runs the chosen kernel with NaN in results and workspace; `in_place`: its results lie over the operands where
// it says that they may.
inline std::vector<HostTensor> run_on_device(const OpDef& op, const Attributes& attributes,
                                             const std::vector<HostTensor>& operands, bool in_place = false) {
  Backend& backend = *test_device();
  const std::vector<TensorType> operand_types = types_of(operands);
  const OpCall call{operand_types, attributes};
  const std::vector<TensorType> types = infer_types(op, call);
  const Kernel& kernel = *backend.kernels().choose(op, call, types).kernel;

  std::vector<std::byte*> buffers;
  const auto allocate = [&](int64_t bytes) {
    buffers.push_back(backend.allocate(std::max<int64_t>(bytes, 1)));
    backend.set_bytes(buffers.back(), 0xff, std::max<int64_t>(bytes, 1));
    return buffers.back();
  };
  std::vector<TensorView> operand_views, result_views;
  for (const HostTensor& operand : operands) {
    const auto bytes = static_cast<int64_t>(operand.bytes().size());
    operand_views.push_back({operand.type(), allocate(bytes)});
    backend.copy_to_device(operand_views.back().data, operand.bytes().data(), bytes);
  }
  for (size_t r = 0; r < types.size(); ++r) {
    const int over = in_place && kernel.in_place ? kernel.in_place(call, static_cast<int>(r)) : -1;
    result_views.push_back(
        {types[r], over >= 0 ? operand_views[static_cast<size_t>(over)].data : allocate(types[r].bytes())});
  }
  std::byte* workspace = allocate(kernel.workspace_bytes ? kernel.workspace_bytes(call, types) : 0);
  Instruction instruction;
  instruction.op = &op;
  instruction.attributes = attributes;
  const KernelArgs args{instruction, operand_views, result_views, workspace, backend.stream()};
  if (kernel.prepare) kernel.prepare(args);
  backend.finish_preparing();
  kernel.run(args);
  std::vector<HostTensor> results;
  for (const TensorView& view : result_views) {
    HostTensor& result = results.emplace_back(view.type);
    backend.copy_to_host(result.bytes().data(), view.data, view.type.bytes());
  }
  for (std::byte* buffer : buffers) backend.release(buffer);
  return results;
}

// ||got - want|| <= relative ||want||, and no element is off by more than `each` times the largest of `want`.
// Infinities must be where they are wanted, and NaN is nowhere. Where (nearly) zeros are wanted, elements of 1e-3
// stand for them.
struct Tolerance {
  double relative, each;
};
inline void expect_near(const HostTensor& got, const HostTensor& want, Tolerance tolerance) {
  ASSERT_EQ(got.shape(), want.shape());
  constexpr double kLeast = 1e-3;
  double error = 0, norm = kLeast * kLeast * static_cast<double>(want.elements()), largest = kLeast, worst = 0;
  for (int64_t i = 0; i < want.elements(); ++i) {
    const double x = got.get_real(i), y = want.get_real(i);
    if (std::isinf(y)) {
      ASSERT_EQ(x, y) << "element " << i;
      continue;
    }
    ASSERT_TRUE(std::isfinite(x)) << "element " << i << " is " << x << ", not " << y;
    error += (x - y) * (x - y);
    norm += y * y;
    largest = std::max(largest, std::abs(y));
    worst = std::max(worst, std::abs(x - y));
  }
  EXPECT_LE(std::sqrt(error), tolerance.relative * std::sqrt(norm));
  EXPECT_LE(worst, tolerance.each * largest);
}

}  // namespace tessera::testing

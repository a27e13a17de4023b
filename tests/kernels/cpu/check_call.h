// The kernel that the CPU table chooses for a call, against the op's own reference.
#pragma once

#include "core/ir/builder.h"
#include "kernels/cpu/register.h"
#include "tests/kernels/cpu/kernel_testing.h"
#include "tests/support/random_tensor.h"

namespace tessera {

inline const KernelTable& cpu_table() {
  static const KernelTable kTable = cpu_kernel_table();
  return kTable;
}

inline double kernel_tolerance(DType dtype) {
  return dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : dtype == DType::bf16 ? 0.02 : 0;
}

// Largest |a - b| / max(1, |b|); infinite where just one is NaN.
inline double distance(const HostTensor& a, const HostTensor& b) {
  double largest = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double x = a.get_real(i), y = b.get_real(i);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double error = std::abs(x - y) / std::max(1.0, std::abs(y));
    largest = std::isnan(error) ? INFINITY : std::max(largest, error);
  }
  return largest;
}

struct Outcome {
  bool accepted = false;
  std::string refusals;
};

// Runs the table's choice on `operands`, and random ones for those that are missing, poisoned
// results and workspace, with 1 and 3 threads, and in place wherever the kernel says it can;
// compares with eval.
inline Outcome check_call(const OpDef& op, const OpSample& sample,
                          std::vector<HostTensor> operands = {}) {
  const OpCall call{sample.operands, sample.attributes};
  const std::vector<TensorType> types = infer_types(op, call);
  const KernelTable::Choice choice = cpu_table().choose(op, call, types);
  Outcome outcome{!choice.kernel->is_reference, join(choice.refusals)};
  if (!outcome.accepted) return outcome;
  SCOPED_TRACE(testing::Message() << op.name << "(" << join(sample.operands) << ") by "
                                  << choice.kernel->name);

  std::vector<const HostTensor*> pointers;
  for (size_t i = operands.size(); i < sample.operands.size(); ++i) {
    const auto range = i < sample.ranges.size() ? sample.ranges[i] : std::pair{-1.0, 1.0};
    operands.push_back(
        random_operand_tensor(sample.operands[i], static_cast<unsigned>(i + 1), range));
  }
  for (const HostTensor& operand : operands) pointers.push_back(&operand);
  std::vector<HostTensor> want;
  for (const TensorType& type : types) want.emplace_back(type);
  op.eval(call, pointers, want);

  Instruction instruction;
  instruction.op = &op;
  instruction.attributes = sample.attributes;
  const auto run = [&](bool in_place) {
    std::vector<HostTensor> copies = operands, results;
    std::vector<TensorView> operand_views, result_views;
    for (HostTensor& copy : copies) operand_views.push_back({copy.type(), copy.bytes().data()});
    for (const TensorType& type : types) {
      results.emplace_back(type);
      std::fill(results.back().bytes().begin(), results.back().bytes().end(), std::byte{0xff});
    }
    std::vector<int> over(types.size(), -1);
    for (size_t r = 0; r < types.size(); ++r) {
      result_views.push_back({types[r], results[r].bytes().data()});
      if (!in_place) continue;
      const auto by = choice.kernel->in_place ? choice.kernel->in_place : op.alias;
      if (by)
        over[r] = by(call, static_cast<int>(r));
      else if (choice.kernel->in_place_any && types[r].bytes() == sample.operands[0].bytes())
        over[r] = 0;
      if (over[r] >= 0) result_views[r].data = operand_views[static_cast<size_t>(over[r])].data;
    }
    int64_t bytes =
        choice.kernel->workspace_bytes ? choice.kernel->workspace_bytes(call, types) : 0;
    std::vector<std::byte> memory(static_cast<size_t>(bytes + 128), std::byte{0xff});
    auto* aligned =
        reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
    choice.kernel->run({instruction, operand_views, result_views, aligned, nullptr});
    for (size_t r = 0; r < types.size(); ++r) {
      if (over[r] >= 0)
        std::memcpy(results[r].bytes().data(), result_views[r].data, results[r].bytes().size());
    }
    EXPECT_TRUE(std::all_of(aligned + bytes, memory.data() + memory.size(), [](std::byte b) {
      return b == std::byte{0xff};
    })) << "wrote beyond its workspace";
    return results;
  };
  omp_set_num_threads(1);
  const std::vector<HostTensor> got = run(false);
  omp_set_num_threads(3);
  EXPECT_EQ(got, run(false)) << "differs between 1 and 3 threads";
  EXPECT_EQ(got, run(true)) << "differs in place";
  // Results cannot be better than their least precise operand allows.
  double tolerance = 0;
  for (const TensorType& type : sample.operands)
    tolerance = std::max(tolerance, kernel_tolerance(type.dtype));
  for (size_t r = 0; r < types.size(); ++r) {
    EXPECT_LE(distance(got[r], want[r]), std::max(tolerance, kernel_tolerance(types[r].dtype)))
        << "result " << r;
  }
  return outcome;
}

}  // namespace tessera

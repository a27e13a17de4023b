// What the op_*.cpp files of all backends share: refusals, and shapes as kernels want them.
#pragma once

#include <optional>
#include <string>

#include "core/base/strings.h"
#include "core/runtime/kernel_table.h"

namespace tessera {

using Refusal = std::optional<std::string>;
using Results = std::span<const TensorType>;

inline Refusal refuse_id(const TensorType& type) {
  if (type.dtype == DType::s32 || type.dtype == DType::s64) return std::nullopt;
  return cat("ids must be s32 or s64, not ", type.dtype);
}
// For kernels that hold all their float operands in one type.
inline Refusal refuse_mixed(const TensorType& a, const TensorType& b) {
  if (a.dtype == b.dtype) return std::nullopt;
  return cat("operands of ", a.dtype, " and ", b.dtype, " are mixed");
}
inline Refusal first_of(std::initializer_list<Refusal> refusals) {
  for (const Refusal& refusal : refusals) {
    if (refusal) return refusal;
  }
  return std::nullopt;
}

// [..., last] as rows.
struct RowsOf {
  explicit RowsOf(const Shape& shape)
      : columns(shape.rank() == 0 ? 1 : shape[shape.rank() - 1]),
        rows(columns == 0 ? 0 : shape.elements() / columns) {}
  int64_t columns, rows;
};

inline Kernel make_kernel(std::string name, Refusal (*accept)(const OpCall&, Results),
                          void (*run)(const KernelArgs&)) {
  Kernel kernel;
  kernel.name = std::move(name);
  kernel.accept = accept;
  kernel.run = run;
  return kernel;
}

}  // namespace tessera

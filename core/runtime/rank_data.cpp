#include "core/runtime/rank_data.h"

#include <cstring>

#include "core/base/error.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

void fill(const TensorView& view, double value) {
  dispatch_dtype(view.type.dtype, [&]<typename T>() {
    T element;
    if constexpr (std::is_same_v<T, std::complex<float>>)
      element = T(static_cast<float>(value));
    else if constexpr (std::is_integral_v<T>)
      element = static_cast<T>(value);
    else
      element = T(static_cast<float>(value));
    std::fill_n(view.as<T>(), view.type.elements(), element);
  });
}

// Integers do not survive the way through double at their limits.
void fill_identity(const TensorView& view, ReduceKind kind) {
  if (!is_integer(view.type.dtype)) return fill(view, ops::identity_of(kind, view.type.dtype));
  dispatch_dtype(view.type.dtype, [&]<typename T>() {
    if constexpr (std::is_integral_v<T>) {
      T element = 0;
      if (kind == ReduceKind::max)
        element = std::numeric_limits<T>::lowest();
      else if (kind == ReduceKind::min)
        element = std::numeric_limits<T>::max();
      else if (kind == ReduceKind::product)
        element = 1;
      else if (kind == ReduceKind::logical_and)
        element = static_cast<T>(-1);
      std::fill_n(view.as<T>(), view.type.elements(), element);
    }
  });
}

}  // namespace

void compute_rank_data(const Instruction& instruction, int64_t coordinate,
                       std::span<const TensorView> operands, const TensorView& result) {
  if (instruction.is(ops::kAxisIndex)) {
    *result.as<int64_t>() = coordinate;
    return;
  }
  const TensorView& operand = operands[0];
  if (instruction.is(ops::kAllSlice)) {
    const auto dim = static_cast<int>(instruction.attributes.integer(Attr::dimension));
    const int64_t extent = result.type.shape[dim];
    int64_t rows = 1, inner = size_of(result.type.dtype);
    for (int d = 0; d < dim; ++d) rows *= result.type.shape[d];
    for (int d = dim + 1; d < result.type.rank(); ++d) inner *= result.type.shape[d];
    const int64_t width = extent * inner, pitch = operand.type.shape[dim] * inner;
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(result.as<std::byte>() + row * width,
                  operand.as<std::byte>() + row * pitch + coordinate * width,
                  static_cast<size_t>(width));
    return;
  }
  TESSERA_CHECK(instruction.is(ops::kReplicatedToPartial), instruction.op->name,
                " is no rank data");
  if (coordinate == 0)
    std::memmove(result.data, operand.data, static_cast<size_t>(result.type.bytes()));
  else
    fill_identity(result, instruction.attributes.get<ReduceKind>(Attr::reduce_kind));
}

PermuteRoute permute_route(const Mesh& mesh, const AxisList& group, const Attributes& permute,
                           int64_t device) {
  const auto& axes = permute.get<AxisList>(Attr::axes);
  const Ints* sources = permute.has(Attr::sources) ? &permute.ints(Attr::sources) : nullptr;
  const auto& targets = sources ? axes : permute.get<AxisList>(Attr::target_axes);
  const AxisList rest_of_axes = without(group, axes), rest_of_targets = without(group, targets);
  const std::vector<int64_t> devices = mesh.group(device, group);
  PermuteRoute route;
  for (size_t g = 0; g < devices.size(); ++g) {
    const int64_t other = devices[g];
    const auto sends = [&](int64_t from, int64_t to) {
      const int64_t at = mesh.coordinate(to, targets);
      return mesh.coordinate(from, axes) == (sources ? (*sources)[static_cast<size_t>(at)] : at) &&
             mesh.coordinate(from, rest_of_axes) == mesh.coordinate(to, rest_of_targets);
    };
    if (sends(device, other)) route.send_to = static_cast<int>(g);
    if (sends(other, device)) route.receive_from = static_cast<int>(g);
  }
  TESSERA_CHECK(sources || (route.send_to >= 0 && route.receive_from >= 0),
                "a permute without a partner");
  return route;
}

}  // namespace tessera

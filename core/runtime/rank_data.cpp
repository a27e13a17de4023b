#include "core/runtime/rank_data.h"

#include <cstring>

#include "core/base/error.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

// Integers do not survive the way through double at their limits.
template <typename T>
T identity_element(ReduceKind kind, DType dtype) {
  if constexpr (std::is_integral_v<T>) {
    if (kind == ReduceKind::max) return std::numeric_limits<T>::lowest();
    if (kind == ReduceKind::min) return std::numeric_limits<T>::max();
    if (kind == ReduceKind::product) return 1;
    if (kind == ReduceKind::logical_and) return static_cast<T>(-1);
    return 0;
  } else {
    return T(static_cast<float>(ops::identity_of(kind, dtype)));
  }
}

void fill_identity(Backend& backend, const TensorView& view, ReduceKind kind) {
  const DType dtype = view.type.dtype;
  dispatch_dtype(dtype, [&]<typename T>() {
    const T element = identity_element<T>(kind, dtype);
    backend.fill(view.data, &element, sizeof(T), view.type.elements());
  });
}

}  // namespace

void compute_rank_data(Backend& backend, const Instruction& instruction, int64_t coordinate,
                       std::span<const TensorView> operands, const TensorView& result) {
  if (instruction.is(ops::kAxisIndex)) {
    backend.fill(result.data, &coordinate, sizeof(coordinate), 1);
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
    backend.copy_rows(result.data, width, operand.as<std::byte>() + coordinate * width, pitch, width,
                      rows);
    return;
  }
  TESSERA_CHECK(instruction.is(ops::kReplicatedToPartial), instruction.op->name,
                " is no rank data");
  if (coordinate == 0)
    backend.copy(result.data, operand.data, result.type.bytes());
  else
    fill_identity(backend, result, instruction.attributes.get<ReduceKind>(Attr::reduce_kind));
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

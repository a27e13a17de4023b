// mask_padding: writes a number over padding, in place.
#include <algorithm>
#include <cstring>

#include "core/ops/padding.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

// `bytes` of one element over `count` elements at `to`.
void repeat(std::span<const std::byte> element, int64_t count, std::byte* to) {
  if (count <= 0) return;
  const auto width = static_cast<int64_t>(element.size()), all = count * width;
  std::memcpy(to, element.data(), element.size());
  for (int64_t done = width; done < all; done *= 2)
    std::memcpy(to + done, to, static_cast<size_t>(std::min(done, all - done)));
}

void run_mask(const KernelArgs& args) {
  const TensorView& y = args.results[0];
  const Shape& shape = y.type.shape;
  if (y.data != args.operands[0].data)
    std::memcpy(y.data, args.operands[0].data, static_cast<size_t>(y.type.bytes()));
  const Attributes& attributes = args.instruction.attributes;
  const Ints &dims = attributes.ints(Attr::dimensions), &limits = attributes.ints(Attr::limit_indices);
  const HostTensor element = HostTensor::filled({y.type.dtype, {}}, attributes.number(Attr::scalar));
  const bool has_starts = args.operands.size() > 1;
  for (size_t i = 0; i < dims.size(); ++i) {
    const auto d = static_cast<int>(dims[i]);
    const int64_t start = has_starts ? *args.operands[1 + i].as<const int64_t>() : 0;
    const int64_t valid = std::clamp<int64_t>(limits[i] - start, 0, shape[d]);
    const int64_t inner = shape.strides()[static_cast<size_t>(d)], block = inner * shape[d];
    if (valid == shape[d] || block == 0) continue;
    for (int64_t first = 0; first < shape.elements(); first += block)
      repeat(element.bytes(), (shape[d] - valid) * inner,
             y.as<std::byte>() + (first + valid * inner) * size_of(y.type.dtype));
  }
}

}  // namespace

void register_padding(KernelTable& table) {
  Kernel mask = make_kernel("cpu.mask_padding", nullptr, run_mask);
  mask.in_place = [](const OpCall&, int) { return 0; };
  table.add(ops::kMaskPadding, mask);
}

}  // namespace tessera::cpu

// Arrangements of devices as digits. The devices along one dim of [4,2]<=[2,4]T(1,0) are 0, 1, 2,
// 3: a digit of size 4 whose steps are 1 device; along the other dim 0, 4: size 2, steps of 4. A
// mesh's axes are such digits of the device number too, which is how tiles become axes and back.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "core/mesh/mesh.h"
#include "partitioner/hlo/device_list.h"

namespace tessera::hlo {

struct Digit {
  int64_t size = 1;
  int64_t stride = 1;  // in devices, or in positions of a mesh that has an order of its own
  bool operator==(const Digit&) const = default;
};
using Digits = std::vector<Digit>;  // major to minor

// A list that counts in digits: list[i] is the sum of i's digits times their strides. Neighbours
// are joined where they are one digit; unset where the list is none.
std::optional<Digits> digits_of(std::span<const int64_t> list);
Digits digits_of(const DeviceList& iota);

// The digits of each dim. Unset where a dim ends within a digit at no divisor of it.
std::optional<std::vector<Digits>> split_digits(const Digits& digits,
                                                std::span<const int64_t> dims);

// Axes (or parts) of the mesh that are these digits of the position, and back.
std::optional<AxisList> axes_of(const Digits& digits, const Mesh& mesh);
Digits digits_of(const AxisList& axes, const Mesh& mesh);
int64_t stride_of(const Mesh& mesh, int axis);

// The arrangement that counts in `digits`; they make up all devices.
DeviceList arrange(std::vector<int64_t> dims, const Digits& digits);
// The same of an explicit list: an iota where it counts in digits.
DeviceList arrange(std::vector<int64_t> dims, std::vector<int64_t> list);

}  // namespace tessera::hlo

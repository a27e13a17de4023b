// The pieces that shardings, meshes and replica groups have in common: arrangements of devices and
// named axes, read and printed.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "partitioner/hlo/device_list.h"
#include "partitioner/hlo/notation_scanner.h"
#include "partitioner/hlo/sharding.h"

namespace tessera::hlo {

// More devices than any machine has; beyond it a text is refused rather than spelled out.
inline constexpr int64_t kMaxDevices = int64_t{1} << 20;

// The product, or -1 where it is beyond kMaxDevices; factors are at least 1.
int64_t device_product(std::span<const int64_t> factors);

// What follows `<=`: [2,4]T(1,0) into `list`, whose dims are set. The brackets hold at least one
// number, and the permutation fits.
void scan_iota(NotationScanner& scanner, DeviceList& list);
// Refuses dims below 1, too many devices, sizes that contradict, devices named twice.
void check_device_list(NotationScanner& scanner, const DeviceList& list);
std::string print_iota(const DeviceList& list);  // [2,4]T(1,0)

// mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)), or maximal_mesh[device_id=5].
NamedMesh scan_mesh(NotationScanner& scanner);
// 'a' or 'b':(2)2, checked against the mesh.
NamedAxis scan_axis(NotationScanner& scanner, const NamedMesh& mesh);
// {'a', 'b':(2)2}; with `open` also a last `?`.
std::vector<NamedAxis> scan_axes(NotationScanner& scanner, const NamedMesh& mesh,
                                 bool* open = nullptr);
// Refuses axes that share a part.
void check_disjoint(NotationScanner& scanner, const NamedMesh& mesh,
                    const std::vector<NamedAxis>& axes);
// The same for all axes of a named sharding, and its combiner is one that exists.
void check_axes(NotationScanner& scanner, const HloSharding& sharding);

std::string print_mesh(const NamedMesh& mesh);
std::string print_axis(const NamedAxis& axis);
std::string print_axes(const std::vector<NamedAxis>& axes, bool open = false);  // with braces

}  // namespace tessera::hlo

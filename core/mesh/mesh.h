// The mesh of devices: ordered named axes, e.g. <data=2, model=4>, and which device stands where.
//
// The last axis varies fastest over ranks. A sub-axis `model:(2)2` is a part of an axis: the axis of
// size 4 seen as [2, 2] (major to minor), of which `(pre)size` names the part after `pre`.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

struct MeshAxis {
  std::string name;
  int64_t size = 1;
  bool operator==(const MeshAxis&) const = default;
};

// An axis of a mesh, by position, or a part of one. A whole axis has pre 1 and the axis's size.
struct AxisRef {
  int axis = 0;
  int64_t pre = 1;   // product of the sizes of the parts major to this one
  int64_t size = 1;  // of this part
  auto operator<=>(const AxisRef&) const = default;
};

// Axes in major to minor order.
using AxisList = std::vector<AxisRef>;

int64_t size_of(const AxisList& axes);  // product of sizes; 1 when empty

class Mesh {
 public:
  Mesh() = default;
  // `device_order[i]` is the device at row-major position i; empty means i itself.
  // Throws ConfigError on an empty or doubled name or a size below 1.
  explicit Mesh(std::vector<MeshAxis> axes, std::vector<int64_t> device_order = {});

  std::span<const MeshAxis> axes() const { return axes_; }
  int rank() const { return static_cast<int>(axes_.size()); }
  int64_t devices() const { return devices_; }
  std::span<const int64_t> device_order() const { return device_order_; }

  int find_axis(std::string_view name) const;   // -1 where there is none
  AxisRef axis(std::string_view name) const;    // the whole axis; throws ConfigError if unknown
  AxisRef axis(int index) const;
  bool is_whole(AxisRef ref) const { return ref.size == axes_[static_cast<size_t>(ref.axis)].size; }

  // Where `device` stands along one axis (or part), and along a list read as one mixed-radix number.
  int64_t coordinate(int64_t device, AxisRef ref) const;
  int64_t coordinate(int64_t device, const AxisList& axes) const;

  // The devices that differ from `device` only along `axes`, in order of their coordinate on it.
  std::vector<int64_t> group(int64_t device, const AxisList& axes) const;

  bool operator==(const Mesh&) const = default;

 private:
  std::vector<MeshAxis> axes_;
  std::vector<int64_t> device_order_;
  std::vector<int64_t> position_of_;  // device -> row-major position; empty when identity
  int64_t devices_ = 1;
};

using MeshPtr = std::shared_ptr<const Mesh>;

std::ostream& operator<<(std::ostream& out, const Mesh& mesh);  // <data=2, model=4>
Mesh parse_mesh(std::string_view text);  // reads the print, and "data=2,model=4"; throws ConfigError

std::string print_axis(const Mesh& mesh, AxisRef ref);          // data, or model:(2)2
std::string print_axes(const Mesh& mesh, const AxisList& axes); // data,model:(2)2
AxisRef parse_axis(const Mesh& mesh, std::string_view text);    // throws ConfigError

// ---- Prefix algebra on axis lists ------------------------------------------------------------

// True where the two parts share a coordinate bit of the same axis.
bool overlaps(AxisRef a, AxisRef b);
bool overlaps(const AxisList& list, AxisRef ref);
bool overlaps(const AxisList& a, const AxisList& b);

// Joins neighbours that are consecutive parts of one axis: model:(1)2,model:(2)2 -> model.
AxisList canonical(const AxisList& axes);

// Splits every part of both lists at the borders of the other, so that parts are equal or disjoint.
void split_to_common(AxisList& a, AxisList& b);

// The longest common major part, splitting an axis where only part of it agrees.
// common_prefix({model}, {model:(1)2, data}) == {model:(1)2}.
AxisList common_prefix(const AxisList& a, const AxisList& b);
bool is_prefix(const AxisList& prefix, const AxisList& axes);

// What follows `prefix` in `axes`; `prefix` must be one.
AxisList suffix_after(const AxisList& axes, const AxisList& prefix);

// The largest major part of `axes` that overlaps none of `used`.
AxisList prefix_without(const AxisList& axes, const AxisList& used);

// `axes` with all parts that lie in `removed` taken out (splitting where needed).
AxisList without(const AxisList& axes, const AxisList& removed);

// Concatenation, canonical.
AxisList concat(const AxisList& major, const AxisList& minor);

}  // namespace tessera

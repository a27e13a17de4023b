#include "core/mesh/mesh.h"

#include <algorithm>
#include <charconv>
#include <ostream>

#include "core/base/error.h"

namespace tessera {

int64_t size_of(const AxisList& axes) {
  int64_t size = 1;
  for (const AxisRef& ref : axes) size *= ref.size;
  return size;
}

Mesh::Mesh(std::vector<MeshAxis> axes, std::vector<int64_t> device_order)
    : axes_(std::move(axes)), device_order_(std::move(device_order)) {
  for (size_t i = 0; i < axes_.size(); ++i) {
    const MeshAxis& axis = axes_[i];
    if (axis.name.empty()) throw_config_error("mesh axis ", i, " has no name");
    if (axis.size < 1)
      throw_config_error("mesh axis \"", axis.name, "\" has size ", axis.size, "; sizes start at 1");
    for (size_t j = 0; j < i; ++j)
      if (axes_[j].name == axis.name)
        throw_config_error("mesh axis \"", axis.name, "\" is named twice; names must differ");
    devices_ *= axis.size;
  }
  if (device_order_.empty()) return;
  if (static_cast<int64_t>(device_order_.size()) != devices_)
    throw_config_error("mesh ", *this, " has ", devices_, " devices, but its device order lists ",
                       device_order_.size());
  position_of_.assign(device_order_.size(), -1);
  for (size_t i = 0; i < device_order_.size(); ++i) {
    const int64_t device = device_order_[i];
    if (device < 0 || device >= devices_ || position_of_[device] >= 0)
      throw_config_error("mesh ", *this, ": device order must be a permutation of 0..",
                         devices_ - 1, ", but entry ", i, " is ", device);
    position_of_[device] = static_cast<int64_t>(i);
  }
}

int Mesh::find_axis(std::string_view name) const {
  for (size_t i = 0; i < axes_.size(); ++i)
    if (axes_[i].name == name) return static_cast<int>(i);
  return -1;
}

AxisRef Mesh::axis(std::string_view name) const {
  const int index = find_axis(name);
  if (index >= 0) return axis(index);
  std::vector<std::string> names;
  for (const MeshAxis& axis : axes_) names.push_back(axis.name);
  const std::string nearest = nearest_name(name, names);
  throw_config_error("mesh ", *this, " has no axis \"", name, "\"",
                     nearest.empty() ? "" : cat("; did you mean \"", nearest, "\"?"));
}

AxisRef Mesh::axis(int index) const { return {index, 1, axes_[static_cast<size_t>(index)].size}; }

int64_t Mesh::coordinate(int64_t device, AxisRef ref) const {
  const int64_t position = position_of_.empty() ? device : position_of_[static_cast<size_t>(device)];
  int64_t minor = 1;
  for (size_t i = axes_.size(); i-- > static_cast<size_t>(ref.axis) + 1;) minor *= axes_[i].size;
  const int64_t axis_size = axes_[static_cast<size_t>(ref.axis)].size;
  const int64_t along = position / minor % axis_size;
  return along / (axis_size / (ref.pre * ref.size)) % ref.size;
}

int64_t Mesh::coordinate(int64_t device, const AxisList& axes) const {
  int64_t coordinate_ = 0;
  for (const AxisRef& ref : axes) coordinate_ = coordinate_ * ref.size + coordinate(device, ref);
  return coordinate_;
}

std::vector<int64_t> Mesh::group(int64_t device, const AxisList& axes) const {
  // Each member's position is the device's with the digits of `axes` replaced.
  const int64_t position = position_of_.empty() ? device : position_of_[static_cast<size_t>(device)];
  std::vector<int64_t> strides(axes.size());
  int64_t base = position;
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t minor = 1;
    for (size_t a = axes_.size(); a-- > static_cast<size_t>(axes[i].axis) + 1;) minor *= axes_[a].size;
    strides[i] = minor * (axes_[static_cast<size_t>(axes[i].axis)].size / (axes[i].pre * axes[i].size));
    base -= coordinate(device, axes[i]) * strides[i];
  }
  const int64_t count = size_of(axes);
  std::vector<int64_t> members(static_cast<size_t>(count));
  for (int64_t member = 0; member < count; ++member) {
    int64_t rest = member, at = base;
    for (size_t i = axes.size(); i-- > 0;) {
      at += rest % axes[i].size * strides[i];
      rest /= axes[i].size;
    }
    members[member] = device_order_.empty() ? at : device_order_[static_cast<size_t>(at)];
  }
  return members;
}

std::ostream& operator<<(std::ostream& out, const Mesh& mesh) {
  out << "<";
  for (int i = 0; i < mesh.rank(); ++i)
    out << (i ? ", " : "") << mesh.axes()[i].name << "=" << mesh.axes()[i].size;
  if (!mesh.device_order().empty()) out << ", device_order=[" << join(mesh.device_order(), ",") << "]";
  return out << ">";
}

namespace {

int64_t parse_number(std::string_view text, std::string_view context) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty())
    throw_config_error("\"", text, "\" is not a whole number in \"", context, "\"");
  return value;
}

}  // namespace

Mesh parse_mesh(std::string_view text) {
  std::string_view body = trim(text);
  if (!body.empty() && body.front() == '<' && body.back() == '>')
    body = body.substr(1, body.size() - 2);
  std::vector<int64_t> order;
  if (const size_t at = body.find("device_order=["); at != std::string_view::npos) {
    const size_t end = body.find(']', at);
    if (end == std::string_view::npos) throw_config_error("mesh \"", text, "\": missing ']'");
    for (const std::string& part : split(body.substr(at + 14, end - at - 14), ','))
      order.push_back(parse_number(trim(part), text));
    body = trim(body.substr(0, at));
    if (!body.empty() && body.back() == ',') body.remove_suffix(1);
  }
  std::vector<MeshAxis> axes;
  if (!trim(body).empty())
    for (const std::string& part : split(body, ',')) {
      const size_t equals = part.find('=');
      if (equals == std::string::npos)
        throw_config_error("mesh \"", text, "\": \"", trim(part), "\" should read name=size");
      axes.push_back({std::string(trim(std::string_view(part).substr(0, equals))),
                      parse_number(trim(std::string_view(part).substr(equals + 1)), text)});
    }
  return Mesh(std::move(axes), std::move(order));
}

std::string print_axis(const Mesh& mesh, AxisRef ref) {
  const std::string& name = mesh.axes()[static_cast<size_t>(ref.axis)].name;
  return mesh.is_whole(ref) ? name : cat(name, ":(", ref.pre, ")", ref.size);
}

std::string print_axes(const Mesh& mesh, const AxisList& axes) {
  std::vector<std::string> parts;
  for (const AxisRef& ref : axes) parts.push_back(print_axis(mesh, ref));
  return join(parts, ",");
}

AxisRef parse_axis(const Mesh& mesh, std::string_view text) {
  const size_t colon = text.find(":(");
  if (colon == std::string_view::npos) return mesh.axis(trim(text));
  AxisRef ref = mesh.axis(trim(text.substr(0, colon)));
  const int64_t whole = ref.size;
  const size_t close = text.find(')', colon);
  if (close == std::string_view::npos) throw_config_error("sub-axis \"", text, "\": missing ')'");
  ref.pre = parse_number(text.substr(colon + 2, close - colon - 2), text);
  ref.size = parse_number(trim(text.substr(close + 1)), text);
  if (ref.pre < 1 || ref.size < 2 || whole % (ref.pre * ref.size) != 0)
    throw_config_error("sub-axis \"", text, "\": (pre)size must divide the axis of size ", whole);
  return ref;
}

// ---- Prefix algebra --------------------------------------------------------------------------

// Parts of different factorings of one axis (the halves of 6 and its last 2) are not digits of one
// number: they do not cut independently, even where they share no stretch.
bool overlaps(AxisRef a, AxisRef b) {
  if (a.axis != b.axis || a.size == 1 || b.size == 1) return false;
  return b.pre % (a.pre * a.size) != 0 && a.pre % (b.pre * b.size) != 0;
}
bool overlaps(const AxisList& list, AxisRef ref) {
  return std::any_of(list.begin(), list.end(), [&](AxisRef other) { return overlaps(other, ref); });
}
bool overlaps(const AxisList& a, const AxisList& b) {
  return std::any_of(b.begin(), b.end(), [&](AxisRef ref) { return overlaps(a, ref); });
}

AxisList canonical(const AxisList& axes) {
  AxisList joined;
  for (const AxisRef& ref : axes) {
    if (ref.size == 1) continue;
    if (!joined.empty() && joined.back().axis == ref.axis &&
        joined.back().pre * joined.back().size == ref.pre)
      joined.back().size *= ref.size;
    else
      joined.push_back(ref);
  }
  return joined;
}

namespace {

// Splits parts of `list` at the borders (in `pre` units) of the parts of `other`.
AxisList split_at_borders(const AxisList& list, const AxisList& other) {
  AxisList result;
  for (AxisRef ref : list) {
    std::vector<int64_t> borders;
    for (const AxisRef& cut : other) {
      if (cut.axis != ref.axis) continue;
      for (int64_t border : {cut.pre, cut.pre * cut.size})
        if (border > ref.pre && border < ref.pre * ref.size && border % ref.pre == 0 &&
            ref.pre * ref.size % border == 0)
          borders.push_back(border);
    }
    std::sort(borders.begin(), borders.end());
    for (int64_t border : borders) {
      if (border <= ref.pre || border % ref.pre != 0) continue;
      result.push_back({ref.axis, ref.pre, border / ref.pre});
      ref.size = ref.pre * ref.size / border;
      ref.pre = border;
    }
    result.push_back(ref);
  }
  return result;
}

}  // namespace

void split_to_common(AxisList& a, AxisList& b) {
  AxisList split_a = split_at_borders(a, b);
  AxisList split_b = split_at_borders(b, a);
  a = std::move(split_a);
  b = std::move(split_b);
}

AxisList common_prefix(const AxisList& a, const AxisList& b) {
  AxisList x = a, y = b;
  split_to_common(x, y);
  AxisList prefix;
  for (size_t i = 0; i < std::min(x.size(), y.size()) && x[i] == y[i]; ++i) prefix.push_back(x[i]);
  return canonical(prefix);
}

bool is_prefix(const AxisList& prefix, const AxisList& axes) {
  return common_prefix(prefix, axes) == canonical(prefix);
}

AxisList suffix_after(const AxisList& axes, const AxisList& prefix) {
  AxisList x = axes, y = prefix;
  split_to_common(x, y);
  TESSERA_CHECK(y.size() <= x.size() && std::equal(y.begin(), y.end(), x.begin()),
                "suffix_after needs a prefix");
  return canonical(AxisList(x.begin() + static_cast<std::ptrdiff_t>(y.size()), x.end()));
}

AxisList prefix_without(const AxisList& axes, const AxisList& used) {
  AxisList prefix;
  for (const AxisRef& ref : split_at_borders(axes, used)) {
    if (overlaps(used, ref)) break;
    prefix.push_back(ref);
  }
  return canonical(prefix);
}

AxisList without(const AxisList& axes, const AxisList& removed) {
  AxisList kept;
  for (const AxisRef& ref : split_at_borders(axes, removed))
    if (!overlaps(removed, ref)) kept.push_back(ref);
  return canonical(kept);
}

AxisList concat(const AxisList& major, const AxisList& minor) {
  AxisList all = major;
  all.insert(all.end(), minor.begin(), minor.end());
  return canonical(all);
}

}  // namespace tessera

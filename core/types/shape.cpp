#include "core/types/shape.h"

#include <charconv>
#include <ostream>

#include "core/base/strings.h"

namespace tessera {

int64_t Shape::elements() const {
  int64_t count = 1;
  for (int64_t size : dims_) count *= size;
  return count;
}

std::vector<int64_t> Shape::strides() const {
  std::vector<int64_t> strides(dims_.size(), 1);
  for (size_t i = dims_.size(); i-- > 1;) strides[i - 1] = strides[i] * dims_[i];
  return strides;
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << "[" << join(shape.dims(), ",") << "]";
}

std::ostream& operator<<(std::ostream& out, const TensorType& type) {
  return out << type.dtype << type.shape;
}

std::optional<TensorType> parse_tensor_type(std::string_view text) {
  const size_t bracket = text.find('[');
  if (bracket == std::string_view::npos || text.back() != ']') return std::nullopt;
  const auto dtype = parse_dtype(text.substr(0, bracket));
  if (!dtype) return std::nullopt;
  TensorType type{*dtype, {}};
  const std::string_view inner = text.substr(bracket + 1, text.size() - bracket - 2);
  if (inner.empty()) return type;
  for (const std::string& part : split(inner, ',')) {
    int64_t size = -1;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), size);
    if (error != std::errc() || end != part.data() + part.size() || size < 0) return std::nullopt;
    type.shape.push_back(size);
  }
  return type;
}

}  // namespace tessera

#include <charconv>
#include <cmath>

#include "partitioner/hlo/float_bits.h"
#include "partitioner/hlo/literal.h"

namespace tessera::hlo {
namespace {

template <typename V, typename... Format>
void append_number(std::string& out, V value, Format... format) {
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value, format...);
  out.append(text, end);
}

template <typename T>
void append_nan(std::string& out, T value) {
  using Facts = FloatBits<T>;
  const auto bits = Facts::bits(value);
  if (bits & Facts::kSign) out += '-';
  out += "nan";
  const auto payload = static_cast<uint64_t>(bits & Facts::kPayloadMask);
  if (payload == Facts::kDefault) return;
  out += "(0x";
  append_number(out, payload, 16);
  out += ')';
}

// The fewest digits that read back as the same narrow float, 0.1 for a bf16; but 65504 stays so,
// which is shorter than 6.55e+04.
template <typename T>
void append_narrow(std::string& out, T value) {
  const float exact = value;
  HostTensor back(TensorType{DTypeOf<T>::value, {}});
  char whole[64], text[64];
  char* const whole_end = std::to_chars(whole, whole + sizeof whole, exact).ptr;
  for (int digits = 1; digits <= 9; ++digits) {
    char* const end =
        std::to_chars(text, text + sizeof text, exact, std::chars_format::general, digits).ptr;
    if (end - text >= whole_end - whole) break;
    double read = 0;
    std::from_chars(text, end, read);
    back.set_real(0, read);
    if (back.data<T>()[0].bits != value.bits) continue;
    out.append(text, end);
    return;
  }
  out.append(whole, whole_end);
}

template <typename T>
void append_element(std::string& out, T value, bool scalar) {
  if constexpr (std::is_same_v<T, bool>) {
    out += scalar ? (value ? "true" : "false") : (value ? "1" : "0");
  } else if constexpr (std::is_same_v<T, std::complex<float>>) {
    out += '(';
    append_element(out, value.real(), scalar);
    out += ", ";
    append_element(out, value.imag(), scalar);
    out += ')';
  } else if constexpr (std::is_integral_v<T>) {
    append_number(out, value);
  } else if (std::isnan(static_cast<double>(value))) {
    append_nan(out, value);
  } else if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
    append_number(out, value);
  } else if (std::isinf(static_cast<float>(value))) {
    out += static_cast<float>(value) < 0 ? "-inf" : "inf";
  } else {
    append_narrow(out, value);
  }
}

template <typename T>
void append_tensor(std::string& out, const HostTensor& tensor) {
  const Shape& shape = tensor.shape();
  const auto data = tensor.data<T>();
  if (data.empty()) {
    out += "{}";
    return;
  }
  std::vector<int64_t> position(static_cast<size_t>(shape.rank()), 0);
  out.append(position.size(), '{');
  for (size_t i = 0; i < data.size(); ++i) {
    append_element<T>(out, data[i], shape.rank() == 0);
    // Dims that end here close; the same number open again.
    size_t closed = 0;
    for (size_t dim = position.size(); dim-- > 0; ++closed) {
      if (++position[dim] < shape[static_cast<int>(dim)]) break;
      position[dim] = 0;
    }
    out.append(closed, '}');
    if (i + 1 == data.size()) break;
    out += ", ";
    out.append(closed, '{');
  }
}

}  // namespace

void append_literal(std::string& out, const Literal& literal, const HloShape& shape) {
  if (!shape.is_tuple) {
    dispatch_dtype(literal.tensor->dtype(),
                   [&]<typename T>() { append_tensor<T>(out, *literal.tensor); });
    return;
  }
  out += '(';
  for (size_t i = 0; i < literal.elements.size(); ++i) {
    if (i != 0) out += ", ";
    append_literal(out, literal.elements[i], shape.elements[i]);
  }
  out += ')';
}

}  // namespace tessera::hlo

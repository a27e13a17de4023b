#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>

#include "partitioner/hlo/float_bits.h"
#include "partitioner/hlo/literal.h"

namespace tessera::hlo {
namespace {

constexpr std::string_view kElided =
    "this constant was elided ({...}): print the module with its constants in full. JAX's "
    "lowered.as_text(dialect=\"hlo\") does; HloPrintOptions need print_large_constants, and "
    "XLA_FLAGS=--xla_dump_to needs --xla_dump_large_constants";

// "nan", "-nan", "nan(0x12)", after which `text` is empty; unset for anything else.
template <typename T>
std::optional<T> read_nan(Lexer& lexer, size_t at, std::string_view text) {
  using Facts = FloatBits<T>;
  const bool negative = text.starts_with('-');
  if (text.substr(negative ? 1 : 0) != "nan") return std::nullopt;
  uint64_t payload = Facts::kDefault;
  if (lexer.next_raw() == '(') {
    lexer.accept('(');
    const std::string_view digits = lexer.run("");
    const char* end = digits.data() + digits.size();
    const bool hex = digits.starts_with("0x");
    const auto [stop, error] =
        std::from_chars(digits.data() + (hex ? 2 : 0), end, payload, hex ? 16 : 10);
    const bool lone = Facts::kDefault == Facts::kPayloadMask;  // a type of one NaN
    if (digits.empty() || error != std::errc() || stop != end || payload == 0 ||
        payload > Facts::kPayloadMask || (lone && payload != Facts::kDefault))
      lexer.fail(at, cat("the payload of this NaN is not one of ", DTypeOf<T>::value));
    lexer.expect(')', "after the payload of a NaN");
  }
  const auto bits =
      static_cast<typename Facts::Bits>((negative ? Facts::kSign : 0) | Facts::kExponent |
                                        static_cast<typename Facts::Bits>(payload));
  return Facts::value(bits);
}

template <typename V>
V read_decimal(Lexer& lexer, size_t at, std::string_view text, DType dtype) {
  V value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc::result_out_of_range) {
    // Too large or too small: from_chars does not say.
    const std::string copy(text);
    value = std::is_same_v<V, float> ? static_cast<V>(std::strtof(copy.c_str(), nullptr))
                                     : static_cast<V>(std::strtod(copy.c_str(), nullptr));
  } else if (error != std::errc() || stop != end) {
    lexer.expected(cat("a number of type ", dtype), at);
  }
  return value;
}

template <typename T>
T read_float(Lexer& lexer) {
  constexpr DType kType = DTypeOf<T>::value;
  using Wide = std::conditional_t<std::is_same_v<T, float>, float, double>;
  const size_t at = lexer.position();
  const std::string_view text = lexer.run(".+-");
  if (const auto nan = read_nan<T>(lexer, at, text)) return *nan;
  const bool infinite = text == "inf" || text == "-inf";
  const char first = text.empty() ? '\0' : text[text[0] == '-' && text.size() > 1 ? 1 : 0];
  if (!infinite && first != '.' && (first < '0' || first > '9'))
    lexer.expected(cat("a number of type ", kType), at);
  const Wide wide = read_decimal<Wide>(lexer, at, text, kType);
  T value;
  if constexpr (std::is_same_v<T, Wide>) {
    value = wide;
  } else {
    thread_local HostTensor scalar(TensorType{kType, {}});
    scalar.set_real(0, wide);
    value = scalar.data<T>()[0];
  }
  const auto read = static_cast<double>(value);
  if (infinite ? !std::isinf(read) : !std::isfinite(read))
    lexer.fail(at, cat(text.substr(0, 40), " lies outside of ", kType));
  return value;
}

template <typename T>
T read_integer(Lexer& lexer) {
  const size_t at = lexer.position();
  const std::string_view text = lexer.run(".+-");
  T value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const bool negative = std::is_unsigned_v<T> && text.size() > 1 && text[0] == '-';
  if (error == std::errc::result_out_of_range || negative)
    lexer.fail(at, cat(text.substr(0, 40), " lies outside of ", DTypeOf<T>::value, ", which holds ",
                       +std::numeric_limits<T>::min(), " to ", +std::numeric_limits<T>::max()));
  if (text.empty() || error != std::errc() || stop != end)
    lexer.expected(cat("an integer of type ", DTypeOf<T>::value), at);
  return value;
}

template <typename T>
T read_element(Lexer& lexer) {
  if constexpr (std::is_same_v<T, bool>) {
    const size_t at = lexer.position();
    const std::string_view text = lexer.run(".+-");
    if (text == "true" || text == "1") return true;
    if (text == "false" || text == "0") return false;
    lexer.expected("true or false", at);
  } else if constexpr (std::is_same_v<T, std::complex<float>>) {
    if (!lexer.accept('(')) return {read_element<float>(lexer), 0.0f};
    const float real = read_element<float>(lexer);
    lexer.expect(',', "between the real and the imaginary part");
    const float imaginary = read_element<float>(lexer);
    lexer.expect(')', "after the imaginary part");
    return {real, imaginary};
  } else if constexpr (std::is_integral_v<T>) {
    return read_integer<T>(lexer);
  } else {
    return read_float<T>(lexer);
  }
}

// Calls element() for every element between braces that count what `dims` says.
template <typename Element>
void read_braces(Lexer& lexer, const Shape& dims, Element element) {
  std::vector<int64_t> counts;  // by open brace, the items before this one
  const auto close_or_more = [&] {
    // After an item: a comma, or closing braces.
    while (!counts.empty()) {
      const size_t at = lexer.position();
      const int64_t extent = dims[static_cast<int>(counts.size()) - 1];
      if (lexer.accept(',')) {
        if (++counts.back() == extent)
          lexer.fail(at, cat("more than ", extent, " items in dim ", counts.size() - 1,
                             " of a constant of extents ", dims));
        return;
      }
      if (!lexer.accept('}')) lexer.expected("\",\" or \"}\" in a constant");
      if (counts.back() + 1 != extent)
        lexer.fail(at, cat(counts.back() + 1, " items in dim ", counts.size() - 1,
                           " of a constant of extents ", dims));
      counts.pop_back();
    }
  };
  do {
    while (static_cast<int>(counts.size()) < dims.rank()) {
      if (!lexer.accept('{'))
        lexer.expected(cat("\"{\" of dim ", counts.size(), " of a constant of extents ", dims));
      counts.push_back(0);
    }
    element();
    close_or_more();
  } while (!counts.empty());
}

template <typename T>
Literal read_tensor(Lexer& lexer, const TensorType& type) {
  std::vector<std::byte> bytes;
  read_braces(lexer, type.shape, [&] {
    const T value = read_element<T>(lexer);
    const size_t size = bytes.size();
    bytes.resize(size + sizeof(T));
    std::memcpy(bytes.data() + size, &value, sizeof(T));
  });
  auto tensor = std::make_shared<HostTensor>(type);
  TESSERA_CHECK(tensor->bytes().size() == bytes.size(), "braces were counted");
  std::copy(bytes.begin(), bytes.end(), tensor->bytes().begin());
  Literal literal;
  literal.tensor = std::move(tensor);
  return literal;
}

// Braces alone: their number says nothing that the shape does not.
Literal read_empty_tensor(Lexer& lexer, const TensorType& type) {
  const size_t at = lexer.position();
  const std::string text = lexer.balanced("\"{\" of a constant without elements");
  if (text.find_first_not_of("{}, \n\t\r") != std::string::npos)
    lexer.fail(at, cat("elements in a constant of type ", type, ", which has none"));
  Literal literal;
  literal.tensor = std::make_shared<HostTensor>(type);
  return literal;
}

}  // namespace

void refuse_elided(Lexer& lexer) {
  Lexer ahead = lexer;
  if (ahead.accept('{') && ahead.accept("...")) lexer.fail(lexer.position(), kElided);
}

bool has_literal(const HloShape& shape) {
  if (!shape.is_tuple) return shape.dtype.has_value();
  for (const HloShape& element : shape.elements)
    if (!has_literal(element)) return false;
  return true;
}

Literal parse_literal(Lexer& lexer, const HloShape& shape) {
  refuse_elided(lexer);
  if (!shape.is_tuple) {
    const TensorType type{*shape.dtype, shape.dims};
    if (type.elements() == 0) return read_empty_tensor(lexer, type);
    return dispatch_dtype(type.dtype, [&]<typename T>() { return read_tensor<T>(lexer, type); });
  }
  Literal literal;
  lexer.expect('(', "of a tuple's constant");
  for (const HloShape& element : shape.elements) {
    if (!literal.elements.empty()) lexer.expect(',', "between the elements of a tuple's constant");
    literal.elements.push_back(parse_literal(lexer, element));
  }
  lexer.expect(')', cat("after the ", shape.elements.size(), " elements of a tuple's constant"));
  return literal;
}

}  // namespace tessera::hlo

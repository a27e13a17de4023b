#include "launch/hlo/compare_outputs.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/ir/regions.h"

namespace tessera {
namespace {

// Below this share of the output's largest element, errors count as if the element were so large.
constexpr double kFloorShare = 1e-3;

double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f64: return 1e-10;
    case DType::f32:
    case DType::c64: return 1e-4;
    case DType::f16: return 1e-2;
    case DType::bf16: return 5e-2;
    case DType::f8e4m3fn:
    case DType::f8e5m2: return 0.3;
    default: return 0;
  }
}

// A complex number is two elements.
struct Element {
  double expected, actual;
};
Element element(const HostTensor& expected, const HostTensor& actual, int64_t i) {
  if (expected.dtype() != DType::c64) return {expected.get_real(i), actual.get_real(i)};
  const auto a = expected.get_complex(i / 2), b = actual.get_complex(i / 2);
  return i % 2 == 0 ? Element{a.real(), b.real()} : Element{a.imag(), b.imag()};
}

double error_of(Element e, double floor) {
  if (std::isnan(e.expected) || std::isnan(e.actual))
    return std::isnan(e.expected) && std::isnan(e.actual) ? 0 : INFINITY;
  if (e.expected == e.actual) return 0;
  if (std::isinf(e.expected) || std::isinf(e.actual)) return INFINITY;
  return std::abs(e.expected - e.actual) / std::max({std::abs(e.expected), std::abs(e.actual), floor});
}

void note_difference(size_t output, const Shape& shape, int64_t i, std::string expected, std::string actual,
                     Comparison& result) {
  if (!result.first) result.first = {output, position_of(i, shape), std::move(expected), std::move(actual)};
}

void compare_integers(size_t output, const HostTensor& expected, const HostTensor& actual, Comparison& result) {
  for (int64_t i = 0; i < expected.elements(); ++i) {
    const int64_t a = expected.get_int(i), b = actual.get_int(i);
    if (a == b) continue;
    const double wide_a = expected.get_real(i), wide_b = actual.get_real(i);
    result.max_relative_error = std::max(result.max_relative_error, error_of({wide_a, wide_b}, 1));
    return note_difference(output, expected.shape(), i, cat(a), cat(b), result);
  }
}

}  // namespace

double tolerance_of(const Graph& graph) {
  double tolerance = 0;
  for_each_region(graph, [&](const Graph& each) {
    for (const Instruction& instruction : each.instructions)
      for (const ResultInfo& result : instruction.results)
        tolerance = std::max(tolerance, tolerance_of(result.type.dtype));
  });
  return tolerance;
}

void compare_output(size_t output, const HostTensor& expected, const HostTensor& actual, double tolerance,
                    Comparison& result) {
  TESSERA_CHECK(expected.type() == actual.type(), "output ", output, " is ", actual.type(), ", not ", expected.type());
  const bool is_complex = expected.dtype() == DType::c64;
  if (!is_float(expected.dtype()) && !is_complex) return compare_integers(output, expected, actual, result);
  const int64_t count = expected.elements() * (is_complex ? 2 : 1);
  double largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double size = std::abs(element(expected, actual, i).expected);
    if (std::isfinite(size)) largest = std::max(largest, size);
  }
  for (int64_t i = 0; i < count; ++i) {
    const Element e = element(expected, actual, i);
    const double error = error_of(e, std::max(kFloorShare * largest, 1e-300));
    if (!std::isfinite(e.expected) && error == 0) ++result.not_finite;
    result.max_relative_error = std::max(result.max_relative_error, error);
    if (error <= tolerance) continue;
    note_difference(output, expected.shape(), is_complex ? i / 2 : i,
                    is_complex ? cat(expected.get_complex(i / 2)) : cat(print_double(e.expected)),
                    is_complex ? cat(actual.get_complex(i / 2)) : cat(print_double(e.actual)), result);
  }
}

}  // namespace tessera

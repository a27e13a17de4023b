#include "core/ops/support.h"

#include <algorithm>
#include <numeric>

#include "core/ops/elementwise.h"

namespace tessera::ops {
namespace {

template <typename D, typename T>
D read(T value) {
  constexpr bool kFromComplex = std::is_same_v<T, std::complex<float>>;
  if constexpr (std::is_same_v<D, std::complex<double>>) {
    if constexpr (kFromComplex)
      return D(value);
    else
      return D(read<double>(value), 0.0);
  } else if constexpr (kFromComplex) {
    return static_cast<D>(value.real());
  } else if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<D>(value);
  } else {
    return static_cast<D>(static_cast<float>(value));
  }
}

template <typename T, typename D>
T write(D value) {
  if constexpr (std::is_same_v<T, std::complex<float>>) {
    if constexpr (std::is_same_v<D, std::complex<double>>)
      return T(value);
    else
      return T(static_cast<float>(value), 0.0f);
  } else if constexpr (std::is_same_v<D, std::complex<double>>) {
    return write<T>(value.real());
  } else if constexpr (std::is_same_v<T, bool>) {
    return value != D(0);
  } else if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<T>(value);
  } else {
    return T(static_cast<float>(value));
  }
}

}  // namespace

template <typename D>
Elements<D> elements_of(const HostTensor& tensor) {
  Elements<D> values(static_cast<size_t>(tensor.elements()));
  dispatch_dtype(tensor.dtype(), [&]<typename T>() {
    const auto data = tensor.data<T>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = read<D>(data[i]);
  });
  return values;
}

template <typename D>
void set_elements(HostTensor& tensor, const Elements<D>& values) {
  TESSERA_CHECK(static_cast<int64_t>(values.size()) == tensor.elements());
  dispatch_dtype(tensor.dtype(), [&]<typename T>() {
    const auto data = tensor.data<T>();
    constexpr bool kDirect = std::is_same_v<T, std::complex<float>> || std::is_arithmetic_v<T>;
    if constexpr (kDirect && !(std::is_integral_v<T> && std::is_same_v<D, double>)) {
      for (size_t i = 0; i < values.size(); ++i) data[i] = write<T>(values[i]);
    } else {  // narrow floats and integers from reals: HostTensor knows how to round
      for (size_t i = 0; i < values.size(); ++i)
        tensor.set_real(static_cast<int64_t>(i), write<double>(values[i]));
    }
  });
}

template Elements<double> elements_of<double>(const HostTensor&);
template Elements<int64_t> elements_of<int64_t>(const HostTensor&);
template Elements<uint64_t> elements_of<uint64_t>(const HostTensor&);
template Elements<bool> elements_of<bool>(const HostTensor&);
template Elements<std::complex<double>> elements_of<std::complex<double>>(const HostTensor&);
template void set_elements<double>(HostTensor&, const Elements<double>&);
template void set_elements<int64_t>(HostTensor&, const Elements<int64_t>&);
template void set_elements<uint64_t>(HostTensor&, const Elements<uint64_t>&);
template void set_elements<bool>(HostTensor&, const Elements<bool>&);
template void set_elements<std::complex<double>>(HostTensor&,
                                                 const Elements<std::complex<double>>&);

std::string types_text(std::span<const TensorType> types) { return cat("(", join(types), ")"); }

void check_operand_count(std::string_view op, const OpCall& call, int own, int max_starts) {
  const int count = static_cast<int>(call.operands.size());
  if (count < own || count > own + max_starts)  // asked of every op after every pass: no text is made before
    require(false, op, ": takes ", own, " operands", max_starts ? cat(" and up to ", max_starts, " starts") : "",
            ", got ", count, " ", types_text(call.operands));
  for (int i = own; i < count; ++i)
    require(call.operands[i] == TensorType{DType::s64, {}}, op, ": start operand ", i,
            " must be s64[], not ", call.operands[i]);
}

int64_t start_of(std::span<const HostTensor* const> operands, size_t own, size_t which) {
  return operands.size() > own ? operands[own + which]->get_int(0) : 0;
}

void check_float(std::string_view op, const OpCall& call, int operand) {
  require(is_float(call.operands[operand].dtype), op, ": operand ", operand,
          " must be a float, not ", call.operands[operand]);
}

void check_same_shape(std::string_view op, const OpCall& call, int a, int b) {
  require(call.operands[a].shape == call.operands[b].shape, op, ": operands ", a, " and ", b,
          " must have one shape, got ", call.operands[a], " and ", call.operands[b]);
}

Shape without_last(const Shape& shape) {
  return Shape(std::vector<int64_t>(shape.begin(), shape.end() - 1));
}

int64_t last_dim(const Shape& shape) { return shape[shape.rank() - 1]; }

Ints ints_of(const Shape& shape) { return Ints(shape.begin(), shape.end()); }

int add_factor(FactorRule& rule, int64_t size, FactorKind kind, ReduceKind reduce,
               bool positional) {
  return size > 1 ? rule.add(size, kind, reduce, positional) : -1;
}

std::vector<int> add_factors(FactorRule& rule, const Shape& shape, FactorKind kind) {
  std::vector<int> factors;
  for (int64_t size : shape) factors.push_back(add_factor(rule, size, kind));
  return factors;
}

TensorFactors dims_of(const std::vector<int>& factors) {
  TensorFactors dims;
  for (int factor : factors)
    dims.push_back(factor < 0 ? std::vector<int>{} : std::vector<int>{factor});
  return dims;
}

TensorFactors dims_of(const std::vector<std::vector<int>>& factors) {
  TensorFactors dims = factors;
  for (std::vector<int>& dim : dims) std::erase(dim, -1);
  return dims;
}

FactorRule permuted_factors(const OpCall& call, size_t results, const Ints& permuted) {
  FactorRule rule;
  std::vector<int> dims;
  for (int d = 0; d < call.operands[0].rank(); ++d) {
    const bool moves = std::find(permuted.begin(), permuted.end(), d) != permuted.end();
    dims.push_back(add_factor(rule, call.operands[0].shape[d],
                              moves ? FactorKind::permutation : FactorKind::pass_through));
  }
  rule.operands.assign(call.operands.size(), dims_of(dims));
  rule.results.assign(results, dims_of(dims));
  return rule;
}

void add_starts(FactorRule& rule, const OpCall& call) {
  while (rule.operands.size() < call.operands.size()) rule.operands.emplace_back();
}

void copy_elements(const HostTensor& from, int64_t from_offset,
                   const std::vector<int64_t>& from_strides, HostTensor& to, int64_t to_offset,
                   const std::vector<int64_t>& to_strides, const Shape& extent) {
  const auto copy_as = [&]<typename Word>() {
    const Word* source = reinterpret_cast<const Word*>(from.bytes().data()) + from_offset;
    Word* target = reinterpret_cast<Word*>(to.bytes().data()) + to_offset;
    walk(extent, from_strides, to_strides, [&](int64_t a, int64_t b) { target[b] = source[a]; });
  };
  switch (size_of(from.dtype())) {
    case 1:
      return copy_as.template operator()<uint8_t>();
    case 2:
      return copy_as.template operator()<uint16_t>();
    case 4:
      return copy_as.template operator()<uint32_t>();
    default:
      return copy_as.template operator()<uint64_t>();
  }
}

double no_flops(const OpCall&, std::span<const TensorType>) { return 0; }

Attributes localize_shape(const OpCall& global, std::span<const TensorType>,
                          std::span<const TensorType> local_results) {
  Attributes local = global.attributes;
  local.set(Attr::shape, ints_of(local_results[0].shape));
  return local;
}

std::vector<LinearSet> linear_in_all(const OpCall& call) {
  std::vector<int> all(call.operands.size());
  std::iota(all.begin(), all.end(), 0);
  return {{all, ReduceKind::sum}, {all, ReduceKind::max}, {all, ReduceKind::min}};
}

Value as_dtype(Builder& b, Value value, DType dtype) { return convert(b, value, dtype); }

}  // namespace tessera::ops

#include "tests/comm/reference_collectives.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace tessera::test {
namespace {

double combine_real(ReduceKind kind, double a, double b, bool in_float) {
  switch (kind) {
    case ReduceKind::sum:
      return in_float ? static_cast<double>(static_cast<float>(a) + static_cast<float>(b)) : a + b;
    case ReduceKind::product:
      return in_float ? static_cast<double>(static_cast<float>(a) * static_cast<float>(b)) : a * b;
    case ReduceKind::max:
      return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b);
    default:
      return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b);
  }
}

int64_t combine_int(ReduceKind kind, DType dtype, int64_t a, int64_t b) {
  const auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
  const bool less = dtype == DType::u64 ? ua < ub : a < b;
  switch (kind) {
    case ReduceKind::sum:
      return dtype == DType::pred ? a | b : static_cast<int64_t>(ua + ub);
    case ReduceKind::product:
      return static_cast<int64_t>(ua * ub);
    case ReduceKind::max:
      return less ? b : a;
    case ReduceKind::min:
      return less ? a : b;
    case ReduceKind::logical_and:
      return a & b;
    case ReduceKind::logical_or:
      return a | b;
  }
  return 0;
}

HostTensor reduce_all(const CollectiveCase& what, const std::vector<HostTensor>& inputs) {
  HostTensor result = inputs[0];
  const bool in_float = size_of(what.dtype) <= 4;
  for (int64_t i = 0; i < result.elements(); ++i) {
    if (what.dtype == DType::c64) {
      std::complex<float> value(inputs[0].get_complex(i));
      for (size_t r = 1; r < inputs.size(); ++r) {
        const std::complex<float> other(inputs[r].get_complex(i));
        value = what.reduce == ReduceKind::sum ? value + other : value * other;
      }
      result.set_complex(i, value);
    } else if (is_float(what.dtype)) {
      double value = inputs[0].get_real(i);
      for (size_t r = 1; r < inputs.size(); ++r)
        value = combine_real(what.reduce, value, inputs[r].get_real(i), in_float);
      result.set_real(i, value);
    } else {
      // set_int wraps to the type; between two sources the value must be wrapped as well.
      for (size_t r = 1; r < inputs.size(); ++r)
        result.set_int(
            i, combine_int(what.reduce, what.dtype, result.get_int(i), inputs[r].get_int(i)));
    }
  }
  return result;
}

std::vector<int64_t> start_at(const Shape& shape, int dim, int64_t at) {
  std::vector<int64_t> start(static_cast<size_t>(shape.rank()), 0);
  start[static_cast<size_t>(dim)] = at;
  return start;
}

}  // namespace

CollectiveCall CollectiveCase::call(int rank, const HostTensor& input, HostTensor& output,
                                    std::string_view tensor) const {
  CollectiveCall call;
  call.kind = kind;
  call.input = input.bytes().data();
  call.output = output.bytes().data();
  call.dtype = dtype;
  call.shape = shape;
  call.reduce = reduce;
  call.split_dim = split_dim;
  call.concat_dim = concat_dim;
  call.root = root;
  call.tensor = tensor;
  if (kind == CollectiveKind::permute) {
    call.send_to = routes[static_cast<size_t>(rank)];
    const auto from = std::find(routes.begin(), routes.end(), rank);
    call.receive_from = from == routes.end() ? -1 : static_cast<int>(from - routes.begin());
  }
  return call;
}

std::vector<HostTensor> reference_collective(const CollectiveCase& what,
                                             const std::vector<HostTensor>& inputs) {
  const auto n = static_cast<int>(inputs.size());
  std::vector<HostTensor> outputs(inputs.size());
  for (int r = 0; r < n; ++r) {
    HostTensor& out = outputs[static_cast<size_t>(r)];
    switch (what.kind) {
      case CollectiveKind::all_reduce:
        out = reduce_all(what, inputs);
        break;
      case CollectiveKind::reduce_scatter: {
        Shape block = what.shape;
        block[what.split_dim] /= n;
        out = reduce_all(what, inputs)
                  .slice(start_at(block, what.split_dim, r * block[what.split_dim]), block);
        break;
      }
      case CollectiveKind::all_gather: {
        Shape whole = what.shape;
        whole[what.concat_dim] *= n;
        out = HostTensor({what.dtype, whole});
        for (int p = 0; p < n; ++p)
          out.put(start_at(whole, what.concat_dim, p * what.shape[what.concat_dim]),
                  inputs[static_cast<size_t>(p)]);
        break;
      }
      case CollectiveKind::all_to_all: {
        Shape block = what.shape;
        block[what.split_dim] /= n;
        Shape whole = block;
        whole[what.concat_dim] *= n;
        out = HostTensor({what.dtype, whole});
        for (int p = 0; p < n; ++p)
          out.put(start_at(whole, what.concat_dim, p * block[what.concat_dim]),
                  inputs[static_cast<size_t>(p)].slice(
                      start_at(block, what.split_dim, r * block[what.split_dim]), block));
        break;
      }
      case CollectiveKind::permute: {
        out = HostTensor({what.dtype, what.shape});
        for (int p = 0; p < n; ++p)
          if (what.routes[static_cast<size_t>(p)] == r) out = inputs[static_cast<size_t>(p)];
        break;
      }
      case CollectiveKind::broadcast:
        out = inputs[static_cast<size_t>(what.root)];
        break;
    }
  }
  return outputs;
}

CollectiveCase random_case(uint64_t seed, int size, int64_t max_elements) {
  std::mt19937_64 random(seed);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  CollectiveCase what;
  what.kind = static_cast<CollectiveKind>(pick(0, 5));
  // The types that training moves come up more often than the rest.
  const auto types = all_dtypes();
  constexpr DType kUsual[] = {DType::f32, DType::bf16, DType::f64, DType::s32, DType::f16};
  what.dtype = pick(0, 1) == 0
                   ? kUsual[pick(0, 4)]
                   : types[static_cast<size_t>(pick(0, static_cast<int64_t>(types.size()) - 1))];
  if (is_float(what.dtype))
    what.reduce = static_cast<ReduceKind>(pick(0, 3));
  else if (what.dtype == DType::c64)
    what.reduce = pick(0, 1) ? ReduceKind::sum : ReduceKind::product;
  else
    what.reduce = static_cast<ReduceKind>(pick(0, 5));
  const int rank = static_cast<int>(pick(1, 4));
  std::vector<int64_t> dims(static_cast<size_t>(rank));
  int64_t elements = 1;
  for (auto& dim : dims) {
    const int64_t limit = std::max<int64_t>(
        1, std::min<int64_t>(rank == 1 ? max_elements : 24, max_elements / elements));
    dim = pick(1, limit);
    elements *= dim;
  }
  what.split_dim = static_cast<int>(pick(0, rank - 1));
  what.concat_dim = static_cast<int>(pick(0, rank - 1));
  if (what.kind == CollectiveKind::reduce_scatter || what.kind == CollectiveKind::all_to_all) {
    int64_t& dim = dims[static_cast<size_t>(what.split_dim)];
    dim = (dim + size - 1) / size * size;
  }
  what.shape = Shape(dims);
  what.root = static_cast<int>(pick(0, size - 1));
  what.routes.resize(static_cast<size_t>(size));
  std::iota(what.routes.begin(), what.routes.end(), 0);
  std::shuffle(what.routes.begin(), what.routes.end(), random);
  for (auto& route : what.routes)
    if (pick(0, 3) == 0) route = -1;
  return what;
}

HostTensor random_input(const CollectiveCase& what, uint64_t seed, int rank) {
  std::mt19937_64 random(seed * 1000003u + static_cast<uint64_t>(rank));
  HostTensor tensor({what.dtype, what.shape});
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (what.dtype == DType::c64)
      tensor.set_complex(i, {normal(random), normal(random)});
    else if (is_float(what.dtype))
      tensor.set_real(i, normal(random));
    else
      tensor.set_int(i, what.dtype == DType::pred ? static_cast<int64_t>(random() & 1)
                                                  : static_cast<int64_t>(random()));
  }
  return tensor;
}

}  // namespace tessera::test

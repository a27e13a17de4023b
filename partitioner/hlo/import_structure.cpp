// Opcodes that make and move elements: constant, iota, broadcast, reshape, slices, pads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/ops/elementwise_bits.h"
#include "core/ops/structure.h"
#include "partitioner/hlo/import_support.h"

namespace tessera::hlo {
namespace {

bool is_uniform(const HostTensor& tensor) {
  const auto bytes = tensor.bytes();
  const auto size = static_cast<size_t>(size_of(tensor.dtype()));
  return bytes.size() <= size ||
         std::memcmp(bytes.data(), bytes.data() + size, bytes.size() - size) == 0;
}

// 2^53: beyond it a double skips integers.
constexpr double kExactIntegers = 9007199254740992.0;

// A table of equal numbers becomes one number, which shards like a broadcast; only where no bit of
// it is lost.
Value constant_of(Builder& b, const ConstTensor& tensor) {
  const TensorType& type = tensor->type();
  if (type.elements() == 0) return ops::constant(b, 0.0, type);
  if (is_uniform(*tensor)) {
    const double scalar = tensor->dtype() == DType::c64 ? tensor->get_complex(0).real()
                          : is_integer(tensor->dtype()) ? static_cast<double>(tensor->get_int(0))
                                                        : tensor->get_real(0);
    const HostTensor one = HostTensor::filled({type.dtype, {}}, scalar);
    const bool is_exact = !is_integer(type.dtype) || std::abs(scalar) <= kExactIntegers;
    if (is_exact &&
        std::memcmp(one.bytes().data(), tensor->bytes().data(), one.bytes().size()) == 0)
      return ops::constant(b, scalar, type);
  }
  return b.emit(ops::kConstant, {}, {{Attr::value, tensor}});
}

void add_constants(ImportContext& c, const Literal& literal, const HloShape& shape,
                   std::vector<Value>& values) {
  if (!shape.is_tuple) {
    if (!literal.tensor) c.fail("the literal of the constant has no elements");
    values.push_back(constant_of(c.builder(), literal.tensor));
    return;
  }
  if (literal.elements.size() != shape.elements.size())
    c.fail(cat("the literal has ", literal.elements.size(), " elements for ", print(shape, false)));
  for (size_t i = 0; i < shape.elements.size(); ++i)
    add_constants(c, literal.elements[i], shape.elements[i], values);
}

void constant(ImportContext& c) {
  const HloInstruction& instruction = c.instruction();
  if (!instruction.literal) c.fail("the constant has no literal");
  std::vector<Value> values;
  add_constants(c, *instruction.literal, instruction.shape, values);
  c.set(std::move(values));
}

void iota(ImportContext& c) {
  expect_operands(c, 0);
  const TensorType type = c.result_type();
  if (type.dtype == DType::pred) return c.unsupported("opcode iota of pred");
  c.set({ops::iota(c.builder(), type, c.integer("iota_dimension"))});
}

// Dims of an operand or result of rank `rank`, each once.
void check_dims(const ImportContext& c, const Ints& dims, int rank, std::string_view what) {
  std::vector<bool> seen(static_cast<size_t>(rank), false);
  for (int64_t d : dims) {
    if (d < 0 || d >= rank || seen[static_cast<size_t>(d)])
      c.fail(cat(what, "={", join(dims, ","), "} must be different dims below ", rank));
    seen[static_cast<size_t>(d)] = true;
  }
}

// dimensions[i] is the result's dim of dim i, in any order; sizes stay.
void broadcast(ImportContext& c) {
  expect_operands(c, 1);
  Builder& b = c.builder();
  Value x = c.operand(0);
  const TensorType type = c.result_type();
  Ints dims = c.ints_or_empty("dimensions");
  if (static_cast<int>(dims.size()) != b.shape(x).rank())
    c.fail(cat("dimensions={", join(dims, ","), "} for ", b.type(x)));
  check_dims(c, dims, type.rank(), "dimensions");
  for (size_t i = 0; i < dims.size(); ++i)
    if (b.shape(x)[static_cast<int>(i)] != type.shape[static_cast<int>(dims[i])])
      c.fail(cat("dim ", i, " of ", b.type(x), " becomes dim ", dims[i], " of ", type,
                 ", but their sizes differ"));
  if (!std::is_sorted(dims.begin(), dims.end())) {
    Ints order(dims.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
      return dims[static_cast<size_t>(i)] < dims[static_cast<size_t>(j)];
    });
    x = ops::transpose(b, x, order);
    std::sort(dims.begin(), dims.end());
  }
  if (b.shape(x) == type.shape) return c.set({x});
  c.set({ops::broadcast_in_dim(b, x, type.shape, dims)});
}

void reshape(ImportContext& c) {
  expect_operands(c, 1);
  c.set({ops::reshape(c.builder(), c.operand(0), c.result_type().shape)});
}

// {2,1,0}: row-major, as no layout at all.
bool is_row_major(const HloShape& shape) {
  std::string wanted = "{";
  for (int d = shape.dims.rank() - 1; d >= 0; --d) wanted += cat(d, d > 0 ? "," : "");
  const std::string layout = shape.layout.substr(0, shape.layout.find_first_of(":}"));
  return shape.layout.empty() || layout == wanted;
}

// The same memory read as another shape: of row-major tensors a reshape, or a bitcast-convert.
void bitcast(ImportContext& c) {
  expect_operands(c, 1);
  Builder& b = c.builder();
  const Value x = c.operand(0);
  const TensorType from = b.type(x), to = c.result_type();
  const HloShape& shape = c.instruction().shape;
  if (!is_row_major(shape)) return c.unsupported("opcode bitcast to another layout");
  if (from.dtype == to.dtype) return c.set({ops::reshape(b, x, to.shape)});
  if (from.shape != to.shape || size_of(from.dtype) != size_of(to.dtype))
    return c.unsupported("opcode bitcast to another type and shape");
  c.set({ops::bitcast_convert(b, x, to.dtype)});
}

void transpose(ImportContext& c) {
  expect_operands(c, 1);
  const Ints dims = c.ints_or_empty("dimensions");
  check_dims(c, dims, c.builder().shape(c.operand(0)).rank(), "dimensions");
  c.set({ops::transpose(c.builder(), c.operand(0), dims)});
}

void reverse(ImportContext& c) {
  expect_operands(c, 1);
  const Ints dims = c.ints_or_empty("dimensions");
  check_dims(c, dims, c.builder().shape(c.operand(0)).rank(), "dimensions");
  if (dims.empty()) return c.set({c.operand(0)});
  c.set({ops::reverse(c.builder(), c.operand(0), dims)});
}

void concatenate(ImportContext& c) {
  std::vector<Value> operands;
  for (int i = 0; i < c.operand_count(); ++i) operands.push_back(c.operand(i));
  if (operands.empty()) c.fail("concatenate needs an operand");
  const Ints& dims = c.ints("dimensions");
  if (dims.size() != 1) c.fail(cat("dimensions={", join(dims, ","), "} must be one dim"));
  check_dims(c, dims, c.builder().shape(operands[0]).rank(), "dimensions");
  if (operands.size() == 1) return c.set({operands[0]});
  c.set({ops::concatenate(c.builder(), std::move(operands), dims[0])});
}

void check_extents(const ImportContext& c, const Ints& amounts) {
  // So that sums of a few of them do not overflow.
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 8;
  for (int64_t amount : amounts)
    if (amount > kMost || amount < -kMost) c.fail(cat(amount, " is no extent"));
}

void pad(ImportContext& c) {
  expect_operands(c, 2);
  const auto* config = c.instruction().get<PadConfig>("padding");
  if (!config) c.fail("pad needs the attribute padding");
  const Shape& shape = c.builder().shape(c.operand(0));
  const Ints interior = config->interior.empty() ? Ints(config->low.size(), 0) : config->interior;
  if (static_cast<int>(config->low.size()) != shape.rank())
    c.fail(
        cat("padding has ", config->low.size(), " entries for ", c.builder().type(c.operand(0))));
  check_extents(c, config->low);
  check_extents(c, config->high);
  for (size_t d = 0; d < interior.size(); ++d)
    if (const int64_t size = shape[static_cast<int>(d)];
        interior[d] < 0 ||
        (size > 1 && interior[d] > std::numeric_limits<int64_t>::max() / 8 / size))
      c.fail(cat("padding puts ", interior[d], " elements between those of dim ", d));
  c.set({ops::pad(c.builder(), c.operand(0), c.operand(1), config->low, config->high, interior)});
}

void slice(ImportContext& c) {
  expect_operands(c, 1);
  const auto* ranges = c.instruction().get<SliceRanges>("slice");
  if (!ranges) c.fail("slice needs the attribute slice");
  const Ints strides = ranges->stride.empty() ? Ints(ranges->start.size(), 1) : ranges->stride;
  check_extents(c, strides);
  c.set({ops::slice(c.builder(), c.operand(0), ranges->start, ranges->limit, strides)});
}

// All sizes are known.
void get_dimension_size(ImportContext& c) {
  expect_operands(c, 1);
  const Ints& dims = c.ints("dimensions");
  const Shape& shape = c.builder().shape(c.operand(0));
  if (dims.size() != 1) c.fail(cat("dimensions={", join(dims, ","), "} must be one dim"));
  check_dims(c, dims, shape.rank(), "dimensions");
  c.set({ops::constant(c.builder(), static_cast<double>(shape[static_cast<int>(dims[0])]),
                       {DType::s32, {}})});
}

}  // namespace

std::span<const OpcodeEntry> structure_opcodes() {
  static constexpr OpcodeEntry kEntries[] = {
      {"constant", constant},
      {"iota", iota},
      {"broadcast", broadcast},
      {"reshape", reshape},
      {"bitcast", bitcast},
      {"transpose", transpose},
      {"reverse", reverse},
      {"concatenate", concatenate},
      {"pad", pad},
      {"slice", slice},
      {"get-dimension-size", get_dimension_size},
  };
  return kEntries;
}

}  // namespace tessera::hlo

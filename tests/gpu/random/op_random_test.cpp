// Random numbers on the device have the bits of eval.
#include <gtest/gtest.h>

#include "core/ops/dropout.h"
#include "core/ops/random.h"
#include "core/ops/rng.h"
#include "tests/gpu/op_testing.h"

namespace tessera {
namespace {

class CudaRandom : public DeviceTest {
 protected:
  static void check_bits(const OpDef& op, const Attributes& attributes, const std::vector<HostTensor>& operands) {
    check_kernel(op, attributes, operands, {.tolerance = 0, .in_f64 = false});
  }
};

HostTensor start(int64_t value) { return HostTensor::filled({DType::s64, {}}, static_cast<double>(value)); }

Attributes uniform_of(const TensorType& type) {
  return {{Attr::seed, int64_t{0x123456789ab}},
          {Attr::seed_site, int64_t{77}},
          {Attr::shape, Ints(type.shape.begin(), type.shape.end())},
          {Attr::dtype, type.dtype}};
}

TEST_F(CudaRandom, UniformOfWholeTensors) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const Shape& shape : {Shape{}, Shape{3}, Shape{4, 0}, Shape{37, 5}, Shape{2, 3, 1, 700}})
      check_bits(ops::kRandomUniform, uniform_of({dtype, shape}), {});
}

TEST_F(CudaRandom, UniformOfShards) {
  // Of [6, 7, 10].
  Attributes attributes = uniform_of({DType::f32, {2, 7, 5}});
  attributes.set(Attr::strides, Ints{70, 10, 1});
  check_bits(ops::kRandomUniform, attributes, {start(2), start(0), start(5)});
  // Of [2^33, 8]: places beyond 32 bits.
  attributes = uniform_of({DType::bf16, {5, 8}});
  attributes.set(Attr::strides, Ints{8, 1});
  check_bits(ops::kRandomUniform, attributes, {start(int64_t{1} << 32), start(0)});
}

Attributes dropout_of(double rate) {
  return {{Attr::rate, rate}, {Attr::seed, int64_t{0x123456789ab}}, {Attr::seed_site, int64_t{1} << 28}};
}

// The same elements are dropped; the scale is rounded to f32.
TEST_F(CudaRandom, DropoutOfWholeTensors) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const Shape& shape : {Shape{3}, Shape{4, 0}, Shape{37, 5}, Shape{8, 16}, Shape{2, 3, 1, 700}})
      check_kernel(ops::kDropout, dropout_of(0.3),
                   {uniform_tensor({dtype, shape}, 0.5, 1), start(7), start(3)},
                   {.kernel = "cuda.dropout", .in_f64 = false});
}

TEST_F(CudaRandom, DropoutOfShards) {
  Attributes attributes = dropout_of(0.5);
  for (const int64_t last : {40, 21}) {  // whole blocks, and columns that are none
    attributes.set(Attr::strides, Ints{14 * last, 2 * last, 1});
    check_kernel(ops::kDropout, attributes,
                 {uniform_tensor({DType::bf16, {2, 7, last}}, 0.5, 1), start(7), start(3), start(2), start(0), start(last)},
                 {.kernel = "cuda.dropout", .in_f64 = false});
  }
}

HostTensor state_of(int64_t words) {
  HostTensor state(TensorType{DType::u64, {words}});
  const uint64_t values[3] = {0x0123456789abcdef, ~uint64_t{0} - 3, 0x5555};  // the counter's low half overflows
  std::copy_n(values, words, state.data<uint64_t>().begin());
  return state;
}

TEST_F(CudaRandom, BitsOfAllAlgorithmsAndWidths) {
  for (const char* algorithm : {"philox", "default", "three_fry"})
    for (const int64_t words : {int64_t{2}, int64_t{3}}) {
      if (words == 3 && std::string(algorithm) == "three_fry") continue;
      for (const DType dtype : {DType::u8, DType::s16, DType::u32, DType::s64})
        for (const Shape& shape : {Shape{}, Shape{0}, Shape{5, 3}, Shape{3, 4, 5}, Shape{1, 1001}})
          check_bits(ops::kRngBitGenerator,
                     {{Attr::rng_algorithm, std::string(algorithm)},
                      {Attr::shape, Ints(shape.begin(), shape.end())},
                      {Attr::dtype, dtype}},
                     {state_of(words)});
    }
}

// Of [5, 6, 7], the last one reaching beyond it.
TEST_F(CudaRandom, BitsOfShards) {
  for (const char* algorithm : {"philox", "three_fry"})
    for (const DType dtype : {DType::u16, DType::u32, DType::u64})
      check_bits(ops::kRngBitGenerator,
                 {{Attr::rng_algorithm, std::string(algorithm)},
                  {Attr::shape, Ints{3, 6, 4}},
                  {Attr::dtype, dtype},
                  {Attr::limit_indices, Ints{5, 6, 7}}},
                 {state_of(2), start(2), start(0), start(3)});
}

}  // namespace
}  // namespace tessera

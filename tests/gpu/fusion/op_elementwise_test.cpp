#include "kernels/cuda/plugin/plugin.h"
#include "tests/gpu/fusion/elementwise_cases.h"
#include "tests/gpu/fusion/kernel_batch.h"

namespace tessera {
namespace {

using testing::ElementwiseCase;
using testing::KernelBatch;

// Where arithmetic has corners, in every type.
std::vector<double> corners(DType dtype) {
  if (dtype == DType::pred) return {0, 1};
  if (is_float(dtype)) {
    constexpr double kInf = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();
    return {0.0, -0.0, 1, -1, 0.5, -1.5, 2.5, -2.5, 1e-3, 30, -100, 3e9, -70000, kInf, -kInf, kNaN};
  }
  const auto bits = static_cast<double>(8 * size_of(dtype));
  if (is_signed_integer(dtype))
    return {0, 1, -1, 2, 7, -7, bits - 1, bits, 100, -std::ldexp(1, static_cast<int>(bits) - 1), 1e30};
  return {0, 1, 2, 3, 7, bits - 1, bits, 100, 1e30};
}

// The first elements are all pairs (triples) of corners, as far as they fit, the others of the case's range.
std::vector<HostTensor> operands_of(const ElementwiseCase& one, std::mt19937& random) {
  std::vector<HostTensor> operands;
  int64_t period = 1;
  for (size_t i = 0; i < one.operands.size(); ++i) {
    const auto [low, high] = i < one.ranges.size() ? one.ranges[i] : std::pair{-1.0, 1.0};
    HostTensor& tensor = operands.emplace_back(testing::random_tensor(one.operands[i], random, low, high));
    const std::vector<double> values = corners(tensor.dtype());
    const auto count = static_cast<int64_t>(values.size());
    const int64_t last = std::min(tensor.elements() - 20, int64_t{256});
    for (int64_t at = 0; at < last; ++at) tensor.set_real(at, values[static_cast<size_t>(at / period % count)]);
    period *= count;
  }
  return operands;
}

// Of floats: the last place of the type or two, and what the functions of the device lose besides.
double tolerance(DType dtype) {
  switch (dtype) {
    case DType::f64: return 1e-14;
    case DType::f32: return 2e-6;
    case DType::f16: return 1.0 / 1024;
    case DType::bf16: return 1.0 / 128;
    default: return 0;
  }
}

// "" or what is wrong with element i.
std::string fault(const ElementwiseCase& one, const std::vector<HostTensor>& operands, const HostTensor& got,
                  const HostTensor& want, int64_t i) {
  bool same;
  if (!is_float(got.dtype())) {
    same = got.get_int(i) == want.get_int(i);
  } else {
    const double g = got.get_real(i), w = want.get_real(i);
    // Sums of terms that cancel; and numbers that are no longer normal, which fast functions may drop.
    const double floor = one.op == &ops::kGeluGrad || one.op == &ops::kGelu ? 0.2 : 1e-36;
    same = g == w || (std::isnan(g) && std::isnan(w)) ||
           std::abs(g - w) <= tolerance(got.dtype()) * std::max(std::abs(w), floor) + 1e-300;
  }
  if (same) return "";
  std::string inputs;
  for (const HostTensor& operand : operands) inputs += cat(" ", print_double(operand.get_real(i)));
  return cat(one.text(), " of", inputs, ": got ", print_double(got.get_real(i)), ", want ",
             print_double(want.get_real(i)));
}

// Formulas whose value at infinity the reference leaves to its formula (infinity times 0).
bool is_finite_only(const ElementwiseCase& one) { return one.op == &ops::kGeluGrad || one.op == &ops::kGelu; }

bool are_finite(const std::vector<HostTensor>& operands, int64_t i) {
  return std::all_of(operands.begin(), operands.end(),
                     [i](const HostTensor& operand) { return std::isfinite(operand.get_real(i)); });
}

void check_cases(const std::vector<ElementwiseCase>& cases, Backend& backend, bool in_place) {
  KernelBatch batch(backend);
  std::vector<std::vector<HostTensor>> operands;
  std::mt19937 random(7);
  for (const ElementwiseCase& one : cases) {
    operands.push_back(operands_of(one, random));
    int over = -1;
    for (size_t i = 0; i < one.operands.size() && in_place; ++i)
      if (one.operands[i].bytes() == one.result.bytes()) over = static_cast<int>(i);
    batch.add(*one.op, one.attributes, operands.back(), 0, over);
  }
  batch.finish();
  for (size_t c = 0; c < cases.size(); ++c) {
    const HostTensor got = batch.run(static_cast<int>(c))[0];
    const HostTensor want = testing::evaluated(*cases[c].op, cases[c].attributes, operands[c])[0];
    for (int64_t i = 0; i < got.elements(); ++i) {
      if (is_finite_only(cases[c]) && !are_finite(operands[c], i)) continue;
      const std::string text = fault(cases[c], operands[c], got, want, i);
      if (text.empty()) continue;
      ADD_FAILURE() << text;
      break;
    }
  }
}

// 17 x 17: the pairs of corners, and a remainder of every pack.
TEST(GeneratedElementwise, EveryOpAtEveryDtype) {
  if (const std::string why = testing::no_device(); !why.empty()) GTEST_SKIP() << why;
  const testing::TemporaryFolder folder;
  const auto backend = testing::backend_with_cache(folder.path());
  const auto cases = testing::elementwise_cases({17, 17});
  check_cases(cases, *backend, false);
  check_cases(cases, *backend, true);
}

TEST(GeneratedElementwiseLong, ManyElements) {
  if (const std::string why = testing::no_device(); !why.empty()) GTEST_SKIP() << why;
  const testing::TemporaryFolder folder;
  const auto backend = testing::backend_with_cache(folder.path());
  const auto cases = testing::elementwise_cases({1021, 1031});
  constexpr size_t kAtOnce = 40;  // so much memory at a time
  for (size_t at = 0; at < cases.size(); at += kAtOnce)
    check_cases({cases.begin() + static_cast<int64_t>(at),
                 cases.begin() + static_cast<int64_t>(std::min(at + kAtOnce, cases.size()))},
                *backend, false);
}

// At addresses that packs of 16 bytes may not be read from, and of any size down to none.
TEST(GeneratedElementwise, SizesAndAddresses) {
  if (const std::string why = testing::no_device(); !why.empty()) GTEST_SKIP() << why;
  const testing::TemporaryFolder folder;
  const auto backend = testing::backend_with_cache(folder.path());
  KernelBatch batch(*backend);
  std::vector<std::vector<HostTensor>> operands;
  std::mt19937 random(3);
  for (DType dtype : {DType::bf16, DType::f32, DType::u8, DType::f64})
    for (int64_t elements : {0, 1, 7, 8, 9, 2047, 2048, 2049, 5000})
      for (int64_t offset : {0, 2, 4, 8}) {
        if (offset % size_of(dtype) != 0) continue;
        const TensorType type{dtype, {elements}};
        operands.push_back(
            {testing::random_tensor(type, random, 0, 50), testing::random_tensor(type, random, 0, 50)});
        batch.add(ops::kAdd, {}, operands.back(), offset);
      }
  batch.finish();
  for (size_t i = 0; i < operands.size(); ++i)
    EXPECT_EQ(batch.run(static_cast<int>(i)), testing::evaluated(ops::kAdd, {}, operands[i]))
        << operands[i][0].type();
}

}  // namespace
}  // namespace tessera

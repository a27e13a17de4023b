// Constants of every element type, from text and back.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "core/base/strings.h"
#include "tests/hlo/hlo_testing.h"

namespace tessera::hlo {
namespace {

using ::tessera::testing::entry_of;
using ::tessera::testing::round_trip;

Literal literal(const std::string& shape, const std::string& text) {
  return *parse(entry_of(cat("ROOT c = ", shape, " constant(", text, ")")))
              .entry_computation()
              .instructions[0]
              .literal;
}

// What the constant prints as.
std::string printed(const std::string& shape, const std::string& text) {
  const std::string all = round_trip(entry_of(cat("ROOT c = ", shape, " constant(", text, ")")));
  const size_t at = all.find("constant(") + 9;
  return all.substr(at, all.rfind(")\n") - at);
}

TEST(HloLiterals, Scalars) {
  EXPECT_EQ(printed("f32[]", "0.1"), "0.1");
  EXPECT_EQ(printed("f32[]", "1e+20"), "1e+20");
  EXPECT_EQ(printed("f32[]", "-0"), "-0");
  EXPECT_EQ(printed("f32[]", "1e-60"), "0");
  EXPECT_EQ(printed("f32[]", "1e-45"), "1e-45");
  EXPECT_EQ(printed("f32[]", "3.14159274"), "3.1415927");
  EXPECT_EQ(printed("f64[]", "3.141592653589793"), "3.141592653589793");
  EXPECT_EQ(printed("f64[]", "1e-400"), "0");
  EXPECT_EQ(printed("bf16[]", "3.14159274"), "3.14");
  EXPECT_EQ(printed("bf16[]", "0.1"), "0.1");
  EXPECT_EQ(printed("f16[]", "65504"), "65504");
  EXPECT_EQ(printed("f8e4m3fn[]", "448"), "448");
  EXPECT_EQ(printed("f8e5m2[]", "-inf"), "-inf");
  EXPECT_EQ(printed("s8[]", "-128"), "-128");
  EXPECT_EQ(printed("u64[]", "18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(printed("s64[]", "-9223372036854775808"), "-9223372036854775808");
  EXPECT_EQ(printed("pred[]", "true"), "true");
  EXPECT_EQ(printed("pred[]", "0"), "false");
  EXPECT_EQ(printed("c64[]", "(1, -2.5)"), "(1, -2.5)");
  EXPECT_EQ(printed("c64[]", "3"), "(3, 0)");
  EXPECT_EQ(printed("c64[]", "(nan, -inf)"), "(nan, -inf)");
}

TEST(HloLiterals, NotANumberKeepsItsBits) {
  EXPECT_EQ(printed("f32[]", "nan"), "nan");
  EXPECT_EQ(printed("f32[]", "-nan"), "-nan");
  EXPECT_EQ(printed("f32[]", "nan(0x1)"), "nan(0x1)");
  EXPECT_EQ(printed("f32[]", "-nan(0x400000)"), "-nan");
  EXPECT_EQ(printed("f32[]", "nan(5)"), "nan(0x5)");
  EXPECT_EQ(std::bit_cast<uint32_t>(literal("f32[]", "-nan(0x12)").tensor->data<float>()[0]),
            0xff800012u);
  EXPECT_EQ(printed("f64[]", "nan(0xfffffffffffff)"), "nan(0xfffffffffffff)");
  EXPECT_EQ(printed("bf16[]", "nan(0x7f)"), "nan(0x7f)");
  EXPECT_EQ(printed("f16[]", "-nan(0x3)"), "-nan(0x3)");
  EXPECT_EQ(printed("f8e5m2[]", "nan(0x1)"), "nan(0x1)");
  EXPECT_EQ(printed("f8e4m3fn[]", "-nan"), "-nan");
}

TEST(HloLiterals, Arrays) {
  EXPECT_EQ(printed("s32[3]", "{1, 2, 3}"), "{1, 2, 3}");
  EXPECT_EQ(printed("f32[2,2]", "{ { 1, 2 }, { 3.5, inf } }"), "{{1, 2}, {3.5, inf}}");
  EXPECT_EQ(printed("pred[2,2]", "{{true, 0}, {1, false}}"), "{{1, 0}, {1, 0}}");
  EXPECT_EQ(printed("s8[2,1,2]", "{ { /*i0=0*/ {1, 2} }, { /*i0=1*/ {3, 4} } }"),
            "{{{1, 2}}, {{3, 4}}}");
  EXPECT_EQ(printed("c64[2]", "{(1, 2), (3, 4)}"), "{(1, 2), (3, 4)}");
  const Literal matrix = literal("s32[2,3]", "{{1,2,3},{4,5,6}}");
  EXPECT_EQ(matrix.tensor->shape(), (Shape{2, 3}));
  EXPECT_EQ(matrix.tensor->get_int(4), 5);
}

TEST(HloLiterals, ArraysWithoutElements) {
  for (const char* text : {"{}", "{ { }, { } }", "{{},{}}"})
    EXPECT_EQ(printed("f32[2,0]", text), "{}") << text;
  EXPECT_EQ(printed("f32[0]", "{}"), "{}");
  EXPECT_EQ(printed("f32[1000000000000,0]", "{}"), "{}");
}

TEST(HloLiterals, Tuples) {
  EXPECT_EQ(printed("(s32[], f32[2])", "( 1, { 2, 3 } )"), "(1, {2, 3})");
  EXPECT_EQ(printed("(c64[], (pred[], ()))", "((1, 2), (true, ()))"), "((1, 2), (true, ()))");
  EXPECT_EQ(literal("(s32[], f32[2])", "(1, {2, 3})").elements[1].tensor->get_real(1), 3);
}

TEST(HloLiterals, TypesThatTesseraLacksKeepTheirText) {
  const HloModule module = parse(entry_of("ROOT c = s4[2] constant({1, /*x*/ -2})"));
  const HloInstruction& constant = module.entry_computation().instructions[0];
  EXPECT_FALSE(constant.literal.has_value());
  EXPECT_EQ(constant.literal_text, "{1, -2}");
  EXPECT_EQ(printed("c128[]", "(1, 2)"), "(1, 2)");
  EXPECT_EQ(printed("(s4[], f32[])", "(1, 0.10)"), "(1, 0.10)");
  EXPECT_EQ(printed("u4[]", "7"), "7");
}

// All values of the narrow types, and many of the wide ones, keep every bit.
template <typename T>
void all_bits_return(const std::string& name) {
  using Bits = std::conditional_t<sizeof(T) == 1, uint8_t, uint16_t>;
  HloModule module = parse(
      entry_of(cat("ROOT c = ", name, "[", 1 << (8 * sizeof(T)), "]{0} iota(), iota_dimension=0")));
  HloInstruction& root = module.computations[0].instructions[0];
  auto tensor = std::make_shared<HostTensor>(TensorType{DTypeOf<T>::value, root.shape.dims});
  for (size_t i = 0; i < tensor->data<T>().size(); ++i)
    tensor->data<T>()[i] = std::bit_cast<T>(static_cast<Bits>(i));
  root.opcode = "constant";
  root.attributes.clear();
  root.literal.emplace().tensor = tensor;
  const HloModule back = parse(print(module));
  const HostTensor& read = *back.computations[0].instructions[0].literal->tensor;
  for (size_t i = 0; i < tensor->data<T>().size(); ++i)
    ASSERT_EQ(read.data<T>()[i].bits, i) << name;
}

TEST(HloLiterals, EveryNarrowFloatReturns) {
  all_bits_return<float8_e4m3fn>("f8e4m3fn");
  all_bits_return<float8_e5m2>("f8e5m2");
  all_bits_return<float16>("f16");
  all_bits_return<bfloat16>("bf16");
}

TEST(HloLiterals, RandomBitsReturn) {
  std::mt19937_64 random(3);
  HloModule module = parse(entry_of(
      "a = f32[1000]{0} iota(), iota_dimension=0\nROOT b = f64[1000]{0} iota(), iota_dimension=0"));
  for (HloInstruction& instruction : module.computations[0].instructions) {
    auto tensor = std::make_shared<HostTensor>(TensorType{*instruction.shape.dtype, {1000}});
    for (std::byte& byte : tensor->bytes()) byte = static_cast<std::byte>(random());
    instruction.opcode = "constant";
    instruction.attributes.clear();
    instruction.literal.emplace().tensor = tensor;
  }
  const HloModule back = parse(print(module));
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(*back.computations[0].instructions[i].literal->tensor,
              *module.computations[0].instructions[i].literal->tensor);
}

}  // namespace
}  // namespace tessera::hlo

// Elementwise opcodes against values that JAX computed.
#include <bit>
#include <complex>
#include <limits>

#include "tests/hlo/run_module.h"

namespace tessera::hlo {
namespace {

using namespace testing;

struct Known {
  const char* opcode;
  Reals values;
};

TEST(ImportElementwise, Unary) {
  const std::vector<Known> known = {
      {"cbrt",
       {-1.1447142362594604, -0.6299605369567871, 0.0, 0.7937005162239075, 1.3572088479995728}},
      {"cosine",
       {0.07073719799518585, 0.9689124226570129, 1.0, 0.8775825500488281, -0.8011435866355896}},
      {"erf",
       {-0.966105043888092, -0.27632635831832886, 0.0, 0.5204998850822449, 0.9995930194854736}},
      {"exponential",
       {0.22313016653060913, 0.7788007855415344, 1.0, 1.6487212181091309, 12.182494163513184}},
      {"exponential-minus-one",
       {-0.7768698334693909, -0.22119919955730438, 0.0, 0.6487212777137756, 11.182494163513184}},
      {"log", {NAN, NAN, -INFINITY, -0.6931471824645996, 0.9162907600402832}},
      {"log-plus-one", {NAN, -0.28768205642700195, 0.0, 0.40546509623527527, 1.252763032913208}},
      {"logistic",
       {0.18242552876472473, 0.43782350420951843, 0.5, 0.622459352016449, 0.9241418242454529}},
      {"rsqrt", {NAN, NAN, INFINITY, 1.4142135381698608, 0.6324555277824402}},
      {"sine",
       {-0.9974949955940247, -0.24740396440029144, 0.0, 0.4794255495071411, 0.5984721183776855}},
      {"sqrt", {NAN, NAN, 0.0, 0.7071067690849304, 1.5811388492584229}},
      {"tan",
       {-14.101420402526855, -0.25534191727638245, 0.0, 0.5463024973869324, -0.7470223307609558}},
      {"tanh",
       {-0.9051482081413269, -0.24491865932941437, 0.0, 0.46211716532707214, 0.9866143465042114}},
      {"floor", {-2.0, -1.0, 0.0, 0.0, 2.0}},
      {"ceil", {-1.0, -0.0, 0.0, 1.0, 3.0}},
      {"round-nearest-afz", {-2.0, -0.0, 0.0, 1.0, 3.0}},
      {"round-nearest-even", {-2.0, -0.0, 0.0, 0.0, 2.0}},
      {"sign", {-1.0, -1.0, 0.0, 1.0, 1.0}},
      {"negate", {1.5, 0.25, -0.0, -0.5, -2.5}},
      {"abs", {1.5, 0.25, 0.0, 0.5, 2.5}},
      {"real", {-1.5, -0.25, 0.0, 0.5, 2.5}},
      {"imag", {0, 0, 0, 0, 0}},
      {"copy", {-1.5, -0.25, 0.0, 0.5, 2.5}}};
  for (const Known& each : known) {
    SCOPED_TRACE(each.opcode);
    expect_near(run_entry(cat("x = f32[5] parameter(0)\nROOT y = f32[5] ", each.opcode, "(x)"),
                          {floats({-1.5f, -0.25f, 0.f, 0.5f, 2.5f})}),
                each.values, 1e-5);
  }
}

TEST(ImportElementwise, Binary) {
  const std::vector<Known> known = {
      {"add", {0.5, -0.75, 3.0, 0.5, 1.0}},
      {"subtract", {-3.5, 0.25, -3.0, 0.5, 4.0}},
      {"multiply", {-3.0, 0.125, 0.0, 0.0, -3.75}},
      {"divide", {-0.75, 0.5, 0.0, INFINITY, -1.6666666269302368}},
      {"maximum", {2.0, -0.25, 3.0, 0.5, 2.5}},
      {"minimum", {-1.5, -0.5, 0.0, 0.0, -1.5}},
      {"power", {2.25, NAN, 0.0, 1.0, 0.2529821991920471}},
      {"remainder", {-1.5, -0.25, 0.0, NAN, 1.0}},
      {"atan2",
       {-0.6435011029243469, -2.677945137023926, 0.0, 1.5707963705062866, 2.111215829849243}}};
  for (const Known& each : known) {
    SCOPED_TRACE(each.opcode);
    expect_near(run_entry(cat("x = f32[5] parameter(0)\ny = f32[5] parameter(1)\nROOT z = f32[5] ",
                              each.opcode, "(x, y)"),
                          {floats({-1.5f, -0.25f, 0.f, 0.5f, 2.5f}),
                           floats({2.f, -0.5f, 3.f, 0.f, -1.5f})}),
                each.values);
  }
}

HostTensor binary(std::string_view opcode, const HostTensor& x, const HostTensor& y) {
  const std::string type = cat(x.type());
  return run_entry(cat("x = ", type, " parameter(0)\ny = ", type, " parameter(1)\nROOT z = ", type,
                       " ", opcode, "(x, y)"),
                   {x, y});
}

TEST(ImportElementwise, IntegersAtTheirCorners) {
  const HostTensor x = integers({7, -7, 5, std::numeric_limits<int32_t>::min()}),
                   y = integers({0, 0, -1, -1});
  EXPECT_EQ(reals(binary("divide", x, y)), (Reals{-1, -1, -5, -2147483648.0}));
  EXPECT_EQ(reals(binary("remainder", x, y)), (Reals{7, -7, 0, 0}));
  const HostTensor u = tensor<uint8_t>({2}, {7, 9}), zero = tensor<uint8_t>({2}, {0, 0});
  EXPECT_EQ(reals(binary("divide", u, zero)), (Reals{255, 255}));
  EXPECT_EQ(reals(binary("remainder", u, zero)), (Reals{7, 9}));
  const HostTensor v = integers({-5, -5, 5, -5}), s = integers({31, 32, 33, -1});
  EXPECT_EQ(reals(binary("shift-left", v, s)), (Reals{-2147483648.0, 0, 0, 0}));
  EXPECT_EQ(reals(binary("shift-right-arithmetic", v, s)), (Reals{-1, -1, 0, -1}));
  EXPECT_EQ(reals(binary("shift-right-logical", v, s)), (Reals{1, 0, 0, 0}));
  EXPECT_EQ(reals(binary("xor", v, s)), (Reals{-28, -37, 36, 4}));
  EXPECT_EQ(reals(binary("and", v, s)), (Reals{27, 32, 1, -5}));
  EXPECT_EQ(reals(binary("or", v, s)), (Reals{-1, -5, 37, -1}));
  EXPECT_EQ(reals(run_entry("x = s32[3] parameter(0)\nROOT y = s32[3] count-leading-zeros(x)",
                            {integers({0, 1, -1})})),
            (Reals{32, 31, 0}));
  EXPECT_EQ(
      reals(run_entry("x = s32[2] parameter(0)\nROOT y = s32[2] popcnt(x)", {integers({-1, 7})})),
      (Reals{32, 3}));
  EXPECT_EQ(reals(run_entry("x = s32[2] parameter(0)\nROOT y = s32[2] not(x)", {integers({0, 5})})),
            (Reals{-1, -6}));
  EXPECT_EQ(
      reals(run_entry("x = s32[3] parameter(0)\nROOT y = s32[3] sign(x)", {integers({-4, 0, 9})})),
      (Reals{-1, 0, 1}));
}

TEST(ImportElementwise, CompareInAllDirections) {
  const HostTensor x = floats({1, 2, 3, NAN}), y = floats({2, 2, 2, NAN});
  const std::vector<Known> known = {{"EQ", {0, 1, 0, 0}}, {"NE", {1, 0, 1, 1}},
                                    {"LT", {1, 0, 0, 0}}, {"LE", {1, 1, 0, 0}},
                                    {"GT", {0, 0, 1, 0}}, {"GE", {0, 1, 1, 0}}};
  for (const Known& each : known)
    EXPECT_EQ(reals(run_entry(cat("x = f32[4] parameter(0)\ny = f32[4] parameter(1)\n"
                                  "ROOT z = pred[4] compare(x, y), direction=",
                                  each.opcode),
                              {x, y})),
              each.values)
        << each.opcode;
  // By bits: -NaN < -0 < +0 < NaN.
  EXPECT_EQ(reals(run_entry("x = f32[4] parameter(0)\ny = f32[4] parameter(1)\n"
                            "ROOT z = pred[4] compare(x, y), direction=LT, type=TOTALORDER",
                            {floats({-0.f, 0.f, 1, -NAN}), floats({0.f, -0.f, NAN, -1})})),
            (Reals{1, 0, 1, 1}));
  const std::string head = "x = f32[4] parameter(0)\nROOT z = pred[4] compare(x, x), ";
  expect_error(module_of(head + "direction=UP"), {"direction=UP is none of EQ, NE, LT"});
  expect_error(module_of(head + "direction=LT, type=SIGNED"), {"type=SIGNED does not compare f32"});
}

TEST(ImportElementwise, SelectAndClampTakeScalars) {
  EXPECT_EQ(reals(run_entry(R"(
    p = pred[] parameter(0)
    x = f32[2] parameter(1)
    y = f32[2] parameter(2)
    ROOT z = f32[2] select(p, x, y))",
                            {tensor<bool>({}, {false}), floats({1, 2}), floats({3, 4})})),
            (Reals{3, 4}));
  expect_near(run_entry(R"(
    lo = f32[] constant(0)
    hi = f32[] constant(1)
    x = f32[4] parameter(0)
    ROOT z = f32[4] clamp(lo, x, hi))",
                        {floats({NAN, -1, 2, 0.5})}),
              {NAN, 0, 1, 0.5});
}

TEST(ImportElementwise, ConvertSaturatesAndWraps) {
  const HostTensor x = floats({NAN, 1e20f, -1e20f, -1.7f, 300.5f, INFINITY, -INFINITY});
  const auto convert = [&](const char* dtype) {
    return reals(
        run_entry(cat("x = f32[7] parameter(0)\nROOT y = ", dtype, "[7] convert(x)"), {x}));
  };
  EXPECT_EQ(convert("s32"),
            (Reals{0, 2147483647.0, -2147483648.0, -1, 300, 2147483647.0, -2147483648.0}));
  EXPECT_EQ(convert("s8"), (Reals{0, 127, -128, -1, 127, 127, -128}));
  EXPECT_EQ(convert("u8"), (Reals{0, 255, 0, 0, 255, 255, 0}));
  EXPECT_EQ(convert("u32"), (Reals{0, 4294967295.0, 0, 0, 300, 4294967295.0, 0}));
  EXPECT_EQ(convert("pred"), (Reals{1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(reals(run_entry("x = s32[3] parameter(0)\nROOT y = s8[3] convert(x)",
                            {integers({300, -1, 128})})),
            (Reals{44, -1, -128}));
  expect_near(run_entry("x = f32[7] parameter(0)\ny = f8e4m3fn[7] convert(x)\n"
                        "ROOT z = f32[7] convert(y)",
                        {floats({500, 448, 464, 465, 1e-3f, INFINITY, -600})}),
              {NAN, 448, 448, NAN, 0.00195312, NAN, NAN});
  expect_near(run_entry("x = f32[3] parameter(0)\ny = f8e5m2[3] convert(x)\n"
                        "ROOT z = f32[3] convert(y)",
                        {floats({60000, 61440, 1e6})}),
              {57344, INFINITY, INFINITY});
  expect_error(module_of("x = c64[3] parameter(0)\nROOT y = f32[3] convert(x)"),
               {"convert from c64 to f32: take real or imag"});
}

TEST(ImportElementwise, Bits) {
  const HostTensor y = run_entry("x = f32[2] parameter(0)\nROOT y = u8[2,4] bitcast-convert(x)",
                                 {floats({1.f, -2.f})});
  EXPECT_EQ(reals(y), (Reals{0, 0, 128, 63, 0, 0, 0, 192}));
  EXPECT_EQ(reals(run_entry("x = u32[1,2] parameter(0)\nROOT y = u64[1] bitcast-convert(x)",
                            {tensor<uint32_t>({1, 2}, {3, 1})})),
            (Reals{4294967299.0}));
  expect_near(run_entry("x = f32[4] parameter(0)\n"
                        "ROOT y = f32[4] reduce-precision(x), exponent_bits=5, mantissa_bits=2",
                        {floats({1.13f, 65504.f, 1e-6f, 1e9f})}),
              {1.25, INFINITY, 0, INFINITY});
  EXPECT_EQ(reals(run_entry("x = f32[3] parameter(0)\nROOT y = pred[3] is-finite(x)",
                            {floats({1, NAN, INFINITY})})),
            (Reals{1, 0, 0}));
}

TEST(ImportElementwise, Complex) {
  using C = std::complex<float>;
  const HostTensor z = tensor<C>({2}, {C(1, 2), C(-1, .5f)}),
                   w = tensor<C>({2}, {C(-1, .5f), C(1, 2)});
  struct KnownComplex {
    const char* opcode;
    std::vector<std::complex<double>> values;
  };
  const auto check = [](const HostTensor& y, const KnownComplex& known) {
    SCOPED_TRACE(known.opcode);
    for (int64_t i = 0; i < 2; ++i)
      EXPECT_LT(std::abs(y.get_complex(i) - known.values[static_cast<size_t>(i)]), 2e-6);
  };
  const std::vector<KnownComplex> unary = {
      {"exponential",
       {{-1.13120436668396, 2.471726655960083}, {0.32284459471702576, 0.17637081444263458}}},
      {"log", {{0.8047189712524414, 1.1071487665176392}, {0.1115717738866806, 2.677945137023926}}},
      {"sqrt",
       {{1.272019624710083, 0.7861514091491699}, {0.24293413758277893, 1.0290855169296265}}},
      {"rsqrt",
       {{0.5688644647598267, -0.3515775799751282}, {0.2172868549823761, -0.9204421043395996}}},
      {"tanh",
       {{1.1667362451553345, -0.24345819652080536}, {-0.8429661989212036, 0.19557732343673706}}},
      {"sine",
       {{3.165778636932373, 1.9596009254455566}, {-0.9488644599914551, 0.28154897689819336}}},
      {"cosine",
       {{2.0327229499816895, -3.0518977642059326}, {0.6092588901519775, 0.4384865462779999}}},
      {"tan",
       {{0.03381282463669777, 1.0147936344146729}, {-0.8068774342536926, 1.0428308248519897}}},
      {"logistic",
       {{1.0214154720306396, 0.4034387469291687}, {0.2572563588619232, 0.09902773052453995}}},
      {"sign",
       {{0.4472135901451111, 0.8944271802902222}, {-0.8944271802902222, 0.4472135901451111}}},
      {"exponential-minus-one",
       {{-2.13120436668396, 2.471726655960083}, {-0.6771553754806519, 0.17637081444263458}}},
      {"log-plus-one",
       {{1.0397207736968994, 0.7853981852531433}, {-0.6931471824645996, 1.5707963705062866}}},
      {"negate", {{-1, -2}, {1, -.5}}}};
  for (const KnownComplex& each : unary)
    check(run_entry(cat("x = c64[2] parameter(0)\nROOT y = c64[2] ", each.opcode, "(x)"), {z}),
          each);
  const std::vector<KnownComplex> two = {
      {"multiply", {{-2, -1.5}, {-2, -1.5}}},
      {"divide", {{0, -2}, {0, .5}}},
      {"power", {{0.1958448, -0.16656771}, {-0.00512552, 0.00125704}}},
      {"add", {{0, 2.5}, {0, 2.5}}},
      {"subtract", {{2, 1.5}, {-2, -1.5}}}};
  for (const KnownComplex& each : two) check(binary(each.opcode, z, w), each);
  expect_near(run_entry("x = c64[2] parameter(0)\nROOT y = f32[2] abs(x)", {z}),
              {2.2360680103302, 1.1180340051651});
  // sign(0) is 0; a conjugate.
  const HostTensor y = run_entry(R"(
    x = c64[2] parameter(0)
    s = c64[2] sign(x)
    r = f32[2] real(s)
    i = f32[2] imag(s)
    n = f32[2] negate(i)
    ROOT y = c64[2] complex(r, n))",
                                 {tensor<C>({2}, {C(0, 0), C(0, 2)})});
  EXPECT_EQ(y.get_complex(0), std::complex<double>(0, 0));
  EXPECT_EQ(y.get_complex(1), std::complex<double>(0, -1));
  EXPECT_EQ(reals(run_entry("x = c64[2] parameter(0)\nROOT y = pred[2] compare(x, x), direction=EQ",
                            {z})),
            (Reals{1, 1}));
}

}  // namespace
}  // namespace tessera::hlo

// The algorithms of products as text: taken over by other ranks and later runs.
#include <gtest/gtest.h>

#include "tests/gpu/matmul/product_run.h"

namespace tessera {
namespace {

const Attributes kMatrices = attributes_of({{1}, {0}}, DType::f32);
std::vector<HostTensor> factors() {
  return {normal_tensor({DType::bf16, {32, 64}}, 1), normal_tensor({DType::bf16, {64, 48}}, 2)};
}

using MatmulChoices = DeviceTest;

// Text with the last line's algorithm replaced.
std::string with_algorithm(std::string text, const std::string& algorithm) {
  const size_t equals = text.rfind(" = ");
  return text.substr(0, equals) + " = " + algorithm + "\n";
}

TEST_F(MatmulChoices, GoFromOneBackendToAnother) {
  const auto timed = plugin().create_backend({.autotune = true});
  const HostTensor first = product_on(*timed, ops::kDotGeneral, kMatrices, factors());
  const std::string text = plugin().choices(*timed);
  EXPECT_NE(text.find("\nlibrary cuBLASLt "), std::string::npos) << text;
  EXPECT_NE(text.find("bf16,f32 32x48x64 nn batch 1"), std::string::npos) << text;

  const auto before = plugin().create_backend({});  // adopts what it has not prepared
  plugin().adopt_choices(*before, text);
  EXPECT_EQ(plugin().choices(*before), text);
  EXPECT_EQ(product_on(*before, ops::kDotGeneral, kMatrices, factors()), first);
  EXPECT_EQ(plugin().choices(*before), text);

  const auto after = plugin().create_backend({});  // adopts what it has
  ProductRun product(*after, ops::kDotGeneral, kMatrices, factors());
  product.prepare();
  plugin().adopt_choices(*after, text);
  product.run();
  EXPECT_EQ(product.result(), first);
  EXPECT_EQ(plugin().choices(*after), text);
}

TEST_F(MatmulChoices, OfOtherLibrariesAndDevicesAreMadeAnew) {
  const auto made = plugin().create_backend({});
  (void)product_on(*made, ops::kDotGeneral, kMatrices, factors());
  const std::string text = plugin().choices(*made);
  for (const char* line : {"library ", "device "}) {
    std::string other = text;
    other.insert(other.find(line) + std::string(line).size(), "X");
    const auto backend = plugin().create_backend({});
    plugin().adopt_choices(*backend, other);
    (void)product_on(*backend, ops::kDotGeneral, kMatrices, factors());
    EXPECT_EQ(plugin().choices(*backend), text);
  }
  // An algorithm that cuBLASLt does not know; an epilogue that there is none of.
  const std::string algorithm = text.substr(text.rfind(" = ") + 3, text.rfind('\n') - text.rfind(" = ") - 3);
  for (const std::string& wrong : {"0 " + std::string(128, 'f'), "behind " + algorithm}) {
    const auto backend = plugin().create_backend({});
    plugin().adopt_choices(*backend, with_algorithm(text, wrong));
    (void)product_on(*backend, ops::kDotGeneral, kMatrices, factors());
    EXPECT_EQ(plugin().choices(*backend), text);
  }
}

TEST_F(MatmulChoices, OtherTextsAreErrors) {
  const auto backend = plugin().create_backend({});
  (void)product_on(*backend, ops::kDotGeneral, kMatrices, factors());
  const std::string text = plugin().choices(*backend);
  for (const std::string& wrong :
       {std::string(), std::string("hello"), text.substr(0, text.find("device")), with_algorithm(text, "0 12"),
        with_algorithm(text, "x " + std::string(128, '0')), with_algorithm(text, "0 " + std::string(128, 'g')),
        with_algorithm(text, "beside 0 " + std::string(128, '0')),
        text + "nothing\n"})
    EXPECT_THROW(plugin().adopt_choices(*backend, wrong), UserError) << wrong;
  EXPECT_EQ(plugin().choices(*backend), text);
}

}  // namespace
}  // namespace tessera

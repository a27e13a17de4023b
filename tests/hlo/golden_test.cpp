// Every module under golden/: a file is one opcode family, one notation or one error. Those whose
// first line is "// error: words" are refused with these words; all others print and return.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "tests/hlo/hlo_testing.h"

namespace tessera::testing {
namespace {

std::vector<std::string> golden_files() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(TESSERA_SOURCE_DIR "/tests/hlo/golden"))
    if (entry.path().extension() == ".hlo") names.push_back(entry.path());
  std::sort(names.begin(), names.end());
  return names;
}

class HloGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(HloGolden, PrintsAndReturns) {
  constexpr std::string_view kError = "// error: ";
  const std::string text = read_text_file(GetParam());
  if (text.starts_with(kError)) {
    const std::string words = text.substr(kError.size(), text.find('\n') - kError.size());
    EXPECT_NE(refusal(text).find(words), std::string::npos)
        << "says \"" << refusal(text) << "\", expected \"" << words << "\"";
    return;
  }
  const std::string printed = round_trip(text);
  EXPECT_EQ(hlo::parse(printed).instruction_count(), hlo::parse(text).instruction_count());
}

std::string name_of_file(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).stem();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Files, HloGolden, ::testing::ValuesIn(golden_files()), name_of_file);

}  // namespace
}  // namespace tessera::testing

// A short run of the fuzzer's target in every test run: its corpus, and golden files mutated by a
// seeded generator. tests/fuzz/fuzz_hlo.cpp is the long run.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>

#include "core/base/error.h"
#include "tests/hlo/hlo_testing.h"

namespace tessera::testing {
namespace {

std::vector<std::string> texts_of(const std::string& folder, const std::string& extension) {
  std::vector<std::filesystem::path> paths;
  if (!std::filesystem::exists(folder)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_regular_file() && (extension.empty() || entry.path().extension() == extension))
      paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> texts;
  for (const auto& path : paths) texts.push_back(read_text_file(path));
  return texts;
}

class Mutator {
 public:
  Mutator(std::vector<std::string> texts, uint64_t seed)
      : texts_(std::move(texts)), random_(seed) {}

  std::string next() {
    std::string text = texts_[below(texts_.size())];
    for (size_t edits = 1 + below(4); edits > 0; --edits) edit(text);
    return text;
  }

 private:
  size_t below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }

  void edit(std::string& text) {
    static const std::vector<std::string> kPieces = {"{",
                                                     "}",
                                                     "(",
                                                     ")",
                                                     "[",
                                                     "]",
                                                     "\"",
                                                     "=",
                                                     ",",
                                                     ":",
                                                     "<=",
                                                     "->",
                                                     "/*",
                                                     "*/",
                                                     "//",
                                                     "\\",
                                                     "%",
                                                     "?",
                                                     "ROOT ",
                                                     "ENTRY ",
                                                     "0",
                                                     "-1",
                                                     "9223372036854775807",
                                                     "18446744073709551616",
                                                     "nan",
                                                     "nan(0x1)",
                                                     "1e999",
                                                     "{...}",
                                                     "f32[",
                                                     "f32[2,3]{1,0}",
                                                     "(f32[], s32[])",
                                                     "\n",
                                                     "sharding={devices=[2]<=[2]}",
                                                     "replica_groups={{0,1}}",
                                                     "window={size=2x2}",
                                                     "parameter(0)",
                                                     "constant(",
                                                     std::string(1, '\0'),
                                                     "\xff"};
    const size_t at = below(text.size() + 1);
    switch (below(12)) {
      case 0:
        text.insert(at, kPieces[below(kPieces.size())]);
        break;
      case 1:
        text.erase(at, 1 + below(8));
        break;
      case 2:
        text.erase(at, below(text.size()));
        break;
      case 3:
        if (at < text.size()) text[at] = static_cast<char>(below(256));
        break;
      case 4:
        text.insert(at, text.substr(below(text.size() + 1), below(60)));
        break;
      case 5: {
        const std::string& other = texts_[below(texts_.size())];
        text.insert(at, other.substr(below(other.size() + 1), below(120)));
        break;
      }
      default:
        replace_word(text, at);
    }
  }

  // By a word of the same kind from elsewhere in the text: mostly still a module, seldom a right
  // one.
  void replace_word(std::string& text, size_t near) {
    static constexpr std::string_view kDigits = "0123456789";
    static constexpr std::string_view kLetters =
        "abcdefghijklmnopqrstuvwxyz_-.ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const std::string_view kind = below(2) == 0 ? kDigits : kLetters;
    const auto word_near = [&](size_t at) {
      const size_t start = std::min(text.find_first_of(kind, at), text.size());
      const size_t end = std::min(text.find_first_not_of(kind, start), text.size());
      return std::pair(start, end - start);
    };
    const auto [from, length] = word_near(below(text.size()));
    const std::string word = text.substr(from, length);
    const auto [to, old_length] = word_near(near);
    text.replace(to, old_length, word);
  }

  std::vector<std::string> texts_;
  std::mt19937_64 random_;
};

// False where the text is refused, which is an answer too.
bool takes(const std::string& text) {
  try {
    take(text);
    return true;
  } catch (const UserError& error) {
    EXPECT_STRNE(error.what(), "");
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what() << "\n" << text;
  }
  return false;
}

TEST(HloMutations, TheFuzzersCorpusIsTakenOrRefused) {
  const std::vector<std::string> texts = texts_of(TESSERA_SOURCE_DIR "/tests/fuzz/corpus_hlo", "");
  EXPECT_GT(texts.size(), 100u);
  for (const std::string& text : texts) takes(text);
}

TEST(HloMutations, EndInAProgramOrInAUserError) {
  const std::vector<std::string> texts = texts_of(TESSERA_SOURCE_DIR "/tests/hlo/golden", ".hlo");
  ASSERT_FALSE(texts.empty());
  Mutator mutator(texts, 20261121);
  int taken = 0, refused = 0;
  const auto start = std::chrono::steady_clock::now();
  while (taken + refused < 20000 && !::testing::Test::HasFailure() &&
         std::chrono::steady_clock::now() - start < std::chrono::seconds(5))
    ++(takes(mutator.next()) ? taken : refused);
  EXPECT_GT(taken, 20);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace tessera::testing

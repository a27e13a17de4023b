#include "kernels/cuda/matmul/matmul_choices.h"

#include <charconv>
#include <cstdio>

#include "core/base/error.h"

namespace tessera::cuda {
namespace {

constexpr std::string_view kFirstLine = "tessera matmul choices 1";
constexpr std::string_view kLibrary = "library ", kDevice = "device ", kEquals = " = ", kBehind = "behind ";
constexpr size_t kWords = std::size(cublasLtMatmulAlgo_t{}.data), kDigits = 16;

[[noreturn]] void refuse(int line, std::string_view text, std::string_view expected) {
  throw_user_error("choices of matrix products: line ", line, " is \"", text, "\", expected ", expected);
}

// "0 00000000000000a1..." or "behind 0 00000000000000a1..." -> an algorithm
bool read(std::string_view text, MatmulAlgorithm& algorithm) {
  algorithm.epilogue_behind = text.starts_with(kBehind);
  if (algorithm.epilogue_behind) text.remove_prefix(kBehind.size());
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.size() != space + 1 + kWords * kDigits) return false;
  const auto number = [](std::string_view digits, auto& value, int base) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  bool is_right = number(text.substr(0, space), algorithm.workspace_bytes, 10) && algorithm.workspace_bytes >= 0;
  for (size_t i = 0; i < kWords; ++i)
    is_right = is_right && number(text.substr(space + 1 + i * kDigits, kDigits), algorithm.opaque.data[i], 16);
  return is_right;
}

std::string_view behind(std::string_view prefix, std::string_view text, int line) {
  if (!text.starts_with(prefix)) refuse(line, text, cat("\"", prefix, "...\""));
  return text.substr(prefix.size());
}

}  // namespace

std::string print_choices(const MatmulChoices& choices) {
  std::string text = cat(kFirstLine, "\n", kLibrary, choices.library, "\n", kDevice, choices.device, "\n");
  for (const auto& [problem, algorithm] : choices.of_problem) {
    text += cat(problem, kEquals, algorithm.epilogue_behind ? kBehind : "", algorithm.workspace_bytes, " ");
    for (const uint64_t word : algorithm.opaque.data) {
      char digits[kDigits + 1];
      std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(word));
      text += digits;
    }
    text += "\n";
  }
  return text;
}

MatmulChoices parse_choices(std::string_view text) {
  MatmulChoices choices;
  for (int line = 1; line <= 3 || !text.empty(); ++line) {
    const size_t end = text.find('\n');
    const std::string_view content = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line == 1) {
      if (content != kFirstLine) refuse(line, content, cat("\"", kFirstLine, "\""));
    } else if (line == 2) {
      choices.library = behind(kLibrary, content, line);
    } else if (line == 3) {
      choices.device = behind(kDevice, content, line);
    } else {
      const size_t equals = content.find(kEquals);
      MatmulAlgorithm algorithm;
      if (equals == std::string_view::npos || !read(content.substr(equals + kEquals.size()), algorithm))
        refuse(line, content, "a product and its algorithm");
      choices.of_problem[std::string(content.substr(0, equals))] = algorithm;
    }
  }
  return choices;
}

}  // namespace tessera::cuda

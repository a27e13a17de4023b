#include "tests/partitioner/random_program_shrink.h"

#include <utility>

namespace tessera::testing {

std::vector<uint32_t> shrink_tape(std::vector<uint32_t> tape, uint64_t seed,
                                  const RandomOptions& options, int attempts,
                                  const ProgramCheck& check) {
  auto fails = [&](const std::vector<uint32_t>& candidate) {
    if (--attempts < 0) return false;
    try {
      return !check(random_program(candidate, options), seed).empty();
    } catch (const std::exception&) {
      return false;  // no program
    }
  };
  for (size_t chunk = std::max<size_t>(1, tape.size() / 2); attempts > 0;) {
    bool any = false;
    for (size_t at = 0; at < tape.size() && attempts > 0;) {
      std::vector<uint32_t> shorter = tape;
      const auto first = shorter.begin() + static_cast<std::ptrdiff_t>(at);
      shorter.erase(first, first + static_cast<std::ptrdiff_t>(std::min(chunk, tape.size() - at)));
      if (fails(shorter))
        tape = std::move(shorter), any = true;
      else
        at += chunk;
    }
    if (!any && chunk == 1) break;
    if (!any) chunk /= 2;
  }
  for (uint32_t& number : tape) {
    if (number == 0 || attempts <= 0) continue;
    const uint32_t before = std::exchange(number, 0);
    if (!fails(tape)) number = before;
  }
  return tape;
}

}  // namespace tessera::testing

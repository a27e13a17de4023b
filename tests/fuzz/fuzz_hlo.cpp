// libFuzzer's target for HLO text: parse, print, parse again, print the same, import. A UserError is
// an answer; anything else is a crash.
//
//   ninja -C build fuzz_hlo                       (with clang++; configures a build of its own)
//   build/fuzz/fuzz_hlo -timeout=5 -rss_limit_mb=2048 -max_total_time=600 \
//       -dict=tests/fuzz/hlo.dict FOLDER tests/fuzz/corpus_hlo tests/hlo/golden
//
// New inputs go to FOLDER; those that matter are merged into the corpus with -merge=1.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/error.h"
#include "tests/hlo/hlo_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    tessera::testing::take({reinterpret_cast<const char*>(data), size});
  } catch (const tessera::UserError&) {
  }
  return 0;
}

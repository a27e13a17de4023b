#include "kernels/cuda/fusion/fusion_source.h"

namespace tessera::cuda {
namespace {

constexpr const char* kMachine =
#include "kernels/cuda/device/machine_text.inc"
    ;
constexpr const char* kPrelude =
#include "kernels/cuda/fusion/prelude_text.inc"
    ;

}  // namespace

const std::string& fusion_prelude() {
  static const std::string kText = cat(kMachine, kPrelude);
  return kText;
}

}  // namespace tessera::cuda

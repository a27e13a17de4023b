#include "kernels/cuda/backend/ranges.h"

#include <nvtx3/nvToolsExt.h>

namespace tessera::cuda {
namespace {

nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t kDomain = nvtxDomainCreateA("tessera");
  return kDomain;
}

}  // namespace

void begin_range(const char* name) {
  nvtxEventAttributes_t attributes = {};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name;
  nvtxDomainRangePushEx(domain(), &attributes);
}

void end_range() noexcept { nvtxDomainRangePop(domain()); }

}  // namespace tessera::cuda

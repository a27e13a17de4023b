// Ends the process where ranges are used in a way that would confuse a tool. (The depth is not kept in the header:
// thread_local variables of the plugin are taken for shared memory of kernels, and poisoned.)
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <cstdlib>

struct nvtxDomainRegistration_st {
  const char* name;
};

namespace {

thread_local int depth = 0;

[[noreturn]] void refuse(const char* why) {
  std::fprintf(stderr, "software GPU: NVTX: %s\n", why);
  std::abort();
}

}  // namespace

nvtxDomainHandle_t nvtxDomainCreateA(const char* name) {
  return new nvtxDomainRegistration_st{name};  // lives as long as the process, as NVTX's do
}

int nvtxDomainRangePushEx(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
  if (!domain || attributes->version != NVTX_VERSION || attributes->size != NVTX_EVENT_ATTRIB_STRUCT_SIZE)
    refuse("a range without a domain, or its attributes without their version and size");
  if (attributes->messageType != NVTX_MESSAGE_TYPE_ASCII || !attributes->message.ascii || !*attributes->message.ascii)
    refuse("a range without a name");
  return depth++;
}

int nvtxDomainRangePop(nvtxDomainHandle_t domain) {
  if (!domain || depth == 0) refuse("a range ends that was not begun");
  return --depth;
}

// Stands in for NVTX: nobody watches, but every pop must have its push, on the same thread and in the same domain.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

inline constexpr uint16_t NVTX_VERSION = 3;

using nvtxDomainHandle_t = struct nvtxDomainRegistration_st*;
enum nvtxMessageType_t : int32_t { NVTX_MESSAGE_UNKNOWN = 0, NVTX_MESSAGE_TYPE_ASCII = 1 };
union nvtxMessageValue_t {
  const char* ascii;
};
struct nvtxEventAttributes_t {
  uint16_t version;
  uint16_t size;
  uint32_t category;
  int32_t colorType;
  uint32_t color;
  int32_t payloadType;
  int32_t reserved0;
  uint64_t payload;
  int32_t messageType;
  nvtxMessageValue_t message;
};
inline constexpr uint16_t NVTX_EVENT_ATTRIB_STRUCT_SIZE = sizeof(nvtxEventAttributes_t);

namespace soft_gpu {
inline int& nvtx_depth() {
  thread_local int depth = 0;
  return depth;
}
[[noreturn]] inline void refuse_range(const char* why) {
  std::fprintf(stderr, "software GPU: NVTX: %s\n", why);
  std::abort();
}
}  // namespace soft_gpu

struct nvtxDomainRegistration_st {
  const char* name;
};
inline nvtxDomainHandle_t nvtxDomainCreateA(const char* name) {
  return new nvtxDomainRegistration_st{name};  // lives as long as the process, as NVTX's do
}
inline int nvtxDomainRangePushEx(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
  if (!domain || attributes->version != NVTX_VERSION || attributes->size != NVTX_EVENT_ATTRIB_STRUCT_SIZE)
    soft_gpu::refuse_range("a range without a domain, or its attributes without their version and size");
  if (attributes->messageType != NVTX_MESSAGE_TYPE_ASCII || std::strlen(attributes->message.ascii) == 0)
    soft_gpu::refuse_range("a range without a name");
  return soft_gpu::nvtx_depth()++;
}
inline int nvtxDomainRangePop(nvtxDomainHandle_t domain) {
  if (!domain || soft_gpu::nvtx_depth() == 0) soft_gpu::refuse_range("a range ends that was not begun");
  return --soft_gpu::nvtx_depth();
}

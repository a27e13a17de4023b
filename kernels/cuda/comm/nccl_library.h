// NCCL's functions, from the library that is found when they are first wanted.
#pragma once

#include <nccl.h>

#include <string>

namespace tessera::cuda {

struct NcclLibrary {
  int version = 0;  // 22809: 2.28.9
  std::string path;
  decltype(&::ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&::ncclCommInitRankConfig) init_rank_config = nullptr;
  decltype(&::ncclCommSplit) split = nullptr;
  decltype(&::ncclCommFinalize) finalize = nullptr;
  decltype(&::ncclCommDestroy) destroy = nullptr;
  decltype(&::ncclCommAbort) abort = nullptr;
  decltype(&::ncclCommGetAsyncError) get_async_error = nullptr;
  decltype(&::ncclGetErrorString) error_string = nullptr;
  decltype(&::ncclGetLastError) last_error = nullptr;
  decltype(&::ncclAllReduce) all_reduce = nullptr;
  decltype(&::ncclAllGather) all_gather = nullptr;
  decltype(&::ncclReduceScatter) reduce_scatter = nullptr;
  decltype(&::ncclBroadcast) broadcast = nullptr;
  decltype(&::ncclSend) send = nullptr;
  decltype(&::ncclRecv) receive = nullptr;
  decltype(&::ncclGroupStart) group_start = nullptr;
  decltype(&::ncclGroupEnd) group_end = nullptr;
  // Since 2.19, all or none: memory that NCCL reads and writes in place once it is registered.
  decltype(&::ncclMemAlloc) allocate = nullptr;
  decltype(&::ncclMemFree) release = nullptr;
  decltype(&::ncclCommRegister) register_memory = nullptr;
  decltype(&::ncclCommDeregister) deregister_memory = nullptr;

  bool registers_memory() const { return deregister_memory != nullptr; }

  std::string version_text() const;  // "2.28.9"
};

// The file that TESSERA_NCCL names; else NCCL where this program was linked with it; else libnccl.so.2 as the
// loader finds it. Null where there is none, or one older than 2.18 (whose communicators always block), and then
// `why` says what was tried. Kept for good once found. Any thread.
const NcclLibrary* find_nccl(std::string* why);

}  // namespace tessera::cuda

#include "kernels/comm/process_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/base/error.h"
#include "core/base/strings.h"

namespace tessera {
namespace {

#ifndef MADV_POPULATE_WRITE
constexpr int MADV_POPULATE_WRITE = 23;  // Linux 5.14
#endif

std::byte* map_whole(int fd, int64_t bytes) {
  void* base = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return nullptr;
  // Both are hints: large pages where the system allows them for shared memory, and the page table
  // filled now instead of by faults in the first training step.
  madvise(base, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  madvise(base, static_cast<size_t>(bytes), MADV_POPULATE_WRITE);
  return static_cast<std::byte*>(base);
}

}  // namespace

ProcessMemory::ProcessMemory(HostMemory kind, uint64_t job, int world_rank)
    : kind_(kind), job_(job), world_rank_(world_rank) {}

ProcessMemory::~ProcessMemory() {
  unlink_files();
  for (const Segment& segment : own_) {
    munmap(segment.base, static_cast<size_t>(segment.bytes));
    close(segment.fd);
  }
  for (const auto& [rank, peer] : peers_)
    for (const Segment& segment : peer.mapped)
      munmap(segment.base, static_cast<size_t>(segment.bytes));
}

void ProcessMemory::add_peer(int world_rank, int pid) { peers_[world_rank].pid = pid; }

std::string ProcessMemory::file_name(int world_rank, int64_t id) const {
  if (kind_ == HostMemory::memfd) return cat("/proc/", peers_.at(world_rank).pid, "/fd/", id);
  return cat("/dev/shm/tessera-", std::hex, job_, std::dec, "-", world_rank, "-", id);
}

StagingBuffer ProcessMemory::create(int64_t bytes) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t size = std::max<int64_t>((bytes + page - 1) / page * page, page);
  Segment segment;
  segment.bytes = size;
  std::string failed;
  if (kind_ == HostMemory::memfd) {
    segment.fd = memfd_create("tessera", MFD_CLOEXEC);
    segment.id = segment.fd;  // the number is the name by which peers find it
    if (segment.fd < 0) failed = "memfd_create";
  } else {
    segment.id = next_id_++;
    segment.fd = open(file_name(world_rank_, segment.id).c_str(),
                      O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (segment.fd < 0) failed = "creating a file in /dev/shm";
  }
  int error = errno;
  if (failed.empty() && (error = posix_fallocate(segment.fd, 0, size)) != 0)
    failed = "reserving it";
  if (failed.empty() && (segment.base = map_whole(segment.fd, size)) == nullptr) {
    failed = "mapping it";
    error = errno;
  }
  if (!failed.empty()) {
    if (segment.fd >= 0) close(segment.fd);
    if (kind_ == HostMemory::shm_file) unlink(file_name(world_rank_, segment.id).c_str());
    throw_user_error(
        "shared memory: rank ", world_rank_, " needs ", human_bytes(static_cast<double>(size)),
        kind_ == HostMemory::memfd ? " (memfd)" : " in /dev/shm", "; ", failed,
        " failed: ", std::strerror(error), ". Free memory, raise the container's limit",
        kind_ == HostMemory::memfd ? "" : " (--shm-size)", ", or run fewer ranks here.");
  }
  own_.push_back(segment);
  return {segment.base, size, {segment.id, 0}};
}

SharedAddress ProcessMemory::locate(const void* data, int64_t bytes) const {
  const auto* begin = static_cast<const std::byte*>(data);
  for (const Segment& segment : own_)
    if (begin >= segment.base && begin + bytes <= segment.base + segment.bytes)
      return {segment.id, begin - segment.base};
  return {};
}

std::byte* ProcessMemory::try_resolve(int world_rank, const SharedAddress& address) {
  if (world_rank == world_rank_) {
    for (const Segment& segment : own_)
      if (segment.id == address.segment) return segment.base + address.offset;
    return nullptr;
  }
  const auto found = peers_.find(world_rank);
  if (found == peers_.end() || address.segment < 0) return nullptr;
  for (const Segment& segment : found->second.mapped)
    if (segment.id == address.segment) return segment.base + address.offset;
  const int fd = open(file_name(world_rank, address.segment).c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  Segment segment;
  segment.id = address.segment;
  struct stat facts;
  if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size > 0) {
    segment.bytes = facts.st_size;
    segment.base = map_whole(fd, segment.bytes);
  }
  close(fd);
  if (segment.base == nullptr) return nullptr;
  found->second.mapped.push_back(segment);
  return segment.base + address.offset;
}

std::byte* ProcessMemory::resolve(int world_rank, const SharedAddress& address) {
  std::byte* data = try_resolve(world_rank, address);
  if (data == nullptr)
    throw_user_error("shared memory: rank ", world_rank_, " cannot map segment ", address.segment,
                     " of rank ", world_rank, ": ", std::strerror(errno));
  return data;
}

void ProcessMemory::unlink_files() {
  if (kind_ != HostMemory::shm_file) return;
  for (const Segment& segment : own_) unlink(file_name(world_rank_, segment.id).c_str());
}

}  // namespace tessera

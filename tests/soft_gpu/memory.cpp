// Each piece of device memory has pages of its own in one large reservation: behind it is a page that faults
// and stays so when the piece is freed. Addresses are not used again.
//
// All of it faults always, but while the device works a fault opens the stretch it is in, until the device rests:
// to open and close all there is at each step would take most of the time.
#include "tests/soft_gpu/memory.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/soft_gpu/simt_state.h"

namespace soft_gpu {
namespace {

constexpr size_t kPage = 4096, kStretch = 16 * kPage, kAlignment = 256, kReserved = size_t{1} << 40, kMostDevices = 16;
// NaN as bf16, f16, f32 and f64, and no bits that a test would write.
constexpr unsigned char kGuard[2] = {0xa5, 0xff};

struct Piece {
  unsigned char* begin;
  size_t bytes;
  int device;
  unsigned char* pages;
  size_t page_bytes;

  bool has_page(uintptr_t address) const { return address - reinterpret_cast<uintptr_t>(pages) < page_bytes; }
};
// Of a piece, kStretch bytes or what is left of it.
struct Stretch {
  const Piece* piece;
  unsigned char* begin;
  size_t bytes;
};

struct Memory {
  std::mutex mutex;
  unsigned char *base = nullptr, *next = nullptr;
  std::map<uintptr_t, Piece> pieces, freed;
  size_t used[kMostDevices] = {};
  int open[kMostDevices] = {};
  std::vector<Stretch> opened[kMostDevices];
  std::map<uintptr_t, size_t> pinned;
};

Memory& memory() {
  static Memory* const kMemory = new Memory;  // work may run until the process is gone
  return *kMemory;
}

unsigned char guard_at(const unsigned char* p) { return kGuard[reinterpret_cast<uintptr_t>(p) & 1]; }

const Piece* last_before(const std::map<uintptr_t, Piece>& pieces, uintptr_t address) {
  const auto after = pieces.upper_bound(address);
  return after == pieces.begin() ? nullptr : &std::prev(after)->second;
}

void describe(char* text, size_t size, uintptr_t address) {
  const Memory& all = memory();
  const Piece *live = last_before(all.pieces, address), *freed = last_before(all.freed, address);
  const bool is_live = live && (!freed || live->begin > freed->begin);
  const Piece* const best = is_live ? live : freed;
  const auto at = best ? static_cast<long long>(address - reinterpret_cast<uintptr_t>(best->begin)) : 0;
  const auto after = all.pieces.upper_bound(address);
  if (best && at < static_cast<long long>(best->bytes))
    std::snprintf(text, size, "byte %lld of %zu bytes of device %d that %s", at, best->bytes, best->device,
                  is_live ? "the host may not touch (or another device)" : "are freed");
  else if (best && at < static_cast<long long>(best->bytes + kPage + kAlignment))
    std::snprintf(text, size, "%lld bytes behind the end of %zu bytes of device %d%s",
                  at - static_cast<long long>(best->bytes), best->bytes, best->device,
                  is_live ? "" : ", which are freed");
  else if (after != all.pieces.end())
    std::snprintf(text, size, "%llu bytes before the begin of %zu bytes of device %d",
                  static_cast<unsigned long long>(after->first - address), after->second.bytes,
                  after->second.device);
  else
    std::snprintf(text, size, "no memory of any device");
}

void protect(unsigned char* begin, size_t bytes, bool open) {
  if (mprotect(begin, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
    fail("mprotect: %s", std::strerror(errno));
}

// Under the mutex.
void open_at(const Piece& piece, const unsigned char* address) {
  const size_t from = static_cast<size_t>(address - piece.pages) / kStretch * kStretch;
  const Stretch stretch{&piece, piece.pages + from, std::min(kStretch, piece.page_bytes - from)};
  const auto& opened = memory().opened[piece.device];
  if (std::any_of(opened.begin(), opened.end(), [&](const Stretch& s) { return s.begin == stretch.begin; })) return;
  protect(stretch.begin, stretch.bytes, true);
  memory().opened[piece.device].push_back(stretch);
}

// Whether the address is of a device that works, and can be touched now.
bool open_for_work(uintptr_t address) {
  Memory& all = memory();
  const std::lock_guard lock(all.mutex);
  // The one that begins at or before its page's end: a piece's begin may be within its first page.
  const Piece* const piece = last_before(all.pieces, address | (kPage - 1));
  if (!piece || !piece->has_page(address) || all.open[piece->device] == 0) return false;
  open_at(*piece, reinterpret_cast<const unsigned char*>(address));
  return true;
}

struct sigaction before_us;

// To describe the address no lock is taken: the program ends here.
void on_fault(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const int error_before = errno;
  Memory& all = memory();
  const auto base = reinterpret_cast<uintptr_t>(all.base);
  const bool ours = address >= base && address < base + kReserved;
  if (ours && open_for_work(address)) {
    errno = error_before;
    return;
  }
  if (ours || (runner && runner->run)) {
    char text[300] = "";
    if (ours) {
      describe(text, sizeof(text), address);
    } else if (runner->stacks.is_guard(info->si_addr)) {
      std::snprintf(text, sizeof(text), "a thread's stack is full (%zu bytes)", kStackBytes);
    } else if (runner->shared_memory && address - reinterpret_cast<uintptr_t>(runner->shared_base) < 1024 * 1024) {
      std::snprintf(text, sizeof(text), "byte %lld of %llu bytes of dynamic shared memory",
                    static_cast<long long>(address - reinterpret_cast<uintptr_t>(runner->shared_base)),
                    static_cast<unsigned long long>(runner->view.dynamic_shared_bytes));
    } else {
      std::snprintf(text, sizeof(text), "address %p, no memory of a device", info->si_addr);
    }
    std::fprintf(stderr, "soft_gpu: illegal access: %s%s\n", text,
                 runner && runner->run ? where_now().c_str() : " (by the host)");
    std::fflush(stderr);
    std::abort();
  }
  sigaction(signal, &before_us, nullptr);  // faults again, as it would without us
  (void)context;
}

void install_handler() {
  static bool is_installed = false;
  if (std::exchange(is_installed, true)) return;
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &before_us);
}

// The bytes around a piece in its own pages are as they were.
void check_guard(const Piece& piece) {
  // Where they lie: before its begin, which is in the first page, and behind its end.
  open_at(piece, piece.pages);
  open_at(piece, piece.pages + piece.page_bytes - 1);
  for (const unsigned char* p = piece.pages; p < piece.pages + piece.page_bytes; ++p) {
    if (p == piece.begin) p += piece.bytes;
    if (p >= piece.pages + piece.page_bytes) break;
    if (*p != guard_at(p))
      fail("%zu bytes of device %d were written outside: byte %td holds 0x%02x", piece.bytes, piece.device,
           p - piece.begin, *p);
  }
}

void use_signal_stack() {
  // A full stack's fault cannot be told on that stack.
  thread_local char* signal_stack = nullptr;
  if (signal_stack) return;
  stack_t old = {};
  if (sigaltstack(nullptr, &old) == 0 && !(old.ss_flags & SS_DISABLE)) return;
  constexpr size_t kBytes = 64 * 1024;
  signal_stack = static_cast<char*>(std::malloc(kBytes));
  stack_t stack = {};
  stack.ss_sp = signal_stack;
  stack.ss_size = kBytes;
  sigaltstack(&stack, nullptr);
}

}  // namespace

size_t total_memory() {
  const char* const text = std::getenv("TESSERA_SOFT_GPU_MEMORY");
  return text ? std::strtoull(text, nullptr, 10) : size_t{1} << 30;
}

void* allocate_device(int device, size_t bytes) {
  Memory& all = memory();
  const std::lock_guard lock(all.mutex);
  if (!all.base) {
    void* const base = mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) fail("no address space of %zu bytes", kReserved);
    all.base = all.next = static_cast<unsigned char*>(base);
    install_handler();
  }
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (all.used[device] + rounded > total_memory()) return nullptr;
  Piece piece;
  piece.page_bytes = (rounded + kPage - 1) / kPage * kPage;
  piece.pages = all.next + kPage;
  piece.begin = piece.pages + piece.page_bytes - rounded;
  piece.bytes = bytes;
  piece.device = device;
  all.next = piece.pages + piece.page_bytes;
  if (all.next + 2 * kPage > all.base + kReserved) fail("more memory was allocated over time than there are addresses");
  protect(piece.pages, piece.page_bytes, true);
  for (unsigned char* p = piece.pages; p < piece.pages + piece.page_bytes; ++p) {
    if (p == piece.begin && bytes > 0) {
      std::memset(p, 0xff, bytes);
      p += bytes - 1;
    } else {
      *p = guard_at(p);
    }
  }
  protect(piece.pages, piece.page_bytes, false);
  all.used[device] += rounded;
  all.pieces[reinterpret_cast<uintptr_t>(piece.begin)] = piece;
  return piece.begin;
}

bool release_device(void* pointer) {
  Memory& all = memory();
  const std::lock_guard lock(all.mutex);
  const auto found = all.pieces.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == all.pieces.end()) return false;
  const Piece& piece = found->second;
  check_guard(piece);
  std::erase_if(all.opened[piece.device], [&](const Stretch& stretch) { return stretch.piece == &piece; });
  // Gives the pages back as well.
  if (mmap(piece.pages, piece.page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
           0) == MAP_FAILED)
    fail("mmap: %s", std::strerror(errno));
  all.used[piece.device] -= (piece.bytes + kAlignment - 1) / kAlignment * kAlignment;
  all.freed.insert(all.pieces.extract(found));
  // Of pieces long gone only the place is unknown.
  if (all.freed.size() > 100000) all.freed.erase(all.freed.begin());
  return true;
}

size_t used_memory(int device) {
  const std::lock_guard lock(memory().mutex);
  return memory().used[device];
}

MemoryOpen::MemoryOpen(int device) : device_(device) {
  use_signal_stack();
  Memory& all = memory();
  const std::lock_guard lock(all.mutex);
  install_handler();
  ++all.open[device_];
}

namespace {
// Of the pieces that were touched since the device began to work. Under the mutex.
void check_touched(int device) {
  const Memory& all = memory();
  std::vector<const Piece*> touched;
  for (const Stretch& stretch : all.opened[device])
    if (std::find(touched.begin(), touched.end(), stretch.piece) == touched.end()) touched.push_back(stretch.piece);
  for (const Piece* piece : touched) check_guard(*piece);
}
}  // namespace

MemoryOpen::~MemoryOpen() {
  Memory& all = memory();
  const std::lock_guard lock(all.mutex);
  if (--all.open[device_] > 0) return;
  check_touched(device_);
  for (const Stretch& stretch : all.opened[device_]) protect(stretch.begin, stretch.bytes, false);
  all.opened[device_].clear();
}

void check_guards(int device) {
  const std::lock_guard lock(memory().mutex);
  check_touched(device);
}

namespace {
// The piece that holds all of them. Under the mutex.
const Piece* piece_with(const void* pointer, size_t bytes) {
  const Piece* const piece = last_before(memory().pieces, reinterpret_cast<uintptr_t>(pointer));
  if (!piece) return nullptr;
  const auto at = static_cast<size_t>(static_cast<const unsigned char*>(pointer) - piece->begin);
  return at <= piece->bytes && bytes <= piece->bytes - at ? piece : nullptr;
}
}  // namespace

int device_of_address(const void* pointer) {
  const std::lock_guard lock(memory().mutex);
  const Piece* const piece = piece_with(pointer, 1);
  return piece ? piece->device : -1;
}

bool is_device_memory(const void* pointer, size_t bytes, int device) {
  const std::lock_guard lock(memory().mutex);
  const Piece* const piece = piece_with(pointer, bytes);
  return piece && (device < 0 || device == piece->device);
}

bool register_host(void* pointer, size_t bytes) {
  Memory& all = memory();
  const std::lock_guard lock(all.mutex);
  const auto begin = reinterpret_cast<uintptr_t>(pointer);
  const auto after = all.pinned.lower_bound(begin);
  if (after != all.pinned.end() && after->first < begin + bytes) return false;
  if (after != all.pinned.begin() && std::prev(after)->first + std::prev(after)->second > begin) return false;
  all.pinned[begin] = bytes;
  return true;
}

bool unregister_host(void* pointer) {
  Memory& all = memory();
  const std::lock_guard lock(all.mutex);
  return all.pinned.erase(reinterpret_cast<uintptr_t>(pointer)) > 0;
}

bool is_pinned(const void* pointer, size_t bytes) {
  Memory& all = memory();
  const std::lock_guard lock(all.mutex);
  const auto begin = reinterpret_cast<uintptr_t>(pointer);
  const auto after = all.pinned.upper_bound(begin);
  if (after == all.pinned.begin()) return false;
  return std::prev(after)->first + std::prev(after)->second >= begin + bytes;
}

}  // namespace soft_gpu

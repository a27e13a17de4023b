#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/soft_gpu/symbols.h"

namespace soft_gpu {
namespace {

// use(symbol, name) for each one in the file.
template <typename Use>
void for_each_symbol(const char* file, const Use& use) {
  std::ifstream stream(file, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (bytes.size() < sizeof(ElfW(Ehdr)) || std::memcmp(bytes.data(), ELFMAG, SELFMAG) != 0) return;
  const auto& header = *reinterpret_cast<const ElfW(Ehdr)*>(bytes.data());
  const auto* sections = reinterpret_cast<const ElfW(Shdr)*>(bytes.data() + header.e_shoff);
  for (int s = 0; s < header.e_shnum; ++s) {
    if (sections[s].sh_type != SHT_SYMTAB) continue;
    const auto* symbols = reinterpret_cast<const ElfW(Sym)*>(bytes.data() + sections[s].sh_offset);
    const char* const names = bytes.data() + sections[sections[s].sh_link].sh_offset;
    for (size_t i = 0; i < sections[s].sh_size / sizeof(ElfW(Sym)); ++i) use(symbols[i], names + symbols[i].st_name);
  }
}

std::string find_symbol(const char* file, uint64_t offset) {
  std::string found;
  for_each_symbol(file, [&](const auto& symbol, const char* name) {
    if (symbol.st_value == offset && (symbol.st_info & 15) == STT_FUNC) found = name;
  });
  return found;
}

}  // namespace

void symbol_name(const void* function, char* text, size_t size) {
  std::snprintf(text, size, "at %p", function);
  Dl_info info;
  struct link_map* map = nullptr;
  if (dladdr1(function, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0) return;
  const char* const file = map->l_name[0] ? map->l_name : "/proc/self/exe";
  const std::string name = find_symbol(file, reinterpret_cast<uintptr_t>(function) - map->l_addr);
  if (name.empty()) return;
  int status = 0;
  char* const demangled = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::snprintf(text, size, "%s", demangled ? demangled : name.c_str());
  std::free(demangled);
}

std::vector<Symbol> tls_symbols(const char* file) {
  std::vector<Symbol> all;
  for_each_symbol(file, [&](const auto& symbol, const char* name) {
    if ((symbol.st_info & 15) == STT_TLS && symbol.st_shndx != SHN_UNDEF)
      all.push_back({name, symbol.st_value, symbol.st_size});
  });
  return all;
}

}  // namespace soft_gpu

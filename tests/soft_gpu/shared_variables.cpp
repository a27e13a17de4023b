#include "tests/soft_gpu/shared_variables.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <unordered_set>

#include "tests/soft_gpu/symbols.h"

extern "C" void* __tls_get_addr(size_t module_and_offset[2]);

namespace soft_gpu {
namespace {
constexpr unsigned char kPoison = 0xff;
constexpr int kStudies = 3;  // launches whose first block is studied

void poison(const Variable& variable) { std::memset(variable.begin, kPoison, variable.bytes); }
bool is_poison(const Variable& variable) {
  return variable.begin[0] == kPoison && std::memcmp(variable.begin, variable.begin + 1, variable.bytes - 1) == 0;
}

struct TlsQuery {
  const void* base;
  size_t module;
};
size_t tls_module_at(const void* base) {
  TlsQuery query{base, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& wanted = *static_cast<TlsQuery*>(data);
        if (reinterpret_cast<const void*>(info->dlpi_addr) != wanted.base) return 0;
        wanted.module = info->dlpi_tls_modid;
        return 1;
      },
      &query);
  return query.module;
}

}  // namespace

struct SharedVariables::Module {
  std::vector<Variable> variables;  // this thread's
};

// Variables of functions ("_ZZ...") without a guard ("_ZGVZ..."): they are of kernels, or might as well be.
const SharedVariables::Module* SharedVariables::module_of(const void* function) {
  Dl_info info;
  link_map* map = nullptr;
  if (dladdr1(function, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 || !map) return nullptr;
  const auto* const base = reinterpret_cast<const void*>(map->l_addr);
  const auto [at, is_new] = modules_.try_emplace(base, nullptr);
  if (!is_new) return at->second;
  auto* const module = new Module;  // leaked, as what holds it
  at->second = module;
  const size_t tls = tls_module_at(base);
  if (tls == 0) return module;
  const std::vector<Symbol> symbols = tls_symbols(map->l_name[0] ? map->l_name : "/proc/self/exe");
  std::unordered_set<std::string> guarded;
  for (const Symbol& symbol : symbols)
    if (symbol.name.starts_with("_ZGV")) guarded.insert("_Z" + symbol.name.substr(4));
  for (const Symbol& symbol : symbols) {
    if (!symbol.name.starts_with("_ZZ") || guarded.contains(symbol.name) || symbol.bytes == 0) continue;
    size_t index[2] = {tls, symbol.value};
    module->variables.push_back({static_cast<unsigned char*>(__tls_get_addr(index)), symbol.bytes});
  }
  return module;
}

void SharedVariables::begin_kernel(const void* function) {
  const auto [at, is_new] = used_.try_emplace(function);
  now_ = &at->second;
  if (is_new) now_->module = module_of(function);
  studies_ = now_->module && now_->studies++ < kStudies;
  if (studies_)
    for (const Variable& variable : now_->module->variables) poison(variable);
}

void SharedVariables::begin_block() {
  for (const size_t v : now_->variables) poison(now_->module->variables[v]);
}

void SharedVariables::end_block() {
  if (!studies_) return;
  studies_ = false;
  const auto& all = now_->module->variables;
  for (size_t v = 0; v < all.size(); ++v)
    if (!is_poison(all[v]) && std::find(now_->variables.begin(), now_->variables.end(), v) == now_->variables.end())
      now_->variables.push_back(v);
}

}  // namespace soft_gpu

#include "core/runtime/buffer_store.h"

#include <algorithm>
#include <vector>

#include "core/base/error.h"

namespace tessera {
namespace {

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

std::string input_name(const Graph& graph, int index) {
  const Value value = graph.inputs[static_cast<size_t>(index)].value;
  const std::string& name = graph.info(value).name;
  return name.empty() ? graph.at(value).attributes.get<std::string>(Attr::name) : name;
}

BufferStore::~BufferStore() {
  for (std::byte* memory : owned_) backend_.release(memory);
}

std::byte* BufferStore::allocate_zeroed(int64_t bytes, bool symmetric) {
  if (bytes == 0) return nullptr;
  if (symmetric && world_) return world_->allocate_symmetric(bytes);
  std::byte* memory = backend_.allocate(bytes);
  owned_.push_back(memory);
  backend_.zero(memory, bytes);
  return memory;
}

std::byte* BufferStore::lend(Arena arena, int64_t bytes) {
  TESSERA_CHECK(arena == Arena::scratch || arena == Arena::symmetric);
  if (bytes == 0) return nullptr;
  Lent& lent = arena == Arena::scratch ? scratch_ : symmetric_;
  if (lent.bytes >= bytes) return lent.memory;
  lent.bytes = std::max(bytes, lent.wanted);
  if (arena == Arena::symmetric && world_) return lent.memory = world_->allocate_symmetric(lent.bytes);
  owned_.push_back(lent.memory = backend_.allocate(lent.bytes));
  return lent.memory;
}

TensorView BufferStore::add(const std::string& name, const TensorType& type, bool symmetric) {
  TESSERA_CHECK(!has(name), "there is a tensor named \"", name, "\" already");
  return tensors_[name] = {type, allocate_zeroed(aligned(type.bytes()), symmetric)};
}

const TensorView* BufferStore::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  return at == tensors_.end() ? nullptr : &at->second;
}

void BufferStore::add_inputs(std::span<const Executable* const> executables) {
  struct Wanted {
    TensorType type;
    bool symmetric = false;
  };
  std::map<std::string, Wanted> wanted;
  for (const Executable* executable : executables) {
    scratch_.wanted = std::max(scratch_.wanted, executable->memory.scratch_bytes);
    symmetric_.wanted = std::max(symmetric_.wanted, executable->memory.symmetric_bytes);
  }
  for (const Executable* executable : executables)
    for (size_t i = 0; i < executable->input_buffers.size(); ++i) {
      const std::string name = input_name(executable->graph, static_cast<int>(i));
      const BufferPlan& plan =
          executable->buffers[static_cast<size_t>(executable->input_buffers[i])];
      auto [entry, is_new] = wanted.emplace(name, Wanted{plan.type});
      TESSERA_CHECK(entry->second.type == plan.type, "input \"", name, "\" is ", plan.type,
                    " in graph \"", executable->graph.name, "\" and ", entry->second.type,
                    " in another");
      entry->second.symmetric |= plan.collective;
      if (has(name))
        TESSERA_CHECK(get(name).type == plan.type, "input \"", name, "\" is ", plan.type,
                      " in graph \"", executable->graph.name, "\", the stored tensor is ",
                      get(name).type);
    }
  std::erase_if(wanted, [&](const auto& entry) { return has(entry.first); });
  int64_t bytes[2] = {0, 0};
  for (const auto& [name, tensor] : wanted) bytes[tensor.symmetric] += aligned(tensor.type.bytes());
  // One block of each kind, the same on every rank.
  std::byte* memory[2] = {allocate_zeroed(bytes[0], false), allocate_zeroed(bytes[1], true)};
  for (const auto& [name, tensor] : wanted) {
    tensors_[name] = {tensor.type, memory[tensor.symmetric]};
    memory[tensor.symmetric] += aligned(tensor.type.bytes());
  }
}

TensorView BufferStore::get(std::string_view name) const {
  const TensorView* tensor = find(name);
  if (!tensor) throw_user_error("there is no tensor named \"", name, "\"");
  return *tensor;
}

std::vector<std::string> BufferStore::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

int64_t BufferStore::bytes() const {
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors_) total += aligned(tensor.type.bytes());
  return total;
}

}  // namespace tessera

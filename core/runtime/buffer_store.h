// The memory of one rank: named tensors that outlive a step (parameters, optimizer state,
// accumulators), and what a step needs while it runs. Several executables (training, accumulation,
// evaluation) work on the same.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/compile/executable.h"
#include "core/runtime/backend.h"
#include "core/runtime/communicator.h"

namespace tessera {

class BufferStore {
 public:
  // Both must outlive the store. Without a world nothing is symmetric (collectives then copy).
  explicit BufferStore(Backend& backend, World* world = nullptr)
      : backend_(backend), world_(world) {}
  ~BufferStore();
  BufferStore(const BufferStore&) = delete;
  BufferStore& operator=(const BufferStore&) = delete;

  // Makes a zeroed tensor for every graph input of these executables that the store lacks; inputs
  // of one name are one tensor, and must have one type (InternalError). What any of them hands to
  // collectives lies in symmetric memory. Collective over the world: every rank passes the same
  // executables.
  void add_inputs(std::span<const Executable* const> executables);

  // Makes one zeroed tensor; InternalError where the name is taken. Collective where `symmetric`.
  TensorView add(const std::string& name, const TensorType& type, bool symmetric = false);

  // Memory that an executor needs only while it runs: scratch, or symmetric memory. Executors of one
  // store run one after another, so all have the same: the largest that any of the executables of
  // add_inputs needs, and more where an executor asks for more. Not zeroed. Null for 0 bytes.
  // Collective where symmetric.
  std::byte* lend(Arena arena, int64_t bytes);

  const TensorView* find(std::string_view name) const;  // null where there is none
  // The tensor of that name; UserError where there is none.
  TensorView get(std::string_view name) const;
  bool has(std::string_view name) const { return find(name) != nullptr; }
  std::vector<std::string> names() const;
  int64_t bytes() const;  // of all tensors, each rounded up to 64

 private:
  std::byte* allocate_zeroed(int64_t bytes, bool symmetric);

  Backend& backend_;
  World* world_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::vector<std::byte*> owned_;
  struct Lent {
    std::byte* memory = nullptr;
    int64_t bytes = 0, wanted = 0;
  };
  Lent scratch_, symmetric_;
};

// The name of input `index` of the graph: its value's name, else the parameter's.
std::string input_name(const Graph& graph, int index);

}  // namespace tessera

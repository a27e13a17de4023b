// Which kernel computes an op: ordered candidates per op, each accepting or saying why not.
//
// A backend fills the table by an ordinary function (`register_cpu_kernels(table)`); there is no
// load-time registration. The last candidate of every op is the reference (OpDef::eval), so that a
// new op is right everywhere before it is fast anywhere.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

// A dense row-major buffer as a kernel sees it.
struct TensorView {
  TensorType type;
  void* data = nullptr;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

struct KernelArgs {
  const Instruction& instruction;
  std::span<const TensorView> operands;
  std::span<const TensorView>
      results;                     // a result may share an operand's memory where `alias` said so
  std::byte* workspace = nullptr;  // `workspace_bytes`, 64-byte aligned, content undefined
  void* stream = nullptr;  // Backend::stream()
};

struct Kernel {
  std::string name;  // "cpu.layer_norm"
  // nullopt: accepted. Otherwise the reason why not, for `tessera plan` and warnings.
  std::optional<std::string> (*accept)(const OpCall&,
                                       std::span<const TensorType> results) = nullptr;
  void (*run)(const KernelArgs&) = nullptr;
  int64_t (*workspace_bytes)(const OpCall&, std::span<const TensorType> results) = nullptr;
  // Result index -> operand whose memory this kernel can write the result over, or -1. Unset: the
  // op's own `alias` for updates in place, else none.
  int (*in_place)(const OpCall&, int result) = nullptr;
  // Every result may lie over any one operand with as many elements of the same width (each is read
  // before it is written, as in loops over elements).
  bool in_place_any = false;
  bool is_reference = false;
  // Called once for each step that runs this kernel, with its addresses, before the first run: for what
  // is compiled, chosen or looked up only once.
  void (*prepare)(const KernelArgs&) = nullptr;
  // On a device: the host takes part in each run (it waits for the device), so that the kernel cannot be
  // captured.
  bool needs_host = false;
};

// Choices point into the table, which must outlive what was compiled with it.
class KernelTable {
 public:
  // Appends a candidate; earlier ones are asked first.
  void add(const OpDef& op, Kernel kernel);

  // What runs where nothing else accepts; unset: reference_kernel(), which needs host memory.
  void set_reference(Kernel kernel) { reference_ = std::move(kernel); }

  struct Choice {
    const Kernel* kernel;               // the reference when nothing else accepts
    std::vector<std::string> refusals;  // "cpu.attention: head_dim 7 is odd"
  };
  Choice choose(const OpDef& op, const OpCall& call, std::span<const TensorType> results) const;

 private:
  std::map<const OpDef*, std::vector<Kernel>> kernels_;
  std::optional<Kernel> reference_;
};

// The reference candidate: wraps OpDef::eval (host memory only).
const Kernel& reference_kernel();

}  // namespace tessera

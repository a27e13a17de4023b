// Many steps prepared together on one backend, which then compiles all their kernels at once, as it does for a
// program.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <random>

#include "core/base/error.h"
#include "core/ir/graph.h"
#include "core/types/host_tensor.h"
#include "kernels/cuda/plugin/open.h"

namespace tessera::testing {

// Why no backend can be made here; "" where one can.
inline std::string no_device() {
  try {
    return cuda::open_plugin().devices().empty() ? "no CUDA device" : "";
  } catch (const UserError& error) {
    return cat("no CUDA device: ", error.what());
  }
}

// A folder that vanishes with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tessera-kernels-XXXXXX").string();
    TESSERA_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::unique_ptr<Backend> backend_with_cache(const std::filesystem::path& folder) {
  cuda::BackendOptions options;
  options.cache_folder = folder.string();
  return cuda::open_plugin().create_backend(options);
}

class KernelBatch {
 public:
  explicit KernelBatch(Backend& backend) : backend_(backend) {}

  // The number of the step. The table's choice must not be the reference. With `offset`, every operand and result
  // lies so many bytes behind an aligned address; with `in_place` >= 0, result 0 lies over that operand.
  int add(const OpDef& op, const Attributes& attributes, std::vector<HostTensor> operands, int64_t offset = 0,
          int in_place = -1) {
    auto step = std::make_unique<Step>();
    step->instruction.op = &op;
    step->instruction.attributes = attributes;
    for (const HostTensor& operand : operands) step->types.push_back(operand.type());
    const OpCall call{step->types, step->instruction.attributes};
    const std::vector<TensorType> results = infer_types(op, call);
    const KernelTable::Choice choice = backend_.kernels().choose(op, call, results);
    EXPECT_FALSE(choice.kernel->is_reference) << op.name << "(" << join(step->types) << "): " << join(choice.refusals);
    step->kernel = choice.kernel;
    for (const HostTensor& operand : operands) step->operands.push_back(place(operand, offset));
    for (const TensorType& type : results) {
      HostTensor poisoned(type);
      std::fill(poisoned.bytes().begin(), poisoned.bytes().end(), std::byte{0xff});
      step->results.push_back(step->results.empty() && in_place >= 0
                                  ? TensorView{type, step->operands[static_cast<size_t>(in_place)].data}
                                  : place(poisoned, offset));
    }
    if (step->kernel->prepare) step->kernel->prepare(step->args(backend_));
    steps_.push_back(std::move(step));
    return static_cast<int>(steps_.size()) - 1;
  }

  void finish() { backend_.finish_preparing(); }

  std::vector<HostTensor> run(int index) {
    Step& step = *steps_[static_cast<size_t>(index)];
    step.kernel->run(step.args(backend_));
    std::vector<HostTensor> results;
    for (const TensorView& view : step.results) {
      HostTensor& result = results.emplace_back(view.type);
      backend_.copy_to_host(result.bytes().data(), view.data, static_cast<int64_t>(result.bytes().size()));
    }
    return results;
  }

  // Nothing was written beside the results.
  ~KernelBatch() {
    for (const Piece& piece : pieces_) {
      std::vector<std::byte> bytes(static_cast<size_t>(piece.used));
      backend_.copy_to_host(bytes.data(), piece.memory, piece.used);
      for (const auto& [begin, end] : piece.taken) std::fill(bytes.begin() + begin, bytes.begin() + end, std::byte{kGuardByte});
      EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{kGuardByte}; }))
          << "a kernel wrote beside its results";
      backend_.release(piece.memory);
    }
  }

 private:
  struct Step {
    Instruction instruction;
    const Kernel* kernel = nullptr;
    std::vector<TensorType> types;
    std::vector<TensorView> operands, results;
    KernelArgs args(Backend& backend) const {
      return {instruction, operands, results, nullptr, backend.stream()};
    }
  };

  // In a piece for many, between guards: allocating is slow.
  TensorView place(const HostTensor& tensor, int64_t offset) {
    const auto bytes = static_cast<int64_t>(tensor.bytes().size());
    const int64_t needed = (2 * kGuard + bytes + kGuard - 1) / kGuard * kGuard;
    if (pieces_.empty() || pieces_.back().used + needed > pieces_.back().bytes) {
      const int64_t size = std::max(needed, kPiece);
      pieces_.push_back({backend_.allocate(size), size, 0, {}});
      backend_.set_bytes(pieces_.back().memory, kGuardByte, size);
    }
    Piece& piece = pieces_.back();
    const int64_t begin = piece.used + kGuard / 2 + offset;
    piece.taken.push_back({begin, begin + bytes});
    piece.used += needed;
    backend_.copy_to_device(piece.memory + begin, tensor.bytes().data(), bytes);
    return {tensor.type(), piece.memory + begin};
  }

  struct Piece {
    std::byte* memory;
    int64_t bytes, used;
    std::vector<std::pair<int64_t, int64_t>> taken;
  };
  static constexpr int64_t kGuard = 128, kPiece = 1 << 22;
  static constexpr int kGuardByte = 0xa5;

  Backend& backend_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<Piece> pieces_;
};

// What the op's eval makes of the operands.
inline std::vector<HostTensor> evaluated(const OpDef& op, const Attributes& attributes,
                                         const std::vector<HostTensor>& operands) {
  std::vector<TensorType> types;
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& operand : operands) {
    types.push_back(operand.type());
    pointers.push_back(&operand);
  }
  const OpCall call{types, attributes};
  std::vector<HostTensor> results;
  for (const TensorType& type : infer_types(op, call)) results.emplace_back(type);
  op.eval(call, pointers, results);
  return results;
}

// Elements of `range`; of floats uniform, of integers whole.
inline HostTensor random_tensor(const TensorType& type, std::mt19937& random, double low = -1, double high = 1) {
  HostTensor tensor(type);
  std::uniform_real_distribution<double> reals(low, high);
  const auto first = static_cast<int64_t>(low), last = static_cast<int64_t>(high);
  std::uniform_int_distribution<int64_t> integers(std::min(first, last), last);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (type.dtype == DType::pred)
      tensor.set_int(i, static_cast<int64_t>(random() & 1));
    else if (is_float(type.dtype))
      tensor.set_real(i, reals(random));
    else
      tensor.set_int(i, integers(random));
  }
  return tensor;
}

}  // namespace tessera::testing

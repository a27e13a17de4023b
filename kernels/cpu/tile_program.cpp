#include "kernels/cpu/tile_program.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kRegisterBytes = kTileElements * 8;
constexpr int64_t kTaskElements = 32 * kTileElements;

bool is_dense(std::span<const int64_t> dims, std::span<const int64_t> strides) {
  int64_t expected = 1;
  for (size_t d = dims.size(); d-- > 0;) {
    if (dims[d] == 1) continue;
    if (strides[d] != expected) return false;
    expected *= dims[d];
  }
  return true;
}

}  // namespace

TileProgram::TileProgram(std::vector<int64_t> dims) : dims_(std::move(dims)) {
  if (dims_.empty()) dims_ = {1};
  for (int64_t size : dims_) elements_ *= size;
}

int TileProgram::input(DType dtype, std::vector<int64_t> strides, int operand) {
  if (strides.empty()) strides.assign(dims_.size(), 0);
  TESSERA_CHECK(strides.size() == dims_.size() && has_tiles(dtype), "dtype ", dtype);
  Step step;
  step.kind = Kind::input;
  step.dtype = dtype;
  step.source = operand;
  step.dense = is_dense(dims_, strides);
  step.strides = std::move(strides);
  steps_.push_back(std::move(step));
  return static_cast<int>(steps_.size()) - 1;
}

int TileProgram::constant(DType dtype, const void* element) {
  Step step;
  step.kind = Kind::constant;
  step.dtype = dtype;
  std::memcpy(&step.element, element, static_cast<size_t>(size_of(dtype)));
  steps_.push_back(std::move(step));
  return static_cast<int>(steps_.size()) - 1;
}

int TileProgram::apply(TileOp op, DType result, std::span<const int> operands) {
  const size_t typed = op == TileOp::select ? 1 : 0;
  const DType operand = steps_[static_cast<size_t>(operands[typed])].dtype;
  Step step;
  step.kind = Kind::operation;
  step.dtype = result;
  step.function = find_tile_function(op, operand, result);
  if (step.function == nullptr) return -1;
  const int index = static_cast<int>(steps_.size());
  for (size_t i = 0; i < operands.size(); ++i) {
    step.operands[i] = operands[i];
    steps_[static_cast<size_t>(operands[i])].last_use = index;
  }
  steps_.push_back(std::move(step));
  return index;
}

void TileProgram::output(int value) {
  steps_[static_cast<size_t>(value)].output = static_cast<int>(outputs_.size());
  outputs_.push_back(value);
}

void TileProgram::finish() {
  const int end = static_cast<int>(steps_.size());
  for (int value : outputs_) steps_[static_cast<size_t>(value)].last_use = end;
  std::vector<int> free;
  for (int index = 0; index < end; ++index) {
    Step& step = steps_[static_cast<size_t>(index)];
    // Constants are filled once per range, so their registers serve nothing else.
    if (step.kind == Kind::constant || free.empty()) {
      step.reg = registers_++;
    } else {
      step.reg = free.back();
      free.pop_back();
    }
    // A register is free only after the step that reads it last: functions are not in place.
    for (int i = 0; i <= index; ++i) {
      const Step& earlier = steps_[static_cast<size_t>(i)];
      const bool dies = earlier.last_use == index || (i == index && earlier.last_use < 0);
      if (dies && earlier.kind != Kind::constant) free.push_back(earlier.reg);
    }
  }
}

// What one range of tiles runs on.
struct TileProgram::Frame {
  std::span<const void* const> inputs;
  std::span<void* const> outputs;
  std::byte* registers;
  std::vector<const void*>& values;  // where each step's tile lies
  bool apart;                        // no output shares memory with an input

  std::byte* reg(int index) const { return registers + index * kRegisterBytes; }
};

void TileProgram::run(std::span<const void* const> inputs, std::span<void* const> outputs) const {
  TESSERA_CHECK(outputs.size() == outputs_.size());
  bool apart = true;
  for (const void* input : inputs) {
    apart = apart && std::find(outputs.begin(), outputs.end(), input) == outputs.end();
  }
  parallel_ranges(elements_, kTaskElements, [&](int64_t begin, int64_t end) {
    run_range(begin, end, inputs, outputs, apart);
  });
}

void TileProgram::run_range(int64_t begin, int64_t end, std::span<const void* const> inputs,
                            std::span<void* const> outputs, bool apart) const {
  thread_local std::vector<const void*> values;
  values.assign(steps_.size(), nullptr);
  Frame frame{inputs, outputs, thread_scratch(3, static_cast<size_t>(registers_ * kRegisterBytes)),
              values, apart};
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    if (step.kind != Kind::constant) continue;
    tile_fill(step.dtype, kTileElements, &step.element, frame.reg(step.reg));
    values[i] = frame.reg(step.reg);
  }
  for (int64_t start = begin; start < end; start += kTileElements) {
    run_tile(frame, start, std::min(kTileElements, end - start));
  }
}

void TileProgram::run_tile(Frame& frame, int64_t start, int64_t n) const {
  const int64_t padded = std::min(kTileElements, (n + 63) / 64 * 64);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    if (step.kind == Kind::constant) continue;
    std::byte* tile = frame.reg(step.reg);
    if (step.kind == Kind::operation) {
      // Straight to its output, unless that would change what a later step still reads.
      const bool safe = frame.apart || i + 1 == steps_.size();
      if (step.output >= 0 && safe && n == padded && step.dtype != DType::bf16) {
        tile = static_cast<std::byte*>(frame.outputs[static_cast<size_t>(step.output)]) +
               start * size_of(step.dtype);
      }
      const auto value = [&](int index) {
        return index < 0 ? nullptr : frame.values[static_cast<size_t>(index)];
      };
      step.function(padded, tile, value(step.operands[0]), value(step.operands[1]),
                    value(step.operands[2]));
      if (step.dtype == DType::bf16) tile_round_bf16(padded, tile);
      frame.values[i] = tile;
      continue;
    }
    const auto* source =
        static_cast<const std::byte*>(frame.inputs[static_cast<size_t>(step.source)]);
    if (!step.dense) {
      gather(step, source, start, n, tile);
      frame.values[i] = tile;
    } else if (n == padded && step.dtype != DType::bf16) {
      frame.values[i] = source + start * size_of(step.dtype);  // read where it lies
    } else {
      tile_load(step.dtype, n, source + start * size_of(step.dtype), tile);
      frame.values[i] = tile;
    }
  }
  // After all reads of the tile: an output may lie over an input.
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const size_t step = static_cast<size_t>(outputs_[i]);
    const DType dtype = steps_[step].dtype;
    auto* to = static_cast<std::byte*>(frame.outputs[i]) + start * size_of(dtype);
    if (to != frame.values[step]) tile_store(dtype, n, frame.values[step], to);
  }
}

// Elements [start, start + n) of the walk of a broadcast or strided input, a run of the innermost
// dim at a time.
void TileProgram::gather(const Step& step, const void* source, int64_t start, int64_t n,
                         void* tile) const {
  const int64_t in_bytes = size_of(step.dtype), tile_bytes = tile_element_bytes(step.dtype);
  const int64_t inner = dims_.back(), inner_stride = step.strides.back();
  for (int64_t done = 0; done < n;) {
    int64_t outer = (start + done) / inner;
    const int64_t column = (start + done) % inner;
    int64_t offset = column * inner_stride;
    for (size_t d = dims_.size() - 1; d-- > 0; outer /= dims_[d]) {
      offset += outer % dims_[d] * step.strides[d];
    }
    const int64_t count = std::min(n - done, inner - column);
    const auto* from = static_cast<const std::byte*>(source) + offset * in_bytes;
    auto* to = static_cast<std::byte*>(tile) + done * tile_bytes;
    if (inner_stride == 1) {
      tile_load(step.dtype, count, from, to);
    } else if (inner_stride == 0) {
      tile_fill(step.dtype, count, from, to);
    } else {
      for (int64_t i = 0; i < count; ++i) {
        tile_load(step.dtype, 1, from + i * inner_stride * in_bytes, to + i * tile_bytes);
      }
    }
    done += count;
  }
}

}  // namespace tessera::cpu

// A chain of elementwise operations run tile by tile: the interpreter under fused elementwise
// kernels.
//
// Floor: memory, each input read and each output written once, whatever the length of the chain.
// A tile of 512 elements costs one indirect call per operation, some 20 cycles against 30-60 for
// the cheapest operation itself; its registers stay in L1 or L2.
//
// A program is straight-line code over numbered values:
//
//   TileProgram program({256, 768});                            // the shape that is walked
//   int x = program.input(DType::f32, {768, 1}, 0);             // operand 0, strides per dim
//   int bias = program.input(DType::f32, {0, 1}, 1);            // operand 1, broadcast over dim 0
//   int sum = program.apply(TileOp::add, DType::f32, {{x, bias}});
//   program.output(sum);
//   program.finish();
//   program.run(inputs, outputs);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/tile_ops.h"

namespace tessera::cpu {

class TileProgram {
 public:
  // The dims that are walked, outermost first; every output is dense over them.
  explicit TileProgram(std::vector<int64_t> dims);

  // The next operand; `strides` in elements per dim, 0 where it is repeated. `operand` says which
  // buffer of `run` it reads: two values may read one buffer differently.
  int input(DType dtype, std::vector<int64_t> strides, int operand);
  // One element (of `dtype`, in memory form) repeated.
  int constant(DType dtype, const void* element);
  // -1 where there is no such tile function.
  int apply(TileOp op, DType result, std::span<const int> operands);
  // The next output buffer of `run` gets `value`.
  void output(int value);
  // Assigns registers. Nothing may be added after it.
  void finish();

  // Outputs may share memory with a dense input of the same element size. Bitwise the same with any
  // number of threads: elements do not meet.
  void run(std::span<const void* const> inputs, std::span<void* const> outputs) const;

 private:
  enum class Kind : uint8_t { input, constant, operation };
  struct Step {
    Kind kind;
    DType dtype;
    TileFunction function = nullptr;
    int operands[3] = {-1, -1, -1};
    int source = -1;               // Kind::input: which buffer
    std::vector<int64_t> strides;  // Kind::input
    bool dense = false;            // Kind::input: consecutive elements of the walk
    uint64_t element = 0;          // Kind::constant
    int reg = -1;
    int last_use = -1;  // step that reads it last; outputs are read by the end
    int output = -1;    // which output it is
  };
  struct Frame;

  void run_range(int64_t begin, int64_t end, std::span<const void* const> inputs,
                 std::span<void* const> outputs, bool apart) const;
  void run_tile(Frame& frame, int64_t start, int64_t n) const;
  void gather(const Step& step, const void* source, int64_t start, int64_t n, void* tile) const;

  std::vector<int64_t> dims_;
  int64_t elements_ = 1;
  std::vector<Step> steps_;
  std::vector<int> outputs_;
  int registers_ = 0;
};

}  // namespace tessera::cpu

#include <array>
#include <limits>

#include "core/base/error.h"
#include "partitioner/hlo/check_module.h"

namespace tessera::hlo {
namespace {

constexpr size_t kAny = std::numeric_limits<size_t>::max();

struct Arity {
  std::string_view opcodes;  // separated by blanks
  size_t least, most;
  size_t multiple = 1;  // the operands beyond `rest` come in such groups
  size_t rest = 0;
};

constexpr std::array kArities = {
    Arity{" constant iota parameter partition-id replica-id rng-get-and-update-state ", 0, 0},
    Arity{
        " abs acos acosh asin asinh atan atanh bitcast bitcast-convert broadcast cbrt ceil "
        "cholesky "
        "convert copy cosh cosine count-leading-zeros domain erf exponential exponential-minus-one "
        "fft floor get-dimension-size get-tuple-element imag is-finite log log-plus-one logistic "
        "negate not popcnt real reduce-precision reshape reverse rng-bit-generator "
        "round-nearest-afz round-nearest-even rsqrt sign sine sinh slice sqrt tan tanh topk "
        "transpose while ",
        1, 1},
    Arity{
        " add and atan2 compare complex convolution divide dot gather maximum minimum multiply or "
        "pad power remainder set-dimension-size shift-left shift-right-arithmetic "
        "shift-right-logical stochastic-convert subtract triangular-solve xor ",
        2, 2},
    Arity{" clamp select select-and-scatter ragged-dot batch-norm-training ", 3, 3},
    Arity{" batch-norm-inference batch-norm-grad ", 5, 5},
    Arity{" reduce reduce-window ", 2, kAny, 2},
    Arity{" scatter ", 3, kAny, 2, 1},
    Arity{" concatenate sort map dynamic-slice all-reduce all-gather reduce-scatter all-to-all "
          "collective-broadcast collective-permute ",
          1, kAny},
    Arity{" conditional dynamic-update-slice ", 2, kAny},
};

}  // namespace

void check_arity(const HloInstruction& instruction) {
  const std::string word = " " + instruction.opcode + " ";
  for (const Arity& arity : kArities) {
    if (arity.opcodes.find(word) == std::string_view::npos) continue;
    const size_t count = instruction.operands.size();
    if (count < arity.least || count > arity.most)
      throw_user_error(where(instruction), ": ", instruction.opcode, " takes ",
                       arity.most == kAny ? "at least " : "", arity.least, " operand",
                       arity.least == 1 ? "" : "s", ", not ", count);
    if ((count - arity.rest) % arity.multiple != 0)
      throw_user_error(where(instruction), ": ", instruction.opcode, " takes an ",
                       arity.rest == 0 ? "even" : "odd", " number of operands, not ", count);
    return;
  }
}

}  // namespace tessera::hlo

// rng-bit-generator, with the bits that XLA gives on CPUs (core/ops/rng.h).
#include "core/ops/rng.h"
#include "partitioner/hlo/import_support.h"

namespace tessera::hlo {
namespace {

std::string algorithm_of(const ImportContext& c) {
  const std::string& name = c.name_of("algorithm");
  if (name == "rng_default") return "default";
  if (name == "rng_philox") return "philox";
  if (name == "rng_three_fry") return "three_fry";
  c.fail(cat("algorithm=", name, " is none of rng_default, rng_philox, rng_three_fry"));
}

}  // namespace

void import_rng_bit_generator(ImportContext& c) {
  expect_operands(c, 1);
  if (c.instruction().shape.leaves().size() != 2)
    c.fail("rng-bit-generator has two results, the next state and the bits");
  const TensorType bits = c.result_type(1);
  if (!is_integer(bits.dtype))
    return c.unsupported(cat("opcode rng-bit-generator of ", bits.dtype));
  const ops::RandomBits made =
      ops::rng_bit_generator(c.builder(), c.operand(0), bits, algorithm_of(c));
  c.set({made.state, made.bits});
}

}  // namespace tessera::hlo

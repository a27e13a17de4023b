// rng-bit-generator. The specification leaves the bits to the implementation, and so do we: they are
// those of core/ops/rng.h, not of XLA's scrambled philox.
#include "core/ops/rng.h"
#include "partitioner/hlo/import_support.h"

namespace tessera::hlo {

void import_rng_bit_generator(ImportContext& c) {
  expect_operands(c, 1);
  Builder& b = c.builder();
  const std::string& name = c.name_of("algorithm");
  std::string algorithm;
  if (name == "rng_default" || name == "rng_philox") algorithm = "philox";
  if (name == "rng_three_fry") algorithm = "three_fry";
  if (algorithm.empty())
    c.fail(cat("algorithm=", name, " is none of rng_default, rng_philox, rng_three_fry"));
  const std::vector<const HloShape*> leaves = c.instruction().shape.leaves();
  if (leaves.size() != 2) c.fail("rng-bit-generator has two results, the next state and the bits");
  const TensorType bits = c.result_type(1);
  if (!is_integer(bits.dtype)) return c.unsupported(cat("opcode rng-bit-generator of ", bits.dtype));
  c.note("rng-bit-generator: the bits are Tessera's, not XLA's");
  const ops::RandomBits made = ops::rng_bit_generator(b, c.operand(0), bits, algorithm);
  c.set({made.state, made.bits});
}

}  // namespace tessera::hlo

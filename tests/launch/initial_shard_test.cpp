#include "launch/engine/initial_shard.h"

#include <gtest/gtest.h>

#include "kernels/cpu/threads.h"

namespace tessera::test {
namespace {

models::ParameterSpec normal_parameter(Shape shape, DType dtype = DType::f32) {
  models::ParameterSpec spec;
  spec.name = "weight";
  spec.type = {dtype, std::move(shape)};
  spec.init_std = 0.02;
  spec.init_site = 3;
  return spec;
}

// More rows than one task takes, rows longer than a task, a vector, a shard with padding at its end.
TEST(InitialShard, IsTheSameWithAnyNumberOfThreads) {
  struct Case {
    models::ParameterSpec spec;
    std::vector<int64_t> start;
    Shape shape;
  };
  models::ParameterSpec padded = normal_parameter(Shape{600, 512});
  padded.valid_rows = 555;
  const Case cases[] = {{normal_parameter(Shape{300, 1000}), {0, 0}, Shape{300, 1000}},
                        {normal_parameter(Shape{3, 70000}, DType::f64), {1, 10000}, Shape{2, 60000}},
                        {normal_parameter(Shape{200000}), {100000}, Shape{100000}},
                        {padded, {300, 256}, Shape{300, 256}}};
  const int before = cpu::threads();
  for (const Case& c : cases) {
    const HostTensor expected = models::initial_values(c.spec, 7, c.start, c.shape);
    for (const int threads : {1, 2, 5}) {
      cpu::set_threads(threads);
      EXPECT_EQ(initial_shard(c.spec, 7, c.start, c.shape), expected) << c.shape << " on " << threads;
    }
  }
  cpu::set_threads(before);
}

}  // namespace
}  // namespace tessera::test

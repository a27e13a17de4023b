// Replicas that differ are found, and named with their ranks.
#include <gtest/gtest.h>

#include "core/runtime/thread_world.h"
#include "kernels/cpu/register.h"
#include "launch/config/load.h"
#include "launch/engine/session.h"
#include "tests/launch/tiny_job.h"

namespace tessera {
namespace {

std::string differing_after(const std::string& mesh, const std::string& preset, int spoiled_rank) {
  const test::TinyJob tiny;
  const JobConfig job = load_job_text(tiny.text(), "tiny.textproto",
                                      {.sharding_file = test::shipped_sharding(preset), .mesh = mesh, .device_count = 2});
  const KernelTable kernels = cpu_kernel_table();
  const auto compiled = compile_job(job, kernels);
  std::string found;
  run_thread_ranks(2, [&](World& world) {
    const std::unique_ptr<Backend> backend = create_cpu_backend(kernels);
    Session session(compiled, *backend, world);
    session.initialise();
    for (const TensorTarget& target : session.state().targets())
      if (world.rank() == spoiled_rank && target.tensor.name == "final_norm.gain") target.data[5] ^= std::byte{1};
    const std::string differing = session.state().differing_replica(world);
    if (world.rank() == 0) found = differing;
  });
  return found;
}

TEST(Replicas, AgreeAfterInitialisation) {
  EXPECT_EQ(differing_after("data=2", "data", -1), "");
  EXPECT_EQ(differing_after("data=1,model=2", "tensor", -1), "");
}

TEST(Replicas, OneFlippedBitIsNamed) {
  EXPECT_EQ(differing_after("data=2", "data", 1), "final_norm.gain [0] on ranks 0 and 1");
  EXPECT_EQ(differing_after("data=1,model=2", "tensor", 0), "final_norm.gain [0] on ranks 0 and 1");
}

}  // namespace
}  // namespace tessera

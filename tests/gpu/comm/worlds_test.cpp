// Which transport ranks come to, what is refused, and where ranks are placed.
#include "tests/gpu/comm/comm_testing.h"

namespace tessera::cuda {
namespace {

#define SKIP_WITHOUT_DEVICE() \
  if (usable_devices().empty()) GTEST_SKIP() << "skipped: no CUDA device"

std::string refusal(int ranks, const GpuRanksOptions& options) {
  try {
    run_gpu_ranks(ranks, options, [](GpuRank&) {});
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

// By every rank, so that a difference shows.
std::string transport_on(int ranks, const GpuRanksOptions& options) {
  std::string text;
  run_gpu_ranks(ranks, options, [&](GpuRank& rank) {
    const std::string mine = open_plugin().describe_transport(rank.world);
    const std::vector<std::string> all = rank.world.all_gather_text(mine);
    for (const std::string& other : all) EXPECT_EQ(other, mine);
    if (rank.world.rank() == 0) text = mine;
  });
  return text;
}

// For a while, the file that NCCL is looked for in.
class NamedNccl {
 public:
  explicit NamedNccl(const char* path) { setenv("TESSERA_NCCL", path, 1); }
  ~NamedNccl() { unsetenv("TESSERA_NCCL"); }
};

TEST(Worlds, TwoRanksOnOneGpuAreStaged) {
  SKIP_WITHOUT_DEVICE();
  GpuRanksOptions options;
  options.share_one_gpu = true;
  const std::string text = transport_on(2, options);
  EXPECT_EQ(text.rfind("staged through pinned host memory (ranks 0 and 1 use one GPU (", 0), 0u) << text;
}

TEST(Worlds, NcclRefusesTwoRanksOnOneGpu) {
  SKIP_WITHOUT_DEVICE();
  GpuRanksOptions options;
  options.share_one_gpu = true;
  options.transport = Transport::nccl;
  const std::string text = refusal(3, options);
  for (const char* part : {"ranks 0 and 1 use one GPU", "device.transport = staged", " at "})
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(Worlds, RanksWithAGpuEachUseNccl) {
  GpuRanksOptions options;
  options.transport = Transport::nccl;
  if (const std::string why = why_not(2, options); !why.empty()) GTEST_SKIP() << why;
  options.transport = Transport::automatic;
  EXPECT_EQ(transport_on(2, options).rfind("NCCL 2.", 0), 0u);
}

TEST(Worlds, WithoutNcclTheReasonIsTold) {
  GpuRanksOptions options;
  options.transport = Transport::nccl;
  if (const std::string why = why_not(2, options); !why.empty()) GTEST_SKIP() << why;
  const NamedNccl nowhere("/nowhere/libnccl.so.2");
  const std::string text = refusal(2, options);
  for (const char* part : {"rank 0 has no NCCL", "/nowhere/libnccl.so.2", "TESSERA_NCCL", "device.transport = staged"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
  options.transport = Transport::automatic;
  EXPECT_NE(transport_on(2, options).find("rank 0 has no NCCL"), std::string::npos);
  std::string versions = join(open_plugin().versions());
  EXPECT_NE(versions.find("no NCCL: "), std::string::npos) << versions;
}

// The software NCCL stops where ranks differ in what is registered.
TEST(Worlds, WhereOneRankCannotRegisterItsMemoryNoneDoes) {
  GpuRanksOptions options;
  options.transport = Transport::nccl;
  if (const std::string why = why_not(3, options); !why.empty()) GTEST_SKIP() << why;
  if (!is_software_gpu()) GTEST_SKIP() << "only the software GPU's NCCL can be told to fail so";
  for (const char* unable : {"1", "-1"}) {
    setenv("TESSERA_SOFT_NCCL_NO_REGISTER", unable, 1);
    run_gpu_ranks(3, options, [&](GpuRank& rank) {
      const std::vector<int> ranks = {0, 1, 2};
      const auto before = rank.world.create_group(ranks, "before");
      std::byte* const memory = rank.world.allocate_symmetric(4096);
      const auto after = rank.world.create_group(ranks, "after");
      const auto value = static_cast<float>(rank.world.rank() + 1);
      rank.backend.fill(memory, &value, 4, 8);
      CollectiveCall call;
      call.shape = {8};
      call.input = memory;
      call.output = memory + 1024;
      call.stream = rank.backend.stream();
      before->run(call);
      call.input = memory + 1024;
      call.output = memory;
      after->run(call);
      EXPECT_EQ(fetch(rank.backend, memory, {DType::f32, {8}}).get_real(7), 18);
    });
    unsetenv("TESSERA_SOFT_NCCL_NO_REGISTER");
  }
}

TEST(Worlds, OneRankNeedsNoTransport) {
  SKIP_WITHOUT_DEVICE();
  const auto inner = create_single_world();
  const auto backend = open_plugin().create_backend({});
  const auto world = open_plugin().create_world(*inner, *backend, Transport::nccl);
  EXPECT_EQ(open_plugin().describe_transport(*world), "none (one rank)");
  const auto group = world->create_group(std::vector<int>{0}, "data");
  std::byte* const memory = world->allocate_symmetric(256);
  const float two = 2;
  backend->fill(memory, &two, 4, 8);
  CollectiveCall call;
  call.shape = {8};
  call.input = memory;
  call.output = memory + 128;
  call.stream = backend->stream();
  group->run(call);
  EXPECT_EQ(fetch(*backend, memory + 128, {DType::f32, {8}}).get_real(7), 2);
  call.kind = CollectiveKind::permute;  // nobody sends
  group->run(call);
  EXPECT_EQ(fetch(*backend, memory + 128, {DType::f32, {8}}).get_real(7), 0);
}

TEST(Worlds, RanksArePlacedOneByOne) {
  SKIP_WITHOUT_DEVICE();
  const auto devices = static_cast<int>(usable_devices().size());
  run_thread_ranks(3, [&](World& world) {
    const int device = open_plugin().place(world);
    EXPECT_EQ(device, world.rank() % devices);
    const std::string table = open_plugin().placement(world, device);
    EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 4) << table;
    EXPECT_EQ(table.rfind("host", 0), 0u) << table;
    for (const char* part : {"rank", "PCI bus", "NUMA node", world.host_name().c_str()})
      EXPECT_NE(table.find(part), std::string::npos) << table;
    EXPECT_NE(table.find(usable_devices()[static_cast<size_t>(device)].pci_bus), std::string::npos) << table;
    EXPECT_EQ(world.broadcast_text(table, 0), table);
  });
}

}  // namespace
}  // namespace tessera::cuda

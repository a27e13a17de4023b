// Every collective of device buffers, by both transports, against its meaning element by element.
#include <numeric>
#include <random>

#include "tests/comm/reference_collectives.h"
#include "tests/gpu/comm/comm_testing.h"

namespace tessera::cuda {
namespace {

using test::CollectiveCase;

// What NCCL has no reduction for, and refuses.
bool nccl_reduces(const CollectiveCase& what) {
  if (what.kind != CollectiveKind::all_reduce && what.kind != CollectiveKind::reduce_scatter) return true;
  const bool is_logical = what.reduce == ReduceKind::logical_and || what.reduce == ReduceKind::logical_or;
  switch (what.dtype) {
    case DType::pred:
    case DType::f16:
    case DType::bf16:
    case DType::f32:
    case DType::f64: return true;
    case DType::s8:
    case DType::u8:
    case DType::s32:
    case DType::u32:
    case DType::s64:
    case DType::u64: return !is_logical;
    default: return false;
  }
}

// Small whole numbers: sums and products of them are exact in any order and every type.
HostTensor whole_numbers(const CollectiveCase& what, uint64_t seed, int rank) {
  std::mt19937_64 random(seed * 1000003u + static_cast<uint64_t>(rank));
  HostTensor tensor({what.dtype, what.shape});
  const uint64_t values = what.dtype == DType::pred ? 2 : 4;
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    const auto value = static_cast<double>(random() % values);
    if (what.dtype == DType::c64)
      tensor.set_complex(i, value);
    else if (is_float(what.dtype))
      tensor.set_real(i, value);
    else
      tensor.set_int(i, static_cast<int64_t>(value));
  }
  return tensor;
}

struct Setting {
  Transport transport;
  int ranks;
};
std::string print(const Setting& setting) {
  return cat(setting.transport == Transport::nccl ? "Nccl" : "Staged", setting.ranks);
}

class Collectives : public ::testing::TestWithParam<Setting> {
 protected:
  void SetUp() override {
    options_.transport = GetParam().transport;
    if (const std::string why = why_not(GetParam().ranks, options_); !why.empty()) GTEST_SKIP() << why;
  }
  GpuRanksOptions options_;
};

std::vector<int> all_of(int ranks) {
  std::vector<int> members(static_cast<size_t>(ranks));
  std::iota(members.begin(), members.end(), 0);
  return members;
}

// Inputs and outputs lie in symmetric memory or not, in place or not, at odd places.
TEST_P(Collectives, AnyOfThemGivesWhatItMeans) {
  constexpr int kCases = 60;
  constexpr int64_t kRoom = 256 << 10;
  const int ranks = GetParam().ranks;
  run_gpu_ranks(ranks, options_, [&](GpuRank& rank) {
    const auto group = rank.world.create_group(all_of(ranks), "data");
    std::byte* const symmetric = rank.world.allocate_symmetric(kRoom);
    std::byte* const plain = rank.backend.allocate(kRoom);
    for (uint64_t seed = 1; seed <= kCases; ++seed) {
      const CollectiveCase what = test::random_case(seed + 1000 * static_cast<uint64_t>(ranks), ranks, 600);
      if (GetParam().transport == Transport::nccl && !nccl_reduces(what)) continue;
      std::vector<HostTensor> inputs;
      for (int r = 0; r < ranks; ++r) inputs.push_back(whole_numbers(what, seed, r));
      const HostTensor expected = test::reference_collective(what, inputs)[static_cast<size_t>(group->rank())];
      const bool may_be_in_place = what.kind == CollectiveKind::all_reduce || what.kind == CollectiveKind::permute ||
                                   what.kind == CollectiveKind::broadcast;
      const bool in_place = may_be_in_place && seed % 3 == 0;
      std::byte* const base = seed % 2 == 0 ? symmetric : plain;
      std::byte* const input = base + 8 * (seed % 5);
      std::byte* const output = in_place ? input : (seed % 4 < 2 ? symmetric : plain) + kRoom / 2 + 8 * (seed % 3);
      rank.backend.set_bytes(output, 0xff, expected.type().bytes());
      put(rank.backend, input, inputs[static_cast<size_t>(group->rank())]);
      HostTensor unused;
      CollectiveCall call = what.call(group->rank(), inputs[0], unused, "a tensor");
      call.input = input;
      call.output = output;
      call.stream = rank.backend.stream();
      group->run(call);
      const HostTensor got = fetch(rank.backend, output, expected.type());
      EXPECT_TRUE(same_bytes(got, expected))
          << "case " << seed << ": " << what.kind << " " << what.reduce << " " << what.dtype << what.shape << " split "
          << what.split_dim << " concat " << what.concat_dim << (in_place ? " in place" : "") << " on rank "
          << group->rank();
    }
    rank.world.barrier();
    rank.backend.release(plain);
  });
}

// Operands come from work that was submitted just before, and are overwritten by work submitted right after.
TEST_P(Collectives, AreOrderedWithTheComputeAroundThem) {
  const int ranks = GetParam().ranks;
  run_gpu_ranks(ranks, options_, [&](GpuRank& rank) {
    const auto one = rank.world.create_group(all_of(ranks), "one");
    const auto other = rank.world.create_group(all_of(ranks), "other");
    constexpr int64_t kElements = 300, kBytes = kElements * 4;
    std::byte* const memory = rank.world.allocate_symmetric(16 * kBytes);
    const auto at = [&](int slot) { return memory + slot * kBytes; };
    const auto number = [&](int slot, float value) { rank.backend.fill(at(slot), &value, 4, kElements); };
    CollectiveCall call;
    call.shape = {kElements};
    call.stream = rank.backend.stream();
    for (int round = 0; round < 6; ++round) {
      std::vector<std::pair<Communicator*, Ticket>> tickets;
      for (int slot = 0; slot < 5; ++slot) {
        number(15, static_cast<float>(100 * round + 10 * slot + rank.world.rank()));
        rank.backend.copy(at(slot), at(15), kBytes);
        call.input = at(slot);
        call.output = slot % 2 == 0 ? at(slot) : at(slot + 5);
        call.tensor = "round";
        Communicator* const group = slot < 3 ? one.get() : other.get();
        tickets.emplace_back(group, group->start(call));
        group->poll();
      }
      // Waited for in another order than started.
      for (const int slot : {3, 1, 0, 4, 2}) {
        tickets[static_cast<size_t>(slot)].first->wait(tickets[static_cast<size_t>(slot)].second);
        rank.backend.copy(at(10 + slot), slot % 2 == 0 ? at(slot) : at(slot + 5), kBytes);
        number(slot, -1);
        if (slot % 2 != 0) number(slot + 5, -1);
      }
      for (int slot = 0; slot < 5; ++slot) {
        const HostTensor got = fetch(rank.backend, at(10 + slot), {DType::f32, {kElements}});
        const int expected = ranks * (100 * round + 10 * slot) + ranks * (ranks - 1) / 2;
        EXPECT_EQ(got.get_real(0), expected) << "round " << round << " slot " << slot;
        EXPECT_EQ(got.get_real(kElements - 1), expected) << "round " << round << " slot " << slot;
      }
    }
  });
}

// A rank that waits in the small exchanges still does its part of what it has started.
TEST_P(Collectives, GoOnWhileARankIsInABarrier) {
  const int ranks = GetParam().ranks;
  run_gpu_ranks(ranks, options_, [&](GpuRank& rank) {
    const auto group = rank.world.create_group(all_of(ranks), "data");
    std::byte* const memory = rank.world.allocate_symmetric(4096);
    const float one = 1;
    rank.backend.fill(memory, &one, 4, 1024);
    CollectiveCall call;
    call.shape = {1024};
    call.input = call.output = memory;
    call.stream = rank.backend.stream();
    const Ticket ticket = group->start(call);
    if (rank.world.rank() == 0) {  // waits before the barrier, the others after it
      group->wait(ticket);
      rank.backend.synchronize();
      rank.world.barrier();
    } else {
      rank.world.barrier();
      group->wait(ticket);
    }
    EXPECT_EQ(fetch(rank.backend, memory, {DType::f32, {1}}).get_real(0), ranks);
  });
}

TEST_P(Collectives, SymmetricMemoryIsZeroed) {
  run_gpu_ranks(GetParam().ranks, options_, [&](GpuRank& rank) {
    const HostTensor got = fetch(rank.backend, rank.world.allocate_symmetric(1000), {DType::u8, {1000}});
    for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(got.get_int(i), 0);
    EXPECT_EQ(rank.world.create_group(std::vector<int>{rank.world.rank()}, "alone")->needs_host(), false);
  });
}

// Groups of any order and of several sizes, beside a rank that is alone.
TEST_P(Collectives, FollowTheOrderOfTheirGroup) {
  if (GetParam().ranks != 4) GTEST_SKIP() << "four ranks make such groups";
  run_gpu_ranks(4, options_, [&](GpuRank& rank) {
    const int me = rank.world.rank();
    std::byte* const memory = rank.world.allocate_symmetric(4096);
    const std::vector<std::vector<std::vector<int>>> all = {{{2, 0}, {3, 1}}, {{1, 0, 2}, {3}}, {{3, 2, 1, 0}}};
    for (const auto& groups : all) {
      const auto mine = std::find_if(groups.begin(), groups.end(), [&](const std::vector<int>& ranks) {
        return std::count(ranks.begin(), ranks.end(), me) > 0;
      });
      const auto group = rank.world.create_group(*mine, "any");
      ASSERT_EQ(group->size(), static_cast<int>(mine->size()));
      EXPECT_EQ((*mine)[static_cast<size_t>(group->rank())], me);
      const auto value = static_cast<float>(me);
      rank.backend.fill(memory, &value, 4, 1);
      CollectiveCall gather;
      gather.kind = CollectiveKind::all_gather;
      gather.shape = {1};
      gather.input = memory;
      gather.output = memory + 1024;
      gather.stream = rank.backend.stream();
      group->run(gather);
      const HostTensor got = fetch(rank.backend, memory + 1024, {DType::f32, {group->size()}});
      for (int i = 0; i < group->size(); ++i) EXPECT_EQ(got.get_real(i), (*mine)[static_cast<size_t>(i)]);
    }
  });
}

// Rows and columns of a square of ranks, in flight together.
TEST_P(Collectives, OfSeveralGroupsAreInFlightTogether) {
  if (GetParam().ranks != 4) GTEST_SKIP() << "four ranks make a square";
  run_gpu_ranks(4, options_, [&](GpuRank& rank) {
    const int me = rank.world.rank();
    const auto row = rank.world.create_group(std::vector<int>{me / 2 * 2, me / 2 * 2 + 1}, "row");
    const auto column = rank.world.create_group(std::vector<int>{me % 2, me % 2 + 2}, "column");
    std::byte* const memory = rank.world.allocate_symmetric(1 << 16);
    for (int round = 0; round < 10; ++round) {
      const auto value = static_cast<float>(me + round);
      rank.backend.fill(memory, &value, 4, 64);
      rank.backend.fill(memory + 1024, &value, 4, 64);
      CollectiveCall sum, whole;
      sum.shape = whole.shape = {8, 8};
      sum.stream = whole.stream = rank.backend.stream();
      sum.input = sum.output = memory;
      whole.kind = CollectiveKind::all_gather;
      whole.concat_dim = 1;
      whole.input = memory + 1024;
      whole.output = memory + 2048;
      // The order of starts differs between ranks: only that within a group must agree.
      Ticket summed, gathered;
      if ((me + round) % 2 == 0) {
        summed = row->start(sum);
        gathered = column->start(whole);
        row->wait(summed);
        column->wait(gathered);
      } else {
        gathered = column->start(whole);
        summed = row->start(sum);
        column->wait(gathered);
        row->wait(summed);
      }
      EXPECT_EQ(fetch(rank.backend, memory, {DType::f32, {64}}).get_real(63), me / 2 * 4 + 1 + 2 * round);
      const HostTensor columns = fetch(rank.backend, memory + 2048, {DType::f32, {8, 16}});
      EXPECT_EQ(columns.get_real(7), me % 2 + round);
      EXPECT_EQ(columns.get_real(8), me % 2 + 2 + round);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Gpu, Collectives,
                         ::testing::Values(Setting{Transport::nccl, 2}, Setting{Transport::nccl, 3},
                                           Setting{Transport::nccl, 4}, Setting{Transport::staged, 2},
                                           Setting{Transport::staged, 3}, Setting{Transport::staged, 4}),
                         [](const auto& info) { return print(info.param); });

}  // namespace
}  // namespace tessera::cuda

// What is said, and how soon, where NCCL hangs or fails.
#include <chrono>
#include <filesystem>
#include <mutex>

#include "core/runtime/flight_record.h"
#include "core/runtime/progress_engine.h"
#include "tests/gpu/comm/comm_testing.h"

namespace tessera::cuda {
namespace {

class NcclWatch : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.transport = Transport::nccl;
    if (const std::string why = why_not(2, options_); !why.empty()) GTEST_SKIP() << why;
    folder_ = ::testing::TempDir() + "/flight_watch_test";
    std::filesystem::remove_all(folder_);
    setenv("TESSERA_FLIGHT_RECORD", folder_.c_str(), 1);
  }
  void TearDown() override {
    unsetenv("TESSERA_FLIGHT_RECORD");
    unsetenv("TESSERA_SOFT_NCCL_ERROR");
    std::filesystem::remove_all(folder_);
  }

  // The body's error on each rank, "" where there was none.
  std::vector<std::string> errors_of(const std::function<void(GpuRank&, Communicator&, std::byte*)>& body) {
    std::vector<std::string> errors(2);
    std::mutex mutex;
    try {
      run_gpu_ranks(2, options_, [&](GpuRank& rank) {
        const auto group = rank.world.create_group(std::vector<int>{0, 1}, "data");
        std::byte* const memory = rank.world.allocate_symmetric(4096);
        try {
          body(rank, *group, memory);
        } catch (const std::exception& error) {
          {
            const std::lock_guard lock(mutex);
            errors[static_cast<size_t>(rank.world.rank())] = error.what();
          }
          throw;
        }
      });
    } catch (const std::exception&) {
    }
    return errors;
  }

  static CollectiveCall all_reduce(GpuRank& rank, std::byte* memory, std::string_view tensor) {
    CollectiveCall call;
    call.shape = {64};
    call.input = call.output = memory;
    call.tensor = tensor;
    call.stream = rank.backend.stream();
    return call;
  }

  GpuRanksOptions options_;
  std::string folder_;
};

TEST_F(NcclWatch, ARankThatDoesNotComeIsNamed) {
  options_.timeout_seconds = 0.5;
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<std::string> errors = errors_of([&](GpuRank& rank, Communicator& group, std::byte* memory) {
    group.run(all_reduce(rank, memory, "first"));
    rank.backend.synchronize();
    rank.inner.set_timeout(30);  // NCCL's watch is what is tested
    if (rank.world.rank() == 0) {
      group.run(all_reduce(rank, memory, "grad/w"));
      rank.backend.synchronize();  // hangs until the watch gives up
    } else {
      rank.world.barrier();
    }
  });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  for (const char* part : {"rank 0 has waited 0.5 s in all_reduce #2 of 'grad/w' in group 'data' (ranks 0, 1)",
                           "rank 1 lags: it has not reached it, and waits in", "Flight record: "})
    EXPECT_NE(errors[0].find(part), std::string::npos) << part << "\n" << errors[0];
  EXPECT_NE(errors[1].find("rank 1 lags"), std::string::npos) << errors[1];
  const std::vector<FlightRecord> records = read_flight_records(folder_);
  ASSERT_EQ(records.size(), 2u);
  const FlightVerdict verdict = compare_flight_records(records);
  EXPECT_EQ(verdict.culprit, 1) << verdict.text;
  ASSERT_EQ(records[0].entries.size(), 2u);
  EXPECT_EQ(records[0].entries[0].tensor, "first");
  EXPECT_GT(records[0].entries[0].finished_at, 0u);
  EXPECT_EQ(records[0].entries[1].finished_at, 0u);
  EXPECT_EQ(records[0].groups[0].enqueued, 2u);
  EXPECT_EQ(records[1].groups[0].started, 1u);
}

TEST_F(NcclWatch, WhatARankThrowsEndsTheOthersWaits) {
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<std::string> errors = errors_of([&](GpuRank& rank, Communicator& group, std::byte* memory) {
    if (rank.world.rank() == 1) throw_user_error("the disk is full");
    group.run(all_reduce(rank, memory, "w"));
    rank.backend.synchronize();
  });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  EXPECT_NE(errors[0].find("rank 1 failed: the disk is full"), std::string::npos) << errors[0];
}

TEST_F(NcclWatch, AnErrorOfNcclIsThrownWithItsReason) {
  if (!is_software_gpu()) GTEST_SKIP() << "skipped: only the software GPU can be told to fail";
  setenv("TESSERA_SOFT_NCCL_ERROR", "1:2", 1);
  const std::vector<std::string> errors = errors_of([&](GpuRank& rank, Communicator& group, std::byte* memory) {
    for (int i = 0; i < 3; ++i) group.run(all_reduce(rank, memory, "w"));
    rank.backend.synchronize();
  });
  EXPECT_NE(errors[1].find("unhandled system error"), std::string::npos) << errors[1];
  EXPECT_NE(errors[0].find("rank 1"), std::string::npos) << errors[0];
  EXPECT_NE(errors[0].find("unhandled system error"), std::string::npos) << errors[0];
}

TEST_F(NcclWatch, AReductionThatNcclLacksIsRefused) {
  const std::vector<std::string> errors = errors_of([&](GpuRank& rank, Communicator& group, std::byte* memory) {
    CollectiveCall call = all_reduce(rank, memory, "w");
    call.dtype = DType::s16;
    group.run(call);
  });
  EXPECT_NE(errors[0].find("NCCL has no sum of s16 (all_reduce of 'w')"), std::string::npos) << errors[0];
}

}  // namespace
}  // namespace tessera::cuda

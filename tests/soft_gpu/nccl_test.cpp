// Ranks that are threads of this process: what the stand-in of NCCL refuses, and what ends the program.
#include <nccl.h>

#include <cstdlib>
#include <functional>
#include <thread>

#include "tests/soft_gpu/soft_testing.h"

namespace soft_gpu {
namespace {

constexpr int kRanks = 2;

struct Rank {
  int number;
  ncclComm_t comm;
  cudaStream_t stream;
  float* send;     // 8 of them
  float* receive;  // 16

  // What NCCL comes to for the communicator.
  ncclResult_t wait() const {
    ncclResult_t result = ncclInProgress;
    while (result == ncclInProgress) ncclCommGetAsyncError(comm, &result);
    return result;
  }
};

void as_rank(int number, int device, ncclUniqueId id, const std::function<void(Rank&)>& work) {
  ASSERT_EQ(cudaSetDevice(device), cudaSuccess);
  const Stream stream;
  const DeviceArray<float> send(8), receive(16);
  send.set(static_cast<float>(number + 1));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  Rank rank{number, nullptr, stream.get, send.data(), receive.data()};
  ASSERT_EQ(ncclCommInitRankConfig(&rank.comm, kRanks, id, number, &config), ncclInProgress);
  work(rank);
  if (rank.comm) ncclCommAbort(rank.comm);
}

// Each rank on a device of its own, unless all shall be on the first.
void run_ranks(const std::function<void(Rank&)>& work, bool on_one_device = false) {
  setenv("TESSERA_SOFT_GPU_DEVICES", "2", 1);
  ncclUniqueId id;
  ncclGetUniqueId(&id);
  std::vector<std::thread> threads;
  for (int r = 0; r < kRanks; ++r) threads.emplace_back([&, r] { as_rank(r, on_one_device ? 0 : r, id, work); });
  for (std::thread& thread : threads) thread.join();
  unsetenv("TESSERA_SOFT_GPU_DEVICES");
}

ncclResult_t all_reduce(const Rank& rank, size_t count, ncclDataType_t type = ncclFloat32, ncclRedOp_t op = ncclSum) {
  return ncclAllReduce(rank.send, rank.receive, count, type, op, rank.comm, rank.stream);
}

using NcclTest = SoftGpuTest;
using NcclDeathTest = SoftGpuDeathTest;

TEST_F(NcclTest, RanksMeet) {
  run_ranks([](Rank& rank) {
    ASSERT_EQ(rank.wait(), ncclSuccess);
    EXPECT_EQ(all_reduce(rank, 8), ncclInProgress);
    EXPECT_EQ(rank.wait(), ncclSuccess);
    float sum[8];
    EXPECT_EQ(cudaMemcpyAsync(sum, rank.receive, sizeof(sum), cudaMemcpyDeviceToHost, rank.stream), cudaSuccess);
    for (const float x : sum) EXPECT_EQ(x, 3);
  });
}

TEST_F(NcclTest, WhoIsNotReadyIsRefused) {
  run_ranks([](Rank& rank) {
    ASSERT_EQ(rank.wait(), ncclSuccess);
    // In progress for some looks after a call: now and then the next one comes too early.
    int refused = 0;
    for (int i = 0; i < 20; ++i) {
      const ncclResult_t result = all_reduce(rank, 8);
      if (result == ncclInvalidUsage) {
        ++refused;
        EXPECT_EQ(rank.wait(), ncclSuccess);
        EXPECT_EQ(all_reduce(rank, 8), ncclInProgress);
      }
    }
    EXPECT_GT(refused, 0);
    EXPECT_EQ(rank.wait(), ncclSuccess);
    EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
  });
}

TEST_F(NcclTest, TwoRanksOnOneDevice) {
  run_ranks(
      [](Rank& rank) {
        EXPECT_EQ(rank.wait(), ncclInvalidUsage);
        EXPECT_NE(std::string(ncclGetLastError(rank.comm)).find("Duplicate GPU"), std::string::npos);
      },
      true);
}

TEST_F(NcclTest, MemoryAndStreamsOfOthers) {
  run_ranks([](Rank& rank) {
    ASSERT_EQ(rank.wait(), ncclSuccess);
    float on_host[8];
    EXPECT_EQ(ncclAllReduce(on_host, rank.receive, 8, ncclFloat32, ncclSum, rank.comm, rank.stream),
              ncclInvalidArgument);
    EXPECT_EQ(all_reduce(rank, 9), ncclInvalidArgument);  // one more than there are
    EXPECT_EQ(cudaSetDevice(1 - rank.number), cudaSuccess);
    const Stream other;
    EXPECT_EQ(ncclAllReduce(rank.send, rank.receive, 8, ncclFloat32, ncclSum, rank.comm, other.get),
              ncclInvalidArgument);
    EXPECT_EQ(cudaSetDevice(rank.number), cudaSuccess);
  });
}

TEST_F(NcclTest, AnErrorThatTheTestAsksFor) {
  setenv("TESSERA_SOFT_NCCL_ERROR", "1:1", 1);
  run_ranks([](Rank& rank) {
    ASSERT_EQ(rank.wait(), ncclSuccess);
    EXPECT_EQ(all_reduce(rank, 8), ncclInProgress);
    if (rank.number == 1) {
      cudaStreamQuery(rank.stream);
      while (rank.wait() == ncclSuccess) cudaStreamQuery(rank.stream);
      EXPECT_EQ(rank.wait(), ncclSystemError);
    }
    ncclCommAbort(rank.comm);  // so that the streams end
    rank.comm = nullptr;
  });
  unsetenv("TESSERA_SOFT_NCCL_ERROR");
}

// Both ranks call, and wait until the program ends.
void call_and_wait(const std::function<void(Rank&)>& call) {
  run_ranks([&](Rank& rank) {
    rank.wait();
    call(rank);
    cudaStreamSynchronize(rank.stream);
  });
}

TEST_F(NcclDeathTest, RanksThatDiffer) {
  EXPECT_DEATH(call_and_wait([](Rank& rank) { all_reduce(rank, rank.number == 0 ? 8 : 7); }),
               "NCCL: rank . calls all_reduce of . elements where another calls all_reduce of .");
  EXPECT_DEATH(call_and_wait([](Rank& rank) {
                 all_reduce(rank, 4, rank.number == 0 ? ncclFloat32 : ncclInt32);
               }),
               "NCCL: rank . calls all_reduce");
  EXPECT_DEATH(call_and_wait([](Rank& rank) {
                 all_reduce(rank, 4, ncclFloat32, rank.number == 0 ? ncclSum : ncclMax);
               }),
               "NCCL: rank . calls all_reduce");
}
TEST_F(NcclDeathTest, AnotherOrder) {
  EXPECT_DEATH(call_and_wait([](Rank& rank) {
                 const auto gather = [&] {
                   ncclAllGather(rank.send, rank.receive, 8, ncclFloat32, rank.comm, rank.stream);
                 };
                 if (rank.number == 0) all_reduce(rank, 8);
                 if (rank.number == 1) gather();
                 rank.wait();
                 if (rank.number == 0) gather();
                 if (rank.number == 1) all_reduce(rank, 8);
               }),
               "NCCL: rank . calls all_.* where another calls all_");
}
TEST_F(NcclDeathTest, SendsAndReceives) {
  EXPECT_DEATH(call_and_wait([](Rank& rank) {
                 if (rank.number == 0) ncclSend(rank.send, 8, ncclFloat32, 1, rank.comm, rank.stream);
                 if (rank.number == 1) ncclRecv(rank.receive, 4, ncclFloat32, 0, rank.comm, rank.stream);
               }),
               "rank 1 receives 16 bytes where rank 0 sends 32");
  EXPECT_DEATH(call_and_wait([](Rank& rank) {
                 ncclGroupStart();
                 ncclSend(rank.send, 8, ncclFloat32, 1 - rank.number, rank.comm, rank.stream);
                 ncclRecv(rank.send, 8, ncclFloat32, 1 - rank.number, rank.comm, rank.stream);
                 ncclGroupEnd();
               }),
               "receives over what it sends");
}
TEST_F(NcclDeathTest, ACommunicatorThatEndsBeforeItsGraph) {
  EXPECT_DEATH(call_and_wait([](Rank& rank) {
                 cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeThreadLocal);
                 all_reduce(rank, 8);
                 cudaGraph_t graph;
                 cudaStreamEndCapture(rank.stream, &graph);
                 rank.wait();
                 ncclCommDestroy(rank.comm);
               }),
               "a communicator ends while a graph holds its work");
}

}  // namespace
}  // namespace soft_gpu

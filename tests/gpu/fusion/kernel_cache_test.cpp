// What compiled kernels are kept for, and what becomes of a cache that does not work.
#include <fstream>
#include <thread>

#include "core/base/log.h"
#include "core/ops/elementwise.h"
#include "kernels/cuda/plugin/plugin.h"
#include "tests/gpu/fusion/kernel_batch.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::KernelBatch;

// The log of what happens while it lives.
class LogFile {
 public:
  LogFile() {
    LogConfig config;
    config.file = (folder_.path() / "log").string();
    config.console_level = LogLevel::error;
    init_logging(config);
  }
  ~LogFile() { init_logging({}); }
  int count(const std::string& text) const {
    flush_log();
    std::ifstream file(folder_.path() / "log");
    int found = 0;
    for (std::string line; std::getline(file, line);) found += line.find(text) != std::string::npos;
    return found;
  }

 private:
  testing::TemporaryFolder folder_;
};

// Runs `op` on a backend of its own.
void use(const fs::path& cache, const OpDef& op = ops::kMultiply) {
  const auto backend = testing::backend_with_cache(cache);
  KernelBatch batch(*backend);
  const HostTensor x = HostTensor::filled({DType::f32, {33}}, 3), y = HostTensor::filled({DType::f32, {33}}, 5);
  const int step = batch.add(op, {}, {x, y});
  batch.finish();
  EXPECT_EQ(batch.run(step), testing::evaluated(op, {}, {x, y}));
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

constexpr const char* kCompiled = "kernels compiled for";
constexpr const char* kRead = "kernels read from the cache";

class KernelCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = testing::no_device(); !why.empty()) GTEST_SKIP() << why;
  }
  testing::TemporaryFolder cache_;
};

TEST_F(KernelCacheTest, SecondBackendCompilesNothing) {
  const LogFile log;
  use(cache_.path());
  EXPECT_EQ(log.count(kCompiled), 1);
  ASSERT_EQ(files_in(cache_.path()).size(), 1u) << "the entry, and no lock or temporary file";
  use(cache_.path());
  EXPECT_EQ(log.count(kCompiled), 1);
  EXPECT_EQ(log.count(kRead), 1);
}

TEST_F(KernelCacheTest, OfTwoAtOnceOneCompiles) {
  const LogFile log;
  std::thread other([&] { use(cache_.path()); });
  use(cache_.path());
  other.join();
  EXPECT_EQ(log.count(kCompiled), 1);
  EXPECT_EQ(log.count(kRead), 1);
}

TEST_F(KernelCacheTest, DamagedEntryIsMadeAnew) {
  use(cache_.path());
  const fs::path entry = files_in(cache_.path()).at(0);
  const auto size = fs::file_size(entry);
  for (const auto& damage : {std::function<void()>([&] { fs::resize_file(entry, size - 5); }),
                             std::function<void()>([&] { fs::resize_file(entry, 0); }),
                             std::function<void()>([&] {
                               std::fstream file(entry, std::ios::in | std::ios::out | std::ios::binary);
                               file.seekp(static_cast<std::streamoff>(size) - 3);
                               file.put('!');
                             })}) {
    const LogFile log;
    damage();
    use(cache_.path());
    EXPECT_GE(log.count("are damaged"), 1);
    EXPECT_EQ(log.count(kCompiled), 1);
    EXPECT_EQ(fs::file_size(entry), size);
    use(cache_.path());
    EXPECT_EQ(log.count(kRead), 1);
  }
}

// Whole, but not what is looked for.
TEST_F(KernelCacheTest, EntryThatCannotBeLoadedIsMadeAnew) {
  use(cache_.path());
  const fs::path first = files_in(cache_.path()).at(0);
  use(cache_.path(), ops::kSubtract);
  for (const fs::path& entry : files_in(cache_.path()))
    if (entry != first) fs::copy_file(entry, first, fs::copy_options::overwrite_existing);
  const LogFile log;
  use(cache_.path());
  EXPECT_EQ(log.count("cannot be loaded"), 1);
  use(cache_.path());
  EXPECT_EQ(log.count(kRead), 1);
}

TEST_F(KernelCacheTest, FolderThatCannotBeMadeIsAWarning) {
  const LogFile log;
  std::ofstream(cache_.path() / "file") << "in the way";
  use(cache_.path() / "file" / "cache");
  EXPECT_EQ(log.count("compiled kernels cannot be kept in"), 1);
  EXPECT_EQ(log.count(kCompiled), 1);
}

}  // namespace
}  // namespace tessera

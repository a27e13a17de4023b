// Every module golden/sharding_*.hlo on shards gives what it gives as a whole, on the devices that
// it speaks of and on twice as many.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "partitioner/hlo/convert_sharding.h"
#include "tests/hlo/run_sharded.h"

namespace tessera::hlo::testing {
namespace {

std::vector<std::string> sharding_modules() {
  std::vector<std::string> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(TESSERA_SOURCE_DIR "/tests/hlo/golden"))
    if (entry.path().filename().string().starts_with("sharding_")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

void expect_same_tiles(const Sharding& got, const Sharding& wanted, const TensorType& type) {
  for (int64_t device = 0; device < wanted.mesh->devices(); ++device)
    EXPECT_EQ(got.shard_start(type.shape, device), wanted.shard_start(type.shape, device))
        << got << " on " << *got.mesh << ", wanted " << wanted << " on " << *wanted.mesh;
}

// Of a parameter that is an array.
Sharding lying_of_value(const Imported& imported, const std::vector<InstructionSharding>& shardings,
                        const std::string& name) {
  for (size_t i = 0; i < shardings.size(); ++i)
    if (imported.values[i].first == name) return shardings[i].leaves.at(0);
  ADD_FAILURE() << "no instruction " << name;
  return {};
}

class ShardingRun : public ::testing::TestWithParam<std::string> {};

TEST_P(ShardingRun, GivesTheSameOnShards) {
  std::stringstream text;
  text << std::ifstream(GetParam()).rdbuf();
  const Imported imported = import(parse(text.str()));
  std::mt19937 random(17);
  std::vector<HostTensor> inputs;
  for (const BoundaryLeaf& leaf : imported.inputs) {
    HostTensor& input = inputs.emplace_back(leaf.type);
    for (int64_t i = 0; i < input.elements(); ++i)
      input.set_real(i, static_cast<double>(random() % 1024) / 1024 - 0.5);
  }
  for (const int64_t devices : {imported.mesh->devices(), 2 * imported.mesh->devices()}) {
    SCOPED_TRACE(devices);
    const ShardedRun run = run_sharded(text.str(), inputs, devices);
    ASSERT_EQ(run.whole.size(), run.sharded.size());
    for (size_t o = 0; o < run.whole.size(); ++o) expect_near(run.sharded[o], reals(run.whole[o]));
    // The boundary lies as the instructions' shardings say; of results that nothing is said of the
    // partitioner may choose another.
    const std::vector<InstructionSharding> shardings = propagate_shardings(run.imported);
    const InstructionSharding& root = shardings[static_cast<size_t>(run.imported.root)];
    for (size_t o = 0; o < root.leaves.size(); ++o)
      if (run.imported.graph.outputs[o].sharding)
        expect_same_tiles(*run.local.outputs[o].sharding, root.leaves[o], imported.outputs[o].type);
    for (size_t i = 0; i < run.local.inputs.size(); ++i)
      expect_same_tiles(run.local.sharding(run.local.inputs[i].value),
                        lying_of_value(run.imported, shardings, imported.inputs[i].name),
                        imported.inputs[i].type);
  }
  // Every instruction has shardings that print and can be read again.
  for (const InstructionSharding& entry : propagate_shardings(imported))
    for (const Sharding& leaf : entry.leaves)
      for (const HloSharding& written : {tile_sharding(leaf), named_sharding(leaf)}) {
        const std::string printed = print(written);
        EXPECT_EQ(print(parse_hlo_sharding(printed)), printed);
      }
}

std::string name_of_file(const ::testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).stem();
}

INSTANTIATE_TEST_SUITE_P(Files, ShardingRun, ::testing::ValuesIn(sharding_modules()), name_of_file);

}  // namespace
}  // namespace tessera::hlo::testing

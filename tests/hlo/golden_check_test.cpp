// Every program under golden/ on 1, 2, 4 and 8 devices, as far as its shardings allow: interpreted
// as a whole, partitioned and run on the shards of virtual devices, and run on threads with the
// CPU's kernels. All must say the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/runtime/sharded_interpreter.h"
#include "core/runtime/thread_run.h"
#include "kernels/cpu/register.h"
#include "partitioner/partition.h"
#include "tests/hlo/hlo_testing.h"
#include "tests/hlo/run_module.h"

namespace tessera::hlo {
namespace {

std::vector<std::string> golden_programs() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(TESSERA_SOURCE_DIR "/tests/hlo/golden"))
    if (entry.path().extension() == ".hlo" &&
        !entry.path().filename().string().starts_with("error_"))
      names.push_back(entry.path());
  std::sort(names.begin(), names.end());
  return names;
}

// Quarters from -2 to 2, so that short sums are exact in every order; integers from 0 to 7.
HostTensor random_input(const TensorType& type, uint64_t seed) {
  HostTensor x(type);
  uint64_t state = seed * 0x9e3779b97f4a7c15ULL + 1;
  for (int64_t i = 0; i < x.elements(); ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const auto drawn = static_cast<int64_t>(state >> 33);
    if (type.dtype == DType::c64)
      x.set_complex(i, {static_cast<double>(drawn % 17 - 8) / 4,
                        static_cast<double>(drawn / 17 % 17 - 8) / 4});
    else if (is_float(type.dtype))
      x.set_real(i, static_cast<double>(drawn % 17 - 8) / 4);
    else
      x.set_int(i, drawn % (type.dtype == DType::pred ? 2 : 8));
  }
  return x;
}

double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f8e4m3fn:
    case DType::f8e5m2:
      return 0.2;
    case DType::bf16:
    case DType::f16:
      return 2e-2;
    default:
      return 1e-4;  // kernels of tanh and the like
  }
}

void expect_same(const std::vector<HostTensor>& got, const std::vector<HostTensor>& wanted,
                 std::string_view how) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].type(), wanted[i].type()) << how << ", output " << i;
    if (got[i].dtype() == DType::c64) {
      for (int64_t k = 0; k < got[i].elements(); ++k)
        ASSERT_LT(std::abs(got[i].get_complex(k) - wanted[i].get_complex(k)), 1e-4)
            << how << ", output " << i << " at " << k;
      continue;
    }
    EXPECT_LE(max_relative_error(got[i], wanted[i], 1e-2), tolerance_of(got[i].dtype()))
        << how << ", output " << i;
  }
}

class HloGoldenCheck : public ::testing::TestWithParam<std::string> {};

TEST_P(HloGoldenCheck, PartitionedEqualsWhole) {
  const HloModule module = parse(tessera::testing::read_text_file(GetParam()));
  std::set<int64_t> counts;
  for (int64_t devices : {0, 1, 2, 4, 8}) {
    Imported imported;
    try {
      imported = import(module, {devices});
    } catch (const UnsupportedHlo&) {
      throw;
    } catch (const ConfigError&) {
      continue;  // the shardings speak of another number of devices
    }
    if (!counts.insert(imported.mesh->devices()).second) continue;
    SCOPED_TRACE(cat(imported.mesh->devices(), " devices"));
    verify(imported.graph, GraphStage::built);
    std::vector<HostTensor> inputs;
    for (const BoundaryLeaf& leaf : imported.inputs)
      inputs.push_back(random_input(leaf.type, inputs.size() + 1));
    const Graph simple = simplify_imported(imported.graph);
    const std::vector<HostTensor> whole = interpret(imported.graph, inputs);
    expect_same(interpret(simple, inputs), whole, "simplified");
    const Graph local = partition(simple, imported.mesh, {});
    expect_same(interpret_sharded(local, inputs), whole, "on shards");
    expect_same(run_on_threads(local, cpu_kernel_table(), inputs), whole, "on threads");
  }
  EXPECT_FALSE(counts.empty());
}

std::string name_of_file(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).stem();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Files, HloGoldenCheck, ::testing::ValuesIn(golden_programs()),
                         name_of_file);

}  // namespace
}  // namespace tessera::hlo

// The names that rules may be for are those that the models give to dims: no more, no fewer.
#include <set>

#include "core/base/strings.h"
#include "launch/engine/step_config.h"
#include "models/training_step.h"
#include "tests/config/config_test_util.h"

namespace tessera {
namespace {

// "..., a name that no dim of any tensor has (there are batch, length, ...)"
std::set<std::string> names_of_rules() {
  const std::string message =
      error_of(cat(kSmallJob, "sharding { mesh { name: \"data\" size: 1 } "
                              "parameter_rules { logical: \"nothing\" axes: \"data\" } }"));
  const std::string before = "(there are ";
  const size_t start = message.find(before), end = message.find(')', start);
  if (start == std::string::npos || end == std::string::npos) {
    ADD_FAILURE() << message;
    return {};
  }
  std::set<std::string> names;
  const size_t first = start + before.size();
  for (const std::string& name : split(message.substr(first, end - first), ',')) names.emplace(trim(name));
  return names;
}

std::set<std::string> names_of_models() {
  std::set<std::string> names;
  for (const char* family : {"gpt2", "llama"}) {
    const JobConfig job = small_job(on_devices(1, {cat("model.family=", family)}));
    const Graph step = models::build_step(step_config(job), /*with_accumulators=*/false);
    for (const Instruction& instruction : step.instructions)
      for (const ResultInfo& result : instruction.results)
        for (const std::string& name : result.logical_axes)
          if (!name.empty()) names.insert(name);
  }
  return names;
}

TEST(LogicalAxes, OfRulesAreThoseOfModels) { EXPECT_EQ(names_of_rules(), names_of_models()); }

}  // namespace
}  // namespace tessera

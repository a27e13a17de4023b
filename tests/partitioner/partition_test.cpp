#include "partitioner/partition.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/text.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct Scheme {
  const char* name;
  const char* mesh;
  const char* parameters;
  const char* activations;
  const char* optimizer;
};

const Scheme kSchemes[] = {
    {"one device", "data=1", "", "batch=data", ""},
    {"data", "data=4", "", "batch=data", ""},
    {"tensor", "model=4", "mlp=model", "mlp=model", ""},
    {"data x tensor", "data=2,model=2", "mlp=model", "batch=data mlp=model", ""},
    {"zero1", "data=4", "", "batch=data", "mlp=data embed=data"},
    {"fsdp", "data=4", "embed=data mlp=data", "batch=data", ""},
    {"2d", "data=2,model=2", "mlp=model embed=data", "batch=data mlp=model", ""},
    {"2d activations", "data=2,model=2", "mlp=model embed=data", "batch=data mlp=model embed=model", ""},
    {"eight devices", "data=2,fsdp=2,model=2", "mlp=model embed=fsdp", "batch=data,fsdp mlp=model", ""},
};

// The two-layer perceptron with backward pass and update is the same after every pass.
TEST(Partition, PerceptronIsTheSameAfterEveryPass) {
  for (const Scheme& scheme : kSchemes) {
    PartitionReport report;
    const std::string failure = check_every_pass(
        perceptron(), mesh_of(scheme.mesh), config_of(scheme.parameters, scheme.activations, scheme.optimizer), {}, 1e-10, 1,
        &report);
    EXPECT_TRUE(failure.empty()) << scheme.name << ": " << failure;
    std::printf("%s: %s\n", scheme.name, collectives_of(report).c_str());
  }
}

}  // namespace
}  // namespace tessera::testing

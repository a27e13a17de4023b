// How --mesh, the job's mesh and the number of devices meet.
#include "launch/config/mesh.h"

#include "core/base/strings.h"
#include "tests/config/config_test_util.h"

namespace tessera {
namespace {

// A sharding with mesh data=DATA,model=MODEL and a rule for each axis.
std::string two_axes(int data, int model) {
  return cat(kSmallJob, "sharding {\n  mesh { name: \"data\" size: ", data,
             " }\n  mesh { name: \"model\" size: ", model,
             " }\n  parameter_rules { logical: \"mlp\" axes: \"model\" }\n"
             "  activation_rules { logical: \"batch\" axes: \"data\" }\n}\n");
}

LoadOptions with_mesh(const std::string& mesh, int64_t devices) {
  LoadOptions options = on_devices(devices);
  options.mesh = mesh;
  return options;
}

struct Fit {
  std::string flag;  // --mesh
  int64_t devices;
  std::string mesh;  // the effective one
};

TEST(Mesh, FitsTheDevices) {
  const Fit fits[] = {
      {"", 2, "data=1,model=2"},
      {"", 8, "data=4,model=2"},
      {"data=2,model=4", 8, "data=2,model=4"},
      {"model=4,data=2", 8, "model=4,data=2"},  // the order is the user's
      {"data=2,model=-1", 8, "data=2,model=4"},
      {"data=4", 4, "model=1,data=4"},   // an axis that is not named gets size 1
      {"model=2", 0, "data=1,model=2"},  // the mesh itself says how many devices
      {"data=2,model=2,spare=1", 4, "data=2,model=2,spare=1"},
      {"1", 1, "data=1,model=1"},
      {" data = 2 , model = 2 ", 4, "data=2,model=2"},
  };
  for (const Fit& fit : fits) {
    SCOPED_TRACE(fit.flag);
    const JobConfig job =
        load_job_text(two_axes(-1, 2), "job.textproto", with_mesh(fit.flag, fit.devices));
    EXPECT_EQ(config::mesh_text(job.sharding.axes), fit.mesh);
    EXPECT_EQ(job.device_count, fit.devices ? fit.devices : 2);
  }
}

struct Misfit {
  std::string flag;
  int64_t devices;
  std::string message;
};

TEST(Mesh, MisfitsShowTheEquation) {
  const std::string from = "job.textproto:14: ";
  const Misfit misfits[] = {
      {"data=2,model=3", 4,
       "--mesh data=2,model=3: mesh data=2,model=3 needs 2 x 3 = 6 devices, but there are 4: start "
       "6 "
       "ranks (mpirun -np 6), or fit the mesh to 4 devices by --mesh data=4,model=1"},
      {"data=4", 1,
       "--mesh data=4: mesh model=1,data=4 needs 1 x 4 = 4 devices, but there is 1: start 4 ranks "
       "(mpirun -np 4), or fit the mesh to 1 device by --mesh model=1,data=1"},
      {"", 3,
       from + "mesh data=-1,model=2 does not fit 3 devices: 2 does not divide 3; change the number "
              "of ranks, or --mesh data=3,model=1"},
      {"", 0,
       from +
           "mesh axis \"data\" takes what the device count leaves (-1), but the number of devices "
           "is not known; give --devices N, or --mesh with every size"},
      {"data=-1,model=-1", 4,
       "--mesh data=-1,model=-1: mesh data=-1,model=-1 leaves two axes open, \"data\" and "
       "\"model\"; "
       "only one size may be -1"},
      {"data=0", 4,
       "--mesh data=0: mesh axis \"data\" has size 0; a size is at least 1, or -1 on one axis, and "
       "a "
       "mesh has at most 4194304 devices"},
      {"data=4194304,model=4194304", 0,
       "--mesh data=4194304,model=4194304: mesh axis \"model\" has size 4194304; a size is at "
       "least "
       "1, or -1 on one axis, and a mesh has at most 4194304 devices"},
      {"dta=2", 2,
       "--mesh dta=2: no rule of the sharding names axis \"dta\", so its devices would all do the "
       "same work; did you mean \"data\"?"},
      {"expert=2", 2,
       "--mesh expert=2: no rule of the sharding names axis \"expert\", so its devices would all "
       "do "
       "the same work; the axes are data, model; name another sharding by --sharding FILE"},
      {"data:2", 2,
       "--mesh data:2: cannot read \"data:2\"; write axis=size pairs, e.g. --mesh data=2,model=4"},
      {"data=2,", 2,
       "--mesh data=2,: cannot read \"\"; write axis=size pairs, e.g. --mesh data=2,model=4"},
      {"data=2x", 2,
       "--mesh data=2x: cannot read \"data=2x\"; write axis=size pairs, e.g. --mesh "
       "data=2,model=4"},
      {"data=1,data=2", 2,
       "--mesh data=1,data=2: mesh model=1,data=1,data=2 has two axes \"data\"; names must be "
       "unique"},
  };
  for (const Misfit& misfit : misfits) {
    EXPECT_EQ(error_of(two_axes(-1, 2), with_mesh(misfit.flag, misfit.devices)), misfit.message);
  }
}

TEST(Mesh, DefaultIsDataParallelOverAllDevices) {
  const JobConfig job = small_job(on_devices(4));
  EXPECT_EQ(config::mesh_text(job.sharding.axes), "data=4");
  EXPECT_EQ(job.batch_shards, 4);
  EXPECT_EQ(job.train.microbatch, 2);
  EXPECT_TRUE(job.warnings.empty());
}

TEST(Mesh, AnAxisThatNoRuleNamesIsWarnedOf) {
  const JobConfig job =
      load_job_text(cat(kSmallJob, "sharding { mesh { name: \"spare\" size: 2 } }"),
                    "job.textproto", on_devices(2));
  ASSERT_EQ(job.warnings.size(), 1u);
  EXPECT_EQ(job.warnings[0],
            "no sharding rule names mesh axis \"spare\" (size 2): devices along it all do the same "
            "work");
}

TEST(Mesh, RulesMustNameAxesOfTheMesh) {
  const auto message = [](const std::string& rule) {
    return error_of(cat(kSmallJob, "sharding {\n mesh { name: \"data\" size: 1 }\n ", rule, "\n}"));
  };
  EXPECT_EQ(message("parameter_rules { logical: \"embed\" axes: \"dta\" }"),
            "job.textproto:15: rule embed -> dta names an unknown mesh axis \"dta\"; did you mean "
            "\"data\"? (the mesh is data=1)");
  EXPECT_EQ(message("optimizer_rules { logical: \"embed\" axes: [\"data\", \"data\"] }"),
            "job.textproto:15: rule embed -> data,data uses mesh axis \"data\" twice");
  EXPECT_EQ(message("activation_rules { axes: \"data\" }"),
            "job.textproto:15: sharding.activation_rules[0] has no logical axis; say which dim it "
            "places, e.g. logical: \"embed\"");
  EXPECT_EQ(message("overrides { tensor: \"a(\" dims { axes: \"model\" } }").substr(0, 100),
            std::string("job.textproto has 2 problems:\n  job.textproto:15: sharding.overrides[0]."
                        "tensor: \"a(\" is not a regular expression: ")
                .substr(0, 100));
  EXPECT_EQ(message("overrides { tensor: \"a\" dims { axes: \"data\" } dims { axes: \"data\" } }"),
            "job.textproto:15: override of \"a\" uses mesh axis \"data\" twice");
  EXPECT_EQ(message("overrides { tensor: \"a\" dims { axes: [\"?\", \"data\"] } }"),
            "job.textproto:15: override of \"a\" names an unknown mesh axis \"?\" (the mesh is data=1)");
  EXPECT_EQ(message("activation_rules { logical: \"embed\" axes: \"data\" priority: -1 }"),
            "job.textproto:15: sharding.activation_rules[0].priority is -1; give 0 (first) to 1000");
  EXPECT_EQ(message("groups { strict: true }"),
            "job.textproto:15: sharding.groups[0] has no tensors; say which by regular expressions");
  EXPECT_EQ(message("overrides { dims { } }"),
            "job.textproto:15: sharding.overrides[0] has no tensor; say which by a regular "
            "expression");
  EXPECT_EQ(message("mesh { name: \"1st\" size: 1 }"),
            "job.textproto:15: sharding.mesh[1].name is \"1st\"; it must be letters, digits and "
            "underscores, and not start with a digit");
  EXPECT_EQ(error_of(cat(kSmallJob, "sharding { }")),
            "job.textproto:13: sharding has no mesh; add e.g. mesh { name: \"data\" size: -1 }, or "
            "give --mesh data=N");
}

struct Shards {
  std::string rules;  // activation rules, as "logical axes..." words
  int64_t expected;
};

TEST(Mesh, CountsTheShardsOfTheBatch) {
  const Shards cases[] = {
      {"activation_rules { logical: \"batch\" axes: [\"data\", \"model\"] }", 4},
      {"activation_rules { logical: \"batch\" axes: \"model\" }", 2},
      // A rule of greater priority has taken the axis.
      {"activation_rules { logical: \"length\" axes: \"data\" } "
       "activation_rules { logical: \"batch\" axes: \"data\" }",
       1},
      // ... unless it does not apply to [batch, length].
      {"activation_rules { logical: \"heads\" axes: \"data\" } "
       "activation_rules { logical: \"batch\" axes: \"data\" }",
       2},
      // The next rule is tried.
      {"activation_rules { logical: \"length\" axes: \"data\" } "
       "activation_rules { logical: \"batch\" axes: [\"data\", \"model\"] } "
       "activation_rules { logical: \"batch\" axes: \"model\" }",
       2},
      {"activation_rules { logical: \"batch\" } "
       "activation_rules { logical: \"batch\" axes: \"data\" }",
       1},
      {"", 1},
  };
  for (const Shards& c : cases) {
    SCOPED_TRACE(c.rules);
    const JobConfig job = load_job_text(
        cat(kSmallJob,
            "sharding { mesh { name: \"data\" size: 2 } mesh { name: \"model\" size: 2 } ", c.rules,
            " }"),
        "job.textproto", on_devices(4));
    EXPECT_EQ(job.batch_shards, c.expected);
    EXPECT_EQ(job.batch_shards * job.train.microbatch * job.train.accumulate, 8);
  }
}

TEST(Mesh, AnAxisOfSizeOneIsNeverTaken) {
  const JobConfig job = load_job_text(
      cat(kSmallJob,
          "sharding { mesh { name: \"model\" size: 1 } mesh { name: \"data\" size: 2 } "
          "activation_rules { logical: \"length\" axes: \"model\" } "
          "activation_rules { logical: \"batch\" axes: [\"model\", \"data\"] } }"),
      "job.textproto", on_devices(2));
  EXPECT_EQ(job.batch_shards, 2);
}

TEST(Mesh, IfDividesSkipsABatchRuleThatDoesNotFit) {
  const std::string text =
      cat(kSmallJob,
          "sharding { mesh { name: \"data\" size: 16 } activation_rules { logical: "
          "\"batch\" axes: \"data\" if_divides: true } }");
  EXPECT_EQ(load_job_text(text, "job.textproto", on_devices(16)).batch_shards, 1);
}

TEST(Batch, SolvesTheEquation) {
  const JobConfig a = small_job(on_devices(2, {"train.microbatch=1"}));
  EXPECT_EQ(a.train.accumulate, 4);
  const JobConfig b = small_job(on_devices(2, {"train.accumulate=2"}));
  EXPECT_EQ(b.train.microbatch, 2);
  const JobConfig c = small_job(on_devices(2, {"train.accumulate=2", "train.microbatch=2"}));
  EXPECT_EQ(c.train.accumulate * c.train.microbatch * c.batch_shards, 8);
}

}  // namespace
}  // namespace tessera

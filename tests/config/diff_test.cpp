// What a resume may change.
#include "tests/config/config_test_util.h"

namespace tessera {
namespace {

struct Change {
  std::string set;
  std::string path;
  ChangeClass kind;
};

TEST(Diff, ClassifiesEachChange) {
  const Change changes[] = {
      {"output_dir=x", "output_dir", ChangeClass::free},
      {"train.threads=2", "train.threads", ChangeClass::free},
      {"train.remat=full", "train.remat", ChangeClass::free},
      {"train.accumulate=2", "train.microbatch", ChangeClass::free},
      {"eval.interval=5", "eval.interval", ChangeClass::free},
      {"checkpoint.keep=7", "checkpoint.keep", ChangeClass::free},
      {"metrics.progress=plain", "metrics.progress", ChangeClass::free},
      {"sharding.parameter_rules+={logical: 'embed' axes: 'data'}", "sharding.parameter_rules",
       ChangeClass::free},
      {"train.global_batch=16", "train.global_batch", ChangeClass::warning},
      {"schedule.learning_rate=1", "schedule.learning_rate", ChangeClass::warning},
      {"optimizer.beta1=0.5", "optimizer.beta1", ChangeClass::warning},
      {"optimizer.no_decay+=a", "optimizer.no_decay", ChangeClass::warning},
      {"data.paths=other", "data.paths", ChangeClass::warning},
      {"train.compute_dtype=bf16", "train.compute_dtype", ChangeClass::warning},
      {"train.matmul_dtype=fp8", "train.matmul_dtype", ChangeClass::warning},
      {"train.clip_norm=2", "train.clip_norm", ChangeClass::warning},
      {"model.dropout=0.1", "model.dropout", ChangeClass::warning},
      {"optimizer.stochastic_rounding=false", "optimizer.stochastic_rounding", ChangeClass::warning},
      {"optimizer.moment_dtype=bf16", "optimizer.moment_dtype", ChangeClass::refused},
      {"train.parameter_dtype=bf16", "train.parameter_dtype", ChangeClass::refused},
      {"model.layers=3", "model.layers", ChangeClass::refused},
      {"model.mlp=64", "model.mlp", ChangeClass::refused},
      {"data.seed=1", "data.seed", ChangeClass::refused},
      {"data.shuffle=false", "data.shuffle", ChangeClass::refused},
      {"train.sequence_length=8", "train.sequence_length", ChangeClass::refused},
  };
  const std::string saved = effective_text(small_job());
  for (const Change& change : changes) {
    SCOPED_TRACE(change.set);
    const auto found = diff_configs(saved, small_job(on_devices(1, {change.set})));
    ASSERT_FALSE(found.empty());
    bool seen = false;
    for (const ConfigChange& c : found)
      seen = seen || (c.path == change.path && c.kind == change.kind);
    EXPECT_TRUE(seen) << describe_changes(found);
  }
}

TEST(Diff, MeshIsFreeAndSoAreMoreSteps) {
  const std::string saved = effective_text(small_job(on_devices(2, {"schedule.kind=constant"})));
  const auto changes =
      diff_configs(saved, small_job(on_devices(4, {"schedule.kind=constant", "train.steps=200"})));
  EXPECT_EQ(describe_changes(changes),
            "train.steps: 100 -> 200\n"
            "train.microbatch: 4 -> 2\n"
            "sharding.mesh: [{name: \"data\" size: 2}] -> [{name: \"data\" size: 4}]");
}

TEST(Diff, MoreStepsMoveTheEndOfACosine) {
  const auto changes = diff_configs(
      effective_text(small_job()), small_job(on_devices(1, {"train.steps=200", "model.layers=3"})));
  EXPECT_EQ(describe_changes(changes),
            "model.layers: 2 -> 3 (refused)\n"
            "schedule.decay_steps: 100 -> 200 (warning)\n"
            "train.steps: 100 -> 200");
}

TEST(Diff, NothingChanged) {
  EXPECT_EQ(describe_changes(diff_configs(effective_text(small_job()), small_job())), "");
}

TEST(Diff, AnUnreadableOldConfigIsAConfigError) {
  EXPECT_THROW(diff_configs("nonsense {", small_job()), ConfigError);
}

}  // namespace
}  // namespace tessera

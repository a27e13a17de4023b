// Every way in which a config can be wrong, and what the user reads then.
#include "core/base/strings.h"
#include "tests/config/config_test_util.h"

namespace tessera {
namespace {

struct Case {
  std::string name;
  std::string added;              // text after the small job, from line 13 on
  std::vector<std::string> sets;  // --set
  std::string message;            // the whole message
  int64_t devices = 1;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.added << join(c.sets, " "); }

class ConfigMessage : public testing::TestWithParam<Case> {};

TEST_P(ConfigMessage, IsTheWholeStory) {
  const Case& c = GetParam();
  EXPECT_EQ(error_of(kSmallJob + c.added, on_devices(c.devices, c.sets)), c.message);
}

std::string name_of_case(const testing::TestParamInfo<Case>& info) { return info.param.name; }

const Case kTextCases[] = {
    {"UnknownFieldNearName",
     "schedule { warmup_step: 3 }",
     {},
     "job.textproto:13: unknown field \"warmup_step\" in schedule; did you mean \"warmup_steps\"?"},
    {"UnknownBlock",
     "optimiser { beta1: 0.9 }",
     {},
     "job.textproto:13: unknown field \"optimiser\"; did you mean \"optimizer\"?"},
    {"FieldOfAnotherBlock",
     "eval { learning_rate: 1 }",
     {},
     "job.textproto:13: unknown field \"learning_rate\" in eval; there is schedule.learning_rate"},
    {"UnknownFieldFarFromAll",
     "eval { qqqqqqqqqq: 1 }",
     {},
     "job.textproto:13: unknown field \"qqqqqqqqqq\" in eval; the fields there are interval, "
     "batches, at_end"},
    {"UnknownFieldDeep",
     "sharding {\n  mesh { nam: \"data\" }\n}",
     {},
     "job.textproto:14: unknown field \"nam\" in sharding.mesh; did you mean \"name\"?"},
    {"WordForNumber",
     "eval { interval: often }",
     {},
     "job.textproto:13: eval.interval takes a whole number, not often"},
    {"FractionForWhole",
     "eval { interval: 1.5 }",
     {},
     "job.textproto:13: eval.interval takes a whole number, not 1.5"},
    {"TextForNumber",
     "optimizer { beta1: \"0.9\" }",
     {},
     "job.textproto:13: optimizer.beta1 takes a number, not \"0.9\""},
    {"HugeNumber",
     "eval { interval: 99999999999999999999 }",
     {},
     "job.textproto:13: eval.interval: 99999999999999999999 does not fit a 64-bit integer"},
    {"WordForBool",
     "eval { at_end: perhaps }",
     {},
     "job.textproto:13: eval.at_end takes true or false, not perhaps"},
    {"BareText",
     "output_dir: runs",
     {},
     "job.textproto:13: output_dir takes a text in quotes, not runs"},
    {"UnknownValue",
     "schedule { kind: cosin }",
     {},
     "job.textproto:13: schedule.kind has no value \"cosin\"; did you mean \"cosine\"? (constant, "
     "cosine, rsqrt)"},
    {"UnknownValueFarFromAll",
     "schedule { kind: triangle }",
     {},
     "job.textproto:13: schedule.kind has no value \"triangle\"; it takes one of constant, cosine, "
     "rsqrt"},
    {"NumberForEnum",
     "schedule { kind: 9 }",
     {},
     "job.textproto:13: schedule.kind has no value \"9\"; it takes one of constant, cosine, rsqrt"},
    {"QuotedEnum",
     "schedule { kind: \"cosine\" }",
     {},
     "job.textproto:13: schedule.kind takes one of constant, cosine, rsqrt, not \"cosine\""},
    {"Twice",
     "eval { interval: 1 interval: 2 }",
     {},
     "job.textproto:13: eval.interval is given twice"},
    {"NoValue",
     "eval { interval: }",
     {},
     "job.textproto:13: eval.interval has no value; it takes a whole number"},
    {"NoValueThenAField",
     "eval { interval:\n batches: 1 }",
     {},
     "job.textproto:13: eval.interval has no value; it takes a whole number"},
    {"Unclosed",
     "eval { interval: 1\n",
     {},
     "job.textproto:14: the text ends inside `eval {`: a closing brace is missing"},
    {"EqualsForColon",
     "eval { interval = 1 }",
     {},
     "job.textproto:13: cannot read this part of eval: Expected \":\", found \"=\"."},
    {"BlockForScalar",
     "output_dir { }",
     {},
     "job.textproto:13: cannot read this: Expected \":\", found \"{\"."},
    {"ShardingTwice",
     "sharding { mesh { name: \"a\" size: 1 } }\nsharding_file: \"x\"",
     {},
     "job.textproto has 2 problems:\n  job.textproto:14: sharding_file and sharding "
     "(job.textproto:13) are both given; keep one\n  job.textproto:14: sharding file x cannot be "
     "read: No such file or directory (looked in " +
         std::filesystem::current_path().string() + ")"},
};
INSTANTIATE_TEST_SUITE_P(Text, ConfigMessage, testing::ValuesIn(kTextCases), name_of_case);

const Case kValueCases[] = {
    {"Zero",
     "checkpoint { keep: 0 }",
     {},
     "job.textproto:13: checkpoint.keep is 0; it must be at least 1"},
    {"Negative",
     "eval {\n interval: -1 }",
     {},
     "job.textproto:14: eval.interval is -1; it must be at least 0"},
    {"ByFlag",
     "",
     {"train.steps=0"},
     "--set train.steps=0: train.steps is 0; it must be at least 1"},
    {"TooLarge",
     "",
     {"train.accumulate=2000000"},
     "--set train.accumulate=2000000: train.accumulate is 2000000; it must be at most 1048576"},
    {"Beta",
     "optimizer { beta2: 1 }",
     {},
     "job.textproto:13: optimizer.beta2 is 1; it must be at least 0 and below 1"},
    {"NotANumber",
     "train_ { }",
     {"optimizer.epsilon=nan"},
     "job.textproto has 2 problems:\n  job.textproto:13: unknown field \"train_\"; did you mean "
     "\"train\"?\n  --set optimizer.epsilon=nan: optimizer.epsilon is nan; it must be above 0"},
    {"Infinite",
     "schedule { learning_rate: inf }",
     {},
     "job.textproto:13: schedule.learning_rate is inf; it must be at least 0"},
    {"Holdout",
     "",
     {"data.holdout=0.9"},
     "--set data.holdout=0.9: data.holdout is 0.9; it must be from 0 to 0.5"},
    {"HeadDim",
     "",
     {"model.heads=5"},
     "job.textproto:4: model.embed 32 / heads 5 is not whole; choose a multiple of heads, or set "
     "model.head_dim"},
    {"KvHeadsOfGpt2",
     "",
     {"model.kv_heads=2"},
     "--set model.kv_heads=2: model.kv_heads is 2 and heads is 4; the gpt2 family needs them "
     "equal, "
     "llama has grouped-query attention"},
    {"KvHeadsOfLlama",
     "",
     {"model.family=llama", "model.kv_heads=3"},
     "--set model.kv_heads=3: model.kv_heads 3 does not divide heads 4"},
    {"OddRotary",
     "",
     {"model.family=llama", "model.head_dim=7"},
     "--set model.head_dim=7: model.head_dim is 7; rotary positions turn pairs of elements, so it "
     "must be even"},
    {"Window",
     "",
     {"model.attention_window=-1"},
     "--set model.attention_window=-1: model.attention_window is -1; it must be at least 0"},
    {"FullAttentionWithoutWindow",
     "",
     {"model.full_attention_interval=4"},
     "--set model.full_attention_interval=4: model.full_attention_interval is 4 without "
     "model.attention_window; all layers see all anyway"},
    {"FullAttentionEverywhere",
     "",
     {"model.attention_window=8", "model.full_attention_interval=1"},
     "--set model.full_attention_interval=1: model.full_attention_interval is 1, so that no layer "
     "has the window of 8; leave out one of the two, or choose at least 2"},
    {"FewBuckets",
     "",
     {"model.position=relative", "model.relative_buckets=1"},
     "--set model.relative_buckets=1: model.relative_buckets is 1; it must be at least 2"},
    {"MaxDistance",
     "",
     {"model.position=relative", "model.relative_max_distance=16"},
     "--set model.relative_max_distance=16: model.relative_max_distance is 16; it must be above "
     "half of model.relative_buckets (32), whose distances have buckets of their own"},
    {"BucketsOfAnotherPosition",
     "",
     {"model.relative_buckets=16"},
     "--set model.relative_buckets=16: model.relative_buckets is set, and model.position is "
     "learned; only relative has buckets"},
    {"FrequenciesOfAnotherPosition",
     "",
     {"model.family=llama", "model.position=alibi", "model.rope_theta=500000"},
     "--set model.rope_theta=500000: model.rope_theta is set, and model.position is alibi; only "
     "rotary has frequencies"},
    {"UnknownPosition",
     "",
     {"model.position=alibbi"},
     "--set model.position=alibbi: model.position has no value \"alibbi\"; did you mean "
     "\"alibi\"? (learned, rotary, alibi, relative)"},
    {"Vocab",
     "",
     {"model.vocab=256"},
     "--set model.vocab=256: model.vocab is 256; the bytes tokenizer has 259 tokens"},
    {"Context",
     "",
     {"model.context=8"},
     "--set model.context=8: model.context 8 is shorter than train.sequence_length 16"},
    {"DecayBeforeWarmup",
     "schedule { warmup_steps: 20\n decay_steps: 10 }",
     {},
     "job.textproto:14: schedule.decay_steps 10 is before the end of the warmup, "
     "schedule.warmup_steps 20"},
    {"ReduceType",
     "",
     {"train.reduce_dtype=f64"},
     "--set train.reduce_dtype=f64: train.reduce_dtype f64 does not go with compute_dtype f32; f64 "
     "goes with f64 only"},
    {"Fp8InF64",
     "",
     {"train.matmul_dtype=fp8", "train.compute_dtype=f64"},
     "--set train.matmul_dtype=fp8: train.matmul_dtype fp8 does not go with compute_dtype f64: products in 8 bits "
     "would be all that is left of its precision; set train.compute_dtype=bf16, or f32, or leave matmul_dtype out"},
    {"MomentType",
     "",
     {"train.compute_dtype=f64", "optimizer.moment_dtype=bf16"},
     "--set optimizer.moment_dtype=bf16: optimizer.moment_dtype bf16 does not go with compute_dtype "
     "f64; f64 goes with f64 only"},
    {"ParameterType",
     "",
     {"train.parameter_dtype=f64"},
     "--set train.parameter_dtype=f64: train.parameter_dtype f64 does not go with compute_dtype f32; "
     "f64 goes with f64 only"},
    {"DropoutOfAll",
     "",
     {"model.dropout=1"},
     "--set model.dropout=1: model.dropout is 1; it must be at least 0 and below 1"},
    {"EmptyOutput", "output_dir: \"\"", {}, "job.textproto:13: output_dir is empty; name a folder"},
    {"EmptyPath",
     "data_ { }",
     {"data.paths=[]"},
     "job.textproto:13: unknown field \"data_\"; did you mean \"data\"?"},
    {"NoPaths",
     "",
     {"data.paths=[]"},
     "job.textproto: data.paths is missing: text files or folders to train on; set it in the job, "
     "or "
     "by --set data.paths=..."},
};
INSTANTIATE_TEST_SUITE_P(Value, ConfigMessage, testing::ValuesIn(kValueCases), name_of_case);

const Case kSetCases[] = {
    {"NoEquals",
     "",
     {"train.steps"},
     "--set train.steps: write path=value or path+=value, with a path like train.steps or "
     "sharding.mesh[0].size"},
    {"BadIndex",
     "",
     {"sharding.mesh[x].size=2"},
     "--set sharding.mesh[x].size=2: write path=value or path+=value, with a path like train.steps "
     "or sharding.mesh[0].size"},
    {"UnknownField",
     "",
     {"train.step=5"},
     "--set train.step=5: unknown field \"step\" in train; did you mean \"steps\"?"},
    {"UnknownBlock",
     "",
     {"trian.steps=5"},
     "--set trian.steps=5: unknown field \"trian\"; did you mean \"train\"?"},
    {"Elsewhere", "", {"steps=5"}, "--set steps=5: unknown field \"steps\"; there is train.steps"},
    {"WrongType",
     "",
     {"train.steps=many"},
     "--set train.steps=many: train.steps takes a whole number, not many"},
    {"Nothing",
     "",
     {"train.steps="},
     "--set train.steps=: train.steps takes a whole number, not nothing"},
    {"TwoValues",
     "",
     {"train.steps=5 seed: 4"},
     "--set train.steps=5 seed: 4: train.steps takes a whole number, not 5 seed: 4"},
    {"UnknownValue",
     "",
     {"model.family=lama"},
     "--set model.family=lama: model.family has no value \"lama\"; did you mean \"llama\"? (gpt2, "
     "llama)"},
    {"AppendToScalar",
     "",
     {"train.steps+=5"},
     "--set train.steps+=5: train.steps is not a list; write train.steps=5"},
    {"IndexOfScalar",
     "",
     {"train.steps[0]=5"},
     "--set train.steps[0]=5: train.steps is not a list; write train.steps=5"},
    {"IndexOfBlock",
     "",
     {"train[0].steps=5"},
     "--set train[0].steps=5: train is not a list; leave out [0]"},
    {"PastTheEnd",
     "",
     {"data.paths[1]=b"},
     "--set data.paths[1]=b: data.paths has 1 element, counted from 0; add one with data.paths+="},
    {"AppendAtIndex",
     "",
     {"data.paths[0]+=b"},
     "--set data.paths[0]+=b: write data.paths+=b, without an index"},
    {"ListWithoutIndex",
     "",
     {"sharding.mesh.size=2"},
     "--set sharding.mesh.size=2: sharding.mesh is a list of 1; say which element, "
     "sharding.mesh[0]"},
    {"ListForElement",
     "",
     {"data.paths[0]=[a,b]"},
     "--set data.paths[0]=[a,b]: data.paths[0] takes one value, not a list"},
    {"FieldOfScalar",
     "",
     {"output_dir.x=1"},
     "--set output_dir.x=1: output_dir takes a text in quotes and has no fields of its own"},
    {"BadBlock",
     "",
     {"eval={intervall: 5}"},
     "--set eval={intervall: 5}: eval: cannot read {intervall: 5}: unknown field \"intervall\"; "
     "did "
     "you mean \"interval\"?"},
    {"ScalarForBlock",
     "",
     {"eval=5"},
     "--set eval=5: eval takes a block { ... } of interval, batches, at_end, not 5"},
};
INSTANTIATE_TEST_SUITE_P(Set, ConfigMessage, testing::ValuesIn(kSetCases), name_of_case);

const Case kBatchCases[] = {
    {"ShardsDoNotDivide",
     "",
     {},
     "job.textproto:10: the batch does not divide: global_batch 8 = data shards 3 (mesh data=3) x "
     "accumulate 1 x microbatch, but 8 / (3 x 1) = 2.66667; make global_batch a multiple of 3, "
     "e.g. "
     "6 or 9, or change accumulate or the mesh",
     3},
    {"MoreShardsThanBatch",
     "",
     {},
     "job.textproto:10: the batch does not divide: global_batch 8 = data shards 16 (mesh data=16) "
     "x "
     "accumulate 1 x microbatch, but 8 / (16 x 1) = 0.5; make global_batch a multiple of 16, e.g. "
     "16, or change accumulate or the mesh",
     16},
    {"MicrobatchDoesNotDivide",
     "",
     {"train.microbatch=3"},
     "job.textproto:10: the batch does not divide: global_batch 8 = data shards 2 (mesh data=2) x "
     "microbatch 3 x accumulate, but 8 / (2 x 3) = 1.33333; make global_batch a multiple of 6, "
     "e.g. "
     "6 or 12, or change microbatch or the mesh",
     2},
    {"ProductDiffers",
     "",
     {"train.microbatch=2", "train.accumulate=3"},
     "job.textproto:10: the batch does not add up: global_batch 8, but data shards 2 (mesh data=2) "
     "x microbatch 2 x accumulate 3 = 12; set train.global_batch=12 or train.accumulate=2",
     2},
};
INSTANTIATE_TEST_SUITE_P(Batch, ConfigMessage, testing::ValuesIn(kBatchCases), name_of_case);

TEST(Messages, AllProblemsAtOnceInTheOrderOfTheFile) {
  const std::string message = error_of(R"(trian { steps: 5 }
model {
  family: lama
  layers: ten
  heads: 4 heads: 5
  kv_heads: -
  tied_embeddings: maybe
}
data { paths: ["a", b, "c"] paths: foo }
train {
  step: 3
  steps: 1.5
  compute_dtype: "f32"
}
steps: 4
)");
  EXPECT_EQ(message, R"(job.textproto has 12 problems:
  job.textproto:1: unknown field "trian"; did you mean "train"?
  job.textproto:3: model.family has no value "lama"; did you mean "llama"? (gpt2, llama)
  job.textproto:4: model.layers takes a whole number, not ten
  job.textproto:5: model.heads is given twice
  job.textproto:6: model.kv_heads has no value; it takes a whole number
  job.textproto:7: model.tied_embeddings takes true or false, not maybe
  job.textproto:9: data.paths takes a text in quotes, not b
  job.textproto:9: data.paths takes a text in quotes, not foo
  job.textproto:11: unknown field "step" in train; did you mean "steps"?
  job.textproto:12: train.steps takes a whole number, not 1.5
  job.textproto:13: train.compute_dtype takes one of f32, bf16, f64, not "f32"
  job.textproto:15: unknown field "steps"; there is train.steps)");
}

TEST(Messages, NameEveryRequiredField) {
  const std::string message = error_of("");
  for (const char* path :
       {"model.family", "model.layers", "model.embed", "model.heads", "train.steps",
        "train.global_batch", "train.sequence_length", "data.paths"}) {
    EXPECT_NE(message.find(cat("job.textproto: ", path, " is missing: ")), std::string::npos)
        << path;
  }
  EXPECT_TRUE(message.starts_with("job.textproto has 8 problems:\n")) << message;
}

TEST(Messages, ARequiredFieldThatCouldNotBeReadIsNotCalledMissing) {
  EXPECT_EQ(error_of("model { family: gpt2 layers: two embed: 32 heads: 4 }"),
            "job.textproto:1: model.layers takes a whole number, not two");
}

TEST(Messages, ErrorsOfFiles) {
  const TemporaryFolder folder;
  const auto message_for = [](const std::string& path) -> std::string {
    try {
      load_job(path, on_devices(1));
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message_for("/nonexistent/job.textproto"),
            "job file /nonexistent/job.textproto cannot be read: No such file or directory");
  EXPECT_NE(message_for("nonexistent.textproto").find("(looked in /"), std::string::npos);
  EXPECT_EQ(message_for("/"), "job file / is a folder; name a file in it");
  const std::string job =
      folder.write("job.textproto", cat(kSmallJob, "sharding_file: \"rules/mine.textproto\"\n"));
  EXPECT_EQ(message_for(job), cat(job, ":13: sharding file ", folder.path("rules/mine.textproto"),
                                  " cannot be read: No such file or directory"));
  const std::string rules = folder.write("rules/mine.textproto", "\nmsh { name: \"data\" }\n");
  EXPECT_EQ(message_for(job), cat(rules, ":2: unknown field \"msh\"; did you mean \"mesh\"?"));
}

}  // namespace
}  // namespace tessera

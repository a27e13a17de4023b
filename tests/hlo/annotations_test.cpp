// Shardings onto values: parameters, results, constraints, groups; aliases and what is carried.
#include "core/ops/custom_call.h"
#include "tests/hlo/run_sharded.h"

namespace tessera::hlo {
namespace {

using namespace testing;

constexpr std::string_view kMeshes =
    R"(HloModule test, frontend_attributes={xla.sdy.meshes={mesh = #sdy.mesh<["data"=2, "model"=2]>}}

)";
std::string named_module(std::string_view body) { return cat(kMeshes, "ENTRY main {", body, "\n}\n"); }

std::string lying_of_input(const Imported& imported, int input) {
  return cat(imported.graph.sharding(imported.graph.inputs[static_cast<size_t>(input)].value));
}
// What the value of an instruction of the entry is annotated with; "" where nothing.
std::string annotation_of(const Imported& imported, std::string_view name, size_t leaf = 0) {
  for (const auto& [instruction, leaves] : imported.values)
    if (instruction == name) {
      const ResultInfo& info = imported.graph.info(leaves[leaf]);
      return info.sharding && !info.name.empty() ? cat(*info.sharding) : "";
    }
  return "no such instruction";
}

// ---- Parameters -------------------------------------------------------------------------------------

TEST(HloAnnotations, ParametersLieAsStated) {
  const Imported imported = import_text(module_of(R"(
    a = f32[8,4] parameter(0), sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate}
    b = f32[8,4] parameter(1), sharding={devices=[1,2,2]<=[2,2]T(1,0) last_tile_dim_replicate}
    c = f32[8,4] parameter(2), sharding={replicated}
    d = f32[8,4] parameter(3)
    t = (f32[8], (s32[], f32[4])) parameter(4), sharding={{devices=[4]<=[4]}, {replicated}, {devices=[2,2]<=[4] last_tile_dim_replicate}}
    ROOT r = f32[8,4] add(a, b))"));
  EXPECT_EQ(lying_of_input(imported, 0), "[{x0}, {}]");
  EXPECT_EQ(lying_of_input(imported, 1), "[{}, {x1}]");
  EXPECT_EQ(lying_of_input(imported, 2), "[{}, {}]");
  EXPECT_EQ(lying_of_input(imported, 3), "[{?}, {?}]");
  EXPECT_EQ(lying_of_input(imported, 4), "[{x0,x1}]");
  EXPECT_EQ(lying_of_input(imported, 5), "[]");
  EXPECT_EQ(lying_of_input(imported, 6), "[{x0}]");
}

TEST(HloAnnotations, NamesArePreferredWithTheirOpenDimsAndPriorities) {
  const Imported imported = import_text(named_module(R"(
    x = f32[8,4] parameter(0), sharding={replicated}, frontend_attributes={xla.sdy.sharding="#sdy.sharding<@mesh, [{\"data\"}p1, {\"model\", ?}]>"}
    y = f32[8,4] parameter(1), sharding={replicated}, frontend_attributes={xla.sdy.sharding="#sdy.sharding<@mesh, [{?}, {?}], replicated={\"model\"}>"}
    ROOT r = f32[8,4] add(x, y))"));
  EXPECT_EQ(lying_of_input(imported, 0), "[{data}p1, {model,?}]");
  EXPECT_EQ(lying_of_input(imported, 1), "[{?}, {?}] replicated{model}");
}

TEST(HloAnnotations, AnOpenParameterTakesWhatItsUseHas) {
  const ShardedRun run = run_sharded(module_of(R"(
    a = f32[8,4] parameter(0), sharding={devices=[2,2]<=[4]}
    b = f32[8,4] parameter(1)
    ROOT r = f32[8,4] add(a, b))"),
                                     {counting(DType::f32, {8, 4}), counting(DType::f32, {8, 4})}, 4);
  EXPECT_EQ(cat(run.local.sharding(run.local.inputs[1].value)), "[{x0}, {x1}]");
  EXPECT_EQ(run.sharded[0], run.whole[0]);
}

// ---- Constraints ------------------------------------------------------------------------------------

TEST(HloAnnotations, AConstraintHoldsForItsResultAlone) {
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0), sharding={devices=[4,1]<=[4]}
    t = f32[8,4] negate(x)
    c = f32[8,4] custom-call(t), custom_call_target="Sharding", sharding={devices=[1,4]<=[4]}
    ROOT r = (f32[8,4], f32[8,4]) tuple(c, t))");
  const ShardedRun run = run_sharded(text, {counting(DType::f32, {8, 4})}, 0);
  EXPECT_EQ(annotation_of(run.imported, "c"), "[{}, {x0}]");
  EXPECT_EQ(annotation_of(run.imported, "t"), "");
  EXPECT_EQ(output_lying(run, 0), "[{}, {x0}]");
  EXPECT_EQ(output_lying(run, 1), "[{x0}, {}]");
  EXPECT_EQ(run.sharded, run.whole);
  EXPECT_EQ(count_of(run.local, "all_to_all"), 1);
}

// Nothing is left of one where the value lies as it demands.
TEST(HloAnnotations, AConstraintThatHoldsCostsNothing) {
  const ShardedRun run = run_sharded(module_of(R"(
    x = f32[8,4] parameter(0), sharding={devices=[4,1]<=[4]}
    n = f32[8,4] negate(x)
    c = f32[8,4] custom-call(n), custom_call_target="Sharding", sharding={devices=[4,1]<=[4]}
    ROOT r = f32[8,4] exponential(c))"), {counting(DType::f32, {8, 4})}, 0);
  EXPECT_EQ(run.local.instructions.size(), 3u);
}

TEST(HloAnnotations, AnyInstructionMayStateItsSharding) {
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0)
    a = f32[8,4] negate(x), sharding={devices=[2,2]<=[4]}
    p = (f32[8,4], f32[8,4]) tuple(a, x), sharding={{devices=[4,1]<=[4]}, {devices=[1,2,2]<=[4] last_tile_dim_replicate}}
    u = f32[8,4] get-tuple-element(p), index=0
    v = f32[8,4] get-tuple-element(p), index=1
    ROOT r = f32[8,4] add(u, v))");
  const Imported imported = import_text(text);
  EXPECT_EQ(annotation_of(imported, "a"), "[{x0}, {x1}]");
  EXPECT_EQ(annotation_of(imported, "p", 0), "[{x0,x1}, {}]");
  EXPECT_EQ(annotation_of(imported, "p", 1), "[{}, {x0}]");
  for (int64_t devices : {4, 8}) expect_equal_on_shards(text, {counting(DType::f32, {8, 4})}, devices);
}

TEST(HloAnnotations, UnspecifiedDimsAreOpen) {
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0), sharding={devices=[1,2,2]<=[2,2]T(1,0) last_tile_dim_replicate}
    c = f32[8,4] custom-call(x), custom_call_target="Sharding", sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate}, backend_config="unspecified_dims=[1]"
    ROOT r = f32[8,4] negate(c))");
  const ShardedRun run = run_sharded(text, {counting(DType::f32, {8, 4})}, 4);
  EXPECT_EQ(annotation_of(run.imported, "c"), "[{x0}, {?}]");
  EXPECT_EQ(output_lying(run, 0), "[{x0}, {x1}]");
  EXPECT_EQ(run.sharded, run.whole);
}

TEST(HloAnnotations, WhatSaysNothingAddsNothing) {
  const Imported imported = import_text(named_module(R"(
    x = f32[8,4] parameter(0)
    a = f32[8,4] custom-call(x), custom_call_target="Sharding", sharding={unknown}
    b = f32[8,4] custom-call(a), custom_call_target="Sharding", sharding={replicated}, frontend_attributes={xla.sdy.sharding="#sdy.sharding_per_value<[<@mesh, [{?}, {?}]>]>"}
    m = f32[8,4] custom-call(b), custom_call_target="Sharding", sharding={manual}
    ROOT r = f32[8,4] negate(m))"));
  EXPECT_EQ(imported.graph.instructions.size(), 2u);
}

TEST(HloAnnotations, ADeviceOrderOfItsOwnIsKept) {
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0), sharding={devices=[4,1]<=[4]}
    y = f32[8,4] parameter(1), sharding={devices=[4,1]0,1,3,2}
    ROOT r = f32[8,4] add(x, y))");
  expect_equal_on_shards(text, {counting(DType::f32, {8, 4}), counting(DType::f32, {8, 4})}, 4);
}

// ---- Results ----------------------------------------------------------------------------------------

TEST(HloAnnotations, ResultsLieAsTheRootSays) {
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0), sharding={devices=[4,1]<=[4]}
    n = f32[8,4] negate(x)
    z = f32[] constant(0)
    ROOT r = (f32[8,4], f32[8,4], f32[]) tuple(n, x, z), sharding={{devices=[1,4]<=[4]}, {replicated}, {replicated}})");
  const ShardedRun run = run_sharded(text, {counting(DType::f32, {8, 4})}, 0);
  EXPECT_EQ(output_lying(run, 0), "[{}, {x0}]");
  EXPECT_EQ(output_lying(run, 1), "[{}, {}]");
  EXPECT_EQ(run.sharded, run.whole);
}

// JAX fills the root's tuple with {replicated} where a result's sharding was left to the compiler.
TEST(HloAnnotations, NamedResultsStandAtFuncResultSharding) {
  const std::string text = named_module(R"(
    x = f32[8,4] parameter(0), frontend_attributes={xla.sdy.sharding="#sdy.sharding<@mesh, [{\"data\"}, {}]>"}
    n = f32[8,4] negate(x)
    f = f32[8,4] custom-call(n), custom_call_target="xla.sdy.FuncResultSharding", custom_call_has_side_effect=true, frontend_attributes={xla.sdy.sharding="#sdy.sharding_per_value<[<@mesh, [{}, {\"model\"}]>]>"}
    e = f32[8,4] exponential(x)
    ROOT r = (f32[8,4], f32[8,4]) tuple(f, e), sharding={{devices=[1,2,2]<=[2,2]T(1,0) last_tile_dim_replicate}, {replicated}})");
  const ShardedRun run = run_sharded(text, {counting(DType::f32, {8, 4})}, 0);
  EXPECT_EQ(output_lying(run, 0), "[{}, {model}]");
  EXPECT_EQ(output_lying(run, 1), "[{data}, {}]");
}

TEST(HloAnnotations, AnEntryThatGivesBackItsParameter) {
  const std::string text = "HloModule m\nENTRY main { ROOT p = (f32[8], f32[4]) parameter(0), "
                           "sharding={{devices=[4]<=[4]}, {unknown}} }\n";
  const ShardedRun run =
      run_sharded(text, {counting(DType::f32, {8}), counting(DType::f32, {4})}, 4);
  EXPECT_EQ(lying_of_input(run.imported, 0), "[{x0}]");
  EXPECT_EQ(lying_of_input(run.imported, 1), "[{?}]");
  EXPECT_EQ(run.sharded, run.whole);
}

// ---- Groups -----------------------------------------------------------------------------------------

TEST(HloAnnotations, MembersOfAGroupLieAlike) {
  for (const char* kind : {"shard_as", "shard_like"}) {
    const std::string text = module_of(cat(R"(
    x = f32[8,4] parameter(0), sharding={devices=[2,1]<=[2]}
    y = f32[8,4] parameter(1)
    a = f32[8,4] custom-call(x), custom_call_target="Sharding", sharding={unknown )", kind, R"( 7}
    b = f32[8,4] custom-call(y), custom_call_target="Sharding", sharding={unknown )", kind, R"( 7}
    ROOT r = (f32[8,4], f32[8,4]) tuple(a, b))"));
    const ShardedRun run = run_sharded(
        text, {counting(DType::f32, {8, 4}), counting(DType::f32, {8, 4})}, 2);
    EXPECT_EQ(output_lying(run, 1), "[{x0}, {}]") << kind;
    EXPECT_EQ(run.sharded, run.whole);
  }
}

TEST(HloAnnotations, GroupsAsShardyWritesThem) {
  const std::string text = named_module(R"(
    x = f32[8,4] parameter(0), frontend_attributes={xla.sdy.sharding="#sdy.sharding<@mesh, [{\"data\"}, {}]>"}
    y = f32[8,4] parameter(1)
    n = f32[8,4] negate(x)
    g = () custom-call(n), custom_call_target="xla.sdy.ShardingGroup", custom_call_has_side_effect=true, frontend_attributes={xla.sdy.sharding_group_id="0 : i64"}
    h = () custom-call(y), custom_call_target="xla.sdy.ShardingGroup", custom_call_has_side_effect=true, frontend_attributes={xla.sdy.sharding_group_id="0 : i64"}
    ROOT r = (f32[8,4], f32[8,4]) tuple(n, y))");
  const ShardedRun run =
      run_sharded(text, {counting(DType::f32, {8, 4}), counting(DType::f32, {8, 4})}, 4);
  EXPECT_EQ(cat(run.local.sharding(run.local.inputs[1].value)), "[{data}, {}]");
}

// ---- What is taken otherwise than written ---------------------------------------------------------------

TEST(HloAnnotations, NotesSayWhatIsTakenOtherwise) {
  const Imported imported = import_text(module_of(R"(
    x = f32[8] parameter(0), sharding={maximal device=0}
    y = f32[8] parameter(1), sharding={devices=[2]<=[2]}
    u = f32[8] custom-call(x), custom_call_target="Sharding", sharding={unreduced}
    d = f32[8] custom-call(u), custom_call_target="annotate_device_placement", frontend_attributes={_xla_buffer_placement="pinned_host"}
    ROOT r = f32[8] negate(d))"));
  ASSERT_EQ(imported.notes.size(), 3u);
  EXPECT_NE(imported.notes[0].find("(%x): sharding {maximal device=0} is taken as replicated"),
            std::string::npos) << imported.notes[0];
  EXPECT_NE(imported.notes[1].find("unreduced"), std::string::npos);
  EXPECT_NE(imported.notes[2].find("annotate_device_placement"), std::string::npos);
}

TEST(HloAnnotations, ErrorsNameTheLine) {
  auto refused = [](std::string_view sharding, const std::vector<std::string>& parts) {
    expect_error(module_of(cat("\nx = f32[8,4] parameter(0), ", sharding, "\nROOT r = f32[8,4] negate(x)")),
                 parts);
  };
  refused("sharding={devices=[4]<=[4]}", {"line 4 (%x)", "rank"});
  refused("sharding={{replicated}, {replicated}}", {"line 4 (%x)", "2 shardings for 1 array"});
  refused("sharding={unknown shard_as 2305843009213693952}", {"line 4 (%x)", "2^60"});
  expect_error(module_of(R"(
    x = f32[8,4] parameter(0)
    ROOT c = f32[8,4] custom-call(x), custom_call_target="Sharding", sharding={replicated}, backend_config="unspecified_dims=[a]")"),
               {"unspecified_dims", "(%c)"});
  expect_error(module_of(R"(
    x = f32[8,4] parameter(0)
    g = () custom-call(x), custom_call_target="xla.sdy.ShardingGroup", frontend_attributes={xla.sdy.sharding_group_id="none"}
    ROOT r = f32[8,4] negate(x))"),
               {"line 5 (%g)", "sharding_group_id"});
  expect_error(module_of(R"(
    x = f32[8,4] parameter(0)
    ROOT t = (f32[8,4], f32[8,4]) tuple(x, x), sharding={{devices=[2,1]<=[2]}, {devices=[2]<=[2]}})"),
               {"line 5 (%t)", "rank"});
}

// ---- Custom calls ---------------------------------------------------------------------------------------

TEST(HloCustomCalls, TopK) {
  const std::string text = module_of(R"(
    x = f32[2,4] parameter(0), sharding={devices=[2,1]<=[2]}
    t = (f32[2,2], s32[2,2]) custom-call(x), custom_call_target="TopK", called_computations={greater}
    v = f32[2,2] get-tuple-element(t), index=0
    i = s32[2,2] get-tuple-element(t), index=1
    ROOT r = (f32[2,2], s32[2,2]) tuple(v, i))",
                                     R"(greater {
    a = f32[] parameter(0)
    b = f32[] parameter(1)
    ia = s32[] parameter(2)
    ib = s32[] parameter(3)
    ROOT g = pred[] compare(a, b), direction=GT
})");
  const auto y = expect_equal_on_shards(text, {tensor<float>({2, 4}, {3, 9, 1, 7, 2, 2, 8, 0})}, 2);
  EXPECT_EQ(reals(y[0]), (Reals{9, 7, 8, 2}));
  EXPECT_EQ(reals(y[1]), (Reals{1, 3, 2, 0}));
}

TEST(HloCustomCalls, OnesThatTheProgramRegisters) {
  ops::register_custom_call("test_double", [](const OpCall&, std::span<const HostTensor* const> x,
                                              std::span<HostTensor> y) {
    for (int64_t i = 0; i < y[0].elements(); ++i) y[0].set_real(i, 2 * x[0]->get_real(i));
  });
  const std::string text = module_of(R"(
    x = f32[4] parameter(0), sharding={devices=[2]<=[2]}
    ROOT y = f32[4] custom-call(x), custom_call_target="test_double", backend_config="fast")");
  EXPECT_EQ(reals(expect_equal_on_shards(text, {floats({1, 2, 3, 4})}, 2)[0]), (Reals{2, 4, 6, 8}));
}

TEST(HloCustomCalls, OthersAreUnsupportedByName) {
  EXPECT_EQ(unsupported_of(module_of(R"(
    x = f32[4] parameter(0)
    y = f32[4] custom-call(x), custom_call_target="CustomSPMDPartitioning", backend_config="x"
    ROOT z = f32[4] custom-call(y), custom_call_target="lapack_spotrf")")),
            (std::vector<std::string>{"custom call CustomSPMDPartitioning",
                                      "custom call lapack_spotrf"}));
}

// ---- Carry ------------------------------------------------------------------------------------------------

using Pairs = std::vector<std::pair<int, int>>;

std::string step(std::string_view header, std::string_view w = "", std::string_view result = "") {
  return cat("HloModule step", header, "\n\nENTRY main {\n    w = f32[8,4] parameter(0)", w,
             "\n    m = f32[8,4] parameter(1)\n    x = f32[8] parameter(2)\n"
             "    n = f32[8,4] negate(w)", result, "\n    s = f32[8,4] add(m, n)\n"
             "    l = f32[] constant(1)\n"
             "    ROOT r = (f32[], f32[8,4], f32[8,4]) tuple(l, n, s)\n}\n");
}

TEST(HloCarry, AliasesTieOutputsToInputs) {
  const Imported imported = import_text(
      step(", input_output_alias={ {1}: (0, {}, may-alias), {2}: (1, {}, must-alias) }"));
  EXPECT_EQ(imported.carry, (Pairs{{1, 0}, {2, 1}}));
  EXPECT_EQ(imported.graph.outputs[0].alias_input, -1);
  EXPECT_EQ(imported.graph.outputs[1].alias_input, 0);
  EXPECT_EQ(imported.graph.outputs[2].alias_input, 1);
  EXPECT_EQ(imported.graph.inputs[0].kind, InputKind::parameter);
  EXPECT_EQ(imported.graph.inputs[2].kind, InputKind::data);
}

TEST(HloCarry, DonorsTakeTheFirstResultOfTheirType) {
  const Imported imported = import_text(
      step(", input_output_alias={ {2}: (1, {}, may-alias) }, buffer_donor={ (0, {}), (2, {}) }"));
  EXPECT_EQ(imported.carry, (Pairs{{1, 0}, {2, 1}}));
  EXPECT_EQ(imported.graph.outputs[1].alias_input, -1);
}

TEST(HloCarry, ElseTheLongestRunOfEqualTypes) {
  EXPECT_EQ(import_text(step("")).carry, (Pairs{{1, 0}, {2, 1}}));
}

TEST(HloCarry, TheOutputTakesTheSharding) {
  const std::string text =
      step(", input_output_alias={ {1}: (0, {}, may-alias) }", ", sharding={devices=[2,2]<=[4]}");
  const ShardedRun run = run_sharded(
      text, {counting(DType::f32, {8, 4}), counting(DType::f32, {8, 4}), counting(DType::f32, {8})}, 4);
  EXPECT_EQ(output_lying(run, 1), "[{x0}, {x1}]");
  EXPECT_EQ(run.local.outputs[1].alias_input, 0);
  EXPECT_EQ(run.sharded, run.whole);
}

TEST(HloCarry, OrTheInputThatOfTheOutput) {
  const std::string text =
      step(", input_output_alias={ {1}: (0, {}, may-alias) }", "", ", sharding={devices=[1,4]<=[4]}");
  const Imported imported = import_text(text);
  EXPECT_EQ(lying_of_input(imported, 0), "[{}, {x0}]");
  EXPECT_EQ(imported.graph.outputs[1].alias_input, 0);
}

TEST(HloCarry, OrBothWhatPropagationFinds) {
  const std::string text = R"(HloModule step, input_output_alias={ {}: (0, {}, may-alias) }
ENTRY main {
    w = f32[8,4] parameter(0)
    x = f32[8,4] parameter(1), sharding={devices=[2,2]<=[4]}
    ROOT n = f32[8,4] add(w, x)
})";
  const ShardedRun run =
      run_sharded(text, {counting(DType::f32, {8, 4}), counting(DType::f32, {8, 4})}, 4);
  EXPECT_EQ(cat(run.local.sharding(run.local.inputs[0].value)), "[{x0}, {x1}]");
  EXPECT_EQ(output_lying(run, 0), "[{x0}, {x1}]");
  EXPECT_EQ(run.local.outputs[0].alias_input, 0);
  EXPECT_EQ(run.sharded, run.whole);
}

TEST(HloCarry, AResultOfTwoOutputsOverwritesOne) {
  const std::string text = R"(HloModule step, input_output_alias={ {0}: (0, {}, may-alias), {1}: (1, {}, may-alias) }
ENTRY main {
    w = f32[8,4] parameter(0)
    x = f32[8,4] parameter(1), sharding={devices=[2,2]<=[4]}
    n = f32[8,4] add(w, x)
    ROOT r = (f32[8,4], f32[8,4], f32[8,4]) tuple(n, n, w)
})";
  expect_equal_on_shards(text, {counting(DType::f32, {8, 4}), counting(DType::f32, {8, 4})}, 4);
}

TEST(HloCarry, NotWhereTheyDiffer) {
  const Imported other = import_text(step(", input_output_alias={ {1}: (0, {}, may-alias) }",
                                          ", sharding={devices=[4,1]<=[4]}",
                                          ", sharding={devices=[1,4]<=[4]}"));
  EXPECT_EQ(other.graph.outputs[1].alias_input, -1);
  EXPECT_EQ(other.carry, (Pairs{{1, 0}}));
  ASSERT_EQ(other.notes.size(), 1u);
  EXPECT_NE(other.notes[0].find("does not overwrite w: it lies [{}, {x0}], the parameter [{x0}, {}]"),
            std::string::npos) << other.notes[0];
  // JAX also pairs what merely has as many bytes on a device.
  const Imported types = import_text(step(", input_output_alias={ {0}: (2, {}, may-alias) }"));
  EXPECT_TRUE(types.carry.empty());
  EXPECT_NE(types.notes.at(0).find("the types differ"), std::string::npos);
}

TEST(HloCarry, NothingTwice) {
  expect_error(step(", input_output_alias={ {1}: (0, {}, may-alias), {2}: (0, {}, may-alias) }"),
               {"parameter 0", "twice"});
  expect_error(step(", input_output_alias={ {1}: (0, {}, may-alias), {1}: (1, {}, may-alias) }"),
               {"result {1}", "twice"});
}

}  // namespace
}  // namespace tessera::hlo

// Every kind of attribute: what it reads, and that it prints as it was read.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "partitioner/hlo/attributes.h"
#include "tests/hlo/hlo_testing.h"

namespace tessera::hlo {
namespace {

using ::tessera::testing::entry_of;
using ::tessera::testing::root_attribute;
using ::tessera::testing::round_trip;

HloModule with_attribute(const std::string& text) {
  return parse(
      "HloModule m\nf { ROOT p = f32[] parameter(0) }\ng { ROOT p = f32[] parameter(0) }\n" +
      entry_of("ROOT p = f32[] frobnicate(), " + text).substr(12));
}

// What the attribute prints as; it must print so again.
std::string printed(const std::string& text) {
  const HloModule module = with_attribute(text);
  const std::string all = round_trip(print(module));
  const size_t at = all.find("frobnicate(), ");
  return all.substr(at + 14, all.find("\n}\n", at) - at - 14);
}

template <typename T>
T value_of(const std::string& text) {
  const HloModule module = with_attribute(text);
  return std::get<T>(root_attribute(module, text.substr(0, text.find('='))));
}

TEST(HloAttributes, CanonicalOnesPrintAsTheyStand) {
  for (const std::string text : {
           "indices_are_sorted=true",
           "is_stable=false",
           "index_vector_dim=1",
           "channel_id=-7",
           "epsilon=0.001",
           "custom_call_target=\"TopK\"",
           "backend_config=\"{\\\"a\\\": 1}\"",
           "backend_config={\"known_trip_count\":{\"n\":\"5\"},\"list\":[1,{}]}",
           "direction=LT",
           "to_apply=f",
           "calls=f",
           "calls={f, g}",
           "branch_computations={f, g}",
           "called_computations={}",
           "operand_precision={highest,default}",
           "lhs_ragged_dims={0}",
           "rhs_group_dims={}",
           "dimensions={}",
           "dimensions={2,0,1}",
           "source_target_pairs={{0,1},{1,0}}",
           "source_target_pairs={}",
           "window={size=3x3 stride=2x2 pad=1_1x-1_2 lhs_dilate=1x2 rhs_dilate=2x1 "
           "rhs_reversal=1x0}",
           "window={size=5}",
           "window={}",
           "dim_labels=b01f_01io->b01f",
           "dim_labels=bf_io->fb",
           "padding=0_1x-1_0_2",
           "padding=, direction=LT",
           "slice={[0:8], [1:9:2]}",
           "slice={}",
           "sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate}",
           "sharding={{replicated}, {devices=[2]<=[2]}}",
           "sharding={maximal device=0}",
           "replica_groups={{0,1},{2,3}}",
           "replica_groups=[2,2]<=[2,2]T(1,0)",
           "replica_groups={}",
           "metadata={op_name=\"jit(f)/jit(main)/a,b={}\" source_file=\"train.py\" source_line=12}",
           "metadata={}",
           "frontend_attributes={a=\"b\",xla.sdy.sharding=\"#sdy.sharding<@mesh, "
           "[{\\\"x\\\"}]>\",c={d=1}}",
           "control-predecessors={x, y}",
           "algorithm=dot_bf16_bf16_f32",
           "api_version=API_VERSION_TYPED_FFI",
           "output_to_operand_aliasing={{0}: (1, {})}",
           "statistics={visualizing_index=1,stat1=33}",
           "some_new_attribute=mesh['x'=2]<=foo (1, 2) {3}",
           "another=12.5e3x",
       }) {
    if (text.starts_with("control-")) {
      EXPECT_EQ(printed(text), "control-predecessors={x,y}");
      continue;
    }
    EXPECT_EQ(printed(text), text);
  }
}

TEST(HloAttributes, Values) {
  EXPECT_EQ(value_of<bool>("unique_indices=true"), true);
  EXPECT_EQ(value_of<int64_t>("iota_dimension= 3"), 3);
  EXPECT_EQ(value_of<double>("epsilon=1e-5"), 1e-5);
  EXPECT_EQ(value_of<std::string>("custom_call_target=\"a\\\"b\\\\\\n\\001\\x41\\t'\""),
            "a\"b\\\n\001A\t'");
  EXPECT_EQ(value_of<Name>("condition=%f").text, "f");
  EXPECT_EQ(value_of<std::string>("algorithm=\"x y\""), "x y");
  EXPECT_EQ(value_of<Names>("branch_computations={ %f , g}").list,
            (std::vector<std::string>{"f", "g"}));
  EXPECT_EQ(value_of<Ints>("dimensions={ 1, /*two*/ 2 }"), (Ints{1, 2}));
  EXPECT_EQ(value_of<IntLists>("source_target_pairs={{0,1}, {1,0}}").lists,
            (std::vector<Ints>{{0, 1}, {1, 0}}));
  EXPECT_EQ(value_of<Window>("window={size=3x2 pad=1_2x0_0 rhs_reversal=0x1}"),
            (Window{{3, 2}, {}, {1, 0}, {2, 0}, {}, {}, {0, 1}}));
  EXPECT_EQ(value_of<DimLabels>("dim_labels=b01f_01io->f01b"), (DimLabels{"b01f", "01io", "f01b"}));
  EXPECT_EQ(value_of<PadConfig>("padding=0_1x-1_0_2"), (PadConfig{{0, -1}, {1, 0}, {0, 2}}));
  EXPECT_EQ(value_of<SliceRanges>("slice={[0:8], [1:9:2]}"), (SliceRanges{{0, 1}, {8, 9}, {1, 2}}));
  EXPECT_EQ(value_of<HloSharding>("sharding={manual}").kind, HloSharding::Kind::manual);
  EXPECT_EQ(value_of<HloSharding>("sharding={{replicated}, /*index=1*/{manual}}").elements.size(),
            2u);
  EXPECT_EQ(value_of<ReplicaGroups>("replica_groups=[2,2]<=[4]").kind, ReplicaGroups::Kind::iota);
  EXPECT_EQ(value_of<ReplicaGroups>("replica_groups=mesh['x'=2,'y'=2] {'y'}").kind,
            ReplicaGroups::Kind::named);
  EXPECT_EQ(value_of<Verbatim>("backend_config={\"a\": [1, 2]}").text, "{\"a\": [1, 2]}");
  EXPECT_EQ(value_of<Verbatim>("foo={(1, /*index=1*/2) // rest }\n}").text, "{(1, 2) \n}");
  const Dictionary metadata =
      value_of<Dictionary>("metadata={op_name=\"a b\"   source_line=3, x={y}}");
  EXPECT_EQ(*metadata.find("op_name"), "\"a b\"");
  EXPECT_EQ(unquoted(*metadata.find("op_name")), "a b");
  EXPECT_EQ(unquoted(*metadata.find("source_line")), "3");
  EXPECT_EQ(*metadata.find("x"), "{y}");
}

TEST(HloAttributes, GetNamesLineInstructionAndBothKinds) {
  const HloModule module =
      parse(entry_of("a = f32[4] parameter(0)\n\nROOT b = f32[4] reverse(a), dimensions={0}"));
  const HloInstruction& root = module.entry_computation().instructions[1];
  EXPECT_EQ(*root.get<Ints>("dimensions"), (Ints{0}));
  EXPECT_EQ(root.get<Ints>("slice_sizes"), nullptr);
  EXPECT_EQ(where(root), "line 6 (%b)");
  try {
    root.get<Name>("dimensions");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(
        error.what(),
        "line 6 (%b): the attribute dimensions of reverse is a list of integers, expected a name");
  }
}

}  // namespace
}  // namespace tessera::hlo

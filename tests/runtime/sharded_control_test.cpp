// Control flow on the shards that devices hold: regions that are sharded, or local.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ir/text.h"
#include "core/ir/verifier.h"
#include "core/ops/op_list.h"
#include "core/runtime/sharded_interpreter.h"

namespace tessera {
namespace {

HostTensor small_steps(const Shape& shape) {
  HostTensor tensor({DType::f64, shape});
  for (int64_t i = 0; i < tensor.elements(); ++i)
    tensor.set_real(i, 0.01 * static_cast<double>(i) + 0.1);
  return tensor;
}

HostTensor s32(int64_t value) {
  HostTensor tensor({DType::s32, {}});
  tensor.set_int(0, value);
  return tensor;
}

void expect_as_whole(const Graph& graph, const std::vector<HostTensor>& inputs) {
  verify(graph, GraphStage::sharded);
  const auto expected = interpret(graph, inputs), actual = interpret_sharded(graph, inputs);
  for (size_t o = 0; o < expected.size(); ++o)
    EXPECT_LT(max_relative_error(actual[o], expected[o]), 1e-12) << "output " << o;
}

std::string message_of(const Graph& graph, const std::vector<HostTensor>& inputs) {
  try {
    interpret_sharded(graph, inputs);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "(no error)";
}

// x is cut by rows; each turn adds the sum over all rows, which an all_reduce in the body makes.
std::string loop_text(const char* mesh, const char* inner_sharding) {
  const std::string parameters = cat(R"(
      %0 = parameter {index=0, name="k", shape=[], dtype=s32} : s32[] [] named "k" input 0 data
      %1 = parameter {index=1, name="x", shape=[4,6], dtype=f64} : f64[4,6] )", inner_sharding,
                                     R"( named "x" input 1 data)");
  return cat("graph \"g\" mesh ", mesh, R"( {
    %0 = parameter {index=0, name="k", shape=[], dtype=s32} : s32[] [] named "k" input 0 data
    %1 = parameter {index=1, name="x", shape=[4,6], dtype=f64} : f64[4,6] [{a}, {}] named "x" input 1 data
    %2 = while(%0, %1) {body=graph "body" mesh )", mesh, " {", parameters, R"(
      %2 = constant {shape=[], dtype=s32, scalar=1} : s32[] []
      %3 = add(%0, %2) : s32[] []
      %4 = reduce(%1) {dimensions=[0], reduce_kind=sum} : f64[6] [{}] partial{sum: a}
      %5 = all_reduce(%4) {reduce_kind=sum, axes={a}} : f64[6] [{}]
      %6 = broadcast_in_dim(%5) {dimensions=[1], shape=[4,6]} : f64[4,6] [{a}, {}]
      %7 = add(%1, %6) : f64[4,6] [{a}, {}]
      return %3 as "k" [], %7 as "x" [{a}, {}]
    }, condition=graph "until" mesh )", mesh, " {", parameters, R"(
      %2 = constant {shape=[], dtype=s32, scalar=3} : s32[] []
      %3 = compare(%0, %2) {direction=lt} : pred[] []
      return %3 as "goes_on" []
    }, trip_count=3} : s32[] [], f64[4,6] [{a}, {}]
    return %2:1 as "y"
  })");
}

TEST(ShardedControl, LoopsCarryShardsAndReduceInside) {
  const Graph graph = parse_graph(loop_text("<a=2, b=2>", "[{a}, {}]"), all_ops());
  expect_as_whole(graph, {s32(0), small_steps({4, 6})});
  EXPECT_NE(message_of(graph, {s32(-1), small_steps({4, 6})}).find("trip_count of 3"), std::string::npos);
}

// Until propagation went into the regions, a loop is computed on whole tensors.
TEST(ShardedControl, RegionsWithoutShardingsRunWhole) {
  Graph graph = parse_graph(loop_text("<a=2, b=2>", "[{a}, {}]"), all_ops());
  for (Attr key : {Attr::body, Attr::condition}) {
    Graph region = *graph.instructions[2].attributes.get<GraphRef>(key);
    for (Instruction& instruction : region.instructions)
      for (ResultInfo& result : instruction.results) result.sharding.reset();
    graph.instructions[2].attributes.set(key, std::make_shared<const Graph>(region));
  }
  expect_as_whole(graph, {s32(0), small_steps({4, 6})});
}

// The body takes x otherwise than it is given.
TEST(ShardedControl, ABoundaryThatDoesNotFitIsFound) {
  const Graph graph = parse_graph(loop_text("<a=2, b=2>", "[{}, {b}]"), all_ops());
  EXPECT_NE(message_of(graph, {s32(0), small_steps({4, 6})}).find("in a region of %2 while"),
            std::string::npos);
}

// After localize devices may part, but not around a collective.
TEST(ShardedControl, DevicesThatPartMustNotMeet) {
  auto text = [](const char* op) {
    return cat(R"(graph "g" mesh <a=2> local {
    %0 = parameter {index=0, name="x", shape=[2], dtype=f64} : f64[2] [{a}] named "x" input 0 data
    %1 = axis_index {axes={a}} : s64[]
    %2 = convert(%1) {dtype=s32} : s32[]
    %3 = case(%2, %0) {branches=[graph "same" mesh <a=2> local {
        %0 = parameter {index=0, name="x", shape=[2], dtype=f64} : f64[2] [{a}] named "x" input 0 data
        return %0 as "y"
      }, graph "other" mesh <a=2> local {
        %0 = parameter {index=0, name="x", shape=[2], dtype=f64} : f64[2] [{a}] named "x" input 0 data
        %1 = )", op, R"( : f64[2]
        return %1 as "y"
      }]} : f64[2] [{a}]
    return %3 as "y"
  })");
  };
  const Graph apart = parse_graph(text("negate(%0)"), all_ops());
  verify(apart, GraphStage::local);
  const HostTensor y = interpret_sharded(apart, std::vector{small_steps({4})})[0];
  EXPECT_DOUBLE_EQ(y.get_real(1), 0.11);
  EXPECT_DOUBLE_EQ(y.get_real(2), -0.12);
  const Graph meeting = parse_graph(
      text("all_reduce(%0) {shape=[2], reduce_kind=sum, axes={a}}"), all_ops());
  EXPECT_NE(message_of(meeting, {small_steps({4})}).find("of which only one is here"), std::string::npos);
}

// Manual over a, automatic over b: along a the program exchanges, along b the partitioner does.
TEST(ShardedControl, ManualComputationsAreAutomaticAlongOtherAxes) {
  const char* kText = R"(graph "g" mesh <a=2, b=2> {
    %0 = parameter {index=0, name="x", shape=[4,6], dtype=f64} : f64[4,6] [{a}, {b}] named "x" input 0 data
    %1 = manual_computation(%0) {callee=graph "shard" mesh <a=2, b=2> {
      %0 = parameter {index=0, name="x", shape=[2,6], dtype=f64} : f64[2,6] [{}, {b}] named "x" input 0 data
      %1 = reduce(%0) {dimensions=[0], reduce_kind=sum} : f64[6] [{b}]
      %2 = all_reduce(%1) {shape=[6], reduce_kind=sum, axes={a}} : f64[6] [{b}]
      %3 = all_gather(%2) {dimension=0, axes={b}} : f64[6] [{}]
      %4 = manual_computation(%0) {callee=graph "corner" mesh <a=2, b=2> {
        %0 = parameter {index=0, name="x", shape=[2,3], dtype=f64} : f64[2,3] [{}, {}] named "x" input 0 data
        %1 = shift(%0) {axes={b}, shift=1, wrap=true} : f64[2,3] [{}, {}]
        return %1 as "y"
      }, in_shardings=([{}, {b}]), out_shardings=([{}, {b}]), axes={b}} : f64[2,6] [{}, {b}]
      return %3 as "sum" [{}], %4 as "turned" [{}, {b}]
    }, in_shardings=([{a}, {b}]), out_shardings=([{}]; [{a}, {b}]), axes={a}} : f64[6] [{}], f64[4,6] [{a}, {b}]
    return %1 as "sum", %1:1 as "turned"
  })";
  const Graph graph = parse_graph(kText, all_ops());
  expect_as_whole(graph, {small_steps({4, 6})});
  Graph wrong = graph;
  wrong.instructions[1].attributes.set(Attr::in_shardings,
                                       Shardings{parse_sharding(graph.mesh, "[{a}, {}]")});
  EXPECT_NE(message_of(wrong, {small_steps({4, 6})}).find("operand 0 lies as [{a}, {b}], is taken as"),
            std::string::npos);
}

}  // namespace
}  // namespace tessera

// What small programs exchange, exactly: one line per case, by the whole partitioner. (The blocks of
// the shipped schemes are in scheme_collectives_test.cpp, single reshards in reshard_search_test.cpp.)
#include <gtest/gtest.h>

#include <functional>

#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/gather.h"
#include "core/ops/structure.h"
#include "core/runtime/sharded_interpreter.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct Table : MeshProgram {
  using MeshProgram::MeshProgram;

  Value in(const char* sharding, Shape shape = {16, 16}, DType type = DType::f32) {
    return input(cat("in", graph.inputs.size()), TensorType{type, std::move(shape)}, sharding);
  }
  void out(Value value, const char* sharding = nullptr) { output(value, sharding); }
  Value matmul(Value x, Value y) { return ops::matmul(b, x, y); }
};

struct TableCase {
  const char* name;
  const char* mesh;
  std::function<void(Table&)> build;
  const char* collectives;  // op{axes} xcount bytes of the operands on one device
};

// From one lying to another.
std::function<void(Table&)> lying(const char* from, const char* to, Shape shape = {16, 16}) {
  return [=](Table& t) { t.out(t.in(from, shape), to); };
}

// A matrix of 16 x 16 f32 has 1024 B.
const TableCase kCases[] = {
    // ---- Lyings -------------------------------------------------------------------------------
    {"a tile moves from dim 0 to dim 1", "x=4", lying("[{x}, {}]", "[{}, {x}]"),
     "all_to_all{x} x1 256 B"},
    {"of three dims, two take part", "x=4", lying("[{}, {x}, {}]", "[{}, {}, {x}]", {4, 8, 8}),
     "all_to_all{x} x1 256 B"},
    {"a gather", "x=4", lying("[{x}, {}]", "[{}, {}]"), "all_gather{x} x1 256 B"},
    {"a gather of the minor axis", "x=2,y=4", lying("[{x,y}, {}]", "[{x}, {}]"),
     "all_gather{y} x1 128 B"},
    {"a gather of the major axis", "x=2,y=4", lying("[{x,y}, {}]", "[{y}, {}]"),
     "all_gather{x} x1 128 B; collective_permute{x,y} x1 128 B"},
    {"a slice is free", "x=4", lying("[{}, {}]", "[{}, {x}]"), ""},
    {"a slice of a slice", "x=2,y=4", lying("[{x}, {}]", "[{x}, {y}]"), ""},
    {"the device order of a dim", "x=2,y=4", lying("[{x,y}, {}]", "[{y,x}, {}]"),
     "collective_permute{x,y} x1 128 B"},
    {"two dims swap axes", "x=2,y=2", lying("[{x}, {y}]", "[{y}, {x}]"),
     "collective_permute{x,y} x1 256 B"},
    {"two dims swap axes of unlike size", "x=2,y=4", lying("[{x}, {y}]", "[{y}, {x}]"),
     "all_to_all{x} x2 256 B; all_to_all{y,x} x1 128 B"},
    {"another axis", "x=2,y=2", lying("[{x}, {}]", "[{y}, {}]"),
     "collective_permute{x,y} x1 512 B"},
    {"one axis of two moves on", "x=2,y=4", lying("[{x,y}, {}]", "[{x}, {y}]"),
     "all_to_all{y} x1 128 B"},
    {"both axes move on", "x=2,y=4", lying("[{x,y}, {}]", "[{}, {x,y}]"),
     "all_to_all{x,y} x1 128 B"},
    {"half an axis moves on", "x=4", lying("[{x}, {}]", "[{x:(1)2}, {x:(2)2}]"),
     "all_to_all{x:(2)2} x1 256 B"},
    {"half an axis is gathered", "x=4", lying("[{x}, {}]", "[{x:(1)2}, {}]"),
     "all_gather{x:(2)2} x1 256 B"},
    {"the other half of an axis", "x=4", lying("[{x:(2)2}, {}]", "[{x:(1)2}, {}]"),
     "collective_permute{x:(2)2,x:(1)2} x1 512 B"},
    // ---- Two padded sizes of one dim: rows from neighbours where the shards are near ------------
    // 5 rows in shards of 3, then of 2: resized to shards of 4, which y cuts in two.
    {"uneven rows, cut once more", "x=2,y=2", lying("[{x}, {}]", "[{x,y}, {}]", {5, 16}),
     "shift{x} x1 64 B"},
    {"uneven rows, gathered along the minor axis", "x=2,y=2",
     lying("[{x,y}, {}]", "[{x}, {}]", {5, 16}), "all_gather{y} x1 128 B; shift{x} x1 64 B"},
    // 13 rows in shards of 4 and of 3, both of which x has in whole numbers.
    {"uneven rows, met in the axis that both have", "x=2,y=2,z=3",
     lying("[{x,y}, {}]", "[{x,z}, {}]", {13, 16}), "all_gather{y} x1 256 B; shift{x} x1 64 B"},
    {"uneven rows over axes that do not nest", "x=2,y=3", lying("[{x}, {}]", "[{y}, {}]", {7, 16}),
     "all_gather{x} x1 256 B"},
    // 1002 and 1000 rows are stored; by 1005, of which both have whole shards, and not 334 rows a device.
    {"many uneven rows over axes that do not nest", "x=3,y=5",
     lying("[{x}, {}]", "[{y}, {}]", {1000, 16}),
     "all_gather{x} x1 4288 B; collective_permute{x,y} x1 4288 B; shift{x} x1 128 B; shift{y} x1 256 B"},
    {"uneven rows that move on to another dim besides", "x=2,y=2",
     lying("[{x}, {y}]", "[{x,y}, {}]", {5, 16}), "all_to_all{y} x1 128 B; shift{x} x1 32 B"},
    {"uneven rows and columns", "x=2,y=2,z=2", lying("[{x}, {y}]", "[{x,z}, {y}]", {5, 5}),
     "shift{x} x1 12 B"},
    // ---- Partial values -----------------------------------------------------------------------
    {"partial to whole", "x=4", lying("[{}, {}] partial{sum: x}", "[{}, {}]"),
     "all_reduce{x} x1 1024 B"},
    {"partial to shard", "x=4", lying("[{}, {}] partial{sum: x}", "[{}, {x}]"),
     "reduce_scatter{x} x1 1024 B"},
    {"partial over two axes to shards of both", "x=2,y=4",
     lying("[{}, {}] partial{sum: x,y}", "[{x,y}, {}]"), "reduce_scatter{x,y} x1 1024 B"},
    {"partial over two axes to shards of one", "x=2,y=4",
     lying("[{}, {}] partial{sum: x,y}", "[{x}, {}]"),
     "all_reduce{y} x1 512 B; reduce_scatter{x} x1 1024 B"},
    {"a partial maximum", "x=4", lying("[{}, {}] partial{max: x}", "[{x}, {}]"),
     "reduce_scatter{x} x1 1024 B"},
    {"shards of one axis, partial over the other", "x=2,y=4",
     lying("[{y}, {}] partial{sum: x}", "[{y,x}, {}]"), "reduce_scatter{x} x1 256 B"},
    // ---- Products -----------------------------------------------------------------------------
    {"a batch of rows", "x=4",
     [](Table& t) { t.out(t.matmul(t.in("[{x}, {}]"), t.in("[{}, {}]"))); }, ""},
    {"a contracted shard", "x=4",
     [](Table& t) { t.out(t.matmul(t.in("[{}, {x}]"), t.in("[{x}, {}]")), "[{}, {}]"); },
     "all_reduce{x} x1 1024 B"},
    {"a contracted shard with a sharded result", "x=4",
     [](Table& t) { t.out(t.matmul(t.in("[{}, {x}]"), t.in("[{x}, {}]")), "[{x}, {}]"); },
     "reduce_scatter{x} x1 1024 B"},
    {"rows times columns on one axis", "x=4",
     [](Table& t) {
       t.out(t.matmul(t.in("[{x}, {}]", {64, 16}), t.in("[{}, {x}]")), "[{x}, {}]");
     },
     "all_gather{x} x1 256 B"},
    {"tiles of two axes", "x=2,y=4",
     [](Table& t) { t.out(t.matmul(t.in("[{x}, {y}]"), t.in("[{y}, {}]")), "[{x}, {}]"); },
     "all_reduce{y} x1 512 B"},
    {"tiles of two axes to tiles", "x=2,y=4",
     [](Table& t) { t.out(t.matmul(t.in("[{x}, {y}]"), t.in("[{y}, {}]")), "[{x}, {y}]"); },
     "reduce_scatter{y} x1 512 B"},
    {"two layers, columns then rows", "x=4",
     [](Table& t) {
       const Value hidden = ops::tanh(t.b, t.matmul(t.in("[{}, {}]"), t.in("[{}, {x}]")));
       t.out(t.matmul(hidden, t.in("[{x}, {}]")), "[{}, {}]");
     },
     "all_reduce{x} x1 1024 B"},
    {"two layers between shards of rows", "x=4",
     [](Table& t) {
       const Value hidden =
           ops::tanh(t.b, t.matmul(t.in("[{x}, {}]"), t.in("[{}, {x}]", {16, 1024})));
       t.out(t.matmul(hidden, t.in("[{x}, {}]", {1024, 16})), "[{x}, {}]");
     },
     "all_gather{x} x1 256 B; reduce_scatter{x} x1 1024 B"},
    {"a sum of two products is reduced once", "x=4",
     [](Table& t) {
       const Value sum = ops::add(t.b, t.matmul(t.in("[{}, {x}]"), t.in("[{x}, {}]")),
                                  t.matmul(t.in("[{}, {x}]"), t.in("[{x}, {}]")));
       t.out(ops::tanh(t.b, sum), "[{}, {}]");
     },
     "all_reduce{x} x1 1024 B"},
    {"an accumulator stays partial", "x=4",
     [](Table& t) {
       t.out(ops::add(t.b, t.in("[{}, {}] partial{sum: x}"),
                      t.matmul(t.in("[{}, {x}]"), t.in("[{x}, {}]"))),
             "[{}, {}] partial{sum: x}");
     },
     ""},
    // ---- Elementwise, reductions, shapes ------------------------------------------------------
    {"operands that disagree", "x=4",
     [](Table& t) {
       t.out(ops::add(t.b, t.in("[{x}, {}]"), t.in("[{}, {x}]")), "[{x}, {}]");
     },
     "all_to_all{x} x1 256 B"},
    {"a shard and a whole", "x=4",
     [](Table& t) { t.out(ops::add(t.b, t.in("[{x}, {}]"), t.in("[{}, {}]"))); }, ""},
    {"a reduction of a whole dim", "x=4",
     [](Table& t) { t.out(ops::reduce(t.b, t.in("[{x}, {}]"), {1})); }, ""},
    {"a reduction of a sharded dim", "x=4",
     [](Table& t) { t.out(ops::reduce(t.b, t.in("[{x}, {}]"), {0}), "[{}]"); },
     "all_reduce{x} x1 64 B"},
    {"a reduction of a sharded dim to shards", "x=4",
     [](Table& t) { t.out(ops::reduce(t.b, t.in("[{x}, {}]"), {0}), "[{x}]"); },
     "reduce_scatter{x} x1 64 B"},
    {"a maximum over a sharded dim, subtracted", "x=4",
     [](Table& t) {
       const Value x = t.in("[{}, {x}]");
       const Value largest = ops::reduce(t.b, x, {1}, ReduceKind::max);
       t.out(ops::exponential(t.b, ops::subtract(t.b, x,
                                         ops::broadcast_in_dim(t.b, largest, {16, 16}, {0}))),
             "[{}, {x}]");
     },
     "all_reduce{x} x1 64 B"},
    {"all of a tiled matrix", "x=2,y=2",
     [](Table& t) { t.out(ops::reduce_all(t.b, t.in("[{x}, {y}]")), "[]"); },
     "all_reduce{x,y} x1 4 B"},
    {"a transposed shard", "x=4",
     [](Table& t) { t.out(ops::transpose(t.b, t.in("[{x}, {}]"), {1, 0}), "[{}, {x}]"); }, ""},
    {"a shard of the major of two merged dims", "x=4",
     [](Table& t) { t.out(ops::reshape(t.b, t.in("[{x}, {}]"), {256}), "[{x}]"); }, ""},
    {"a split dim", "x=4",
     [](Table& t) { t.out(ops::reshape(t.b, t.in("[{x}]", {256}), {16, 16}), "[{x}, {}]"); }, ""},
    {"an axis across a split dim is cut in two", "x=8",
     [](Table& t) {
       t.out(ops::reshape(t.b, t.in("[{x}]", {64}), {4, 16}), "[{x:(1)4}, {x:(4)2}]");
     },
     ""},
    {"a shard of the minor of two merged dims", "x=4",
     [](Table& t) { t.out(ops::reshape(t.b, t.in("[{}, {x}]"), {256}), "[{x}]"); },
     "all_to_all{x} x1 256 B"},
    {"a slice of a whole dim", "x=4",
     [](Table& t) { t.out(ops::slice_dim(t.b, t.in("[{x}, {}]"), 1, 3, 7), "[{x}, {}]"); }, ""},
    {"parts side by side along a whole dim", "x=4",
     [](Table& t) {
       t.out(ops::concatenate(t.b, {t.in("[{x}, {}]"), t.in("[{x}, {}]")}, 1), "[{x}, {}]");
     },
     ""},
    {"rows of a table cut along its vocabulary", "x=4",
     [](Table& t) {
       t.out(ops::embedding(t.b, t.in("[{x}, {}]", {1024, 16}), t.in("[{}]", {8}, DType::s32)),
             "[{}, {}]");
     },
     "all_reduce{x} x1 512 B"},
    {"rows of a table cut along its width", "x=4",
     [](Table& t) {
       t.out(ops::embedding(t.b, t.in("[{}, {x}]", {1024, 16}), t.in("[{}]", {8}, DType::s32)),
             "[{}, {x}]");
     },
     ""},
    {"windows that may straddle two shards", "x=4",
     [](Table& t) {
       t.out(ops::gather(t.b, t.in("[{x}, {}]", {1024, 16}), t.in("[{}, {}]", {2, 1}, DType::s32),
                         {{1, 2}, {}, {0}, 1}, {3, 16}),
             "[{}, {}, {}]");
     },
     "all_reduce{x} x1 384 B"},
    {"windows that hold most of a dim", "x=4",
     [](Table& t) {
       t.out(ops::gather(t.b, t.in("[{x}, {}]"), t.in("[{}, {}]", {8, 1}, DType::s32),
                         {{1, 2}, {}, {0}, 1}, {12, 16}),
             "[{}, {}, {}]");
     },
     "all_gather{x} x1 256 B"},
    {"a slice whose one reader does not want it as it was wished for", "x=4",
     [](Table& t) {
       const Value rows = ops::slice_dim(t.b, t.in("[{}, {}]", {8, 4}), 0, 4, 8);
       t.out(t.matmul(rows, t.in("[{}, {x}]", {4, 16})), "[{x}, {}]");
     },
     "all_to_all{x} x1 64 B"},
    // ---- Where a reshard stands ---------------------------------------------------------------
    {"gathered narrow", "x=4",
     [](Table& t) {
       t.out(ops::convert(t.b, t.in("[{x}, {}]"), DType::bf16), "[{}, {}]");
     },
     "all_gather{x} x1 128 B"},
    {"gathered before it is widened", "x=4",
     [](Table& t) {
       t.out(ops::convert(t.b, t.in("[{x}, {}]", {16, 16}, DType::bf16), DType::f32), "[{}, {}]");
     },
     "all_gather{x} x1 128 B"},
    {"gathered before it is broadcast", "x=4",
     [](Table& t) {
       t.out(ops::broadcast_in_dim(t.b, t.in("[{x}]", {16}), {16, 16}, {0}), "[{}, {}]");
     },
     "all_gather{x} x1 16 B"},
    {"one gather for two users", "x=4",
     [](Table& t) {
       const Value w = t.in("[{x}, {}]");
       for (int i = 0; i < 2; ++i) t.out(w, "[{}, {}]");
     },
     "all_gather{x} x1 256 B"},
    // ---- Halos: what shifts or turns positions along a sharded dim sends rows, not shards -------
    {"a rotation by two rows", "x=4",
     [](Table& t) {
       const Value x = t.in("[{x}, {}]");
       t.out(ops::concatenate(t.b,
                              {ops::slice_dim(t.b, x, 0, 2, 16), ops::slice_dim(t.b, x, 0, 0, 2)},
                              0),
             "[{x}, {}]");
     },
     "shift{x} x1 128 B"},
    {"a slice that begins two rows in", "x=4",
     [](Table& t) { t.out(ops::slice_dim(t.b, t.in("[{x}, {}]"), 0, 2, 16), "[{x}, {}]"); },
     "shift{x} x1 128 B"},
    {"rows turned round", "x=4",
     [](Table& t) { t.out(ops::reverse(t.b, t.in("[{x}, {}]"), {0}), "[{x}, {}]"); },
     "collective_permute{x} x1 256 B"},
    {"two rows of padding before", "x=4",
     [](Table& t) {
       const Value zero = ops::constant(t.b, 0.0, {DType::f32, {}});
       t.out(ops::pad(t.b, t.in("[{x}, {}]"), zero, {2, 0}, {-2, 0}, {0, 0}), "[{x}, {}]");
     },
     "shift{x} x1 128 B"},
};

TEST(CollectivesTable, SmallPrograms) {
  for (const TableCase& one : kCases) {
    Table table(one.mesh);
    one.build(table);
    PartitionOptions options;
    options.machine.kernel_latency = 0;  // bytes decide, though these are few
    options.machine.inside_host.latency = 1e-12;
    options.bucket_bytes = 0;
    PartitionReport report;
    Graph local;
    try {
      local = partition(table.graph, table.mesh, {}, options, &report);
    } catch (const std::exception& error) {
      ADD_FAILURE() << one.name << ": " << error.what();
      continue;
    }
    EXPECT_EQ(collectives_of(report), one.collectives) << one.name;
  }
  EXPECT_GE(std::size(kCases), 40u);
}

// The same programs compute what they did before.
TEST(CollectivesTable, SmallProgramsAreRight) {
  for (const TableCase& one : kCases) {
    Table table(one.mesh);
    one.build(table);
    bool is_partial = false;  // inputs and outputs that are addends: interpreted from there on
    for (const GraphInput& input : table.graph.inputs)
      is_partial = is_partial || table.graph.info(input.value).sharding->is_partial();
    if (is_partial) continue;
    const std::vector<HostTensor> inputs = random_inputs(table.graph, 3);
    const Graph local = partition(table.graph, table.mesh, {});
    const auto expected = interpret(table.graph, inputs), found = interpret_sharded(local, inputs);
    for (size_t o = 0; o < expected.size(); ++o)
      EXPECT_LE(error_between(expected[o], found[o]), 1e-2) << one.name;
  }
}

}  // namespace
}  // namespace tessera::testing

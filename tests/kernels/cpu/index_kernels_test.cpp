// Kernels whose positions are data, on random geometry; and what a row of a stack costs in a loop.
#include <chrono>

#include "core/compile/compile.h"
#include "core/ops/combiner.h"
#include "core/ops/control.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/gather.h"
#include "core/ops/structure.h"
#include "core/runtime/backend.h"
#include "core/runtime/executor.h"
#include "tests/kernels/cpu/check_call.h"

namespace tessera {
namespace {

// A gather, and the scatter that is its counterpart: the same dims under other names.
struct RandomWindows {
  Shape operand, indices, windows;
  ops::GatherDims dims;
  Ints sizes;
  DType index;

  explicit RandomWindows(std::mt19937_64& rng) : rng_(rng) {
    index = pick_from<DType>({DType::s32, DType::s64, DType::u8});
    const int rank = static_cast<int>(pick(1, 4));
    Shape batch;
    std::vector<int64_t> window_sizes;
    for (int d = 0; d < rank; ++d) {
      operand.push_back(pick(1, 6));
      const int64_t role = pick(0, 5);
      sizes.push_back(role < 3 ? 1 : pick(1, operand[d]));
      if (role == 0) {
        dims.operand_batching_dims.push_back(d);
        tied_.push_back(batch.rank());
        batch.push_back(operand[d]);
        continue;
      }
      if (role < 3)
        dims.collapsed_slice_dims.push_back(d);
      else
        window_sizes.push_back(sizes.back());
      if (role == 1 || (role > 1 && pick(0, 1) == 0)) dims.start_index_map.push_back(d);
    }
    for (int64_t more = pick(0, 2); more > 0; --more) batch.push_back(pick(1, 5));
    std::shuffle(dims.start_index_map.begin(), dims.start_index_map.end(), rng_);
    place_vector(batch);
    place_windows(batch, window_sizes);
  }

  OpSample gather(DType dtype) const {
    Graph graph;
    Builder b(graph);
    const Value x = input(b, dtype, operand), at = input(b, index, indices);
    return sample_of(graph, ops::gather(b, x, at, dims, sizes));
  }
  OpSample scatter(DType dtype, ReduceKind kind) const {
    Graph graph;
    Builder b(graph);
    const Value x = input(b, dtype, operand), at = input(b, index, indices),
                updates = input(b, dtype, windows);
    return sample_of(graph, ops::scatter(b, x, at, updates, dims, kind));
  }

 private:
  int64_t pick(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(rng_);
  }
  template <typename T>
  T pick_from(std::vector<T> values) {
    return values[static_cast<size_t>(pick(0, static_cast<int64_t>(values.size()) - 1))];
  }
  // Index vectors along some dim of the indices, or scalars.
  void place_vector(const Shape& batch) {
    const auto components = static_cast<int64_t>(dims.start_index_map.size());
    const bool are_scalars = components == 1 && pick(0, 1) == 0;
    dims.index_vector_dim = are_scalars ? batch.rank() : pick(0, batch.rank());
    for (int d = 0; d < batch.rank(); ++d) {
      if (!are_scalars && d == dims.index_vector_dim) indices.push_back(components);
      indices.push_back(batch[d]);
    }
    if (!are_scalars && dims.index_vector_dim == batch.rank()) indices.push_back(components);
    for (int d : tied_)
      dims.start_indices_batching_dims.push_back(
          d + (!are_scalars && d >= dims.index_vector_dim ? 1 : 0));
  }
  void place_windows(const Shape& batch, const std::vector<int64_t>& window_sizes) {
    std::vector<bool> is_window(static_cast<size_t>(batch.rank()), false);
    is_window.insert(is_window.end(), window_sizes.size(), true);
    std::shuffle(is_window.begin(), is_window.end(), rng_);
    size_t window = 0;
    int next = 0;
    for (size_t d = 0; d < is_window.size(); ++d) {
      if (is_window[d]) dims.offset_dims.push_back(static_cast<int64_t>(d));
      windows.push_back(is_window[d] ? window_sizes[window++] : batch[next++]);
    }
  }

  static Value input(Builder& b, DType dtype, const Shape& shape) {
    return b.input(InputKind::data, "x", {dtype, shape});
  }
  OpSample sample_of(const Graph& graph, Value made) const {
    OpSample sample;
    for (const GraphInput& input : graph.inputs) sample.operands.push_back(graph.type(input.value));
    sample.attributes = graph.at(made).attributes;
    sample.ranges = {{-3, 3}, {is_signed_integer(index) ? -2 : 0, 7}, {-3, 3}};
    return sample;
  }

  std::mt19937_64& rng_;
  std::vector<int> tied_;  // batch dims of the batching dims
};

TEST(IndexKernels, RandomGathers) {
  std::mt19937_64 rng(11);
  for (int round = 0; round < 400; ++round) {
    const RandomWindows random(rng);
    for (DType dtype : {DType::f32, DType::c64, DType::u8, DType::f16})
      EXPECT_TRUE(check_call(ops::kGather, random.gather(dtype)).accepted);
  }
}

TEST(IndexKernels, RandomScatters) {
  std::mt19937_64 rng(12);
  int accepted = 0, all = 0;
  for (int round = 0; round < 400; ++round) {
    const RandomWindows random(rng);
    for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max, ReduceKind::min, ReduceKind::product})
      for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::s32}) {
        accepted += check_call(ops::kScatter, random.scatter(dtype, kind)).accepted;
        ++all;
      }
  }
  EXPECT_GT(accepted, all * 3 / 4);
}

// The last of equal positions stays.
TEST(IndexKernels, RandomReplacements) {
  std::mt19937_64 rng(13);
  int accepted = 0, all = 0;
  for (int round = 0; round < 400; ++round) {
    const RandomWindows random(rng);
    for (DType dtype : {DType::f32, DType::pred, DType::c64, DType::f8e4m3fn}) {
      OpSample sample =
          random.scatter(dtype, dtype == DType::pred ? ReduceKind::logical_or : ReduceKind::sum);
      auto region = std::make_shared<Graph>();
      Builder b(*region);
      b.input(InputKind::data, "old", {dtype, {}});
      b.output(b.input(InputKind::data, "new", {dtype, {}}), "kept");
      Attributes attributes;
      for (const auto& [key, value] : sample.attributes.entries())
        if (key != Attr::reduce_kind) attributes.set(key, value);
      attributes.set(Attr::combiner, GraphRef(region));
      sample.attributes = attributes;
      accepted += check_call(ops::kScatter, sample).accepted;
      ++all;
    }
  }
  EXPECT_GT(accepted, all * 3 / 4);
}

TEST(IndexKernels, SlicesOfEveryDtype) {
  std::mt19937_64 rng(14);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(rng);
  };
  for (int round = 0; round < 200; ++round) {
    const int64_t rank = pick(0, 4);
    Shape whole, part;
    for (int64_t d = 0; d < rank; ++d) {
      whole.push_back(pick(1, 6));
      part.push_back(pick(0, whole[static_cast<int>(d)]));
    }
    for (DType dtype : {DType::f64, DType::bf16, DType::pred, DType::c64}) {
      OpSample slice{{{dtype, whole}}, {{Attr::slice_sizes, Ints(part.begin(), part.end())}}},
          update{{{dtype, whole}, {dtype, part}}, {}};
      for (OpSample* sample : {&slice, &update}) {
        sample->ranges.assign(sample->operands.size(), {-3, 3});
        sample->ranges.insert(sample->ranges.end(), static_cast<size_t>(rank), {-2, 8});
        sample->operands.insert(sample->operands.end(), static_cast<size_t>(rank),
                                {DType::s32, {}});
      }
      EXPECT_TRUE(check_call(ops::kDynamicSlice, slice).accepted);
      EXPECT_TRUE(check_call(ops::kDynamicUpdateSlice, update).accepted);
    }
  }
}

// Enough for all threads: rows of an embedding, single elements, and blocks of many tasks.
TEST(IndexKernels, LargeOnesAreTheSameWithAnyThreads) {
  const auto rows = [](DType dtype, ReduceKind kind) {
    return OpSample{{{dtype, {300, 70}}, {DType::s32, {2000}}, {dtype, {2000, 70}}},
                    {{Attr::update_window_dims, Ints{1}},
                     {Attr::inserted_window_dims, Ints{0}},
                     {Attr::scatter_dims_to_operand_dims, Ints{0}},
                     {Attr::index_vector_dim, int64_t{1}},
                     {Attr::reduce_kind, kind}},
                    {{-1, 1}, {-3, 303}, {-1, 1}}};
  };
  for (DType dtype : {DType::f32, DType::f64, DType::s32})
    for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max})
      EXPECT_TRUE(check_call(ops::kScatter, rows(dtype, kind)).accepted);
  const OpSample take{{{DType::f32, {300, 70}}, {DType::s32, {5000}}},
                      {{Attr::offset_dims, Ints{1}},
                       {Attr::collapsed_slice_dims, Ints{0}},
                       {Attr::start_index_map, Ints{0}},
                       {Attr::index_vector_dim, int64_t{1}},
                       {Attr::slice_sizes, Ints{1, 70}}},
                      {{-1, 1}, {-3, 303}}};
  EXPECT_TRUE(check_call(ops::kGather, take).accepted);
  const OpSample slice{
      {{DType::f32, {40, 50, 60}}, {DType::s32, {}}, {DType::s32, {}}, {DType::s32, {}}},
      {{Attr::slice_sizes, Ints{37, 45, 59}}},
      {{-1, 1}, {0, 4}, {0, 4}, {0, 4}}};
  EXPECT_TRUE(check_call(ops::kDynamicSlice, slice).accepted);
}

// Sums of bf16 are rounded once: 1 + 256 times 2^-9 is 1.5, which adding one by one never reaches.
TEST(IndexKernels, SumsOfBf16AreRoundedOnce) {
  const HostTensor ones = HostTensor::filled({DType::bf16, {2, 3}}, 1.0),
                   small = HostTensor::filled({DType::bf16, {256, 3}}, 1.0 / 512);
  const HostTensor zeros({DType::s32, {256}});
  std::vector<HostTensor> operands{ones, zeros, small};
  std::vector<TensorView> views;
  for (HostTensor& x : operands) views.push_back({x.type(), x.bytes().data()});
  Instruction instruction;
  instruction.op = &ops::kScatter;
  instruction.attributes = {{Attr::update_window_dims, Ints{1}},
                            {Attr::inserted_window_dims, Ints{0}},
                            {Attr::scatter_dims_to_operand_dims, Ints{0}},
                            {Attr::index_vector_dim, int64_t{1}},
                            {Attr::reduce_kind, ReduceKind::sum}};
  const std::vector<TensorType> types{ones.type(), zeros.type(), small.type()};
  const Kernel& kernel =
      *cpu_table()
           .choose(ops::kScatter, {types, instruction.attributes}, std::span(&types[0], 1))
           .kernel;
  ASSERT_EQ(kernel.name, "cpu.scatter");
  std::vector<int64_t> workspace(3 * 256);
  kernel.run({instruction, views, std::span(&views[0], 1),
              reinterpret_cast<std::byte*>(workspace.data()), nullptr});
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(operands[0].get_real(i), i < 3 ? 1.5 : 1.0);
}

TEST(IndexKernels, RefusalsSayWhy) {
  const auto sum_of = [](DType dtype, int64_t window) {
    return OpSample{{{dtype, {8}}, {DType::s32, {3}}, {dtype, {3, window}}},
                    {{Attr::update_window_dims, Ints{1}},
                     {Attr::inserted_window_dims, Ints{}},
                     {Attr::scatter_dims_to_operand_dims, Ints{0}},
                     {Attr::index_vector_dim, int64_t{1}},
                     {Attr::reduce_kind, ReduceKind::sum}},
                    {{-1, 1}, {0, 6}, {-1, 1}}};
  };
  EXPECT_TRUE(check_call(ops::kScatter, sum_of(DType::bf16, 1)).accepted);
  EXPECT_TRUE(check_call(ops::kScatter, sum_of(DType::f32, 2)).accepted);
  EXPECT_EQ(check_call(ops::kScatter, sum_of(DType::bf16, 2)).refusals,
            "cpu.scatter: bf16 windows that may overlap");
  EXPECT_EQ(check_call(ops::kScatter, sum_of(DType::f16, 1)).refusals,
            "cpu.scatter: compiled for f32, f64, bf16, s32 and s64, not f16");
}

// ---- A row of a stack in a loop -----------------------------------------------------------------

// `turns` times: row i of the stack, negated in place.
Graph rows_in_a_loop(int64_t layers, int64_t width, int64_t turns) {
  Graph graph;
  Builder b(graph);
  const Value stack = b.input(InputKind::parameter, "stack", {DType::f32, {layers, width}});
  const Value zero = ops::constant(b, 0.0, {DType::s32, {}});
  Graph condition, body;
  {
    Builder in(condition);
    const Value turn = in.input(InputKind::data, "turn", {DType::s32, {}});
    in.input(InputKind::data, "stack", {DType::f32, {layers, width}});
    in.output(
        ops::compare(in, turn, ops::constant(in, static_cast<double>(turns), {DType::s32, {}}),
                     CompareDirection::lt),
        "goes_on");
  }
  {
    Builder in(body);
    const Value turn = in.input(InputKind::data, "turn", {DType::s32, {}});
    const Value all = in.input(InputKind::data, "stack", {DType::f32, {layers, width}});
    const Value row = ops::dynamic_slice_dim(in, all, 0, turn, 1);
    const Value one = ops::constant(in, 1.0, {DType::s32, {}});
    in.output(ops::add(in, turn, one), "turn");
    in.output(ops::dynamic_update_slice_dim(in, all, ops::negate(in, row), 0, turn), "stack");
  }
  const std::vector<Value> made =
      ops::while_loop(b, {zero, stack}, std::make_shared<const Graph>(std::move(condition)),
                      std::make_shared<const Graph>(std::move(body)), turns);
  b.output(made[1], "stack", 0);
  return graph;
}

// The seconds of one run, the best of some.
double best_seconds(const Graph& graph, const KernelTable& kernels, int rounds) {
  const Executable executable = compile(graph, kernels);
  const auto backend = create_cpu_backend(KernelTable());
  BufferStore store(*backend, nullptr);
  Executor executor(executable, *backend, nullptr, 0, store);
  const TensorView view = executor.input(0);
  std::memset(view.data, 0, static_cast<size_t>(view.type.bytes()));
  double best = 1e9;
  for (int round = 0; round < rounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    executor.run();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

// Eight turns over a stack of 8 rows and of 128: were the stack copied, it would be 16 times
// dearer.
TEST(IndexKernelsLong, ARowOfAStackCostsTheRow) {
  const KernelTable kernels = cpu_kernel_table();
  constexpr int64_t kWidth = 1 << 16;
  const double few = best_seconds(rows_in_a_loop(8, kWidth, 8), kernels, 9);
  const double many = best_seconds(rows_in_a_loop(128, kWidth, 8), kernels, 9);
  const double reference = best_seconds(rows_in_a_loop(128, kWidth, 8), KernelTable(), 2);
  std::printf(
      "8 rows of 256 KiB read and written in a loop: %.3f ms of a stack of 8, %.3f ms of "
      "one of 128 (ratio %.2f); the reference %.1f ms (%.0f times)\n",
      few * 1e3, many * 1e3, many / few, reference * 1e3, reference / many);
  EXPECT_LT(many, 4 * few);
}

// Best seconds of the table's choice and of the reference, on zeros and random indices.
void print_ratio(const char* what, const OpDef& op, const OpSample& sample) {
  const OpCall call{sample.operands, sample.attributes};
  const std::vector<TensorType> types = infer_types(op, call);
  const Kernel& kernel = *cpu_table().choose(op, call, types).kernel;
  std::vector<HostTensor> operands, results;
  for (size_t i = 0; i < sample.operands.size(); ++i)
    operands.push_back(random_operand_tensor(sample.operands[i], 1, sample.ranges[i]));
  std::vector<TensorView> views, made;
  for (HostTensor& x : operands) views.push_back({x.type(), x.bytes().data()});
  for (const TensorType& type : types) results.emplace_back(type);
  for (HostTensor& y : results) made.push_back({y.type(), y.bytes().data()});
  Instruction instruction;
  instruction.op = &op;
  instruction.attributes = sample.attributes;
  const auto bytes =
      static_cast<size_t>(kernel.workspace_bytes ? kernel.workspace_bytes(call, types) : 0);
  std::vector<int64_t> workspace(bytes / 8 + 8);
  const auto best = [&](const Kernel& by, int rounds) {
    double seconds = 1e9;
    for (int round = 0; round < rounds; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      by.run({instruction, views, made, reinterpret_cast<std::byte*>(workspace.data()), nullptr});
      seconds = std::min(
          seconds, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return seconds;
  };
  const double own = best(kernel, 9), reference = best(reference_kernel(), 2);
  std::printf("%s: %.2f ms by %s, %.1f ms by the reference (%.0f times)\n", what, own * 1e3,
              kernel.name.c_str(), reference * 1e3, reference / own);
  EXPECT_LT(own, reference);
}

TEST(IndexKernelsLong, AgainstTheReference) {
  const Attributes rows{{Attr::offset_dims, Ints{1}},
                        {Attr::collapsed_slice_dims, Ints{0}},
                        {Attr::start_index_map, Ints{0}},
                        {Attr::index_vector_dim, int64_t{1}}};
  const Attributes into_rows{{Attr::update_window_dims, Ints{1}},
                             {Attr::inserted_window_dims, Ints{0}},
                             {Attr::scatter_dims_to_operand_dims, Ints{0}},
                             {Attr::index_vector_dim, int64_t{1}},
                             {Attr::reduce_kind, ReduceKind::sum}};
  const auto with = [](Attributes attributes, Attr key, AttrValue value) {
    attributes.set(key, std::move(value));
    return attributes;
  };
  for (DType dtype : {DType::f32, DType::bf16}) {
    const std::string name = cat(dtype);
    print_ratio(cat("gather of 8192 rows of ", name, "[50000,768]").c_str(), ops::kGather,
                {{{dtype, {50000, 768}}, {DType::s32, {8192}}},
                 with(rows, Attr::slice_sizes, Ints{1, 768}),
                 {{-1, 1}, {0, 49999}}});
    print_ratio(cat("scatter of 8192 rows into ", name, "[8192,768]").c_str(), ops::kScatter,
                {{{dtype, {8192, 768}}, {DType::s32, {8192}}, {dtype, {8192, 768}}},
                 into_rows,
                 {{-1, 1}, {0, 8191}, {-1, 1}}});
  }
  print_ratio("gather of 2^20 elements of f32[2^20]", ops::kGather,
              {{{DType::f32, {1 << 20}}, {DType::s32, {1 << 20}}},
               with(with(rows, Attr::offset_dims, Ints{}), Attr::slice_sizes, Ints{1}),
               {{-1, 1}, {0, (1 << 20) - 1}}});
  print_ratio("scatter of 2^20 elements into f32[2^20]", ops::kScatter,
              {{{DType::f32, {1 << 20}}, {DType::s32, {1 << 20}}, {DType::f32, {1 << 20}}},
               with(into_rows, Attr::update_window_dims, Ints{}),
               {{-1, 1}, {0, (1 << 20) - 1}, {-1, 1}}});
}

}  // namespace
}  // namespace tessera

#include "tests/partitioner/random_program.h"

#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/ir/builder.h"
#include "core/ir/interpreter.h"
#include "core/ir/regions.h"
#include "core/ir/text.h"
#include "core/ops/attention.h"
#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/loss.h"
#include "core/ops/norm.h"
#include "core/ops/op_list.h"
#include "core/ops/random.h"
#include "core/ops/structure.h"
#include "core/runtime/thread_run.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

// The numbers that decide, read once from front to back by a program and its regions.
struct Tape {
  const std::vector<uint32_t>& numbers;
  size_t at = 0;

  bool is_done() const { return at >= numbers.size(); }
  uint64_t draw(uint64_t below) { return (is_done() ? 0 : numbers[at++]) % below; }
};

// Programs of ops that are not meant to be partitioned, or that the program's writer makes itself.
bool is_left_out(const OpDef& op) {
  static const std::set<std::string_view> kOut = {"parameter", "fusion", "manual_computation",
                                                  "resize_padding", "mask_padding"};
  if (op.communicates || op.device_dependent || op.has_state || !op.samples) return true;
  const auto names_axes = [](Attr key) { return key == Attr::axes || key == Attr::sharding; };
  return kOut.count(op.name) > 0 ||
         std::any_of(op.attributes.begin(), op.attributes.end(), names_axes);
}

DType widened(DType type) { return type == DType::f32 ? DType::f64 : type; }

Attributes widened(const Attributes& attributes);

// f32 becomes f64 throughout, so that results do not depend on the order of additions.
Graph widened(Graph graph) {
  for (Instruction& instruction : graph.instructions) {
    instruction.attributes = widened(instruction.attributes);
    for (ResultInfo& result : instruction.results) result.type.dtype = widened(result.type.dtype);
  }
  return graph;
}

Attributes widened(const Attributes& attributes) {
  Attributes wide;
  for (const auto& [key, value] : attributes.entries()) {
    if (const auto* type = std::get_if<DType>(&value)) {
      wide.set(key, widened(*type));
    } else if (const auto* graph = std::get_if<GraphRef>(&value)) {
      wide.set(key, GraphRef(std::make_shared<const Graph>(widened(**graph))));
    } else if (const auto* graphs = std::get_if<Graphs>(&value)) {
      Graphs all;
      for (const GraphRef& one : *graphs)
        all.push_back(std::make_shared<const Graph>(widened(*one)));
      wide.set(key, std::move(all));
    } else {
      wide.set(key, value);
    }
  }
  return wide;
}

class Writer {
 public:
  Writer(Tape& tape, const RandomOptions& options)
      : tape_(tape), options_(options), b_(graph_), random_(tape.numbers.size()) {
    static const char* const kMeshes[] = {"a=2",         "a=2,b=2", "a=4",     "a=2,b=4",
                                          "a=2,b=2,c=2", "a=8",     "a=4,b=2", "a=3",
                                          "a=2,b=3",     "a=5",     "a=4,b=4", "a=2,b=2,c=4",
                                          "a=16",        "a=8,b=2", "a=3,b=4", "a=6,b=2"};
    std::vector<Mesh> meshes;
    for (const char* text : kMeshes) {
      Mesh mesh = parse_mesh(text);
      const bool fits = options.devices > 0 ? mesh.devices() == options.devices
                                            : mesh.devices() <= 8 && (mesh.devices() % 2 == 0 || options.uneven) && (mesh.devices() % 3 != 0 || options.uneven);
      if (fits) meshes.push_back(std::move(mesh));
    }
    if (meshes.empty()) meshes.push_back(parse_mesh(cat("a=", options.devices)));
    mesh_ = std::make_shared<const Mesh>(meshes[draw(meshes.size())]);
    graph_.mesh = mesh_;
    graph_.name = "random";
  }

  // Of a region: with the values that come in.
  Writer(Writer& outer, const std::string& name, const std::vector<TensorType>& inputs)
      : tape_(outer.tape_),
        options_(outer.options_),
        depth_(outer.depth_ + 1),
        b_(graph_),
        mesh_(outer.mesh_),
        random_(tape_.at) {
    graph_.mesh = mesh_;
    graph_.name = name;
    for (const TensorType& type : inputs) {
      const Value value = b_.input(InputKind::data, cat("p", graph_.inputs.size()), type);
      if (type.dtype == DType::f64) reals_.push_back(value);
    }
  }

  RandomProgram run() {
    const int inputs = 1 + static_cast<int>(draw(3));
    for (int i = 0; i < inputs; ++i) add_input();
    // Every op reads two or three numbers.
    while (!tape_.is_done() && graph_.instructions.size() < 60) add_op();
    const int outputs = 1 + static_cast<int>(draw(3));
    for (int o = 0; o < outputs; ++o) add_output(o);
    return {std::move(graph_), mesh_, std::move(inputs_)};
  }

 private:
  uint64_t draw(uint64_t below) { return tape_.draw(below); }
  bool chance(uint64_t one_in) { return draw(one_in) == 1; }
  Value pick() { return reals_[reals_.size() - 1 - draw(reals_.size())]; }

  // A legal sharding with each axis on some dim, split in two, or nowhere.
  Sharding random_sharding(const Shape& shape, bool is_open, bool may_be_partial) {
    Sharding sharding(mesh_, shape.rank(), is_open);
    for (int a = 0; a < mesh_->rank(); ++a) {
      std::vector<AxisRef> parts = {mesh_->axis(a)};
      if (parts[0].size > 2 && parts[0].size % 2 == 0 && chance(3)) parts = {{a, 1, 2}, {a, 2, parts[0].size / 2}};
      for (const AxisRef& part : parts) {
        const auto where = static_cast<int>(draw(static_cast<uint64_t>(shape.rank()) + 2));
        if (where < shape.rank()) {
          AxisList& axes = sharding.dims[static_cast<size_t>(where)].axes;
          if (shape[where] % (size_of(axes) * part.size) == 0 || (options_.uneven && chance(3)))
            axes = concat(axes, {part});
        } else if (may_be_partial && where == shape.rank()) {
          sharding.partial = concat(sharding.partial, {part});
        }
      }
    }
    return sharding;
  }

  Shape random_shape() {
    static constexpr int64_t kSizes[] = {8, 4, 8, 1, 2, 16, 5, 7, 3, 6};
    Shape shape;
    for (uint64_t rank = 1 + draw(3); rank > 0; --rank)
      shape.push_back(kSizes[draw(options_.uneven ? 10 : 6)]);
    return shape;
  }

  void keep(Value value) {
    if (b_.type(value).elements() <= 4096 && b_.type(value).rank() <= 4) reals_.push_back(value);
    if (!chance(4)) return;
    ResultInfo& info = graph_.info(value);
    info.name = cat("v", value.instruction, ".", value.result);
    info.sharding = random_sharding(info.type.shape, chance(2), false);
  }

  // An input with random content in a range, and a random sharding.
  Value add_input(const TensorType& type, std::pair<double, double> range) {
    static constexpr InputKind kKinds[] = {InputKind::data, InputKind::parameter,
                                           InputKind::accumulator};
    const bool is_float = type.dtype == DType::f64;
    const Value value = b_.input(is_float ? kKinds[draw(3)] : InputKind::data,
                                 cat("in", graph_.inputs.size()), type);
    graph_.info(value).sharding = random_sharding(type.shape, false, is_float && chance(3));
    if (is_float && chance(4)) graph_.info(value).sharding->partial_kind = ReduceKind::max;
    HostTensor tensor(type);
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      if (tessera::is_float(type.dtype))
        tensor.set_real(i, std::uniform_real_distribution<double>(range.first,
                                                                  range.second)(random_));
      else
        tensor.set_int(i, std::uniform_int_distribution<int64_t>(
                              static_cast<int64_t>(range.first),
                              static_cast<int64_t>(range.second))(random_));
    }
    inputs_.push_back(std::move(tensor));
    return value;
  }

  void add_input() { reals_.push_back(add_input({DType::f64, random_shape()}, {-1, 1})); }

  void add_output(int number) {
    const Value value = reals_[reals_.size() - 1 - draw(std::min<uint64_t>(reals_.size(), 6))];
    b_.output(value, cat("out", number));
    if (chance(2))
      graph_.outputs.back().sharding = random_sharding(b_.shape(value), false, chance(2));
  }

  Value integers(const Shape& shape, int64_t below) {
    // Exact on every sharding: from iotas.
    const Value index = ops::iota(b_, {DType::s32, shape},
                                  static_cast<int64_t>(draw(static_cast<uint64_t>(shape.rank()))));
    const Value twice = ops::add(b_, ops::multiply(b_, index, ops::constant_like(b_, index, 3)),
                                 ops::constant_like(b_, index, static_cast<double>(draw(5))));
    return ops::minimum(b_, twice, ops::constant_like(b_, twice, static_cast<double>(below - 1)));
  }

  void add_op();
  void add_dot(Value x);
  void add_reshape(Value x);
  void add_composite(Value x);
  void add_sample();
  void add_loop();
  void add_branches();
  std::vector<Value> some_values(uint64_t most);
  std::vector<TensorType> types_of(const std::vector<Value>& values) const {
    std::vector<TensorType> types;
    for (Value value : values) types.push_back(b_.type(value));
    return types;
  }
  // In a region: some ops, then an output of each of these types.
  void add_body(const std::vector<TensorType>& wanted);

  Tape& tape_;
  const RandomOptions& options_;
  int depth_ = 0;  // of regions
  Graph graph_;
  Builder b_;
  MeshPtr mesh_;
  std::vector<Value> reals_;
  std::vector<HostTensor> inputs_;
  std::mt19937_64 random_;
};

// An op of the op table as its samples have it: on values of the program where types agree, else on
// new inputs.
void Writer::add_sample() {
  static const std::vector<const OpDef*> kOps = [] {
    std::vector<const OpDef*> ops;
    for (const OpDef* op : all_ops())
      if (!is_left_out(*op)) ops.push_back(op);
    return ops;
  }();
  const OpDef& op = *kOps[draw(kOps.size())];
  const bool is_control = op.name == "while" || op.name == "case" || op.name == "call";
  if (is_control && !options_.control) return;
  const std::vector<OpSample> samples = op.samples();
  const OpSample& sample = samples[draw(samples.size())];
  Attributes attributes = widened(sample.attributes);
  std::vector<TensorType> types;
  bool is_narrow = false;
  for (const TensorType& type : sample.operands) {
    types.push_back({widened(type.dtype), type.shape});
    if (type.shape.elements() > 4096) return;
    is_narrow = is_narrow || (is_float(types.back().dtype) && types.back().dtype != DType::f64);
  }
  try {
    const std::vector<TensorType> results = infer_types(op, {types, attributes});
    for (const TensorType& type : results) {
      if (type.shape.elements() > 8192) return;
      is_narrow = is_narrow || (is_float(type.dtype) && type.dtype != DType::f64);
    }
    // Nor is a sum in another order the same in its last bit.
    if (op.name == "bitcast_convert" && is_float(types[0].dtype)) return;
    // Sums in few digits depend on their order, and addends in few digits do not make up the value.
    if (is_narrow && (types.size() > 1 || !op.elementwise)) return;
  } catch (const std::exception&) {
    return;  // does not exist in f64
  }
  if (depth_ > 0) return;  // regions get no new inputs
  std::vector<Value> operands;
  for (size_t o = 0; o < types.size(); ++o) {
    Value operand;
    const bool has_range = o < sample.ranges.size();
    if (!has_range && types[o].dtype == DType::f64 && chance(2))
      for (Value candidate : reals_)
        if (b_.type(candidate) == types[o]) operand = candidate;
    if (!operand.valid()) {
      std::pair<double, double> range = has_range ? sample.ranges[o] : std::pair(-1.0, 1.0);
      // Out-of-range indices too.
      if (!is_float(types[o].dtype) && types[o].dtype != DType::pred && has_range && chance(3) &&
          range.first == 0)
        range = {-2, range.second + 3};
      if (types[o].dtype == DType::pred) range = {0, 1};
      operand = add_input(types[o], range);
    }
    operands.push_back(operand);
  }
  Instruction holder;  // regions are for the mesh of their graph
  holder.attributes = attributes;
  map_regions(holder, [&](Graph region) {
    region.mesh = mesh_;
    return region;
  });
  attributes = std::move(holder.attributes);
  const Value made = b_.emit(op, operands, attributes);
  const size_t results = graph_.at(made).results.size();
  for (size_t r = 0; r < results; ++r) {
    const Value result{made.instruction, static_cast<int>(r)};
    if (b_.dtype(result) == DType::c64) continue;
    keep(b_.dtype(result) == DType::f64 ? result : ops::convert(b_, result, DType::f64));
  }
}

std::vector<Value> Writer::some_values(uint64_t most) {
  std::vector<Value> values;
  for (uint64_t i = 1 + draw(most); i > 0; --i) values.push_back(pick());
  return values;
}

void Writer::add_body(const std::vector<TensorType>& wanted) {
  for (uint64_t i = draw(5); i > 0; --i) add_op();
  for (size_t w = 0; w < wanted.size(); ++w) {
    if (wanted[w].dtype != DType::f64) continue;
    std::vector<Value> fitting;
    for (Value value : reals_)
      if (b_.type(value) == wanted[w]) fitting.push_back(value);
    const Value own = graph_.inputs[w].value;
    Value other = fitting[draw(fitting.size())];
    switch (draw(4)) {
      case 0:
        other = ops::add(b_, own, other);
        break;
      case 1: {
        // A sum over something, as gradients are accumulated.
        const Value square = ops::dot_general(b_, other, other, {{0}, {0}});
        const Value total = ops::reduce_all(b_, ops::scale(b_, square, 0.01));
        other = ops::add(b_, own, ops::broadcast_scalar(b_, total, wanted[w].shape));
        break;
      }
      case 2:
        other = ops::tanh(b_, ops::subtract(b_, other, own));
        break;
      default:
        break;
    }
    b_.output(other, cat("r", w));
  }
}

void Writer::add_loop() {
  std::vector<Value> carried = some_values(3);
  for (Value value : carried)
    if (b_.shape(value).rank() == 0) return;
  const TensorType counter_type{DType::s32, {}};
  carried.push_back(ops::constant(b_, 0.0, counter_type));
  const std::vector<TensorType> types = types_of(carried);
  const auto turns = static_cast<int64_t>(draw(4));
  Writer condition(*this, "condition", types);
  const Value last = condition.graph_.inputs.back().value;
  condition.b_.output(
      ops::compare(condition.b_, last,
                   ops::constant(condition.b_, static_cast<double>(turns), counter_type),
                   CompareDirection::lt),
      "more");
  Writer body(*this, "body", types);
  body.add_body(types);
  const Value count = body.graph_.inputs.back().value;
  body.b_.output(ops::add(body.b_, count, ops::constant(body.b_, 1.0, counter_type)), "count");
  std::optional<int64_t> trip_count;
  if (chance(2)) trip_count = turns;
  const std::vector<Value> results = ops::while_loop(
      b_, carried, std::make_shared<const Graph>(std::move(condition.graph_)),
      std::make_shared<const Graph>(std::move(body.graph_)), trip_count);
  for (size_t r = 0; r + 1 < results.size(); ++r) keep(results[r]);
}

void Writer::add_branches() {
  const std::vector<Value> operands = some_values(3);
  for (Value value : operands)
    if (b_.shape(value).rank() == 0) return;
  const std::vector<TensorType> types = types_of(operands);
  const bool is_call = chance(3);
  Graphs branches;
  for (uint64_t count = is_call ? 1 : 1 + draw(3); count > 0; --count) {
    Writer branch(*this, "branch", types);
    branch.add_body(types);
    branches.push_back(std::make_shared<const Graph>(std::move(branch.graph_)));
  }
  std::vector<Value> results;
  if (is_call) {
    results = ops::call(b_, branches[0], operands);
  } else {
    const Value index = ops::constant(b_, static_cast<double>(draw(6)) - 1, {DType::s32, {}});
    results = ops::case_of(b_, index, operands, branches);
  }
  for (Value result : results) keep(result);
}

void Writer::add_dot(Value x) {
  // Against a transposed or plain earlier value of a fitting dim, else against itself.
  const Shape shape = b_.shape(x);
  const auto dim = static_cast<int64_t>(draw(static_cast<uint64_t>(shape.rank())));
  Value other = x;
  int64_t other_dim = dim;
  for (size_t tries = 0; tries < reals_.size(); ++tries) {
    const Value candidate = pick();
    for (int d = 0; d < b_.shape(candidate).rank(); ++d)
      if (b_.shape(candidate)[d] == shape[static_cast<int>(dim)] &&
          b_.shape(candidate).rank() + shape.rank() <= 5) {
        other = candidate;
        other_dim = d;
      }
    if (other != x) break;
  }
  if (2 * shape.rank() > 6 && other == x) return;
  ops::DotDims dims{{dim}, {other_dim}};
  if (chance(2))
    for (int d = 0; d < std::min(shape.rank(), b_.shape(other).rank()); ++d)
      if (d != dim && d != other_dim && shape[d] == b_.shape(other)[d]) {
        dims.lhs_batch.push_back(d);
        dims.rhs_batch.push_back(d);
        break;
      }
  keep(ops::scale(b_, ops::dot_general(b_, x, other, dims), 0.25));
}

void Writer::add_reshape(Value x) {
  const Shape shape = b_.shape(x);
  if (shape.rank() >= 2 && chance(2)) {  // merge two neighbours
    const auto at = static_cast<int>(draw(static_cast<uint64_t>(shape.rank() - 1)));
    Shape merged;
    for (int d = 0; d < shape.rank(); ++d)
      d == at + 1 ? void(merged[merged.rank() - 1] *= shape[d]) : merged.push_back(shape[d]);
    return keep(ops::reshape(b_, x, merged));
  }
  const auto at = static_cast<int>(draw(static_cast<uint64_t>(shape.rank())));
  if (shape[at] < 4 || shape[at] % 2 != 0 || shape.rank() > 3) return;
  Shape split;
  for (int d = 0; d < shape.rank(); ++d) {
    if (d == at) split.push_back(chance(2) ? 2 : shape[d] / 2);
    split.push_back(d == at ? shape[d] / split[split.rank() - 1] : shape[d]);
  }
  keep(ops::reshape(b_, x, split));
}

void Writer::add_composite(Value x) {
  const Shape shape = b_.shape(x);
  const int64_t last = shape[shape.rank() - 1];
  const Shape vector{last};
  switch (draw(7)) {
    case 0: {
      const Value gain = ops::constant(b_, 1.5, {DType::f64, vector});
      const auto y = ops::layer_norm(b_, x, gain, gain, 1e-1);
      keep(y.y);
      return keep(ops::layer_norm_grad(b_, x, gain, y.mean, y.rstd, y.y).dgamma);
    }
    case 1: {
      const auto y = ops::rms_norm(b_, x, ops::constant(b_, 0.5, {DType::f64, vector}), 1e-1);
      return keep(y.y);
    }
    case 2:
      return keep(ops::sum_of_squares(b_, x));
    case 3: {
      if (shape.rank() != 2) return;
      const Value ids = integers({4, 2}, shape[0]);
      const Value rows = ops::embedding(b_, x, ids);
      keep(rows);
      return keep(ops::embedding_grad(b_, ids, rows, shape[0]));
    }
    case 4: {
      if (shape.rank() < 2 || shape.rank() > 3) return;
      Shape batch = shape;
      batch = Shape(std::vector<int64_t>(shape.begin(), shape.end() - 1));
      return keep(
          ops::softmax_cross_entropy(b_, x, integers(batch, last), std::max<int64_t>(1, last - 1))
              .loss);
    }
    case 5: {
      if (shape.rank() != 4 || shape.elements() > 1024) return;
      keep(ops::attention(b_, x, x, x, {.causal = chance(2), .scale = 0.5}).out);
      return;
    }
    default: {
      const Value noise =
          ops::random_uniform(b_, {DType::f64, shape}, 7, static_cast<int64_t>(draw(9)));
      return keep(ops::add(b_, x, noise));
    }
  }
}

void Writer::add_op() {
  const Value x = pick();
  const Shape shape = b_.shape(x);
  const uint64_t op = draw(24);
  if (shape.rank() == 0) {
    // Scalars: broadcast, or combine.
    return keep(chance(2) ? ops::tanh(b_, x) : ops::broadcast_scalar(b_, x, random_shape()));
  }
  const auto dim = static_cast<int64_t>(draw(static_cast<uint64_t>(shape.rank())));
  switch (op) {
    case 0:
      return keep(ops::tanh(b_, x));
    case 1:
    case 2:
    case 3: {  // with another value of this shape
      Value y = x;
      for (size_t i = 0; i < reals_.size(); ++i)
        if (const Value candidate = reals_[(i + draw(8)) % reals_.size()];
            b_.shape(candidate) == shape)
          y = candidate;
      return keep(op == 1     ? ops::add(b_, x, y)
                  : op == 2   ? ops::multiply(b_, x, y)
                  : chance(2) ? ops::maximum(b_, x, y)
                              : ops::subtract(b_, x, y));
    }
    case 4:
    case 5:
      return add_dot(x);
    case 6: {
      static constexpr ReduceKind kKinds[] = {ReduceKind::sum, ReduceKind::max, ReduceKind::min};
      return keep(ops::reduce(b_, x, {dim}, kKinds[draw(3)]));
    }
    case 7: {
      Shape wide = shape;
      if (shape.rank() > 3) return;
      wide.push_back(chance(2) ? 8 : 2);
      Ints dims(static_cast<size_t>(shape.rank()));
      std::iota(dims.begin(), dims.end(), 0);
      return keep(ops::broadcast_in_dim(b_, x, wide, dims));
    }
    case 8: {
      Ints order(static_cast<size_t>(shape.rank()));
      std::iota(order.begin(), order.end(), 0);
      std::swap(order[0], order[static_cast<size_t>(dim)]);
      return keep(ops::transpose(b_, x, order));
    }
    case 9:
      return add_reshape(x);
    case 10:
      return keep(ops::concatenate(b_, {x, ops::negate(b_, x)}, dim));
    case 11:
      return shape[static_cast<int>(dim)] > 1
                 ? keep(ops::slice_dim(b_, x, dim, shape[static_cast<int>(dim)] / 2,
                                       shape[static_cast<int>(dim)]))
                 : void();
    case 12: {
      // An iota takes part, so that positions matter.
      const Value index = ops::convert(b_, ops::iota(b_, {DType::s32, shape}, dim), DType::f64);
      return keep(ops::add(b_, ops::scale(b_, index, 0.125), x));
    }
    case 13:
    case 14:
      return add_composite(x);
    case 15:
    case 16:
      return options_.control && depth_ < 2 ? add_loop() : void();
    case 17:
      return options_.control && depth_ < 2 ? add_branches() : void();
    case 18:
      return keep(ops::optimization_barrier(b_, {x})[0]);
    default:
      return options_.sample_ops ? add_sample() : void();
  }
}

}  // namespace

RandomProgram random_program(const std::vector<uint32_t>& numbers, const RandomOptions& options) {
  Tape tape{numbers};
  return Writer(tape, options).run();
}

std::vector<uint32_t> random_tape(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint32_t> tape(20 + random() % 150);
  for (uint32_t& number : tape) number = static_cast<uint32_t>(random() % 1000);
  return tape;
}

std::string check_program(const RandomProgram& program, uint64_t seed) {
  return check_every_pass(program.graph, program.mesh, {}, {}, 1e-9, seed, nullptr,
                          &program.inputs);
}

std::string run_program(const RandomProgram& program) {
  std::string text;
  try {
    const std::vector<HostTensor> expected = interpret(program.graph, program.inputs);
    const Graph local = partition(program.graph, program.mesh, {});
    text = print_graph(local);
    const std::vector<HostTensor> made = run_on_threads(local, KernelTable(), program.inputs);
    for (size_t o = 0; o < expected.size(); ++o)
      if (const double error = error_between(expected[o], made[o]); !(error <= 1e-9))
        return cat("output \"", program.graph.outputs[o].name, "\" is off by ", error, " in\n",
                   text);
  } catch (const std::exception& error) {
    return cat(error.what(), "\n", text);
  }
  return "";
}

std::vector<uint32_t> shrink_tape(std::vector<uint32_t> tape, uint64_t seed,
                                  const RandomOptions& options, int attempts,
                                  const ProgramCheck& check) {
  auto fails = [&](const std::vector<uint32_t>& candidate) {
    if (--attempts < 0) return false;
    try {
      return !check(random_program(candidate, options), seed).empty();
    } catch (const std::exception&) {
      return false;  // no program
    }
  };
  for (size_t chunk = std::max<size_t>(1, tape.size() / 2); attempts > 0;) {
    bool any = false;
    for (size_t at = 0; at < tape.size() && attempts > 0;) {
      std::vector<uint32_t> shorter = tape;
      const auto first = shorter.begin() + static_cast<std::ptrdiff_t>(at);
      shorter.erase(first, first + static_cast<std::ptrdiff_t>(std::min(chunk, tape.size() - at)));
      if (fails(shorter))
        tape = std::move(shorter), any = true;
      else
        at += chunk;
    }
    if (!any && chunk == 1) break;
    if (!any) chunk /= 2;
  }
  for (uint32_t& number : tape) {
    if (number == 0 || attempts <= 0) continue;
    const uint32_t before = std::exchange(number, 0);
    if (!fails(tape)) number = before;
  }
  return tape;
}

}  // namespace tessera::testing

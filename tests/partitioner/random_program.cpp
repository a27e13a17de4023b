#include "tests/partitioner/random_program.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "tests/partitioner/random_program_writer.h"

namespace tessera::testing {

ProgramWriter::ProgramWriter(Tape& tape, const RandomOptions& options)
    : tape_(tape), options_(options), b_(graph_), random_(tape.numbers.size()) {
  static const char* const kMeshes[] = {"a=2",         "a=2,b=2", "a=4",     "a=2,b=4",
                                        "a=2,b=2,c=2", "a=8",     "a=4,b=2", "a=3",
                                        "a=2,b=3",     "a=5",     "a=4,b=4", "a=2,b=2,c=4",
                                        "a=16",        "a=8,b=2", "a=3,b=4", "a=6,b=2"};
  std::vector<Mesh> meshes;
  for (const char* text : kMeshes) {
    Mesh mesh = parse_mesh(text);
    const int64_t devices = mesh.devices();
    const bool is_even = devices % 2 == 0 && devices % 3 != 0;
    const bool fits = options.devices > 0 ? devices == options.devices
                                          : devices <= 8 && (is_even || options.uneven);
    if (fits) meshes.push_back(std::move(mesh));
  }
  if (meshes.empty()) meshes.push_back(parse_mesh(cat("a=", options.devices)));
  mesh_ = std::make_shared<const Mesh>(meshes[draw(meshes.size())]);
  graph_.mesh = mesh_;
  graph_.name = "random";
}

ProgramWriter::ProgramWriter(ProgramWriter& outer, const std::string& name, const std::vector<TensorType>& inputs)
    : tape_(outer.tape_),
      options_(outer.options_),
      depth_(outer.depth_ + 1),
      b_(graph_),
      mesh_(outer.mesh_),
      manual_(outer.manual_),
      random_(tape_.at) {
  graph_.mesh = mesh_;
  graph_.name = name;
  for (const TensorType& type : inputs) {
    const Value value = b_.input(InputKind::data, cat("p", graph_.inputs.size()), type);
    if (type.dtype == DType::f64) reals_.push_back(value);
  }
}

RandomProgram ProgramWriter::run() {
  const int inputs = 1 + static_cast<int>(draw(3));
  for (int i = 0; i < inputs; ++i) add_input();
  // Every op reads two or three numbers.
  while (!tape_.is_done() && graph_.instructions.size() < 60) add_op();
  const int outputs = 1 + static_cast<int>(draw(3));
  for (int o = 0; o < outputs; ++o) add_output(o);
  return {std::move(graph_), mesh_, std::move(inputs_)};
}

MeshPtr ProgramWriter::random_mesh() {
  if (!options_.other_meshes || !chance(3)) return mesh_;
  std::vector<MeshAxis> axes(mesh_->axes().begin(), mesh_->axes().end());
  if (chance(3)) axes = {{"z", mesh_->devices()}};
  std::vector<int64_t> order(static_cast<size_t>(mesh_->devices()));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(static_cast<uint32_t>(draw(1000)));
  std::shuffle(order.begin(), order.end(), random);
  return std::make_shared<const Mesh>(std::move(axes), std::move(order));
}

Sharding ProgramWriter::random_sharding(const Shape& shape, bool is_open, bool may_be_partial) {
  // What manual computations have taken they have taken of the program's mesh.
  const MeshPtr mesh = manual_.empty() ? random_mesh() : mesh_;
  Sharding sharding(mesh, shape.rank(), is_open);
  for (int a = 0; a < mesh->rank(); ++a) {
    std::vector<AxisRef> parts = {mesh->axis(a)};
    if (overlaps(manual_, parts[0])) continue;
    if (parts[0].size > 2 && parts[0].size % 2 == 0 && chance(3))
      parts = {{a, 1, 2}, {a, 2, parts[0].size / 2}};
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

Shape ProgramWriter::random_shape() {
  static constexpr int64_t kSizes[] = {8, 4, 8, 1, 2, 16, 5, 7, 3, 6};
  Shape shape;
  for (uint64_t rank = 1 + draw(3); rank > 0; --rank)
    shape.push_back(kSizes[draw(options_.uneven ? 10 : 6)]);
  return shape;
}

void ProgramWriter::keep(Value value) {
  if (b_.type(value).elements() <= 4096 && b_.type(value).rank() <= 4) reals_.push_back(value);
  if (!chance(4)) return;
  ResultInfo& info = graph_.info(value);
  info.name = cat("v", value.instruction, ".", value.result);
  info.sharding = random_sharding(info.type.shape, chance(2), false);
}

Value ProgramWriter::add_input(const TensorType& type, std::pair<double, double> range) {
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

void ProgramWriter::add_output(int number) {
  const Value value = reals_[reals_.size() - 1 - draw(std::min<uint64_t>(reals_.size(), 6))];
  b_.output(value, cat("out", number));
  if (chance(2))
    graph_.outputs.back().sharding = random_sharding(b_.shape(value), false, chance(2));
}

Value ProgramWriter::integers(const Shape& shape, int64_t below) {
  const Value index = ops::iota(b_, {DType::s32, shape},
                                static_cast<int64_t>(draw(static_cast<uint64_t>(shape.rank()))));
  const Value twice = ops::add(b_, ops::multiply(b_, index, ops::constant_like(b_, index, 3)),
                               ops::constant_like(b_, index, static_cast<double>(draw(5))));
  return ops::minimum(b_, twice, ops::constant_like(b_, twice, static_cast<double>(below - 1)));
}

RandomProgram random_program(const std::vector<uint32_t>& numbers, const RandomOptions& options) {
  Tape tape{numbers};
  return ProgramWriter(tape, options).run();
}

std::vector<uint32_t> random_tape(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint32_t> tape(20 + random() % 150);
  for (uint32_t& number : tape) number = static_cast<uint32_t>(random() % 1000);
  return tape;
}

}  // namespace tessera::testing

#include "kernels/cpu/fusion_program.h"

#include <algorithm>
#include <map>

#include "core/base/strings.h"
#include "core/ops/structure.h"
#include "kernels/cpu/tile_op_table.h"

namespace tessera::cpu {
namespace {

using Strides = std::vector<int64_t>;

// The coarsest dims that cut the elements wherever one of the shapes does; nullopt where two shapes
// cut across each other, as [4, 6] and [6, 4].
std::optional<std::vector<int64_t>> common_dims(const std::vector<Shape>& shapes) {
  std::vector<int64_t> cuts = {1};  // products of inner dims
  for (const Shape& shape : shapes) {
    int64_t product = 1;
    for (int d = shape.rank(); d-- > 0;) cuts.push_back(product *= shape[d]);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<int64_t> dims;
  for (size_t i = cuts.size(); i-- > 1;) {
    if (cuts[i] % cuts[i - 1] != 0) return std::nullopt;
    dims.push_back(cuts[i] / cuts[i - 1]);
  }
  if (dims.empty()) dims.push_back(1);
  return dims;
}

Strides dense_strides(const std::vector<int64_t>& dims) {
  Strides strides(dims.size());
  int64_t product = 1;
  for (size_t d = dims.size(); d-- > 0; product *= dims[d]) strides[d] = product;
  return strides;
}

class Compiler {
 public:
  explicit Compiler(const Graph& body) : body_(body) {}

  FusionProgram compile() {
    FusionProgram result;
    if (choose_walk() && emit_outputs()) {
      program_->finish();
      result.program = std::move(program_);
    } else {
      result.refusal = refusal_;
    }
    return result;
  }

 private:
  bool refuse(std::string reason) {
    if (refusal_.empty()) refusal_ = std::move(reason);
    return false;
  }

  bool choose_walk() {
    if (body_.outputs.empty()) return refuse("the body has no outputs");
    const int64_t elements = body_.type(body_.outputs[0].value).elements();
    if (elements == 0) return refuse("the results are empty");
    std::vector<Shape> shapes;
    for (const GraphOutput& output : body_.outputs) {
      const TensorType& type = body_.type(output.value);
      if (type.elements() != elements)
        return refuse(cat("results of ", elements, " and ", type.elements(), " elements"));
      shapes.push_back(type.shape);
    }
    // Broadcasts need to know where their dims lie in the walk.
    for (const Instruction& instruction : body_.instructions) {
      if (!instruction.is(ops::kBroadcastInDim)) continue;
      const Shape& shape = instruction.results[0].type.shape;
      if (shape.elements() == elements) shapes.push_back(shape);
    }
    const auto dims = common_dims(shapes);
    if (!dims) return refuse("shapes of the body cut across each other");
    dims_ = *dims;
    program_.emplace(dims_);
    return true;
  }

  bool emit_outputs() {
    const Strides dense = dense_strides(dims_);
    for (const GraphOutput& output : body_.outputs) {
      const int value = emit(output.value, dense);
      if (value < 0) return false;
      program_->output(value);
    }
    return true;
  }

  // The program's value for `value` seen through `strides`, or -1.
  int emit(Value value, const Strides& strides) {
    const auto key = std::pair{value, strides};
    if (const auto found = emitted_.find(key); found != emitted_.end()) return found->second;
    const int result = emit_new(value, strides);
    emitted_[key] = result;
    return result;
  }

  int emit_new(Value value, const Strides& strides) {
    const Instruction& instruction = body_.at(value);
    const TensorType& type = body_.type(value);
    if (!has_tiles(type.dtype)) return refuse(cat("no tiles of ", type.dtype)), -1;
    if (instruction.is(ops::kParameter)) return emit_input(value, strides);
    if (instruction.is(ops::kConstant)) return emit_constant(instruction, type);
    if (instruction.is(ops::kReshape)) return emit(instruction.operands[0], strides);
    if (instruction.is(ops::kBroadcastInDim)) return emit_broadcast(instruction, strides);
    const auto op = tile_op_of(*instruction.op, instruction.attributes);
    if (!op) return refuse(cat(instruction.op->name, " has no tile operation")), -1;
    std::vector<int> operands;
    for (Value operand : instruction.operands) {
      const int emitted = emit(operand, strides);
      if (emitted < 0) return -1;
      operands.push_back(emitted);
    }
    const int result = program_->apply(*op, type.dtype, operands);
    if (result < 0) refuse(cat("no tile function for ", instruction.op->name, " to ", type.dtype));
    return result;
  }

  int emit_input(Value value, const Strides& strides) {
    for (size_t i = 0; i < body_.inputs.size(); ++i) {
      if (body_.inputs[i].value == value) {
        return program_->input(body_.type(value).dtype, strides, static_cast<int>(i));
      }
    }
    return refuse("a parameter of the body is no input"), -1;
  }

  int emit_constant(const Instruction& instruction, const TensorType& type) {
    if (instruction.attributes.has(Attr::value)) {
      const HostTensor& table = *instruction.attributes.get<ConstTensor>(Attr::value);
      if (table.elements() != 1) return refuse(cat("a constant of ", type)), -1;
      return program_->constant(type.dtype, table.bytes().data());
    }
    const HostTensor one =
        HostTensor::filled({type.dtype, {}}, instruction.attributes.number(Attr::scalar));
    return program_->constant(type.dtype, one.bytes().data());
  }

  int emit_broadcast(const Instruction& instruction, const Strides& strides) {
    const Shape& wide = instruction.results[0].type.shape;
    const Shape& narrow = body_.type(instruction.operands[0]).shape;
    const Ints& dimensions = instruction.attributes.ints(Attr::dimensions);
    const std::vector<int64_t> wide_strides = wide.strides(), narrow_strides = narrow.strides();
    std::vector<int64_t> step(static_cast<size_t>(wide.rank()), 0);  // of the operand, per wide dim
    for (int d = 0; d < narrow.rank(); ++d) {
      if (narrow[d] != 1)
        step[static_cast<size_t>(dimensions[static_cast<size_t>(d)])] =
            narrow_strides[static_cast<size_t>(d)];
    }
    Strides seen(strides.size(), 0);
    for (size_t w = 0; w < strides.size(); ++w) {
      if (strides[w] == 0 || dims_[w] == 1) continue;
      // The wide dim within which this dim of the walk moves.
      int d = 0;
      while (d < wide.rank() && (wide[d] == 1 || wide_strides[static_cast<size_t>(d)] > strides[w]))
        ++d;
      const auto at = static_cast<size_t>(d);
      if (d == wide.rank() || strides[w] % wide_strides[at] != 0 ||
          strides[w] * dims_[w] > wide_strides[at] * wide[d]) {
        return refuse(cat("a broadcast to ", wide, " cuts across the walk")), -1;
      }
      seen[w] = strides[w] / wide_strides[at] * step[at];
    }
    return emit(instruction.operands[0], seen);
  }

  const Graph& body_;
  std::vector<int64_t> dims_;
  std::optional<TileProgram> program_;
  std::map<std::pair<Value, Strides>, int> emitted_;
  std::string refusal_;
};

}  // namespace

std::shared_ptr<const FusionProgram> fusion_program(const GraphRef& body) {
  struct Entry {
    std::weak_ptr<const Graph> body;
    std::shared_ptr<const FusionProgram> program;
  };
  thread_local std::map<const Graph*, Entry> programs;
  // Programs of other frameworks have thousands of fusions: a look at all of them must stay rare.
  thread_local size_t sweep_at = 4096;
  if (programs.size() >= sweep_at) {
    std::erase_if(programs, [](const auto& item) { return item.second.body.expired(); });
    sweep_at = std::max<size_t>(4096, 2 * programs.size());
  }
  Entry& entry = programs[body.get()];
  // The address may be a later graph's: what counts is that the body itself still lives.
  if (entry.program == nullptr || entry.body.lock() != body) {
    entry = {body, std::make_shared<const FusionProgram>(Compiler(*body).compile())};
  }
  return entry.program;
}

}  // namespace tessera::cpu

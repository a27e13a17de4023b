#include "kernels/cuda/fusion/fusion_source.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/base/error.h"
#include "core/ops/elementwise.h"
#include "kernels/cuda/fusion/op_function.h"

namespace tessera::cuda {
namespace {

using Step = FusionWalk::Step;
using Kind = Step::Kind;

constexpr int kMostPointers = 500;  // 4,096 bytes of arguments
constexpr int64_t kMostOf32Bits = int64_t{1} << 31;

// A dim of the walk as an operand sees it; neighbours that it sees as one are merged.
struct SeenDim {
  int64_t size, stride;
};
std::vector<SeenDim> seen_dims(const FusionWalk& walk, const Step& input) {
  std::vector<SeenDim> dims;  // the innermost first
  for (size_t d = walk.dims.size(); d-- > 0;) {
    const SeenDim dim{walk.dims[d], input.strides[d]};
    if (dim.size == 1) continue;
    if (!dims.empty() && dim.stride == dims.back().stride * dims.back().size)
      dims.back().size *= dim.size;
    else
      dims.push_back(dim);
  }
  if (dims.empty()) dims.push_back({1, 1});
  return dims;
}
bool is_dense(const std::vector<SeenDim>& dims) { return dims.size() == 1 && dims[0].stride == 1; }
bool is_same_for_all(const std::vector<SeenDim>& dims) { return dims.size() == 1 && dims[0].stride == 0; }

// How many lanes of a pack lie in one row, in which the operand moves evenly, and where a pack of them may be read.
int64_t run_length(const std::vector<SeenDim>& dims, int64_t lanes) {
  int64_t run = std::gcd(lanes, dims[0].size);
  if (dims[0].stride != 1) return run;
  for (size_t d = 1; d < dims.size(); ++d) run = std::gcd(run, dims[d].stride);
  return run;
}

std::string memory_type(DType dtype) { return dtype == DType::pred ? "u8" : *type_name(dtype); }

// Bits as they are, so that the text says exactly what the body does.
std::string literal(const HostTensor& constant) {
  uint64_t bits = 0;
  std::memcpy(&bits, constant.bytes().data(), constant.bytes().size());
  std::ostringstream digits;
  digits << "0x" << std::hex << bits;
  switch (constant.dtype()) {
    case DType::pred: return bits ? "true" : "false";
    case DType::f32: return cat("f32_of(", digits.str(), "u)");
    case DType::f64: return cat("f64_of(", digits.str(), "ull)");
    case DType::bf16:
    case DType::f8e4m3fn:
    case DType::f8e5m2:
    case DType::f16: return cat(constant.dtype(), "{", digits.str(), "}");
    default: return cat("static_cast<", constant.dtype(), ">(", digits.str(), "ull)");
  }
}

class Writer {
 public:
  Writer(const FusionWalk& walk, int inputs, int alignment)
      : walk_(walk), inputs_(inputs), position_(walk.elements <= kMostOf32Bits ? "u32" : "u64") {
    lanes_ = choose_lanes(alignment);
  }

  int lanes() const { return lanes_; }
  // `name` twice stands for the kernel's.
  std::string text(const std::string& name) {
    arguments_ = cat("const Arguments<", static_cast<size_t>(inputs_) + walk_.outputs.size(), ">");
    out_ << "namespace tessera {\n"
         << "template <int kLanes>\n"
         << "FUNCTION void " << name << "_at(" << arguments_ << "& arguments, " << position_ << " at) {\n";
    for (size_t i = 0; i < walk_.steps.size(); ++i)
      if (walk_.steps[i].kind == Kind::input) write_load(static_cast<int>(i));
    for (size_t r = 0; r < walk_.outputs.size(); ++r)
      out_ << "  Pack<" << memory_type(result(r).dtype) << ", kLanes> y" << r << ";\n";
    out_ << "#pragma unroll\n"
         << "  for (int lane = 0; lane < kLanes; ++lane) {\n";
    for (size_t i = 0; i < walk_.steps.size(); ++i) write_step(static_cast<int>(i));
    for (size_t r = 0; r < walk_.outputs.size(); ++r)
      out_ << "    y" << r << ".value[lane] = v" << walk_.outputs[r] << ";\n";
    out_ << "  }\n";
    for (size_t r = 0; r < walk_.outputs.size(); ++r)
      out_ << "  store<" << memory_type(result(r).dtype) << ", kLanes>(arguments.pointer["
           << static_cast<size_t>(inputs_) + r << "], at, y" << r << ");\n";
    out_ << "}\n";
    write_kernel(name);
    out_ << "}  // namespace tessera\n";
    return std::move(out_).str();
  }

 private:
  const Step& result(size_t r) const { return walk_.steps[static_cast<size_t>(walk_.outputs[r])]; }

  // As many neighbours as fill 16 bytes of the narrowest type, unless that would hold too much in registers at a
  // time (a thread has 255 at most, and few threads per multiprocessor hide less latency), or the text unrolled
  // becomes long.
  int choose_lanes(int alignment) const {
    int64_t narrowest = 16, widest = 1, bytes = 0;  // of one element in all packs
    int64_t operations = 0;
    const auto count = [&](DType dtype) {
      const int64_t size = size_of(dtype);
      narrowest = std::min(narrowest, size == 1 ? 2 : size);
      widest = std::max(widest, size);
      bytes += size;
    };
    for (const Step& step : walk_.steps) {
      if (step.kind == Kind::operation) ++operations;
      if (step.kind == Kind::input && !is_same_for_all(seen_dims(walk_, step))) count(step.dtype);
    }
    for (size_t r = 0; r < walk_.outputs.size(); ++r) count(result(r).dtype);
    int64_t lanes = 16 / narrowest;
    // Two accesses of 16 bytes per operand only where there are few.
    while (lanes > 1 && lanes * widest > 16 && lanes * bytes > 128) lanes /= 2;
    while (lanes > 1 && lanes * bytes > 256) lanes /= 2;
    while (lanes > 1 && lanes * operations > 1024) lanes /= 2;
    while (lanes > 1 && std::min<int64_t>(16, lanes * widest) > alignment) lanes /= 2;
    return static_cast<int>(lanes);
  }

  void write_load(int index) {
    const Step& step = walk_.steps[static_cast<size_t>(index)];
    const std::vector<SeenDim> dims = seen_dims(walk_, step);
    const std::string type = memory_type(step.dtype), from = cat("arguments.pointer[", step.input, "]");
    if (is_same_for_all(dims)) {
      out_ << "  const " << type << " x" << index << " = *static_cast<const " << type << "*>(" << from << ");\n";
      return;
    }
    out_ << "  const auto x" << index << " = ";
    if (is_dense(dims)) {
      out_ << "load<" << type << ", kLanes>(" << from << ", at);\n";
      return;
    }
    const int64_t run = run_length(dims, lanes_);
    out_ << "gather<" << type << ", kLanes, ";
    if (run > 1)
      out_ << "(kLanes > 1 ? " << run << " : 1)";
    else
      out_ << 1;
    out_ << ", " << dims[0].stride << ">(" << from << ", at, [](" << position_ << " at) { return " << index_text(dims)
         << "; });\n";
  }

  // The operand's index at position `at`.
  std::string index_text(const std::vector<SeenDim>& dims) const {
    const char* const suffix = position_[1] == '3' ? "u" : "ull";
    std::string text;
    int64_t inner = 1;  // positions for one step of the dim
    for (size_t d = 0; d < dims.size(); inner *= dims[d++].size) {
      if (dims[d].stride == 0) continue;
      if (!text.empty()) text += " + ";
      text += "at";
      if (inner > 1) text += cat(" / ", inner, suffix);
      if (d + 1 < dims.size()) text += cat(" % ", dims[d].size, suffix);
      if (dims[d].stride != 1) text += cat(" * ", dims[d].stride, suffix);
    }
    return text;
  }

  void write_step(int index) {
    const Step& step = walk_.steps[static_cast<size_t>(index)];
    out_ << "    const " << *type_name(step.dtype) << " v" << index << " = ";
    if (step.kind == Kind::input) {
      out_ << "x" << index;
      if (!is_same_for_all(seen_dims(walk_, step))) out_ << ".value[lane]";
      if (step.dtype == DType::pred) out_ << " != 0";
    } else if (step.kind == Kind::constant) {
      out_ << literal(step.constant);
    } else {
      const Instruction& operation = *step.operation;
      out_ << *op_function(*operation.op, operation.attributes) << "(";
      for (size_t i = 0; i < step.operands.size(); ++i) out_ << (i ? ", v" : "v") << step.operands[i];
      out_ << ")";
    }
    out_ << ";\n";
  }

  void write_kernel(const std::string& name) {
    constexpr int kThreads = FusionSource::kThreads;
    out_ << "extern \"C\" __global__ void __launch_bounds__(" << kThreads << ") " << name << "(" << arguments_
         << " arguments) {\n"
         << "  " << position_ << " at = (static_cast<" << position_ << ">(blockIdx.x) * " << kThreads
         << " + threadIdx.x) * " << lanes_ << ";\n";
    if (lanes_ == 1) {
      out_ << "  if (at < arguments.elements) " << name << "_at<1>(arguments, at);\n}\n";
      return;
    }
    out_ << "  if (at + " << lanes_ << " <= arguments.elements) return " << name << "_at<" << lanes_
         << ">(arguments, at);\n"
         << "#pragma unroll 1\n"
         << "  for (; at < arguments.elements; ++at) " << name << "_at<1>(arguments, at);\n}\n";
  }

  const FusionWalk& walk_;
  int inputs_;
  std::string position_;  // the type of positions
  std::string arguments_;
  int lanes_ = 1;
  std::ostringstream out_;
};

}  // namespace

std::string fusion_refusal(const FusionWalk& walk, int inputs) {
  if (!walk.refusal.empty()) return walk.refusal;
  if (static_cast<size_t>(inputs) + walk.outputs.size() > kMostPointers)
    return cat(inputs, " operands and ", walk.outputs.size(), " results, of at most ", kMostPointers);
  for (const Step& step : walk.steps) {
    if (!type_name(step.dtype)) return cat("no generated kernels of ", step.dtype);
    if (step.kind != Kind::operation) continue;
    if (!step.operation->is(ops::kConvert)) {
      bool is_of_f8 = is_f8(step.dtype);
      for (const int operand : step.operands) is_of_f8 |= is_f8(walk.steps[static_cast<size_t>(operand)].dtype);
      if (is_of_f8) return cat("no function for ", step.operation->op->name, " of f8");
    }
    if (!op_function(*step.operation->op, step.operation->attributes))
      return cat("no function for ", step.operation->op->name);
  }
  return "";
}

std::string text_hash(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char letter : text) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  std::string digits;
  for (int shift = 60; shift >= 0; shift -= 4) digits += "0123456789abcdef"[hash >> shift & 15];
  return digits;
}

FusionSource fusion_source(const FusionWalk& walk, int inputs, int alignment, const std::string& label) {
  FusionSource source;
  source.refusal = fusion_refusal(walk, inputs);
  if (!source.refusal.empty()) return source;
  Writer writer(walk, inputs, alignment);
  source.lanes = writer.lanes();
  // The name has the text's hash, so the text is written with a sign for it first.
  constexpr char kOwnName = '@';
  const std::string text = writer.text(std::string(1, kOwnName));
  source.name = cat(label, "_", text_hash(text));
  for (const char letter : text) {
    if (letter == kOwnName)
      source.text += source.name;
    else
      source.text += letter;
  }
  return source;
}

}  // namespace tessera::cuda

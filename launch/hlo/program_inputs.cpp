#include "launch/hlo/program_inputs.h"

#include <cmath>
#include <complex>
#include <filesystem>

#include "core/base/error.h"
#include "core/ops/philox.h"

namespace tessera {
namespace {

constexpr double kDeviation = 0.3;
constexpr int64_t kSmallIntegers = 8;  // [0, 8)
constexpr int64_t kWholeFloats = 4;    // [-4, 4]

void check_type(const NpyFile& file, const hlo::BoundaryLeaf& leaf, size_t index) {
  const bool is_narrow = leaf.type.dtype == DType::bf16 || size_of(leaf.type.dtype) == 1;
  if (file.holds(leaf.type.dtype) && file.shape() == leaf.type.shape) return;
  throw_user_error("--input ", file.path(), " is ", file.type_text(), ", but parameter ", leaf.parameter, " (", leaf.name,
                   "), input ", index, ", is ", leaf.type,
                   is_narrow && is_float(leaf.type.dtype) ? "; NumPy writes such floats with ml_dtypes, as raw bytes" : "");
}

// A folder stands for the files input.0.npy, input.1.npy, ... in it.
std::vector<std::string> expand_folders(const std::vector<std::string>& given) {
  std::vector<std::string> files;
  for (const std::string& path : given) {
    if (!std::filesystem::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    const size_t before = files.size();
    for (std::string file; file = cat(path, "/input.", files.size() - before, ".npy"), std::filesystem::exists(file);)
      files.push_back(file);
    if (files.size() == before) throw_user_error("--input ", path, ": the folder has no input.0.npy");
  }
  return files;
}

}  // namespace

ProgramInputs::ProgramInputs(const Graph& graph, std::vector<hlo::BoundaryLeaf> leaves, const InputOptions& options)
    : leaves_(std::move(leaves)), uses_(input_uses(graph)), seed_(options.seed), integers_(options.integers) {
  TESSERA_CHECK(leaves_.size() == uses_.size());
  const std::vector<std::string> files = expand_folders(options.files);
  if (files.size() > leaves_.size())
    throw_config_error("--input was given ", files.size(), " files, but the program takes ", leaves_.size(),
                       leaves_.size() == 1 ? " input" : " inputs");
  for (size_t i = 0; i < files.size(); ++i) {
    files_.emplace_back(files[i]);
    check_type(files_.back(), leaves_[i], i);
  }
}

HostTensor ProgramInputs::whole(size_t index) const {
  const Shape& shape = leaves_[index].type.shape;
  return block(index, std::vector<int64_t>(static_cast<size_t>(shape.rank()), 0), shape);
}

HostTensor ProgramInputs::block(size_t index, std::span<const int64_t> start, const Shape& shape) const {
  const TensorType& type = leaves_[index].type;
  if (index < files_.size()) return files_[index].block(type.dtype, start, shape);
  HostTensor tensor({type.dtype, shape});
  if (tensor.elements() == 0) return tensor;
  const std::vector<int64_t> strides = type.shape.strides();
  std::vector<int64_t> position(start.size(), 0);
  int64_t at = 0;
  do {
    int64_t element = 0;
    for (size_t d = 0; d < position.size(); ++d) element += (start[d] + position[d]) * strides[d];
    fill_random(index, element, tensor, at++);
  } while (next_position(position, shape));
  return tensor;
}

void ProgramInputs::fill_random(size_t index, int64_t element, HostTensor& tensor, int64_t at) const {
  const DType dtype = tensor.dtype();
  const InputUse& use = uses_[index];
  const uint64_t site = 2 * index, place = static_cast<uint64_t>(element);
  const auto below = [&](int64_t limit) {
    return static_cast<int64_t>(random_uniform(seed_, site, place) * static_cast<double>(limit));
  };
  const auto real = [&](uint64_t draw) {
    if (!integers_) return kDeviation * random_normal(seed_, site + draw, place);
    const double whole = random_uniform(seed_, site + draw, place) * static_cast<double>(2 * kWholeFloats + 1);
    return static_cast<double>(static_cast<int64_t>(whole) - kWholeFloats);
  };
  if (dtype == DType::c64) return tensor.set_complex(at, {real(0), real(1)});
  if (is_float(dtype)) return tensor.set_real(at, use.is_root ? std::abs(real(0)) : real(0));
  if (dtype == DType::pred) return tensor.set_int(at, below(2));
  if (use.bound) return tensor.set_int(at, below(*use.bound));
  if (!use.is_bits) return tensor.set_int(at, below(kSmallIntegers));
  const PhiloxCounter bits = random_bits(seed_, site, place);
  tensor.set_int(at, static_cast<int64_t>(bits[0] | static_cast<uint64_t>(bits[1]) << 32));
}

}  // namespace tessera

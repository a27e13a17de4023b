// Models, shardings and file systems that checkpoint tests share.
#pragma once

#include <cstring>
#include <filesystem>
#include <functional>
#include <list>
#include <random>
#include <string>
#include <vector>

#include "core/types/host_tensor.h"
#include "launch/checkpoint/checkpoint_reader.h"
#include "launch/checkpoint/file_system.h"
#include "launch/checkpoint/tensor_slice.h"
#include "tests/data/temp_folder.h"

namespace tessera {

struct TestTensor {
  TensorSpec spec;
  HostTensor value;
};

using TestModel = std::vector<TestTensor>;

inline HostTensor random_tensor(const TensorType& type, std::mt19937& random) {
  HostTensor value(type);
  for (std::byte& byte : value.bytes()) byte = static_cast<std::byte>(random());
  return value;
}

// Some tensors of several types and ranks, with contents that depend on `seed`.
inline TestModel small_model(uint32_t seed) {
  std::mt19937 random(seed);
  TestModel model;
  const auto add = [&](const std::string& name, const std::string& role, TensorType type) {
    model.push_back({{name, role, type}, random_tensor(type, random)});
  };
  add("embed.table", "parameter", {DType::f32, {37, 12}});
  add("layers.0.attention.query", "parameter", {DType::bf16, {12, 3, 4}});
  add("layers.0.norm.scale", "parameter", {DType::f32, {12}});
  add("layers.0.norm.scale/moment1", "moment1", {DType::f64, {12}});
  add("step", "state", {DType::s64, {}});
  add("empty", "state", {DType::f32, {0, 4}});
  return model;
}

inline std::vector<TensorSpec> specs_of(const TestModel& model) {
  std::vector<TensorSpec> specs;
  for (const TestTensor& tensor : model) specs.push_back(tensor.spec);
  return specs;
}

// How a tensor is cut: parts[d] shards of ceil(size / parts) along each dim; the last may reach
// past the end or be all padding.
struct TestSharding {
  std::vector<int64_t> parts;

  int64_t shards() const {
    int64_t count = 1;
    for (const int64_t part : parts) count *= part;
    return count;
  }
  Box shard(const Shape& whole, int64_t index) const {
    Box box{std::vector<int64_t>(parts.size()), whole};
    for (int d = whole.rank() - 1; d >= 0; --d) {
      box.shape[d] = (whole[d] + parts[d] - 1) / parts[d];
      box.start[d] = index % parts[d] * box.shape[d];
      index /= parts[d];
    }
    return box;
  }
};

// The elements of `box`, 0xAB where it is padding.
inline std::vector<std::byte> cut_out(const HostTensor& whole, const Box& box) {
  const int64_t element = size_of(whole.dtype());
  std::vector<std::byte> bytes(static_cast<size_t>(box.shape.elements() * element),
                               std::byte{0xab});
  if (box.empty()) return bytes;
  std::vector<int64_t> position(box.start.size());
  int64_t index = 0;
  do {
    std::vector<int64_t> global = position;
    bool inside = true;
    for (size_t d = 0; d < global.size(); ++d) {
      global[d] += box.start[d];
      inside = inside && global[d] < whole.shape()[static_cast<int>(d)];
    }
    if (inside)
      std::memcpy(bytes.data() + index * element,
                  whole.bytes().data() + linear_index(global, whole.shape()) * element,
                  static_cast<size_t>(element));
    ++index;
  } while (next_position(position, box.shape));
  return bytes;
}

// What one rank saves or loads; owns the memory behind its slices and targets.
struct RankBoxes {
  std::list<std::vector<std::byte>> memory;
  std::vector<TensorSlice> slices;
  std::vector<TensorTarget> targets;

  void add(const TestTensor& tensor, const Box& box) {
    memory.push_back(cut_out(tensor.value, box));
    slices.push_back({tensor.spec, box.start, box.shape, memory.back().data()});
  }
  void add_target(const TestTensor& tensor, const Box& box) {
    memory.emplace_back(static_cast<size_t>(box.shape.elements() * size_of(tensor.spec.type.dtype)),
                        std::byte{0xcd});
    targets.push_back({tensor.spec, box.start, box.shape, memory.back().data()});
  }
};

inline RankBoxes whole_slices(const TestModel& model) {
  RankBoxes boxes;
  for (const TestTensor& tensor : model)
    boxes.add(tensor, {std::vector<int64_t>(static_cast<size_t>(tensor.spec.type.rank())),
                       tensor.spec.type.shape});
  return boxes;
}

// Whether the checkpoint at `path` holds exactly `model`.
inline void expect_model(const std::string& path, const TestModel& model) {
  CheckpointReader reader(path);
  EXPECT_EQ(reader.tensors().size(), model.size());
  for (const TestTensor& tensor : model) {
    HostTensor value(tensor.spec.type);
    reader.read({tensor.spec, std::vector<int64_t>(static_cast<size_t>(value.shape().rank())),
                 value.shape(), value.bytes().data()});
    EXPECT_EQ(value, tensor.value) << tensor.spec.name;
  }
}

// Thrown where a test kills the process; not a std::exception, so nothing handles it.
struct Killed {};

// A file system that stops after `operations` more operations: the next one does nothing, or, if it
// writes, half of its work; after that the process is dead, and nothing has any effect.
class MortalFileSystem : public FileSystem {
 public:
  explicit MortalFileSystem(int64_t operations) : left_(operations) {}

  int64_t done() const { return done_; }
  const std::vector<std::string>& log() const { return log_; }
  bool can_exchange = true;

  void create_folders(const std::string& path) override {
    step("create_folders " + path);
    real_.create_folders(path);
  }
  std::unique_ptr<OutputFile> create_file(const std::string& path) override {
    step("create " + path);
    return std::make_unique<File>(*this, path, real_.create_file(path));
  }
  void sync_folder(const std::string& path) override {
    step("sync_folder " + path);
    real_.sync_folder(path);
  }
  void rename(const std::string& from, const std::string& to) override {
    step("rename " + from + " " + to);
    real_.rename(from, to);
  }
  bool exchange(const std::string& a, const std::string& b) override {
    if (!can_exchange) return false;
    step("exchange " + a + " " + b);
    return real_.exchange(a, b);
  }
  // Not one step for a disk: file by file.
  void remove_all(const std::string& path) override {
    std::vector<std::string> doomed;
    if (std::filesystem::is_directory(path))
      for (const auto& entry : std::filesystem::directory_iterator(path))
        doomed.push_back(entry.path());
    doomed.push_back(path);
    for (const std::string& one : doomed) {
      step("remove " + one);
      real_.remove_all(one);
    }
  }

 private:
  class File : public OutputFile {
   public:
    File(MortalFileSystem& owner, std::string path, std::unique_ptr<OutputFile> real)
        : owner_(owner), path_(std::move(path)), real_(std::move(real)) {}
    void append(std::span<const std::byte> bytes) override {
      owner_.step("append " + path_, [&] { real_->append(bytes.first(bytes.size() / 2)); });
      real_->append(bytes);
    }
    void sync_and_close() override {
      owner_.step("sync " + path_);
      real_->sync_and_close();
    }

   private:
    MortalFileSystem& owner_;
    std::string path_;
    std::unique_ptr<OutputFile> real_;
  };

  void step(const std::string& what, const std::function<void()>& last_words = {}) {
    if (left_ == 0 && last_words) last_words();
    if (left_-- <= 0) throw Killed();
    ++done_;
    log_.push_back(what);
  }

  FileSystem& real_ = posix_file_system();
  int64_t left_;
  int64_t done_ = 0;
  std::vector<std::string> log_;
};

}  // namespace tessera

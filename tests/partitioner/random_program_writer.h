// Writes a random program, or a region of one, as the numbers of a tape decide. Private to
// random_program: its ops, regions and samples of the op table stand in a file each.
#pragma once

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/ir/builder.h"
#include "tests/partitioner/random_program.h"

namespace tessera::testing {

// The numbers that decide, read once from front to back by a program and its regions.
struct Tape {
  const std::vector<uint32_t>& numbers;
  size_t at = 0;

  bool is_done() const { return at >= numbers.size(); }
  uint64_t draw(uint64_t below) { return (is_done() ? 0 : numbers[at++]) % below; }
};

class ProgramWriter {
 public:
  ProgramWriter(Tape& tape, const RandomOptions& options);
  // Of a region: with the values that come in.
  ProgramWriter(ProgramWriter& outer, const std::string& name, const std::vector<TensorType>& inputs);

  RandomProgram run();

 private:
  uint64_t draw(uint64_t below) { return tape_.draw(below); }
  bool chance(uint64_t one_in) { return draw(one_in) == 1; }
  Value pick() { return reals_[reals_.size() - 1 - draw(reals_.size())]; }

  // The mesh, or sometimes another one of its devices.
  MeshPtr random_mesh();
  // A legal sharding with each axis on some dim, split in two, or nowhere.
  Sharding random_sharding(const Shape& shape, bool is_open, bool may_be_partial);
  Shape random_shape();
  // Later ops may take it; sometimes it gets a name and a sharding.
  void keep(Value value);
  // An input with random content in a range, and a random sharding.
  Value add_input(const TensorType& type, std::pair<double, double> range);
  void add_input() { reals_.push_back(add_input({DType::f64, random_shape()}, {-1, 1})); }
  void add_output(int number);
  // Exact on every sharding: from iotas.
  Value integers(const Shape& shape, int64_t below);

  void add_op();
  void add_dot(Value x);
  void add_reshape(Value x);
  void add_composite(Value x);
  void add_sample();
  void add_loop();
  void add_branches();
  void add_manual();
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
  AxisList manual_;  // axes of the manual computations around
  std::vector<Value> reals_;
  std::vector<HostTensor> inputs_;
  std::mt19937_64 random_;
};

}  // namespace tessera::testing

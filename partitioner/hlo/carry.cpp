#include "partitioner/hlo/carry.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/strings.h"

namespace tessera::hlo {
namespace {

class CarryFinder {
 public:
  CarryFinder(const HloModule& module, const std::vector<BoundaryLeaf>& inputs,
              const std::vector<BoundaryLeaf>& outputs)
      : module_(module),
        inputs_(inputs),
        outputs_(outputs),
        input_of_(outputs.size(), -1),
        is_taken_(inputs.size(), false) {}

  Carry run() {
    for (const HloAlias& alias : module_.aliases) add_alias(alias);
    for (const HloDonor& donor : module_.donors) add_donor(donor);
    if (module_.aliases.empty() && module_.donors.empty()) add_longest_run();
    for (size_t o = 0; o < outputs_.size(); ++o)
      if (input_of_[o] >= 0) carry_.pairs.emplace_back(static_cast<int>(o), input_of_[o]);
    return std::move(carry_);
  }

 private:
  static std::string path_text(const Ints& path) { return cat("{", join(path), "}"); }

  int find_input(int64_t parameter, const Ints& path, std::string_view what) const {
    for (size_t i = 0; i < inputs_.size(); ++i)
      if (inputs_[i].parameter == parameter && inputs_[i].path == path) return static_cast<int>(i);
    throw_user_error(what, " names (", parameter, ", ", path_text(path),
                     "), but the entry computation has no such array among its parameters");
  }
  int find_output(const Ints& path) const {
    for (size_t o = 0; o < outputs_.size(); ++o)
      if (outputs_[o].path == path) return static_cast<int>(o);
    throw_user_error("input_output_alias names the result ", path_text(path),
                     ", but the entry computation has no such array among its results");
  }

  void take(int output, int input) {
    input_of_[static_cast<size_t>(output)] = input;
    is_taken_[static_cast<size_t>(input)] = true;
  }

  void add_alias(const HloAlias& alias) {
    const int output = find_output(alias.output_index);
    const int input = find_input(alias.parameter, alias.parameter_index, "input_output_alias");
    const BoundaryLeaf &from = inputs_[static_cast<size_t>(input)],
                       &to = outputs_[static_cast<size_t>(output)];
    if (input_of_[static_cast<size_t>(output)] >= 0)
      throw_user_error("input_output_alias names the result ", path_text(alias.output_index),
                       " twice");
    if (is_taken_[static_cast<size_t>(input)])
      throw_user_error("input_output_alias names parameter ", alias.parameter, " ",
                       path_text(alias.parameter_index), " twice");
    if (!(from.type == to.type)) {
      // JAX pairs what has the same bytes on a device: memory to reuse, no value of a next step.
      carry_.notes.push_back(cat("result ", to.name, " ", to.type, " does not overwrite ",
                                 from.name, " ", from.type, ": the types differ"));
      return;
    }
    take(output, input);
    carry_.aliased.emplace_back(output, input);
  }

  void add_donor(const HloDonor& donor) {
    const int input = find_input(donor.parameter, donor.parameter_index, "buffer_donor");
    if (is_taken_[static_cast<size_t>(input)]) return;
    for (size_t o = 0; o < outputs_.size(); ++o)
      if (input_of_[o] < 0 && outputs_[o].type == inputs_[static_cast<size_t>(input)].type)
        return take(static_cast<int>(o), input);
  }

  void add_longest_run() {
    size_t best = 0, best_start = 0;
    for (size_t start = 0; start < outputs_.size(); ++start) {
      size_t length = 0;
      while (length < inputs_.size() && start + length < outputs_.size() &&
             outputs_[start + length].type == inputs_[length].type)
        ++length;
      if (length > best) best = length, best_start = start;
    }
    for (size_t i = 0; i < best; ++i) take(static_cast<int>(best_start + i), static_cast<int>(i));
  }

  const HloModule& module_;
  const std::vector<BoundaryLeaf>&inputs_, &outputs_;
  std::vector<int> input_of_;   // by output
  std::vector<bool> is_taken_;  // by input
  Carry carry_;
};

}  // namespace

Carry find_carry(const HloModule& module, const std::vector<BoundaryLeaf>& inputs,
                 const std::vector<BoundaryLeaf>& outputs) {
  return CarryFinder(module, inputs, outputs).run();
}

}  // namespace tessera::hlo

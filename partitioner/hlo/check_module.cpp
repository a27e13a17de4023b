#include "partitioner/hlo/check_module.h"

#include "core/base/error.h"

namespace tessera::hlo {
namespace {

void check_parameters(const HloComputation& computation) {
  std::vector<const HloInstruction*> by_number;
  for (const HloInstruction& instruction : computation.instructions)
    if (instruction.opcode == "parameter") by_number.push_back(nullptr);
  for (const HloInstruction& instruction : computation.instructions) {
    if (instruction.opcode != "parameter") continue;
    const int64_t number = instruction.parameter_number;
    if (number >= static_cast<int64_t>(by_number.size()))
      throw_user_error(where(instruction), ": parameter(", number, ") of ", computation.name,
                       ", which has ", by_number.size(), " parameter",
                       by_number.size() == 1 ? "" : "s",
                       "; they are numbered from 0 without holes");
    const HloInstruction*& known = by_number[static_cast<size_t>(number)];
    if (known != nullptr)
      throw_user_error(where(instruction), ": parameter(", number, ") stands already on ",
                       where(*known));
    known = &instruction;
  }
}

// The shape at `path` in a tuple; null where there is none.
const HloShape* shape_at(const HloShape* shape, const Ints& path) {
  for (const int64_t index : path) {
    if (index < 0 || index >= static_cast<int64_t>(shape->elements.size())) return nullptr;
    shape = &shape->elements[static_cast<size_t>(index)];
  }
  return shape;
}

void check_boundary(const HloComputation& entry, const std::vector<int>& parameters,
                    std::string_view attribute, int64_t parameter, const Ints& path) {
  if (parameter < 0 || parameter >= static_cast<int64_t>(parameters.size()))
    throw_user_error("the module's ", attribute, " names parameter ", parameter, ", but ",
                     entry.name, " has ", parameters.size());
  const int index = parameters[static_cast<size_t>(parameter)];
  const HloInstruction& instruction = entry.instructions[static_cast<size_t>(index)];
  if (shape_at(&instruction.shape, path) == nullptr)
    throw_user_error("the module's ", attribute, " names {", join(path, ","), "} of parameter ",
                     parameter, ", whose shape is ", print(instruction.shape, false));
}

}  // namespace

void check_module(const HloModule& module) {
  for (const HloComputation& computation : module.computations) {
    for (const HloInstruction& instruction : computation.instructions) check_arity(instruction);
    check_parameters(computation);
  }
  const HloComputation& entry = module.entry_computation();
  const std::vector<int> parameters = entry.parameters();
  const HloInstruction& root = entry.instructions[static_cast<size_t>(entry.root)];
  for (const HloAlias& alias : module.aliases) {
    check_boundary(entry, parameters, "input_output_alias", alias.parameter, alias.parameter_index);
    if (shape_at(&root.shape, alias.output_index) == nullptr)
      throw_user_error("the module's input_output_alias names {", join(alias.output_index, ","),
                       "} of the result, whose shape is ", print(root.shape, false));
  }
  for (const HloDonor& donor : module.donors)
    check_boundary(entry, parameters, "buffer_donor", donor.parameter, donor.parameter_index);
}

}  // namespace tessera::hlo

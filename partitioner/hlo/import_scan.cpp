// Which computations an import needs, and what in them Tessera lacks.
#include <algorithm>

#include "core/ops/custom_call.h"
#include "partitioner/hlo/check_module.h"
#include "partitioner/hlo/import_support.h"
#include "partitioner/hlo/import_walk.h"

namespace tessera::hlo {
namespace {

void list_element_types(const HloShape& shape, std::set<std::string>& list) {
  if (!shape.is_tuple && !shape.dtype) list.insert(cat("element type ", shape.element_type));
  for (const HloShape& element : shape.elements) list_element_types(element, list);
}

}  // namespace

bool is_wiring(std::string_view opcode) {
  return opcode == "parameter" || opcode == "tuple" || opcode == "get-tuple-element";
}

std::vector<int> needed_computations(const HloModule& module) {
  std::unordered_map<std::string_view, int> index_of;
  for (size_t i = 0; i < module.computations.size(); ++i)
    index_of.emplace(module.computations[i].name, static_cast<int>(i));
  // Callees stand before their callers, so one sweep from the back reaches everything.
  std::vector<bool> is_needed(module.computations.size(), false);
  if (module.entry < 0) throw_user_error("the module ", module.name, " has no ENTRY computation");
  is_needed[static_cast<size_t>(module.entry)] = true;
  for (int c = module.entry; c >= 0; --c) {
    if (!is_needed[static_cast<size_t>(c)]) continue;
    for (const HloInstruction& instruction :
         module.computations[static_cast<size_t>(c)].instructions)
      for (const std::string& callee : called_computations(instruction)) {
        const auto found = index_of.find(callee);
        if (found == index_of.end())
          throw_user_error(where(instruction), ": there is no computation ", callee);
        if (found->second >= c)
          throw_user_error(where(instruction), ": the computation ", callee,
                           " is called before its end; no computation may call itself");
        is_needed[static_cast<size_t>(found->second)] = true;
      }
  }
  std::vector<int> needed;
  for (int c = 0; c <= module.entry; ++c)
    if (is_needed[static_cast<size_t>(c)]) needed.push_back(c);
  return needed;
}

OpcodeHandler ImportState::handler_of(const HloInstruction& instruction) {
  if (instruction.opcode == "custom-call") {
    const HloAttribute* target = instruction.find("custom_call_target");
    const std::string* name = target ? std::get_if<std::string>(&target->value) : nullptr;
    if (!name)
      throw_user_error(where(instruction), ": custom-call needs custom_call_target=\"...\"");
    if (const auto found = targets.find(*name); found != targets.end()) return found->second;
    const std::vector<std::string> registered = ops::known_custom_calls();
    if (std::find(registered.begin(), registered.end(), *name) != registered.end())
      return import_registered_call;
    unsupported.insert(cat("custom call ", *name));
    return nullptr;
  }
  if (const auto found = opcodes.find(instruction.opcode); found != opcodes.end())
    return found->second;
  unsupported.insert(cat("opcode ", instruction.opcode));
  return nullptr;
}

void list_unsupported(ImportState& state, const std::vector<int>& computations) {
  for (int c : computations)
    for (const HloInstruction& instruction :
         state.module.computations[static_cast<size_t>(c)].instructions) {
      list_element_types(instruction.shape, state.unsupported);
      if (!is_wiring(instruction.opcode)) state.handler_of(instruction);
    }
}

bool has_known_types(const HloShape& shape) {
  if (!shape.is_tuple) return shape.dtype.has_value();
  return std::all_of(shape.elements.begin(), shape.elements.end(), has_known_types);
}

int64_t leaf_count(const HloShape& shape) {
  if (!shape.is_tuple) return 1;
  int64_t count = 0;
  for (const HloShape& element : shape.elements) count += leaf_count(element);
  return count;
}

std::vector<TensorType> leaf_types(const HloShape& shape) {
  std::vector<TensorType> types;
  for (const HloShape* leaf : shape.leaves())
    types.push_back({leaf->dtype.value_or(DType::f32), leaf->dims});
  return types;
}

namespace {

void add_paths(const HloShape& shape, Ints& path, std::vector<Ints>& paths) {
  if (!shape.is_tuple) return paths.push_back(path);
  for (size_t i = 0; i < shape.elements.size(); ++i) {
    path.push_back(static_cast<int64_t>(i));
    add_paths(shape.elements[i], path, paths);
    path.pop_back();
  }
}

}  // namespace

std::vector<Ints> leaf_paths(const HloShape& shape) {
  std::vector<Ints> paths;
  Ints path;
  add_paths(shape, path, paths);
  return paths;
}

std::string scope_of_op_name(std::string_view op_name) {
  if (op_name.size() >= 2 && op_name.front() == '"' && op_name.back() == '"')
    op_name = op_name.substr(1, op_name.size() - 2);
  // Slashes within parentheses belong to the name: transpose(jvp(block/attention)).
  std::vector<std::string_view> parts;
  size_t start = 0;
  int open = 0;
  for (size_t i = 0; i <= op_name.size(); ++i) {
    if (i == op_name.size() || (op_name[i] == '/' && open == 0)) {
      parts.push_back(op_name.substr(start, i - start));
      start = i + 1;
    } else if (op_name[i] == '(') {
      ++open;
    } else if (op_name[i] == ')' && open > 0) {
      --open;
    }
  }
  size_t first = 0;
  while (first < parts.size() && parts[first].starts_with("jit(")) ++first;
  if (parts.size() <= first + 1) return "";  // only the primitive's name, or nothing
  return join(std::span(parts).subspan(first, parts.size() - first - 1), "/");
}

}  // namespace tessera::hlo

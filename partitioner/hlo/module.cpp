#include "partitioner/hlo/module.h"

#include "core/base/error.h"
#include "partitioner/hlo/attributes.h"

namespace tessera::hlo {
namespace {

void collect_leaves(const HloShape& shape, std::vector<const HloShape*>& leaves) {
  if (!shape.is_tuple) return leaves.push_back(&shape);
  for (const HloShape& element : shape.elements) collect_leaves(element, leaves);
}

// Which alternative of HloAttributeValue T is.
template <typename T, size_t kIndex = 0>
constexpr size_t alternative() {
  if constexpr (std::is_same_v<T, std::variant_alternative_t<kIndex, HloAttributeValue>>)
    return kIndex;
  else
    return alternative<T, kIndex + 1>();
}

}  // namespace

std::vector<const HloShape*> HloShape::leaves() const {
  std::vector<const HloShape*> result;
  collect_leaves(*this, result);
  return result;
}

bool HloShape::same_as(const HloShape& other) const {
  if (is_tuple != other.is_tuple || elements.size() != other.elements.size()) return false;
  for (size_t i = 0; i < elements.size(); ++i)
    if (!elements[i].same_as(other.elements[i])) return false;
  return is_tuple || (element_type == other.element_type && dims == other.dims);
}

const std::string* Dictionary::find(std::string_view key) const {
  for (const auto& [name, value] : entries)
    if (name == key) return &value;
  return nullptr;
}

const HloAttribute* HloInstruction::find(std::string_view attribute) const {
  for (const HloAttribute& candidate : attributes)
    if (candidate.name == attribute) return &candidate;
  return nullptr;
}

template <typename T>
const T* HloInstruction::get(std::string_view attribute) const {
  const HloAttribute* found = find(attribute);
  if (found == nullptr) return nullptr;
  const T* value = std::get_if<T>(&found->value);
  if (value == nullptr)
    throw_user_error(where(*this), ": the attribute ", attribute, " of ", opcode, " is ",
                     kind_in_words(found->value.index()), ", expected ",
                     kind_in_words(alternative<T>()));
  return value;
}

template const bool* HloInstruction::get(std::string_view) const;
template const int64_t* HloInstruction::get(std::string_view) const;
template const double* HloInstruction::get(std::string_view) const;
template const std::string* HloInstruction::get(std::string_view) const;
template const Name* HloInstruction::get(std::string_view) const;
template const Names* HloInstruction::get(std::string_view) const;
template const Ints* HloInstruction::get(std::string_view) const;
template const IntLists* HloInstruction::get(std::string_view) const;
template const Window* HloInstruction::get(std::string_view) const;
template const DimLabels* HloInstruction::get(std::string_view) const;
template const PadConfig* HloInstruction::get(std::string_view) const;
template const SliceRanges* HloInstruction::get(std::string_view) const;
template const HloSharding* HloInstruction::get(std::string_view) const;
template const ReplicaGroups* HloInstruction::get(std::string_view) const;
template const Dictionary* HloInstruction::get(std::string_view) const;
template const Verbatim* HloInstruction::get(std::string_view) const;

int HloComputation::find(std::string_view instruction) const {
  for (size_t i = 0; i < instructions.size(); ++i)
    if (instructions[i].name == instruction) return static_cast<int>(i);
  return -1;
}

std::vector<int> HloComputation::parameters() const {
  std::vector<int> result;
  for (size_t i = 0; i < instructions.size(); ++i) {
    const int64_t number = instructions[i].parameter_number;
    if (number < 0) continue;
    if (number >= static_cast<int64_t>(result.size()))
      result.resize(static_cast<size_t>(number) + 1, -1);
    result[static_cast<size_t>(number)] = static_cast<int>(i);
  }
  return result;
}

int HloModule::find(std::string_view computation) const {
  for (size_t i = 0; i < computations.size(); ++i)
    if (computations[i].name == computation) return static_cast<int>(i);
  return -1;
}

int64_t HloModule::instruction_count() const {
  int64_t count = 0;
  for (const HloComputation& computation : computations)
    count += static_cast<int64_t>(computation.instructions.size());
  return count;
}

std::string where(const HloInstruction& instruction) {
  return cat("line ", instruction.line, " (%", instruction.name, ")");
}

}  // namespace tessera::hlo
